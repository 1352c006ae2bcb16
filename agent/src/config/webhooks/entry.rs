//! One endpoint as written, to a validated one.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;

use super::secrets::{self, Files, SECRET_KEYS};
use super::{Look, Reader};
use crate::config::error::Findings;
use crate::config::fields::{Cursor, Map};
use crate::config::file::Trust;
use crate::config::{noise, webhook};
use crate::model::endpoint::{Endpoint, Format, Network};
use crate::model::id::Name;
use crate::model::notice::Severity;
use crate::model::notice::table::EVENT_TYPES;

const KEYS: [&str; 17] = [
    "name",
    "url",
    "enabled",
    "events",
    "min_severity",
    "format",
    "hub_signature",
    "timeout",
    "rate",
    "allow_http",
    "allow_networks",
    "proxy",
    "ca_file",
    "repeat_interval",
    "send_resolved",
    "group_wait",
    "group_interval",
];

/// Most deliveries a minute that a limit can allow.
const RATE_MAX: i128 = 60_000;
/// The keys of an endpoint.
pub(super) fn keys() -> Vec<&'static str> {
    KEYS.into_iter().chain(SECRET_KEYS).collect()
}

/// Reads an endpoint; `None` when anything in it is wrong.
pub(super) fn read(
    name: Name,
    map: &Map<'_>,
    reader: Reader<'_>,
    findings: &mut Findings,
) -> Option<Endpoint> {
    let before = findings.errors();
    let looked_at = match reader.look {
        Look::Nowhere => false,
        Look::At(one) => *one == name,
        Look::Everywhere => true,
    };
    let files = Files { dir: reader.dir, trust: looked_at.then_some(reader.trust) };

    let allow_http = flag(map, "allow_http", false, findings);
    let may_be_plain = |url: &Url| allow_http.unwrap_or(true) || is_loopback(url);
    let url = map.required("url", findings).and_then(|at| webhook::url(at, may_be_plain, findings));
    let allow_networks = optional(map, "allow_networks", Vec::new(), networks, findings);
    let proxy = optional(map, "proxy", None, |at, findings| proxy(at, findings).map(Some), findings);
    let certificates = |at: &Cursor<'_>, findings: &mut Findings| ca_file(at, files, findings).map(Some);
    let ca_file = optional(map, "ca_file", None, certificates, findings);

    let enabled = flag(map, "enabled", true, findings);
    let events = optional(map, "events", Vec::new(), events, findings);
    let min_severity = optional(map, "min_severity", Severity::Info, severity, findings);
    let format = |at: &Cursor<'_>, findings: &mut Findings| at.choice(&Format::WRITTEN, findings);
    let format = optional(map, "format", Format::Standard, format, findings);

    let secrets = secrets::signing(map, files, findings);
    let hub_signature = flag(map, "hub_signature", false, findings);
    if let (Some(at), Some(true), Some([])) = (map.get("hub_signature"), hub_signature, secrets.as_deref()) {
        findings.push(at.error("there is no secret to sign with").with_fix("add secret_file: …"));
    }
    let routing_key = secrets::routing_key(map, format, files, findings);

    let timeout = optional(map, "timeout", webhook::TIMEOUT, webhook::timeout, findings);
    let rate = optional(map, "rate", None, |at, findings| rate(at, findings).map(Some), findings);
    let noise = noise::parse(map, findings);
    if findings.errors() > before {
        return None;
    }
    let url = url?;
    Some(Endpoint {
        name,
        enabled: enabled?,
        events: events?,
        min_severity: min_severity?,
        format: format?.at(url.path()),
        secrets: secrets?,
        hub_signature: hub_signature?,
        routing_key: routing_key?,
        timeout: timeout?,
        rate: rate?,
        allow_http: allow_http?,
        allow_networks: with_own_address(allow_networks?, &url),
        proxy: proxy?,
        ca_file: ca_file?,
        noise: noise?,
        url: url.into(),
    })
}

/// The value of a key that may be left out.
fn optional<T>(
    map: &Map<'_>,
    key: &str,
    default: T,
    read: impl FnOnce(&Cursor<'_>, &mut Findings) -> Option<T>,
    findings: &mut Findings,
) -> Option<T> {
    match map.get(key) {
        Some(at) => read(at, findings),
        None => Some(default),
    }
}

fn flag(map: &Map<'_>, key: &str, default: bool, findings: &mut Findings) -> Option<bool> {
    optional(map, key, default, |at, findings| at.boolean(findings), findings)
}

fn is_loopback(url: &Url) -> bool {
    webhook::literal(url).is_some_and(|address| address.is_loopback())
}

/// Who writes one of this machine's own addresses into the URL means it.
fn with_own_address(mut networks: Vec<Network>, url: &Url) -> Vec<Network> {
    if let Some(address) = webhook::literal(url).filter(IpAddr::is_loopback) {
        let own = Network { address, prefix: bits(address) };
        if !networks.contains(&own) {
            networks.push(own);
        }
    }
    networks
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn events(at: &Cursor<'_>, findings: &mut Findings) -> Option<Vec<String>> {
    let before = findings.errors();
    let known: Vec<_> = EVENT_TYPES.iter().map(|row| (row.name, row.name)).collect();
    let mut events: Vec<String> = Vec::new();
    for item in at.list(findings)? {
        if let Some(event) = item.choice(&known, findings)
            && !events.iter().any(|other| other == event)
        {
            events.push(event.to_owned());
        }
    }
    (findings.errors() == before).then_some(events)
}

fn severity(at: &Cursor<'_>, findings: &mut Findings) -> Option<Severity> {
    let words = [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];
    at.choice(&words, findings)
}

fn rate(at: &Cursor<'_>, findings: &mut Findings) -> Option<u32> {
    let number = at.integer(1..=RATE_MAX, "a number of deliveries a minute from 1 to 60000", findings)?;
    u32::try_from(number).ok()
}

fn networks(at: &Cursor<'_>, findings: &mut Findings) -> Option<Vec<Network>> {
    let before = findings.errors();
    let networks = at.list(findings)?.iter().filter_map(|item| network(item, findings)).collect();
    (findings.errors() == before).then_some(networks)
}

/// `ADDRESS` or `ADDRESS/PREFIX`.
fn network(at: &Cursor<'_>, findings: &mut Findings) -> Option<Network> {
    let text = at.text(findings)?;
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let network = address.parse::<IpAddr>().ok().and_then(|address| {
        let prefix = prefix.map_or(Some(bits(address)), |prefix| prefix.parse().ok())?;
        (prefix <= bits(address)).then_some(Network { address, prefix })
    });
    if network.is_none() {
        findings.push(at.error(format!("{text:?} is no network")).with_fix("write 10.1.0.0/16 or fd00::/8"));
    }
    network
}

fn proxy(at: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    webhook::url(at, |_| true, findings).map(String::from)
}

fn ca_file(at: &Cursor<'_>, files: Files<'_>, findings: &mut Findings) -> Option<PathBuf> {
    files.path(at, |trust: Trust| trust, findings)
}
