//! How a critical process is asked whether it works: as written, to validated.

use std::time::Duration;

use super::program;
use crate::config::error::Findings;
use crate::config::fields::{Cursor, Map};
use crate::config::file::Value;
use crate::config::host::Host;
use crate::config::policy::span;
use crate::model::critical::{HealthCheck, Probe};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Port,
    Http,
    Command,
    File,
}

const KINDS: [(&str, Kind); 4] =
    [("port", Kind::Port), ("http", Kind::Http), ("command", Kind::Command), ("file", Kind::File)];
const COMMON: [&str; 5] = ["type", "interval", "timeout", "retries", "restart"];

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

const LEAST: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// Longest age of a file.
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Longest target in bytes.
const TARGET_MAX: usize = 2_048;

/// What there is to restart the process with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means {
    /// It is restarted when it dies.
    pub(super) restarts: bool,
    /// By a unit, which ends what is there before.
    pub(super) by_unit: bool,
}

/// Reads a health check.
pub(super) fn read(
    at: &Cursor<'_>,
    means: Means,
    host: &Host,
    findings: &mut Findings,
) -> Option<HealthCheck> {
    // The keys depend on the type: they are judged when it is known.
    let mut ignored = Findings::new();
    let Some(typed) = at.map(&["type"], &[], &mut ignored) else {
        return at.map(&["type"], &[], findings).and(None);
    };
    let kind = typed.required("type", findings)?.choice(&KINDS, findings)?;
    let own: &[&str] = match kind {
        Kind::Port | Kind::Http => &["target"],
        Kind::File => &["target", "max_age"],
        Kind::Command => &program::KEYS,
    };
    let map = at.map(&[&COMMON[..], own].concat(), &[], findings)?;
    let probe = match kind {
        Kind::Port => port(&map, findings).map(|target| Probe::Port { target }),
        Kind::Http => http(&map, findings).map(|target| Probe::Http { target }),
        Kind::Command => program::read(&map, host, findings).map(|program| Probe::Command { program }),
        Kind::File => file(&map, findings),
    };
    let interval = span(map.get("interval"), SECOND..=DAY, INTERVAL, findings);
    let most = interval.unwrap_or(MINUTE).min(MINUTE);
    let timeout = span(map.get("timeout"), LEAST..=most, TIMEOUT.min(most), findings);
    let retries = map.get("retries").map_or(Some(RETRIES), |at| {
        let number = at.integer(1..=100, "a number of failures from 1 to 100", findings)?;
        u32::try_from(number).ok()
    });
    let restart = map.get("restart").map_or(Some(false), |at| restart(at, means, findings));
    Some(HealthCheck {
        probe: probe?,
        interval: interval?,
        timeout: timeout?,
        retries: retries?,
        restart: restart?,
    })
}

fn restart(at: &Cursor<'_>, means: Means, findings: &mut Findings) -> Option<bool> {
    let wanted = at.boolean(findings)?;
    if !wanted || (means.restarts && means.by_unit) {
        return Some(wanted);
    }
    let finding = if means.restarts {
        at.error("it lives: a command would start a second one beside it")
            .with_fix("restart it by a unit, or set this to false")
    } else {
        at.error("nothing says how to restart it").with_fix("add restart: { unit: NAME.service }")
    };
    findings.push(finding);
    None
}

/// `host:port`, or a port of this machine.
fn port(map: &Map<'_>, findings: &mut Findings) -> Option<String> {
    let at = map.required("target", findings)?;
    if let Value::Integer(_) = at.value() {
        let number = at.integer(1..=65_535, "a port from 1 to 65535", findings)?;
        return Some(format!("127.0.0.1:{number}"));
    }
    let text = target(at, findings)?;
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                !host.is_empty() && host.chars().all(plain)
            }
        };
        valid.then_some(port)
    });
    if parts.is_none() {
        let finding = at.error(format!("{text:?} is no host and port"));
        findings.push(finding.with_fix("write 127.0.0.1:5432, [::1]:5432 or db.example:5432"));
        return None;
    }
    Some(text.to_owned())
}

fn http(map: &Map<'_>, findings: &mut Findings) -> Option<String> {
    let at = map.required("target", findings)?;
    let text = target(at, findings)?;
    let why = match reqwest::Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => "its scheme is not http or https".to_owned(),
        Ok(url) if url.host_str().is_none_or(str::is_empty) => "it names no host".to_owned(),
        Ok(url) if url.password().is_some() || !url.username().is_empty() => {
            "a profile is no place for a password".to_owned()
        }
        Ok(_) => return Some(text.to_owned()),
        Err(error) => error.to_string(),
    };
    let finding = at.error(format!("{text:?} cannot be asked: {why}"));
    findings.push(finding.with_fix("write http://127.0.0.1/health"));
    None
}

fn file(map: &Map<'_>, findings: &mut Findings) -> Option<Probe> {
    let target = map.required("target", findings).and_then(|at| program::absolute(at, findings));
    let max_age = match map.get("max_age") {
        None => Some(None),
        Some(at) => span(Some(at), SECOND..=YEAR, SECOND, findings).map(Some),
    };
    Some(Probe::File { target: target?, max_age: max_age? })
}

fn target<'a>(at: &Cursor<'a>, findings: &mut Findings) -> Option<&'a str> {
    let text = at.text(findings)?;
    if text.len() > TARGET_MAX || text.chars().any(char::is_control) {
        findings.push(at.error("it is too long, or has control characters"));
        return None;
    }
    Some(text)
}
