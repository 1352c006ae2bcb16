//! A group: the processes that a rule or an operator limits, and how far that has got.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::policy::conflict::Dispute;
use crate::engine::policy::dynamic::Motion;
use crate::engine::process::Table;
use crate::engine::process::lifecycle::shift;
use crate::engine::view::Membership;
use crate::model::id::{NAME_MAX, Name, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::policy::Policy;
use crate::model::process::{Comm, Process};
use crate::model::reason::Reason;
use crate::model::rule::OnConflict;
use crate::model::time::Timestamp;

/// Most processes beside a group's in its cgroup that are asked after one by one: more than end within the interval at
/// which ends are told.
const SHARERS_MAX: u32 = 8;

/// Who made a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The rule of this name.
    Rule(Name),
    /// An operator, under this name.
    Operator(Name),
}

/// What a group imposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) origin: Origin,
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
    pub(crate) scope: Scope,
    pub(crate) allow_move: bool,
    pub(crate) on_conflict: OnConflict,
    pub(crate) whole_unit: bool,
}

impl Terms {
    /// The rule that imposes it, if one does.
    pub(crate) const fn rule(&self) -> Option<&Name> {
        match &self.origin {
            Origin::Rule(rule) => Some(rule),
            Origin::Operator(_) => None,
        }
    }

    /// Whether a child of a limited process is limited without any doing of ours, and freed with the others.
    /// An attribute such as a nice value is inherited, but each process has its own: it has to be recorded to be given back.
    pub(crate) fn is_inherited(&self) -> bool {
        let windows = match &self.policy {
            Policy::Schedule(schedule) => schedule.windows.as_slice(),
            Policy::Fixed | Policy::Gradual(_) | Policy::Adaptive(_) | Policy::Latency(_) => &[],
        };
        self.limits.demands().is_empty() && windows.iter().all(|window| window.limits.demands().is_empty())
    }

    /// The name that an operator gave it, if one made it.
    pub(crate) const fn operator(&self) -> Option<&Name> {
        match &self.origin {
            Origin::Operator(name) => Some(name),
            Origin::Rule(_) => None,
        }
    }

    /// The name of the group that limits this process on these terms.
    pub(crate) fn group_name(&self, key: ProcKey) -> Name {
        let (Origin::Rule(base) | Origin::Operator(base)) = &self.origin;
        match self.scope {
            Scope::Group => base.clone(),
            Scope::Process => of_process(base, key),
        }
    }
}

/// `<base>.<pid>.<start>`, with the base cut to fit.
fn of_process(base: &Name, key: ProcKey) -> Name {
    let suffix = format!(".{}.{}", key.pid, key.start);
    let room = NAME_MAX.saturating_sub(suffix.len());
    let head = base.as_str().get(..room.min(base.as_str().len())).unwrap_or_default();
    // A cut name and digits are a name.
    format!("{head}{suffix}").parse().unwrap_or_else(|_| base.clone())
}

/// A process that is to be limited.
#[derive(Debug)]
pub(crate) struct Joiner<'a> {
    pub(crate) process: &'a Process,
    pub(crate) membership: Membership,
    pub(crate) matched: String,
    /// Since when it is limited already, having been born in the group.
    pub(crate) limited: Option<Timestamp>,
    pub(crate) caused_at: Timestamp,
}

/// A process in a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) membership: Membership,
    pub(crate) comm: Comm,
    pub(crate) cgroup: u64,
    /// Whether it was born in the group, so that the executor never brought it in.
    pub(crate) born: bool,
    /// What matched, in words.
    pub(crate) matched: String,
    /// Since when the limits hold for it; absent until they do.
    pub(crate) limited: Option<Timestamp>,
}

/// What the next application is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) reason: Reason,
    pub(crate) caused_at: Timestamp,
}

/// What a group waits for before it acts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// After a failure.
    Failure(Timestamp),
    /// After processes were found in a group that seemed empty.
    Busy(Timestamp),
}

impl Pause {
    pub(crate) const fn until(self) -> Timestamp {
        match self {
            Self::Failure(at) | Self::Busy(at) => at,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) terms: Terms,
    /// How its limits move; absent when they do not.
    pub(crate) motion: Option<Motion>,
    /// When the timer for that is due.
    pub(crate) armed: Option<Timestamp>,
    pub(crate) reason: Reason,
    pub(crate) created: Timestamp,
    /// Since when limits hold; absent while the executor holds nothing for this group.
    pub(crate) in_force: Option<Timestamp>,
    /// The limits that were confirmed last, while any hold.
    pub(crate) held: Option<Limits>,
    /// The rung of the ladder, in the executor's words.
    pub(crate) how: Option<String>,
    /// Whether the limits are on a cgroup that is not the agent's.
    pub(crate) borrowed: bool,
    pub(crate) members: BTreeMap<ProcKey, Member>,
    /// Members to be brought in by the next application.
    pub(crate) joining: BTreeSet<ProcKey>,
    pub(crate) batch: Option<Batch>,
    /// Former members to be taken out.
    pub(crate) leaving: Vec<(ProcKey, Reason)>,
    /// To be released: why, and who was in it.
    pub(crate) release: Option<(Reason, Vec<ProcKey>)>,
    /// Limits in force differ from the terms.
    pub(crate) relimit: bool,
    /// The next application writes values even where they are thought to be in force.
    pub(crate) rewrite: bool,
    /// Values of ours that somebody else changed.
    pub(crate) dispute: Dispute,
    /// Actions without an outcome yet. The group does nothing meanwhile.
    pub(crate) flying: u32,
    pub(crate) pause: Option<Pause>,
    pub(crate) failures: u32,
    pub(crate) error: Option<String>,
    /// When it ends by itself.
    pub(crate) until: Option<Timestamp>,
    /// How many members each cgroup holds; id 0 (unknown) is not counted.
    cgroups: BTreeMap<u64, u32>,
}

impl Group {
    pub(crate) fn new(terms: Terms, reason: Reason, now: Timestamp) -> Self {
        Self {
            motion: Motion::begin(&terms.limits, &terms.policy, None, now),
            armed: None,
            terms,
            reason,
            created: now,
            in_force: None,
            held: None,
            how: None,
            borrowed: false,
            members: BTreeMap::new(),
            joining: BTreeSet::new(),
            batch: None,
            leaving: Vec::new(),
            release: None,
            relimit: false,
            rewrite: false,
            dispute: Dispute::default(),
            flying: 0,
            pause: None,
            failures: 0,
            error: None,
            until: None,
            cgroups: BTreeMap::new(),
        }
    }

    /// What it imposes now.
    pub(crate) fn limits(&self) -> &Limits {
        self.motion.as_ref().map_or(&self.terms.limits, Motion::limits)
    }

    /// Whether nobody is to be limited for now: it gives way when it has to.
    pub(crate) fn rests(&self) -> bool {
        let gives = self.motion.as_ref().is_some_and(|motion| motion.yielding().is_some());
        gives && self.limits().is_empty()
    }

    /// Takes on other terms; those of the same origin only. Limits that move go on from where they are. Whether
    /// what it imposes now is different.
    pub(crate) fn adopt(&mut self, terms: Terms, now: Timestamp) -> bool {
        let before = self.limits().clone();
        if self.terms.limits != terms.limits || self.terms.policy != terms.policy {
            let present = self.in_force.and(before.cpu);
            self.motion = Motion::begin(&terms.limits, &terms.policy, present, now);
        }
        self.terms = terms;
        before != *self.limits()
    }

    /// Takes a process in. One that is limited already, by having been born in the group, needs no
    /// application.
    pub(crate) fn insert(&mut self, process: &Process, member: Member) {
        let key = process.key;
        if member.limited.is_none() {
            self.joining.insert(key);
        }
        shift(&mut self.cgroups, 0, member.cgroup);
        if let Some(old) = self.members.insert(key, member) {
            shift(&mut self.cgroups, old.cgroup, 0);
        }
    }

    /// Lets a process go, without undoing anything.
    pub(crate) fn remove(&mut self, key: ProcKey) -> Option<Member> {
        let member = self.members.remove(&key)?;
        shift(&mut self.cgroups, member.cgroup, 0);
        self.joining.remove(&key);
        Some(member)
    }

    /// Whether the executor holds a member in this group, or is about to: it must be taken out, not only
    /// forgotten.
    pub(crate) fn holds(&self, key: ProcKey) -> bool {
        let sent = self.flying > 0 && !self.joining.contains(&key);
        self.members.get(&key).is_some_and(|member| member.limited.is_some() || sent)
    }

    /// Notes that a member is in another cgroup now.
    pub(crate) fn moved(&mut self, key: ProcKey, cgroup: u64) {
        if let Some(member) = self.members.get_mut(&key) {
            shift(&mut self.cgroups, member.cgroup, cgroup);
            member.cgroup = cgroup;
        }
    }

    /// Adds a cause to the next application: the first reason and the earliest moment stand for all.
    pub(crate) fn note(&mut self, reason: &Reason, caused_at: Timestamp) {
        match &mut self.batch {
            Some(batch) => batch.caused_at = batch.caused_at.min(caused_at),
            None => self.batch = Some(Batch { reason: reason.clone(), caused_at }),
        }
    }

    /// The cgroup that its members make up, as far as they are known, while its limits are in force.
    pub(crate) fn home(&self) -> Option<u64> {
        self.in_force.and_then(|_| self.one_cgroup()).map(|(id, _)| id)
    }

    /// How many members a cgroup holds.
    pub(crate) fn members_in(&self, cgroup: u64) -> u32 {
        self.cgroups.get(&cgroup).copied().unwrap_or(0)
    }

    /// Whether the members have their cgroup to themselves, and else who is in it, too, when they are few enough to be
    /// asked after.
    pub(crate) fn room(&self, table: &Table) -> (bool, Vec<ProcKey>) {
        let Some((id, count)) = self.one_cgroup() else { return (false, Vec::new()) };
        let there = table.in_cgroup(id);
        if there == count || there > count.saturating_add(SHARERS_MAX) {
            return (there == count, Vec::new());
        }
        let there = table.iter().map(|entry| &entry.process).filter(|one| one.cgroup == id);
        (false, there.map(|one| one.key).filter(|key| !self.members.contains_key(key)).collect())
    }

    /// The cgroup that holds all members, when one does: its id and their number.
    pub(crate) fn one_cgroup(&self) -> Option<(u64, u32)> {
        let (&id, &count) = self.cgroups.first_key_value()?;
        (self.cgroups.len() == 1 && count as usize == self.members.len()).then_some((id, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_processes_groups_are_names() {
        let key = ProcKey { pid: u32::MAX, start: u64::MAX };
        for base in ["backups", &"a".repeat(64)] {
            let name = of_process(&base.parse().unwrap(), key);
            assert!(
                name.as_str().len() <= NAME_MAX
                    && name.as_str().ends_with(".4294967295.18446744073709551615")
            );
            assert_ne!(name.as_str(), base);
        }
    }
}
