//! The single `webhook:` of `config.yaml`, and what it shares with the endpoints of `webhooks.yaml`. Contacts
//! nobody.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::error::Findings;
use super::fields::Cursor;
use super::noise;
use crate::model::endpoint::{Endpoint, Format, Network, Noise, SecretSource};
use crate::model::id::{Name, NameError};
use crate::model::notice::Severity;

pub(super) const KEYS: &[&str] = &[
    "url",
    "secret_file",
    "timeout",
    "allow_http",
    "repeat_interval",
    "send_resolved",
    "group_wait",
    "group_interval",
];

/// Time within which a delivery attempt must be answered, unless the configuration says otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// Name of the endpoint that the key stands for.
pub(super) const NAME: &str = "default";
/// Bounds of the timeout.
const TIMEOUT_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(60);

/// Where alerts are posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `https`, or `http` where that was allowed.
    pub url: String,
    /// File with the key that signs deliveries, read when it is needed. Absolute.
    pub secret_file: PathBuf,
    /// Time for one attempt, from connecting to the answer.
    pub timeout: Duration,
    /// Whether an unencrypted connection to another machine is acceptable.
    pub allow_http: bool,
    /// How alike events are held back and repeated.
    pub noise: Noise,
}

impl Webhook {
    /// As one of the endpoints. Everything worse than information goes to it, and every end of what did.
    ///
    /// # Errors
    /// Never: its name is one.
    pub(super) fn endpoint(&self) -> Result<Endpoint, NameError> {
        let Self { url, secret_file, timeout, allow_http, noise } = self;
        let name: Name = NAME.parse()?;
        let local = Url::parse(url).ok().filter(is_this_host);
        let loopback = [
            Network { address: [127, 0, 0, 0].into(), prefix: 8 },
            Network { address: std::net::Ipv6Addr::LOCALHOST.into(), prefix: 128 },
        ];
        Ok(Endpoint {
            name,
            url: url.clone(),
            enabled: true,
            events: Vec::new(),
            min_severity: Severity::Warning,
            format: Format::Standard,
            secrets: vec![SecretSource::File(secret_file.clone())],
            hub_signature: false,
            routing_key: None,
            timeout: *timeout,
            rate: None,
            allow_http: *allow_http,
            allow_networks: local.map(|_| loopback.to_vec()).unwrap_or_default(),
            proxy: None,
            ca_file: None,
            noise: *noise,
        })
    }
}

/// Reads the endpoint; `None` when anything in it is wrong. A relative path is one below `config_dir`.
pub(super) fn parse(
    cursor: &Cursor<'_>,
    config_dir: &std::path::Path,
    findings: &mut Findings,
) -> Option<Webhook> {
    let before = findings.errors();
    let map = cursor.map(KEYS, &[], findings)?;
    let allow_http = map.get("allow_http").map_or(Some(false), |at| at.boolean(findings));
    let url = map
        .required("url", findings)
        .and_then(|at| url(at, |url| allow_http.unwrap_or(true) || is_this_host(url), findings));
    let secret_file = map.required("secret_file", findings).and_then(|at| {
        let path = at.text(findings)?;
        if path.is_empty() {
            findings.push(at.error("is empty"));
            return None;
        }
        Some(config_dir.join(path))
    });
    let timeout = map.get("timeout").map_or(Some(TIMEOUT), |at| timeout(at, findings));
    let noise = noise::parse(&map, findings);
    if findings.errors() > before {
        return None;
    }
    Some(Webhook {
        url: url?.into(),
        secret_file: secret_file?,
        timeout: timeout?,
        allow_http: allow_http?,
        noise: noise?,
    })
}

/// An http or https URL without credentials; plain http only where `may_be_plain` says so.
pub(super) fn url(
    at: &Cursor<'_>,
    may_be_plain: impl FnOnce(&Url) -> bool,
    findings: &mut Findings,
) -> Option<Url> {
    let text = at.text(findings)?;
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            // Without the text: it may carry a password.
            findings.push(at.secret_error(format!("not a URL: {error}")).with_fix("write https://host/path"));
            return None;
        }
    };
    let problem = if !matches!(url.scheme(), "https" | "http") {
        Some((format!("scheme {:?} is neither https nor http", url.scheme()), "write https://…"))
    } else if !url.username().is_empty() || url.password().is_some() {
        Some(("credentials in a URL end up in logs".to_owned(), "remove them; deliveries are signed"))
    } else if url.scheme() == "http" && !may_be_plain(&url) {
        Some((
            "http to another machine can be read and changed on the way".to_owned(),
            "use https, or set allow_http: true",
        ))
    } else {
        None
    };
    if let Some((message, fix)) = problem {
        findings.push(at.secret_error(message).with_fix(fix));
        return None;
    }
    Some(url)
}

/// The address in a URL whose host is one, and not a name.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse().ok()
}

pub(super) fn is_this_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    // "localhost" and its subdomains are loopback by RFC 6761, section 6.3.
    host == "localhost"
        || host.ends_with(".localhost")
        || literal(url).is_some_and(|address| address.is_loopback())
}

pub(super) fn timeout(at: &Cursor<'_>, findings: &mut Findings) -> Option<Duration> {
    let text = at.text(findings)?;
    match humantime::parse_duration(text) {
        Ok(duration) if TIMEOUT_RANGE.contains(&duration) => Some(duration),
        Ok(_) => {
            findings.push(at.error(format!("{text} is not between 100ms and 60s")));
            None
        }
        Err(error) => {
            findings
                .push(at.error(format!("{text:?} is no duration: {error}")).with_fix("write 5s or 500ms"));
            None
        }
    }
}
