//! Limits that move: when each group's are due, and what becomes of it in the next application.

use std::collections::BTreeSet;

use crate::engine::action::SampleWants;
use crate::engine::input::GroupSample;
use crate::engine::policy::dynamic::Motion;
use crate::engine::policy::dynamic::gauge::Gauge;
use crate::engine::policy::group::Group;
use crate::engine::policy::throttle::{Throttle, Timer};
use crate::model::id::Name;
use crate::model::policy::{Target, Zone};
use crate::model::reason::Reason;
use crate::model::time::Timestamp;

impl Throttle {
    /// Takes the steps that became due, and adds to `wants` what is to be measured for the others.
    pub(crate) fn advance(&mut self, now: Timestamp, wants: &mut SampleWants) {
        for name in std::mem::take(&mut self.moving) {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            let Some(motion) = &mut group.motion else { continue };
            motion.due = None;
            if let Some(adaptive) = motion.adaptive() {
                let target = adaptive.target;
                wants.pressure |= target.resource().is_some();
                wants.cpu |= matches!(target, Target::PressureCpuSome(_));
                wants.load |= matches!(target, Target::Load1(_));
                wants.groups.push(name.clone());
                motion.measure_next(now);
            } else if motion.step(now) {
                self.adjusted(&name, now);
            }
            self.arm(&name);
        }
    }

    /// Takes in what a group has used.
    pub(crate) fn observe(&mut self, sample: &GroupSample, gauge: &Gauge, now: Timestamp) {
        let name = &sample.group;
        let Some(group) = self.groups.get_mut(name) else { return };
        let settled = group.in_force.is_some() && group.flying == 0 && !group.relimit;
        let Some(motion) = &mut group.motion else { return };
        if !settled {
            motion.interrupt();
        } else if motion.observe(sample, gauge, now) {
            self.adjusted(name, now);
        }
    }

    /// Has the groups that follow the clock look at it.
    pub(crate) fn look_at_clock(&mut self, gauge: &Gauge, now: Timestamp) {
        let follows = |group: &Group| group.motion.as_ref().is_some_and(|motion| motion.schedule().is_some());
        let names: Vec<Name> =
            self.groups.iter().filter(|(_, group)| follows(group)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let motion = self.groups.get_mut(&name).and_then(|group| group.motion.as_mut());
            if motion.is_some_and(|motion| motion.look_at_clock(gauge, now)) {
                self.adjusted(&name, now);
            }
        }
    }

    /// The zones whose clocks groups follow.
    pub(crate) fn zones(&self) -> BTreeSet<Zone> {
        let motions = self.groups.values().filter_map(|group| group.motion.as_ref());
        motions.filter_map(Motion::schedule).map(|schedule| schedule.timezone.clone()).collect()
    }

    /// Sets the timer of a group whose limits move.
    pub(super) fn arm(&mut self, name: &Name) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let due = group.motion.as_ref().and_then(|motion| motion.due);
        let armed = std::mem::replace(&mut group.armed, due);
        if armed == due {
            return;
        }
        if let Some(armed) = armed {
            self.timers.remove(&(armed, name.clone(), Timer::Motion));
        }
        if let Some(due) = due {
            self.timers.insert((due, name.clone(), Timer::Motion));
        }
    }

    /// Takes the timer of a group away that is no more.
    pub(super) fn rest(&mut self, name: &Name) {
        if let Some(group) = self.groups.get_mut(name) {
            group.motion = None;
        }
        self.arm(name);
    }

    pub(super) fn adjusted(&mut self, name: &Name, now: Timestamp) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(motion) = &group.motion else { return };
        let reason = Reason::Adjusted {
            rule: group.terms.rule().cloned(),
            policy: group.terms.policy.kind(),
            readings: motion.readings().to_vec(),
        };
        // Whoever else sets the limits would be overwritten; ours follow when they are ours again.
        if group.dispute.has_yielded() {
            return;
        }
        if group.in_force.is_some() || group.flying > 0 {
            group.relimit = true;
        } else if motion.yielding().is_none() {
            return;
        }
        group.note(&reason, now);
        self.dirty.insert(name.clone());
    }
}
