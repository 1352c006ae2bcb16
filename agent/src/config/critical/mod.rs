//! Critical processes as written, to validated ones.

use super::error::Findings;
use super::fields::Cursor;
use super::host::Host;
use super::matching;
use super::profile::{read_name, unique};
use crate::model::critical::{Critical, Restart, RestartBy, RestartPolicy};
use crate::model::id::Name;

mod expect;
mod health;
mod latency_slo;
pub(super) mod program;
mod protection;
mod reserve;
mod restart;

const KEYS: &[&str] = &[
    "name",
    "match",
    "protection_level",
    "oom_score_adj",
    "nice",
    "cpu_weight",
    "io_weight",
    "reserve",
    "expect",
    "restart_policy",
    "restart",
    "health_check",
    "dependencies",
    "latency_slo",
];

/// Reads the list, with where each entry's match stands.
pub(super) fn read<'a>(
    list: &Cursor<'a>,
    host: &Host,
    findings: &mut Findings,
) -> Vec<(Critical, Cursor<'a>)> {
    let mut names = Vec::new();
    let mut all = Vec::new();
    let mut needs = Vec::new();
    let mut reserved = reserve::Sum::default();
    for item in list.list(findings).unwrap_or_default() {
        let Some(map) = item.map(KEYS, &[], findings) else { continue };
        let name = map.required("name", findings).and_then(|at| unique(at, &mut names, findings));
        let at = map.required("match", findings);
        let matches = at.and_then(|at| matching::parse(at, host, findings));
        let restart = restart::read(&map, host, findings);
        let restarts = matches!(&restart, Some(Some(restart)) if restart.policy != RestartPolicy::Never);
        let by_unit = matches!(&restart, Some(Some(Restart { by: RestartBy::Unit(_), .. })));
        let means = health::Means { restarts, by_unit };
        let health = map.get("health_check").map(|at| health::read(at, means, host, findings));
        let protection = protection::read(&map, host, findings);
        reserved.add(&map, &protection, host, findings);
        let expect = map.get("expect").and_then(|at| expect::parse(at, findings));
        let latency_slo = map.get("latency_slo").and_then(|at| latency_slo::parse(at, findings));
        let dependencies = map.get("dependencies").map(|at| dependencies(at, findings)).unwrap_or_default();
        if let (Some(matches), Some(at)) = (&matches, map.get("restart"))
            && matches.is_forgeable()
        {
            let message = "a process can give itself this match: whoever did could have programs started";
            findings.push(at.error(message).with_fix("add exe, user or uid to the match"));
        }
        if let (Some(matches), Some(at)) = (&matches, map.get("latency_slo"))
            && matches.is_forgeable()
        {
            let message = "a process can give itself this match: others would be held back for whoever did";
            findings.push(at.error(message).with_fix("add exe, user or uid to the match"));
        }
        if let (Some(name), Some(matches), Some(at)) = (name, matches, at) {
            if matches.is_forgeable() {
                protection::expect_unforgeable(&map, findings);
                let message = format!(
                    "critical for alerts only: a process can give itself this match, so {name} is not exempt from rules"
                );
                findings.push(at.warning(message).with_fix("add exe, user or uid to the match"));
            }
            needs.push((name.clone(), dependencies.clone()));
            let critical = Critical {
                restart: restart.flatten(),
                health: health.flatten(),
                dependencies: dependencies.into_iter().map(|(name, _)| name).collect(),
                protection,
                expect,
                latency_slo,
                ..Critical::new(name, matches)
            };
            all.push((critical, at.clone()));
        }
    }
    check_dependencies(&needs, findings);
    all
}

/// The names that a critical process says it needs, and where each stands.
type Needs<'a> = Vec<(Name, Cursor<'a>)>;

fn dependencies<'a>(list: &Cursor<'a>, findings: &mut Findings) -> Needs<'a> {
    let mut needs: Needs<'a> = Vec::new();
    for item in list.list(findings).unwrap_or_default() {
        let Some(name) = read_name(&item, findings) else { continue };
        if needs.iter().any(|(other, _)| *other == name) {
            findings.push(item.error(format!("{name} is named twice")).with_fix("remove one of them"));
            continue;
        }
        needs.push((name, item));
    }
    needs
}

/// Each is in the profile, and none needs itself by way of others.
fn check_dependencies(all: &[(Name, Needs<'_>)], findings: &mut Findings) {
    let of = |name: &Name| all.iter().find(|(other, _)| other == name).map(|(_, needs)| needs);
    for (name, needs) in all {
        for (need, at) in needs {
            if of(need).is_none() {
                let finding = at.error(format!("no critical process of this profile is named {need}"));
                findings.push(finding.with_fix("add it, or correct the name"));
                continue;
            }
            // Everything that can be reached from here; a profile has few of them.
            let mut reached = vec![need];
            let mut next = 0;
            while let Some(one) = reached.get(next).copied() {
                next += 1;
                let further = of(one).into_iter().flatten().map(|(name, _)| name);
                for further in further {
                    if !reached.contains(&further) {
                        reached.push(further);
                    }
                }
            }
            if reached.contains(&name) {
                let by = if need == name { String::new() } else { format!(" by way of {need}") };
                let finding = at.error(format!("{name} would need itself{by}, and never be restarted"));
                findings.push(finding.with_fix("remove one of the dependencies of the circle"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
