//! The key `metrics`: where figures can be fetched, and where they are pushed to, with
//! events and traces. Binds and contacts nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use super::error::Findings;
use super::fields::{Cursor, Map};
use super::webhook;
use crate::model::signal::Hundredths;
use crate::model::telemetry::{Access, Header, HeaderValue, MetricsSettings, Otlp, Signal, Urls};

const KEYS: &[&str] = &["listen", "allow_remote", "otlp", "bpf_run_time"];
const OTLP_KEYS: &[&str] =
    &["endpoint", "signals", "trace_ratio", "interval", "timeout", "headers", "ca_file", "allow_http"];
/// Those of them by which [`receiver`] is told.
pub(super) const RECEIVER_KEYS: [&str; 5] = ["endpoint", "timeout", "headers", "ca_file", "allow_http"];
const HEADER_KEYS: &[&str] = &["name", "value", "secret_file"];

/// Bounds of the interval.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// From one push to the next, unless the configuration says otherwise: as OpenTelemetry has it.
const INTERVAL: Duration = Duration::from_secs(60);
/// Time for one push, unless the configuration says otherwise: as OpenTelemetry has it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many decisions are traced, unless the configuration says otherwise: 1 %.
const TRACE_RATIO: Hundredths = Hundredths(100);
/// What an endpoint that is for metrics alone ends with. OTLP appends the like of it to that of several signals.
const METRICS_PATH: &str = "v1/metrics";
/// Headers that are secrets, or the agent's own.
const SECRETS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
const OURS: [&str; 6] =
    ["content-type", "content-length", "host", "connection", "transfer-encoding", "user-agent"];
/// Most headers.
const HEADERS_MAX: usize = 16;

/// Reads the key; what is wrong goes to `findings`. Relative paths of secrets are below `config_dir`.
pub(super) fn parse(at: &Cursor<'_>, config_dir: &Path, findings: &mut Findings) -> Option<MetricsSettings> {
    let map = at.map(KEYS, &[], findings)?;
    let remote = map.get("allow_remote").is_some_and(|at| at.boolean(findings).unwrap_or(true));
    let listen = match map.get("listen") {
        None => MetricsSettings::default().listen,
        Some(at) => listen(at, remote, findings),
    };
    let otlp = map.get("otlp").and_then(|at| otlp(at, config_dir, findings));
    let bpf_run_time = map.get("bpf_run_time").is_some_and(|at| at.boolean(findings).unwrap_or(false));
    Some(MetricsSettings { listen, otlp, bpf_run_time })
}

fn listen(at: &Cursor<'_>, remote: bool, findings: &mut Findings) -> Option<SocketAddr> {
    let text = at.text(findings)?;
    if text == "off" {
        return None;
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() || remote => Some(address),
        Ok(address) => {
            let message =
                format!("{} is not this machine alone: whoever reaches it reads all figures", address.ip());
            findings
                .push(at.error(message).with_fix("listen on 127.0.0.1 or [::1], or set allow_remote: true"));
            None
        }
        Err(_unparsed) => {
            let finding = at.error(format!("{text:?} is neither off nor an address with a port"));
            findings.push(finding.with_fix("write 127.0.0.1:9464 or \"[::1]:9464\""));
            None
        }
    }
}

fn otlp(at: &Cursor<'_>, config_dir: &Path, findings: &mut Findings) -> Option<Otlp> {
    let before = findings.errors();
    let map = at.map(OTLP_KEYS, &[], findings)?;
    let receiver = receiver(&map, config_dir, findings);
    let signals = map.get("signals").map(|at| signals(at, findings));
    let trace_ratio = map.get("trace_ratio").map_or(Some(TRACE_RATIO), |at| ratio(at, findings));
    let interval = map.get("interval").map_or(Some(INTERVAL), |at| interval(at, findings));
    if findings.errors() > before {
        return None;
    }
    let ((url, mut access), interval) = (receiver?, interval?);
    access.timeout = access.timeout.min(interval);
    Some(Otlp { urls: urls(&url, signals.as_deref()), trace_ratio: trace_ratio?, interval, access })
}

/// What is said of a receiver wherever there is one, by the keys in [`RECEIVER_KEYS`].
pub(super) fn receiver(map: &Map<'_>, config_dir: &Path, findings: &mut Findings) -> Option<(Url, Access)> {
    let before = findings.errors();
    let allow_http = map.get("allow_http").map_or(Some(false), |at| at.boolean(findings));
    let url = map.required("endpoint", findings).and_then(|at| {
        webhook::url(at, |url| allow_http.unwrap_or(true) || webhook::is_this_host(url), findings)
    });
    let timeout = map.get("timeout").map_or(Some(TIMEOUT), |at| webhook::timeout(at, findings));
    let headers = headers(map, config_dir, findings);
    let ca_file = map.get("ca_file").and_then(|at| super::settings::absolute(at, findings));
    if findings.errors() > before {
        return None;
    }
    Some((url?, Access { timeout: timeout?, headers, ca_file }))
}

/// The URL of logs at an endpoint.
pub(super) fn logs_url(endpoint: &Url) -> Url {
    url_of(endpoint, "v1/logs", Signal::Logs)
}

/// The URL of a signal at an endpoint, whose path may end with `own`, that of one signal.
fn url_of(endpoint: &Url, own: &str, signal: Signal) -> Url {
    let mut url = endpoint.clone();
    let path = endpoint.path().trim_end_matches('/');
    let base = path.strip_suffix(own).unwrap_or(path).trim_end_matches('/');
    url.set_path(&format!("{base}/v1/{}", signal.as_str()));
    url
}

/// Where each signal goes. Without a list of them an endpoint gets all, but one that names metrics gets metrics only.
fn urls(endpoint: &Url, signals: Option<&[Signal]>) -> Urls {
    let of_metrics = endpoint.path().trim_end_matches('/').ends_with(METRICS_PATH);
    let signals = signals.unwrap_or(if of_metrics { &[Signal::Metrics] } else { &Signal::ALL });
    let url =
        |signal: Signal| signals.contains(&signal).then(|| url_of(endpoint, METRICS_PATH, signal).into());
    Urls { metrics: url(Signal::Metrics), logs: url(Signal::Logs), traces: url(Signal::Traces) }
}

fn signals(at: &Cursor<'_>, findings: &mut Findings) -> Vec<Signal> {
    let items = at.list(findings).unwrap_or_default();
    if items.is_empty() {
        findings.push(at.error("names no signal").with_fix("name metrics, logs or traces, or remove otlp"));
    }
    let choices = Signal::ALL.map(|signal| (signal.as_str(), signal));
    items.iter().filter_map(|item| item.choice(&choices, findings)).collect()
}

fn ratio(at: &Cursor<'_>, findings: &mut Findings) -> Option<Hundredths> {
    let text = at.text(findings)?;
    let found = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<Hundredths>().ok());
    if let Some(found) = found.filter(|found| found.0 <= 10_000) {
        return Some(found);
    }
    findings.push(at.error(format!("{text:?} is no share from 0% to 100%")).with_fix("write 1%"));
    None
}

fn interval(at: &Cursor<'_>, findings: &mut Findings) -> Option<Duration> {
    let text = at.text(findings)?;
    match humantime::parse_duration(text) {
        Ok(found) if INTERVALS.contains(&found) => Some(found),
        Ok(_) => {
            findings.push(at.error(format!("{text} is not within 1s to 1h")));
            None
        }
        Err(error) => {
            let finding = at.error(format!("{text:?} is no duration: {error}"));
            findings.push(finding.with_fix("write 60s or 5m"));
            None
        }
    }
}

fn headers(map: &Map<'_>, config_dir: &Path, findings: &mut Findings) -> Vec<Header> {
    let Some(at) = map.get("headers") else { return Vec::new() };
    let items = at.list(findings).unwrap_or_default();
    if items.len() > HEADERS_MAX {
        findings.push(at.error(format!("{} headers are more than {HEADERS_MAX}", items.len())));
    }
    let mut headers: Vec<Header> = Vec::new();
    for item in items {
        let Some(header) = header(&item, config_dir, findings) else { continue };
        if headers.iter().any(|other| other.name == header.name) {
            findings.push(item.error(format!("header {} is there twice", header.name)));
        }
        headers.push(header);
    }
    headers
}

fn header(at: &Cursor<'_>, config_dir: &Path, findings: &mut Findings) -> Option<Header> {
    let map = at.map(HEADER_KEYS, &[], findings)?;
    let name_at = map.required("name", findings)?;
    let name = name_at.text(findings)?.to_ascii_lowercase();
    // RFC 9110, section 5.6.2.
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        findings.push(name_at.error(format!("{name:?} is no name of a header")));
        return None;
    }
    if OURS.contains(&name.as_str()) {
        findings.push(name_at.error(format!("{name} is set by the agent")).with_fix("remove it"));
        return None;
    }
    let value = match (map.get("value"), map.get("secret_file")) {
        (Some(value), None) if SECRETS.contains(&name.as_str()) => {
            let finding = value.secret_error(format!("{name} is a secret, which does not belong here"));
            findings.push(finding.with_fix("put it into a file of mode 0600, and write secret_file:"));
            return None;
        }
        (Some(value), None) => {
            let text = value.text(findings)?;
            if text.len() > 1_024 || !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
                findings.push(value.secret_error("is not one line of visible ASCII"));
                return None;
            }
            HeaderValue::Plain(text.to_owned())
        }
        (None, Some(file)) => HeaderValue::File(secret_file(file, config_dir, findings)?),
        (Some(_), Some(_)) | (None, None) => {
            findings.push(at.error("a header has either value or secret_file"));
            return None;
        }
    };
    Some(Header { name, value })
}

fn secret_file(at: &Cursor<'_>, config_dir: &Path, findings: &mut Findings) -> Option<PathBuf> {
    let path = at.text(findings)?;
    if path.is_empty() {
        findings.push(at.error("is empty"));
        return None;
    }
    Some(config_dir.join(path))
}
