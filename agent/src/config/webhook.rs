//! The webhook endpoint as written, to a validated one. Contacts nobody.

use std::path::PathBuf;
use std::time::Duration;

use super::error::Findings;
use super::fields::Cursor;

pub(super) const KEYS: &[&str] = &["url", "secret_file", "timeout", "allow_http"];

/// Time within which a delivery attempt must be answered, unless the configuration says otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
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
    let url = map.required("url", findings).and_then(|at| url(at, allow_http.unwrap_or(true), findings));
    let secret_file = map.required("secret_file", findings).and_then(|at| {
        let path = at.text(findings)?;
        if path.is_empty() {
            findings.push(at.error("is empty"));
            return None;
        }
        Some(config_dir.join(path))
    });
    let timeout = map.get("timeout").map_or(Some(TIMEOUT), |at| timeout(at, findings));
    if findings.errors() > before {
        return None;
    }
    Some(Webhook { url: url?, secret_file: secret_file?, timeout: timeout?, allow_http: allow_http? })
}

fn url(at: &Cursor<'_>, allow_http: bool, findings: &mut Findings) -> Option<String> {
    let text = at.text(findings)?;
    let url = match reqwest::Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            // Without the text: it may carry a password.
            findings.push(at.error(format!("not a URL: {error}")).with_fix("write https://host/path"));
            return None;
        }
    };
    let problem = if !matches!(url.scheme(), "https" | "http") {
        Some((format!("scheme {:?} is neither https nor http", url.scheme()), "write https://…"))
    } else if !url.username().is_empty() || url.password().is_some() {
        Some(("credentials in a URL end up in logs".to_owned(), "remove them; deliveries are signed"))
    } else if url.scheme() == "http" && !allow_http && !is_loopback(&url) {
        Some((
            "http to another machine can be read and changed on the way".to_owned(),
            "use https, or set allow_http: true",
        ))
    } else {
        None
    };
    if let Some((message, fix)) = problem {
        findings.push(at.error(message).with_fix(fix));
        return None;
    }
    Some(url.into())
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // "localhost" and its subdomains are loopback by RFC 6761, section 6.3.
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn timeout(at: &Cursor<'_>, findings: &mut Findings) -> Option<Duration> {
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
