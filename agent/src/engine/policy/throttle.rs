//! All groups: who is in which, and the next step of each. One step of a group at a time: everything that
//! comes up while the executor is at work goes into the next one, which is what batches moves.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::action::{ActionId, Apply, What};
use crate::engine::outbox::Outbox;
use crate::engine::policy::group::{Batch, Group, Joiner, Member, Origin, Pause, Terms};
use crate::engine::policy::groups::Groups;
use crate::engine::process::Table;
use crate::engine::view::Membership;
use crate::model::id::{Name, ProcKey};
use crate::model::limits::Limits;
use crate::model::process::Comm;
use crate::model::reason::Reason;
use crate::model::time::Timestamp;

/// An action on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) group: Name,
    pub(super) step: Step,
}

#[derive(Debug)]
pub(super) enum Step {
    Apply { asked: Vec<(ProcKey, Comm)>, limits: Limits, batch: Batch },
    Release { reason: Reason, keys: Vec<ProcKey> },
    Detach { key: ProcKey, reason: Reason },
    Reap,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    pub(super) groups: Groups,
    /// Groups that may have something to do.
    pub(super) dirty: BTreeSet<Name>,
    pub(super) flights: BTreeMap<ActionId, Flight>,
    /// Processes that are being taken out of a group: no other may take them in before they are out.
    pub(super) departing: BTreeSet<ProcKey>,
    pub(super) timers: BTreeSet<(Timestamp, Name, Timer)>,
    /// Groups whose limits are due to move.
    pub(super) moving: Vec<Name>,
}

/// What a group waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Pause,
    Until,
    Motion,
}

impl Throttle {
    pub(crate) fn group(&self, name: &Name) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Group)> {
        self.groups.iter()
    }

    /// Whether nothing is held, awaited or planned.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.groups.is_empty()
            && self.flights.is_empty()
            && self.departing.is_empty()
            && self.timers.is_empty()
            && self.dirty.is_empty()
    }

    /// Takes a process into the group of that name, which is made when there is none.
    ///
    /// # Errors
    /// When the name belongs to a group of another origin: in words.
    pub(crate) fn join(
        &mut self,
        name: &Name,
        terms: Terms,
        reason: &Reason,
        joiner: Joiner<'_>,
        now: Timestamp,
    ) -> Result<(), String> {
        let group = self.groups.get_or_make(name, || Group::new(terms.clone(), reason.clone(), now));
        if group.terms.origin != terms.origin {
            return Err(match &group.terms.origin {
                Origin::Rule(rule) => format!("group {name} belongs to rule {rule}"),
                Origin::Operator(_) => format!("group {name} was made by hand"),
            });
        }
        if group.terms != terms {
            let changed = group.adopt(terms, now);
            group.relimit |= group.in_force.is_some() && changed;
            group.reason = reason.clone();
        }
        if joiner.limited.is_none() || group.relimit {
            group.note(reason, joiner.caused_at);
        }
        let member = Member {
            membership: joiner.membership,
            comm: joiner.process.comm,
            cgroup: joiner.process.cgroup,
            born: joiner.limited.is_some(),
            matched: joiner.matched,
            limited: joiner.limited,
        };
        group.insert(joiner.process, member);
        if matches!(group.pause, Some(Pause::Busy(_))) {
            self.resume(name);
        }
        self.arm(name);
        self.dirty.insert(name.clone());
        Ok(())
    }

    /// Gives a group new terms; those of the same origin only.
    pub(crate) fn set_terms(&mut self, name: &Name, terms: Terms, reason: Reason, now: Timestamp) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let disputed = std::mem::take(&mut group.dispute).has_yielded();
        let changed = group.adopt(terms, now) || disputed;
        group.rewrite |= disputed;
        group.reason = reason;
        self.arm(name);
        if !changed {
            return;
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.in_force.is_some() || group.flying > 0 {
            group.relimit = true;
            let reason = group.reason.clone();
            group.note(&reason, now);
        }
        // What failed may not fail on other terms.
        self.resume(name);
        self.dirty.insert(name.clone());
    }

    /// Sets when a group ends by itself.
    pub(crate) fn set_until(&mut self, name: &Name, until: Option<Timestamp>) {
        if let Some(group) = self.groups.get_mut(name) {
            if let Some(old) = std::mem::replace(&mut group.until, until) {
                self.timers.remove(&(old, name.clone(), Timer::Until));
            }
            if let Some(at) = until {
                self.timers.insert((at, name.clone(), Timer::Until));
            }
        }
    }

    /// Changes how a member counts.
    pub(crate) fn set_membership(&mut self, name: &Name, key: ProcKey, membership: Membership) {
        if let Some(member) = self.groups.get_mut(name).and_then(|group| group.members.get_mut(&key)) {
            member.membership = membership;
        }
    }

    /// Notes that a member is in another cgroup now.
    pub(crate) fn moved(&mut self, name: &Name, key: ProcKey, cgroup: u64) {
        if let Some(group) = self.groups.get_mut(name) {
            group.moved(key, cgroup);
        }
    }

    /// Takes a live process out of a group, undoing what was done to it.
    pub(crate) fn leave(&mut self, name: &Name, key: ProcKey, reason: Reason) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let held = group.holds(key);
        group.remove(key);
        if held {
            group.leaving.push((key, reason));
            self.departing.insert(key);
        }
        self.dirty.insert(name.clone());
    }

    /// Takes a live process that was only born in a group out of it, for another one to move it.
    pub(crate) fn hand_over(&mut self, name: &Name, key: ProcKey) {
        if let Some(group) = self.groups.get_mut(name) {
            group.remove(key);
            self.dirty.insert(name.clone());
        }
    }

    /// Notes that a process is dead, a member or not.
    pub(crate) fn died(&mut self, name: Option<&Name>, key: ProcKey) {
        let departing = self.departing.remove(&key);
        if let Some(name) = name
            && let Some(group) = self.groups.get_mut(name)
        {
            group.remove(key);
            self.dirty.insert(name.clone());
        }
        if departing {
            let leaves = |group: &Group| group.leaving.iter().any(|(leaving, _)| *leaving == key);
            let left = self.groups.iter().filter(|(_, group)| leaves(group)).map(|(name, _)| name.clone());
            for name in left.collect::<Vec<_>>() {
                if let Some(group) = self.groups.get_mut(&name) {
                    group.leaving.retain(|(leaving, _)| *leaving != key);
                }
            }
        }
    }

    /// Releases a group; returns who was in it.
    pub(crate) fn release(&mut self, name: &Name, reason: Reason) -> Vec<ProcKey> {
        let Some(group) = self.groups.get_mut(name) else { return Vec::new() };
        let members: Vec<ProcKey> = group.members.keys().copied().collect();
        let mut keys: Vec<ProcKey> = members.iter().copied().filter(|key| group.holds(*key)).collect();
        for key in &members {
            group.remove(*key);
        }
        self.departing.extend(&keys);
        keys.extend(group.leaving.drain(..).map(|(key, _)| key));
        if group.in_force.is_some() || group.flying > 0 {
            match &mut group.release {
                Some((_, held)) => held.extend(keys),
                None => group.release = Some((reason, keys)),
            }
        }
        (group.relimit, group.batch) = (false, None);
        // Lifting limits does not wait for a back-off.
        self.resume(name);
        self.set_until(name, None);
        self.dirty.insert(name.clone());
        members
    }

    /// When [`Self::expire`] has work next.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _, _)| *at)
    }

    /// Ends waits that are over and returns the groups whose time is up.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Vec<Name> {
        let mut over = Vec::new();
        while self.next_timeout().is_some_and(|at| at <= now) {
            let Some((_, name, timer)) = self.timers.pop_first() else { break };
            let Some(group) = self.groups.get_mut(&name) else { continue };
            match timer {
                Timer::Pause => {
                    group.pause = None;
                    self.dirty.insert(name);
                }
                Timer::Until => {
                    group.until = None;
                    over.push(name);
                }
                Timer::Motion => {
                    group.armed = None;
                    self.moving.push(name);
                }
            }
        }
        over
    }

    /// Emits the next step of every group that has one. Those that nobody is in any more come first: what they limited
    /// may be wanted by others.
    pub(crate) fn flush(&mut self, table: &Table, out: &mut Outbox) {
        let is_empty = |name: &&Name| self.groups.get(name).is_some_and(|group| group.members.is_empty());
        for name in self.dirty.iter().filter(is_empty).cloned().collect::<Vec<_>>() {
            self.dirty.remove(&name);
            self.step(&name, table, out);
        }
        while let Some(name) = self.dirty.pop_first() {
            self.step(&name, table, out);
        }
    }

    fn step(&mut self, name: &Name, table: &Table, out: &mut Outbox) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.flying > 0 {
            return;
        }
        if group.in_force.is_none() {
            // The executor holds nothing for it, so there is nothing to undo.
            let mut gone: Vec<ProcKey> = group.leaving.drain(..).map(|(key, _)| key).collect();
            gone.extend(group.release.take().map(|(_, keys)| keys).unwrap_or_default());
            let over = group.members.is_empty();
            self.departed(&gone);
            if over {
                return self.drop_group(name);
            }
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.pause.is_some() {
            return;
        }
        if let Some((reason, keys)) = group.release.take() {
            let what = What::Release { group: name.clone(), reason: reason.clone() };
            return self.launch(name, what, Step::Release { reason, keys }, out);
        }
        let leaving = std::mem::take(&mut group.leaving);
        if leaving.is_empty() {
            return self.apply(name, table, out);
        }
        for (key, reason) in leaving {
            let what = What::Detach { group: name.clone(), key, reason: reason.clone() };
            self.launch(name, what, Step::Detach { key, reason }, out);
        }
    }

    fn apply(&mut self, name: &Name, table: &Table, out: &mut Outbox) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.members.is_empty() {
            return self.launch(name, What::Reap { group: name.clone() }, Step::Reap, out);
        }
        if group.rests() {
            return self.rest_now(name, out);
        }
        if group.relimit
            && group.limits().needs_cgroup()
            && !group.held.as_ref().is_none_or(Limits::needs_cgroup)
        {
            // Limits that need no cgroup left everybody where they were.
            group.joining.extend(group.members.keys());
        }
        let ready: Vec<ProcKey> = group.joining.difference(&self.departing).copied().collect();
        if ready.is_empty() && !group.relimit {
            return;
        }
        let asked: Vec<(ProcKey, Comm)> =
            ready.iter().filter_map(|key| group.members.get(key).map(|member| (*key, member.comm))).collect();
        for key in &ready {
            group.joining.remove(key);
        }
        group.relimit = false;
        let fallback = Batch { reason: group.reason.clone(), caused_at: out.now() };
        let batch = group.batch.take().unwrap_or(fallback);
        if let Some(first) = group.joining.first() {
            // The rest waits for a release elsewhere; it has the same cause.
            debug_assert!(self.departing.contains(first));
            group.batch = Some(batch.clone());
        }
        let (in_place, sharers) = group.room(table);
        let what = What::Apply(Apply {
            group: name.clone(),
            limits: group.limits().clone(),
            scope: group.terms.scope,
            allow_move: group.terms.allow_move,
            whole_unit: group.terms.whole_unit,
            in_place,
            sharers,
            rewrite: std::mem::take(&mut group.rewrite),
            members: ready,
            reason: batch.reason.clone(),
            caused_at: batch.caused_at,
        });
        let step = Step::Apply { asked, limits: group.limits().clone(), batch };
        self.launch(name, what, step, out);
    }

    pub(super) fn launch(&mut self, name: &Name, what: What, step: Step, out: &mut Outbox) {
        let id = out.push(what);
        self.flights.insert(id, Flight { group: name.clone(), step });
        if let Some(group) = self.groups.get_mut(name) {
            group.flying = group.flying.saturating_add(1);
        }
    }

    fn drop_group(&mut self, name: &Name) {
        self.set_until(name, None);
        self.rest(name);
        self.resume(name);
        self.groups.remove(name);
    }

    /// Notes that processes are out, and lets the groups that waited for them go on.
    pub(super) fn departed(&mut self, keys: &[ProcKey]) {
        for key in keys {
            if self.departing.remove(key) {
                let waiting = self.groups.iter().filter(|(_, group)| group.joining.contains(key));
                self.dirty.extend(waiting.map(|(name, _)| name.clone()));
            }
        }
    }

    fn resume(&mut self, name: &Name) {
        if let Some(pause) = self.groups.get_mut(name).and_then(|group| group.pause.take()) {
            self.timers.remove(&(pause.until(), name.clone(), Timer::Pause));
        }
    }

    pub(super) fn pause(&mut self, name: &Name, pause: Pause) {
        if let Some(group) = self.groups.get_mut(name) {
            if let Some(old) = group.pause.replace(pause) {
                self.timers.remove(&(old.until(), name.clone(), Timer::Pause));
            }
            self.timers.insert((pause.until(), name.clone(), Timer::Pause));
        }
    }
}
