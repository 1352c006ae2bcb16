//! The `audit:` key of `config.yaml`. Contacts nobody.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Findings;
use super::fields::{Cursor, Map};
use super::{limits, metrics, profile};
use crate::model::audit::{AuditSettings, Destination, Receiver, Rotation, Transport};
use crate::model::id::Name;

const KEYS: &[&str] = &["rotate_size", "rotate_after", "keep", "ship"];
const SHIP_KEYS: &[&str] =
    &["name", "type", "address", "transport", "ca_file", "endpoint", "timeout", "headers", "allow_http"];
/// Those of them that tell nothing of where.
const ABOUT_KEYS: [&str; 2] = ["name", "type"];
const SYSLOG_KEYS: [&str; 3] = ["address", "transport", "ca_file"];

/// Bounds of `rotate_size`, in bytes.
const SIZES: std::ops::RangeInclusive<u64> = 64 * 1024..=1 << 30;
/// Bounds of `rotate_after`.
const AGES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(3_600)..=Duration::from_secs(366 * 24 * 3_600);
/// Bounds of `keep`.
const KEPT: std::ops::RangeInclusive<i128> = 1..=10_000;
/// Most destinations: each has a thread.
const SHIP_MAX: usize = 8;

/// Reads the key; what is wrong goes to `findings`, and the default takes its place. Relative paths of secrets are below
/// `config_dir`.
pub(super) fn parse(at: &Cursor<'_>, config_dir: &Path, findings: &mut Findings) -> AuditSettings {
    let Some(map) = at.map(KEYS, &[], findings) else { return AuditSettings::default() };
    let Rotation { size, after, keep } = Rotation::DEFAULT;
    let rotation = Rotation {
        size: map.get("rotate_size").and_then(|at| bytes(at, findings)).unwrap_or(size),
        after: map.get("rotate_after").and_then(|at| age(at, findings)).unwrap_or(after),
        keep: map.get("keep").and_then(|at| count(at, findings)).unwrap_or(keep),
    };
    let mut ship: Vec<Destination> = Vec::new();
    for item in map.get("ship").and_then(|at| at.list(findings)).unwrap_or_default() {
        let Some(destination) = destination(&item, config_dir, findings) else { continue };
        if ship.iter().any(|other| other.name == destination.name) {
            let message = format!("two destinations are named {}", destination.name);
            findings.push(item.error(message).with_fix("give one of them another name"));
        } else if ship.len() == SHIP_MAX {
            findings.push(item.error(format!("more than {SHIP_MAX} destinations")));
        } else {
            ship.push(destination);
        }
    }
    AuditSettings { rotation, ship }
}

fn bytes(at: &Cursor<'_>, findings: &mut Findings) -> Option<u64> {
    let size = limits::size(at, findings)?.get();
    if SIZES.contains(&size) {
        return Some(size);
    }
    findings.push(at.error(format!("{size} bytes are not between 64K and 1G")));
    None
}

fn age(at: &Cursor<'_>, findings: &mut Findings) -> Option<Duration> {
    let text = at.text(findings)?;
    match humantime::parse_duration(text) {
        Ok(age) if AGES.contains(&age) => Some(age),
        Ok(_) => {
            findings.push(at.error(format!("{text} is not between 1h and 366days")));
            None
        }
        Err(error) => {
            findings.push(at.error(format!("{text:?} is no duration: {error}")).with_fix("write 30d or 12h"));
            None
        }
    }
}

fn count(at: &Cursor<'_>, findings: &mut Findings) -> Option<usize> {
    let count = at.integer(KEPT, "a number of files from 1 to 10000", findings)?;
    usize::try_from(count).ok()
}

fn destination(at: &Cursor<'_>, config_dir: &Path, findings: &mut Findings) -> Option<Destination> {
    let map = at.map(SHIP_KEYS, &[], findings)?;
    let kind = map.required("type", findings)?;
    let kinds = [("journald", To::Journald), ("syslog", To::Syslog), ("otlp", To::Otlp)];
    let to = match kind.choice(&kinds, findings)? {
        To::Journald => {
            expect(&map, &[], "the journal of this machine", findings)?;
            Receiver::Journald
        }
        To::Syslog => {
            expect(&map, &SYSLOG_KEYS, "a syslog receiver", findings)?;
            syslog(&map, findings)?
        }
        To::Otlp => {
            expect(&map, &metrics::RECEIVER_KEYS, "a receiver of OTLP", findings)?;
            let (endpoint, access) = metrics::receiver(&map, config_dir, findings)?;
            Receiver::Otlp { url: metrics::logs_url(&endpoint).into(), access }
        }
    };
    let name = match map.get("name") {
        Some(at) => profile::read_name(at, findings)?,
        None => kind.text(findings)?.parse::<Name>().ok()?,
    };
    Some(Destination { name, to })
}

#[derive(Clone, Copy)]
enum To {
    Journald,
    Syslog,
    Otlp,
}

/// Nothing but these keys, where all that are known were let in.
fn expect(map: &Map<'_>, keys: &[&str], whom: &str, findings: &mut Findings) -> Option<()> {
    let mut good = true;
    for (key, at) in map.entries() {
        if !ABOUT_KEYS.contains(key) && !keys.contains(key) {
            findings.push(at.error(format!("{key} means nothing for {whom}")).with_fix("remove it"));
            good = false;
        }
    }
    good.then_some(())
}

fn syslog(map: &Map<'_>, findings: &mut Findings) -> Option<Receiver> {
    let at = map.required("address", findings)?;
    let address = address(at, findings);
    let kinds = [("udp", Plain::Udp), ("tcp", Plain::Tcp), ("tls", Plain::Tls)];
    let kind = map.get("transport").map_or(Some(Plain::Tls), |at| at.choice(&kinds, findings))?;
    let (host, port) = address?;
    let transport = match (kind, map.get("ca_file")) {
        (Plain::Tls, _) => {
            Transport::Tls { ca_file: absolute(map.required("ca_file", findings)?, findings)? }
        }
        (Plain::Udp | Plain::Tcp, Some(at)) => {
            findings
                .push(at.error("only tls has certificates").with_fix("remove it, or write transport: tls"));
            return None;
        }
        (Plain::Udp | Plain::Tcp, None) if !is_loopback(&host) => {
            let message = format!("{host} is another machine, and who changed what would go there in clear");
            findings
                .push(at.error(message).with_fix("write transport: tls, or send to a relay on 127.0.0.1"));
            return None;
        }
        (Plain::Udp, None) => Transport::Udp,
        (Plain::Tcp, None) => Transport::Tcp,
    };
    Some(Receiver::Syslog { host, port, transport })
}

#[derive(Clone, Copy)]
enum Plain {
    Udp,
    Tcp,
    Tls,
}

/// `HOST:PORT`; an IPv6 address in brackets.
fn address(at: &Cursor<'_>, findings: &mut Findings) -> Option<(String, u16)> {
    let text = at.text(findings)?;
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
        let fits =
            !host.is_empty() && host.len() <= 253 && host.chars().all(|c| c.is_ascii_graphic() && c != '/');
        fits.then(|| (host.to_owned(), port))
    });
    if parts.is_none() {
        let message = format!("{text:?} is not HOST:PORT");
        findings.push(at.error(message).with_fix("write logs.example.org:6514 or [::1]:514"));
    }
    parts
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn absolute(at: &Cursor<'_>, findings: &mut Findings) -> Option<PathBuf> {
    let path = PathBuf::from(at.text(findings)?);
    if path.is_absolute() {
        return Some(path);
    }
    findings.push(at.error(format!("{} is not an absolute path", path.display())));
    None
}

#[cfg(test)]
mod tests;
