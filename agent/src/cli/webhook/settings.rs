//! The options of an endpoint, for `add` and `edit` alike, and the keys of the file that they are written to.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::error::{CliResult, failed, usage};
use crate::config::webhooks::{Purpose, Setting, Written};

/// Options of an endpoint.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Types of events that it receives, with commas between; an empty text for all of them
    #[arg(long, value_name = "TYPES")]
    events: Option<String>,
    /// The least severe events that it receives
    #[arg(long, value_enum, value_name = "SEVERITY")]
    min_severity: Option<Severity>,
    /// What deliveries look like
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// File with the key that deliveries are signed with, mode 0600: whsec_ and base64 of 24 to 64 bytes
    #[arg(long, value_name = "FILE", group = "secret")]
    secret_file: Option<PathBuf>,
    /// systemd credential with that key
    #[arg(long, value_name = "NAME", group = "secret")]
    credential: Option<String>,
    /// Make such a key and keep it below the configuration directory; only its path is printed
    #[arg(long, group = "secret")]
    generate_secret: bool,
    /// Send GitHub's X-Hub-Signature-256 as well
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    hub_signature: Option<bool>,
    /// File with PagerDuty's integration key, mode 0600
    #[arg(long, value_name = "FILE")]
    routing_key_file: Option<PathBuf>,
    /// Time for one attempt, 100ms to 60s
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// Most deliveries a minute
    #[arg(long, value_name = "NUMBER")]
    rate: Option<u32>,
    /// Accept an unencrypted connection to another machine
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_http: Option<bool>,
    /// Network that may be connected to although it is not public, such as 10.1.0.0/16; may be repeated
    #[arg(long, value_name = "CIDR")]
    allow_network: Vec<String>,
    /// HTTP proxy to connect through
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Certificates to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// An alert that goes on is told again after this; 0s: never
    #[arg(long, value_name = "DURATION")]
    repeat_interval: Option<String>,
    /// Whether the end of an alert is told
    #[arg(long, value_name = "BOOL")]
    send_resolved: Option<bool>,
}

/// As in the file.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Severity {
    Info,
    Warning,
    Critical,
}

/// As in the file.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lower")]
enum Format {
    Standard,
    CloudEvents,
    Alertmanager,
    Slack,
    PagerDuty,
    Discord,
    Teams,
}

impl Options {
    /// Whether a key is to be made.
    pub(super) const fn generates_secret(&self) -> bool {
        self.generate_secret
    }

    /// Whether they name another key to sign with.
    pub(super) const fn names_secret(&self) -> bool {
        self.secret_file.is_some() || self.credential.is_some() || self.generate_secret
    }

    /// What was given, as keys of the file. A generated secret is not among them.
    ///
    /// # Errors
    /// When a path is no text, or the current directory is not known.
    pub(super) fn settings(&self) -> CliResult<Vec<Setting>> {
        let mut settings = Vec::new();
        let mut put = |key, value: Option<Written>| {
            if let Some(value) = value {
                settings.push(Setting { key, value: Some(value) });
            }
        };
        let text = |text: &Option<String>| text.clone().map(Written::Text);
        put("events", self.events.as_deref().map(|list| Written::Texts(split(list))));
        put("min_severity", self.min_severity.and_then(word).map(Written::Text));
        put("format", self.format.and_then(word).map(Written::Text));
        put("hub_signature", self.hub_signature.map(Written::Bool));
        put("timeout", text(&self.timeout));
        put("rate", self.rate.map(Written::Number));
        put("allow_http", self.allow_http.map(Written::Bool));
        let networks = Some(self.allow_network.clone()).filter(|networks| !networks.is_empty());
        put("allow_networks", networks.map(Written::Texts));
        put("proxy", text(&self.proxy));
        put("ca_file", self.ca_file.as_ref().map(path).transpose()?);
        put("repeat_interval", text(&self.repeat_interval));
        put("send_resolved", self.send_resolved.map(Written::Bool));
        if let Some(file) = &self.secret_file {
            settings.extend(replace(Purpose::Secret, "secret_file", path(file)?));
        }
        if let Some(name) = &self.credential {
            settings.extend(replace(Purpose::Secret, "secret_credential", Written::Text(name.clone())));
        }
        if let Some(file) = &self.routing_key_file {
            settings.extend(replace(Purpose::RoutingKey, "routing_key_file", path(file)?));
        }
        Ok(settings)
    }
}

/// A secret in one of its forms, instead of what there is in another.
pub(super) fn replace(purpose: Purpose, key: &'static str, value: Written) -> impl Iterator<Item = Setting> {
    let others = purpose.keys().into_iter().filter(move |other| *other != key);
    let set = Setting { key, value: Some(value) };
    std::iter::once(set).chain(others.map(|key| Setting { key, value: None }))
}

/// An absolute path, as it is to stand in the file.
///
/// # Errors
/// When it is no text.
pub(super) fn path(path: &PathBuf) -> CliResult<Written> {
    let absolute = std::path::absolute(path).map_err(|error| failed(&error))?;
    match absolute.into_os_string().into_string() {
        Ok(text) => Ok(Written::Text(text)),
        Err(path) => Err(usage(format!("{} is not UTF-8 text", path.display())).into()),
    }
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn word<T: ValueEnum>(value: T) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}
