//! `webhook show`, and what of an endpoint is shown to anyone: where its secrets are, never what they are. That
//! goes for URLs, too, where whoever knows the path may post.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::refused;
use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::{Page, duration};
use crate::config::webhooks::WebhookFile;
use crate::model::endpoint::{Endpoint, Network, Noise, SecretSource};
use crate::model::id::Name;
use crate::model::notice::Severity;

/// Arguments of `webhook show`.
#[derive(Args, Debug)]
pub(super) struct Show {
    /// Its name
    name: Name,
}

impl Show {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let file = WebhookFile::new(&context.dirs);
        let single = super::list::single(context).filter(|endpoint| endpoint.name == self.name);
        if let Some(endpoint) = single {
            return context.output.show(&Shown::new(&endpoint, &context.dirs.config_file()));
        }
        let endpoints = file.list().map_err(refused)?;
        match endpoints.iter().find(|endpoint| endpoint.name == self.name) {
            Some(endpoint) => context.output.show(&Shown::new(endpoint, file.path())),
            None => Err(refused(file.not_found(&self.name, &endpoints))),
        }
    }
}

/// An endpoint without secrets.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) enabled: bool,
    /// Empty: all.
    pub(super) events: Vec<String>,
    pub(super) min_severity: &'static str,
    pub(super) format: &'static str,
    /// Where the keys are that deliveries are signed with.
    pub(super) secrets: Vec<String>,
    hub_signature: bool,
    routing_key: Option<String>,
    timeout_ms: u128,
    pub(super) rate: Option<u32>,
    allow_http: bool,
    allow_networks: Vec<String>,
    proxy: Option<String>,
    ca_file: Option<String>,
    repeat_interval_s: u64,
    send_resolved: bool,
    group_wait_s: u64,
    group_interval_s: u64,
    /// Where it is written.
    pub(super) file: String,
}

impl Shown {
    pub(super) fn new(endpoint: &Endpoint, file: &Path) -> Self {
        let Noise { repeat_interval, send_resolved, group_wait, group_interval } = endpoint.noise;
        Self {
            name: endpoint.name.to_string(),
            url: public(endpoint),
            enabled: endpoint.enabled,
            events: endpoint.events.clone(),
            min_severity: match endpoint.min_severity {
                Severity::Info => "info",
                Severity::Warning => "warning",
                Severity::Critical => "critical",
            },
            format: endpoint.format.as_str(),
            secrets: endpoint.secrets.iter().map(place).collect(),
            hub_signature: endpoint.hub_signature,
            routing_key: endpoint.routing_key.as_ref().map(place),
            timeout_ms: endpoint.timeout.as_millis(),
            rate: endpoint.rate,
            allow_http: endpoint.allow_http,
            allow_networks: endpoint
                .allow_networks
                .iter()
                .map(|Network { address, prefix }| format!("{address}/{prefix}"))
                .collect(),
            proxy: endpoint.proxy.clone(),
            ca_file: endpoint.ca_file.as_ref().map(|path| path.display().to_string()),
            repeat_interval_s: repeat_interval.as_secs(),
            send_resolved,
            group_wait_s: group_wait.as_secs(),
            group_interval_s: group_interval.as_secs(),
            file: file.display().to_string(),
        }
    }
}

/// A URL without what may be a token: its query, and where the format says so its path.
fn public(endpoint: &Endpoint) -> String {
    let url = endpoint.url.as_str();
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let (shown, rest) = url.split_at(end);
    let after_scheme = shown.find("://").map_or(0, |at| at + 3);
    let path = shown.get(after_scheme..).and_then(|host| host.find('/')).map(|at| after_scheme + at);
    match path {
        Some(path) if endpoint.format.has_secret_path() => {
            format!("{}/…", shown.get(..path).unwrap_or_default())
        }
        Some(_) | None if rest.is_empty() => shown.to_owned(),
        Some(_) | None => format!("{shown}?…"),
    }
}

fn place(source: &SecretSource) -> String {
    match source {
        SecretSource::File(path) => path.display().to_string(),
        SecretSource::Credential(name) => format!("credential {name}"),
        SecretSource::Age { file, .. } => format!("{} (age)", file.display()),
    }
}

impl View for Shown {
    const KIND: &'static str = "Webhook";

    fn page(&self, page: &mut Page) {
        let list = |texts: &[String], none: &str| {
            if texts.is_empty() { none.to_owned() } else { texts.join(", ") }
        };
        let option = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        page.field("Name", &self.name);
        page.field("State", if self.enabled { "enabled" } else { "disabled" });
        page.field("URL", &self.url);
        page.field("Format", self.format);
        page.field("Events", list(&self.events, "all"));
        page.field("Severity", format!("{} and worse", self.min_severity));
        page.field("Signed with", list(&self.secrets, "nothing"));
        if self.hub_signature {
            page.field("Also signed", "X-Hub-Signature-256");
        }
        if self.routing_key.is_some() {
            page.field("Routing key", option(&self.routing_key));
        }
        page.field("Timeout", {
            let timeout = u64::try_from(self.timeout_ms).unwrap_or(u64::MAX);
            humantime::format_duration(std::time::Duration::from_millis(timeout))
        });
        page.field(
            "Rate",
            self.rate.map_or_else(|| "no limit".to_owned(), |rate| format!("{rate} a minute")),
        );
        page.field("Plain HTTP", if self.allow_http { "allowed" } else { "to this machine only" });
        page.field("Networks", list(&self.allow_networks, "public ones"));
        page.field("Proxy", option(&self.proxy));
        page.field("Trusts", self.ca_file.as_deref().unwrap_or("the system's certificates"));
        page.field(
            "Repeated",
            match self.repeat_interval_s {
                0 => "never".to_owned(),
                seconds => format!("every {}", duration(seconds.saturating_mul(1_000))),
            },
        );
        page.field("Its end", if self.send_resolved { "told" } else { "not told" });
        let [first, then] =
            [self.group_wait_s, self.group_interval_s].map(|s| duration(s.saturating_mul(1_000)));
        page.field("Grouped", format!("for {first}, then {then}"));
        page.field("File", &self.file);
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn sample(full: bool) -> Shown {
    use crate::model::endpoint::Format;
    let endpoint = Endpoint {
        name: crate::cli::gallery::name(if full { "chat" } else { "ops" }),
        url: format!("https://hooks.example.com/{}?token=secret", if full { "T0/secret" } else { "ops" }),
        enabled: full,
        events: if full {
            vec!["critical_process_down".to_owned(), "events_lost".to_owned()]
        } else {
            Vec::new()
        },
        min_severity: Severity::Warning,
        format: if full { Format::Slack } else { Format::Standard },
        secrets: if full { vec![SecretSource::File("/etc/pt/key".into())] } else { Vec::new() },
        hub_signature: full,
        routing_key: full.then(|| SecretSource::Credential("routing".to_owned())),
        timeout: std::time::Duration::from_secs(15),
        rate: full.then_some(30),
        allow_http: full,
        allow_networks: if full {
            vec![Network { address: [10, 0, 0, 0].into(), prefix: 8 }]
        } else {
            Vec::new()
        },
        proxy: full.then(|| "http://proxy:3128".to_owned()),
        ca_file: full.then(|| "/etc/ssl/own.pem".into()),
        noise: Noise::DEFAULT,
    };
    Shown::new(&endpoint, Path::new("/etc/process-throttler/webhooks.yaml"))
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    gallery.show("webhook show chat", &sample(true));
    gallery.show("webhook show ops", &sample(false));
}
