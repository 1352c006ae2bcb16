//! Critical processes as written, to validated ones.

mod expect;

use super::error::Findings;
use super::fields::Cursor;
use super::host::Host;
use super::matching;
use super::profile::unique;
use crate::model::critical::Critical;

const KEYS: &[&str] = &["name", "match", "expect"];
const UNSUPPORTED: &[&str] = &[
    "protection_level",
    "restart_policy",
    "restart",
    "health_check",
    "dependencies",
    "reserve",
    "latency_slo",
    "oom_score_adj",
    "nice",
    "cpu_weight",
    "io_weight",
];

/// Reads the list, with where each entry's match stands.
pub(super) fn read<'a>(
    list: &Cursor<'a>,
    host: &Host,
    findings: &mut Findings,
) -> Vec<(Critical, Cursor<'a>)> {
    let mut names = Vec::new();
    let mut all = Vec::new();
    for item in list.list(findings).unwrap_or_default() {
        let Some(map) = item.map(KEYS, UNSUPPORTED, findings) else { continue };
        let name = map.required("name", findings).and_then(|at| unique(at, &mut names, findings));
        let at = map.required("match", findings);
        let matches = at.and_then(|at| matching::parse(at, host, findings));
        let expect = map.get("expect").and_then(|at| expect::parse(at, findings));
        if let (Some(name), Some(matches), Some(at)) = (name, matches, at) {
            if matches.is_forgeable() {
                let message = format!(
                    "critical for alerts only: a process can give itself this match, so {name} is not exempt from rules"
                );
                findings.push(at.warning(message).with_fix("add exe, user or uid to the match"));
            }
            all.push((Critical { expect, ..Critical::new(name, matches) }, at.clone()));
        }
    }
    all
}
