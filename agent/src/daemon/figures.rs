//! What the engine thread knows that metrics tell: a copy, so that nobody who reads figures holds it up. It reads no
//! file for it.

use std::path::{Path, PathBuf};

use crate::cgroup::Controller;
use crate::control::proto::SourceStatus;
use crate::daemon::tally::Tally;
use crate::daemon::turn::Turn;
use crate::effect::group::Place;
use crate::engine::view::{Counts, CriticalView, GroupView};
use crate::model::id::{Name, ProcKey};
use crate::model::limits::Limits;
use crate::source::Fill;

/// What is by hand, where the name of a profile or a group would be.
pub const BY_HAND: &str = "by-hand";

/// See the module.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Totals of the engine.
    pub counts: Counts,
    /// Where events come from.
    pub source: SourceStatus,
    /// How full the rings of that are.
    pub fills: Vec<Fill>,
    /// Groups in force or on their way.
    pub groups: Vec<GroupFigure>,
    /// Critical processes of the profile.
    pub criticals: Vec<CriticalView>,
    /// Whether an emergency stop is in force.
    pub emergency: bool,
    /// What the thread has counted.
    pub tally: Tally,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFigure {
    /// Its name.
    pub name: Name,
    /// What it is called in metrics: the rule or the name that an operator gave, whichever process it is of.
    pub label: String,
    /// The profile, or [`BY_HAND`].
    pub profile: String,
    /// What is limited; nothing until the limits are in force.
    pub resources: Vec<&'static str>,
    /// Its processes.
    pub processes: Vec<ProcKey>,
    /// Where its limits are.
    pub cgroups: Vec<Cgroup>,
}

/// Where limits of a group are: a cgroup of each hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Whether the agent made it, for this group: all that it counts is the group's.
    pub own: bool,
    /// That of the CPU controller.
    pub cpu: Option<PathBuf>,
    /// That of the memory controller.
    pub memory: Option<PathBuf>,
}

impl Turn {
    /// What metrics tell.
    pub(super) fn figures(&mut self) -> Figures {
        let view = self.parts.engine.snapshot();
        let profile = view.profile.as_ref().map_or("", Name::as_str);
        let groups = view.groups.iter().map(|group| self.group_figure(group, profile)).collect();
        self.tally.keep(|name| view.critical.iter().any(|critical| critical.name == *name));
        Figures {
            counts: view.counts,
            source: self.source_status(),
            fills: self.parts.source.source.fills(),
            groups,
            criticals: view.critical,
            emergency: self.parts.engine.emergency().is_some(),
            tally: self.tally.clone(),
        }
    }

    fn group_figure(&self, group: &GroupView, profile: &str) -> GroupFigure {
        let cgroups =
            self.parts.throttle.with_group(&group.name, |held| held.places.iter().map(cgroup).collect());
        GroupFigure {
            name: group.name.clone(),
            label: label(group),
            profile: if group.rule.is_some() { profile } else { BY_HAND }.to_owned(),
            resources: if group.in_force.is_some() { resources(&group.limits) } else { Vec::new() },
            processes: group.members.iter().map(|member| member.key).collect(),
            cgroups: cgroups.unwrap_or_default(),
        }
    }
}

fn cgroup(place: &Place) -> Cgroup {
    let dir = |controller| place.dir(controller).map(Path::to_owned);
    Cgroup { own: place.rung.moves(), cpu: dir(Controller::Cpu), memory: dir(Controller::Memory) }
}

/// Groups by hand that nobody gave a name have one with a pid, which is no label.
fn label(group: &GroupView) -> String {
    let base = group.base.as_str();
    let pid = base.strip_prefix("pid-").is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()));
    if group.rule.is_none() && pid { BY_HAND } else { base }.to_owned()
}

/// What limits limit, each resource once.
fn resources(limits: &Limits) -> Vec<&'static str> {
    let Limits {
        cpu,
        cpu_weight,
        memory_low,
        memory_high,
        memory_max,
        pids,
        io_weight,
        io_read,
        io_write,
        nice,
        sched,
        io_class,
        io_priority,
        cpu_affinity,
        oom_score_adj,
    } = limits;
    let attributes = nice.is_some()
        || sched.is_some()
        || io_class.is_some()
        || io_priority.is_some()
        || cpu_affinity.is_some()
        || oom_score_adj.is_some();
    [
        ("cpu", cpu.is_some() || cpu_weight.is_some()),
        ("memory", memory_low.is_some() || memory_high.is_some() || memory_max.is_some()),
        ("io", io_weight.is_some() || io_read.is_some() || io_write.is_some()),
        ("pids", pids.is_some()),
        ("attributes", attributes),
    ]
    .into_iter()
    .filter_map(|(resource, limited)| limited.then_some(resource))
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn group(name: &str, base: &str, rule: Option<&str>) -> GroupView {
        serde_json::from_value(json!({
            "name": name, "rule": rule, "base": base, "state": "active", "limits": {}, "motion": null,
            "scope": "group", "reason": { "cause": "operator", "uid": 0, "request": "throttle" }, "created": 0,
            "in_force": 0, "how": null, "until": null, "error": null, "conflicts": [], "members": [],
        }))
        .unwrap()
    }

    #[test]
    fn no_label_holds_a_pid() {
        assert_eq!(label(&group("backups.812.99", "backups", Some("backups"))), "backups");
        assert_eq!(label(&group("pid-812", "pid-812", None)), BY_HAND);
        assert_eq!(label(&group("pid-812", "pid-812", Some("pid-812"))), "pid-812", "a rule's name");
        assert_eq!(label(&group("pid-eins", "pid-eins", None)), "pid-eins");
    }

    #[test]
    fn each_resource_counts_once() {
        let limits = serde_json::from_value(json!({
            "cpu": "30%", "cpu_weight": 20, "memory_max": "1G", "nice": 5, "pids": 7, "io_weight": 10,
        }));
        assert_eq!(resources(&limits.unwrap()), ["cpu", "memory", "io", "pids", "attributes"]);
        assert!(resources(&Limits::default()).is_empty());
    }
}
