//! When and how a critical process is restarted: as written, to validated.

use std::time::Duration;

use super::program;
use crate::config::error::Findings;
use crate::config::fields::{Cursor, Map};
use crate::config::host::Host;
use crate::config::policy::span;
use crate::model::critical::{Restart, RestartBy, RestartPolicy};

const POLICIES: [(&str, RestartPolicy); 3] = [
    ("always", RestartPolicy::Always),
    ("on-failure", RestartPolicy::OnFailure),
    ("never", RestartPolicy::Never),
];
const OWN_KEYS: [&str; 5] = ["unit", "backoff", "backoff_max", "max", "per"];

const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
const MOST: u32 = 5;
const PER: Duration = Duration::from_secs(600);

const LEAST: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// `UNIT_NAME_MAX` of systemd's src/basic/unit-name.h, with its NUL.
const UNIT_MAX: usize = 255;

/// Reads `restart_policy` and `restart` of a critical process. The outer value is none when something is wrong, the
/// inner one when nothing is to be restarted.
pub(super) fn read(map: &Map<'_>, host: &Host, findings: &mut Findings) -> Option<Option<Restart>> {
    let policy = match map.get("restart_policy") {
        Some(at) => Some(at.choice(&POLICIES, findings)?),
        None => None,
    };
    let Some(at) = map.get("restart") else {
        if let (Some(policy), Some(at)) = (policy, map.get("restart_policy"))
            && policy != RestartPolicy::Never
        {
            let finding = at.error(format!("restart_policy {} does not say by what", policy.as_str()));
            findings.push(finding.with_fix("add restart: { unit: NAME.service }"));
            return None;
        }
        return Some(None);
    };
    restart(at, policy.unwrap_or(RestartPolicy::OnFailure), host, findings).map(Some)
}

fn restart(at: &Cursor<'_>, policy: RestartPolicy, host: &Host, findings: &mut Findings) -> Option<Restart> {
    let keys = [&OWN_KEYS[..], &program::KEYS[..]].concat();
    let map = at.map(&keys, &[], findings)?;
    let by = match (map.get("unit"), map.get("command")) {
        (Some(unit), None) => {
            let others = ["user", "group", "cwd", "env"].into_iter().filter_map(|key| map.get(key));
            for other in others {
                let finding = other.error("a unit has its own: this goes with a command");
                findings.push(finding.with_fix("remove it"));
            }
            service(unit, findings).map(RestartBy::Unit)
        }
        (None, Some(_)) => program::read(&map, host, findings).map(RestartBy::Command),
        (Some(_), Some(command)) => {
            findings.push(command.error("there is a unit already").with_fix("remove one of them"));
            None
        }
        (None, None) => {
            let finding = at.error("nothing says by what it is restarted");
            findings.push(finding.with_fix("add unit: NAME.service, or command: [/path, …] with user:"));
            None
        }
    };
    let backoff = span(map.get("backoff"), LEAST..=HOUR, BACKOFF, findings);
    let least = backoff.unwrap_or(LEAST);
    let backoff_max = span(map.get("backoff_max"), least..=DAY, BACKOFF_MAX.max(least), findings);
    let most = map.get("max").map_or(Some(MOST), |at| {
        let number = at.integer(1..=100, "a number of restarts from 1 to 100", findings)?;
        u32::try_from(number).ok()
    });
    let per = span(map.get("per"), SECOND..=DAY, PER, findings);
    Some(Restart { policy, by: by?, backoff: backoff?, backoff_max: backoff_max?, most: most?, per: per? })
}

/// The name of a service (systemd.unit(5), "String Escaping for Inclusion in Unit Names").
fn service(at: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    let text = at.text(findings)?;
    let stem = text.strip_suffix(".service").unwrap_or_default();
    let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if stem.is_empty() || stem.ends_with('@') || text.len() > UNIT_MAX || !stem.chars().all(valid) {
        let finding = at.error(format!("{text:?} is no service unit"));
        findings.push(finding.with_fix("write its whole name, such as nginx.service"));
        return None;
    }
    Some(text.to_owned())
}
