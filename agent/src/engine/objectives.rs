//! Objectives of critical processes: who is listened to, and who gives way to them, step by step down while waits are
//! too long, and slowly back after. Measuring is asked for only while a process with an objective lives.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::action::{Listener, What};
use crate::engine::input::{Holder, Waited};
use crate::engine::policy::dynamic::latency::Yielding;
use crate::engine::policy::give_way::{Candidate, next};
use crate::engine::policy::group::Group;
use crate::engine::policy::objective::{Blame, Objective, Told};
use crate::model::id::Name;
use crate::model::latency::{CpuHolder, SloEnd};
use crate::model::notice::Notice;
use crate::model::reason::Reading;
use crate::model::rule::Profile;
use crate::model::signal::Hundredths;
use crate::model::time::{Timestamp, millis};

/// What is measured so soon after a step tells of what was before it.
const SETTLES: Duration = Duration::from_millis(200);
/// Without any measurement for so long nobody is held back any more.
const DEAF: Duration = Duration::from_secs(3);
/// What goes wrong so soon after a step back is put down to that step, which is undone.
const TRIAL: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Objectives {
    all: BTreeMap<Name, Objective>,
    /// Who was asked for last.
    listeners: Vec<Listener>,
    /// Until when measurements tell of what was before the last step.
    settles: Timestamp,
    /// When the last step was taken.
    stepped: Timestamp,
    /// The group that was given something back last, until another step follows.
    trial: Option<Name>,
}

impl Objectives {
    /// Whether the violation of an objective was told and not yet its end; `None` of one that has no objective.
    pub(super) fn violated(&self, name: &Name) -> Option<bool> {
        Some(self.all.get(name)?.is_told())
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        self.all.values().filter_map(Objective::heard).min().map(|heard| heard.after(DEAF))
    }

    /// A step was taken: what is known of the waits is of before.
    fn step(&mut self, now: Timestamp) {
        (self.stepped, self.settles) = (now, now.after(SETTLES));
        self.all.values_mut().for_each(Objective::forget);
    }
}

/// Most of those who had the CPUs that are told with a violation.
const HOLDERS_TOLD: usize = 5;

/// What came of asking somebody to give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Somebody does, or it is not known yet who should.
    Goes,
    /// Nobody can any further.
    AtFloor,
}

impl Engine {
    /// Takes over the objectives of a profile; those that are as they were keep their state.
    pub(super) fn renew_objectives(&mut self, profile: Option<&Profile>) {
        let now = self.out.now();
        let mut old = std::mem::take(&mut self.objectives.all);
        for critical in profile.into_iter().flat_map(|profile| &profile.critical) {
            // The configuration refuses the combination; so does this.
            let Some(slo) = critical.latency_slo.filter(|_| !critical.matches.is_forgeable()) else {
                continue;
            };
            let objective = match old.remove(&critical.name) {
                Some(objective) if objective.slo == slo => objective,
                Some(other) => {
                    old.insert(critical.name.clone(), other);
                    Objective::new(slo)
                }
                None => Objective::new(slo),
            };
            self.objectives.all.insert(critical.name.clone(), objective);
        }
        for (name, mut objective) in old {
            if let Some(told) = objective.drop_it(now) {
                self.tell_end(&name, objective.slo.run_queue_p99_us, told, SloEnd::NotAsked);
            }
        }
        self.listen();
        if self.objectives.all.is_empty() {
            self.rest_all(now);
        }
    }

    /// Asks for the waits of the instances that have an objective, if those are others than before.
    pub(super) fn listen(&mut self) {
        if self.objectives.all.is_empty() && self.objectives.listeners.is_empty() {
            return;
        }
        let listener = |(name, objective): (&Name, &Objective)| {
            let instances = self.criticals.instances(name);
            (!instances.is_empty()).then(|| Listener {
                critical: name.clone(),
                objective_us: objective.slo.run_queue_p99_us,
                instances,
            })
        };
        let listeners: Vec<Listener> = if self.stopping {
            Vec::new()
        } else {
            self.objectives.all.iter().filter_map(listener).collect()
        };
        if listeners != self.objectives.listeners {
            self.objectives.listeners.clone_from(&listeners);
            self.out.push(What::Listen { to: listeners });
        }
    }

    pub(super) fn next_objective(&self) -> Option<Timestamp> {
        self.objectives.next_timeout()
    }

    /// Takes in how long critical processes waited, and acts upon it.
    pub(super) fn waited(&mut self, waited: Waited) {
        let now = self.out.now();
        let settled = now >= self.objectives.settles && !self.throttle.is_giving_way();
        for of in waited.of {
            let blame = (!of.holders.is_empty()).then(|| self.blame(&of.holders));
            let Some(objective) = self.objectives.all.get_mut(&of.critical) else { continue };
            if settled {
                objective.hear(of.waits, waited.interval_ms, now);
                // Of an earlier time it tells only while that lasts.
                if blame.is_some() || !objective.is_bad() {
                    objective.blame = blame;
                    objective.holders = told(&of.holders);
                }
            } else {
                objective.hear_nothing(now);
            }
        }
        if !settled || self.stopping {
            return;
        }
        let asked = if self.emergency.is_on() { BTreeMap::new() } else { self.act_upon(now) };
        self.tell(&asked, now);
    }

    /// Has somebody give way, or takes a step back. What came of it, by objective.
    fn act_upon(&mut self, now: Timestamp) -> BTreeMap<Name, Asked> {
        let held = self.throttle.yielding().any(|(_, _, yielding)| yielding.since().is_some());
        let acute: Vec<Name> = self
            .objectives
            .all
            .iter()
            .filter(|(_, one)| one.is_bad() && one.is_sure() && (held || one.is_violated(now)))
            .map(|(name, _)| name.clone())
            .collect();
        let tried = now.since(self.objectives.stepped) <= TRIAL;
        if acute.is_empty() {
            if held {
                self.step_back(now);
            } else if !tried {
                self.objectives.trial = None;
            }
            return BTreeMap::new();
        }
        if let Some(group) = self.objectives.trial.take().filter(|_| tried) {
            let readings = self.readings(acute.first());
            if self.throttle.give_way(&group, |yielding| yielding.undo(now), &readings, now) {
                self.objectives.all.values_mut().for_each(Objective::excuse);
                self.objectives.step(now);
                return BTreeMap::new();
            }
        }
        let mut all = BTreeMap::new();
        for name in acute {
            let asked = self.ask_to_give_way(&name, now);
            all.insert(name, asked);
        }
        all
    }

    /// Has those give way who are next, on account of this objective.
    fn ask_to_give_way(&mut self, name: &Name, now: Timestamp) -> Asked {
        let candidates = self.candidates(name);
        let blame = self.objectives.all.get(name).and_then(|objective| objective.blame.as_ref());
        if !candidates.is_empty() && blame.is_none() {
            return Asked::Goes;
        }
        let chosen = next(candidates);
        if chosen.is_empty() {
            return Asked::AtFloor;
        }
        let readings = self.readings(Some(name));
        for Candidate { group, share, used, .. } in chosen {
            let share = Reading {
                what: "its share of the CPUs meanwhile".to_owned(),
                value: format!("{}.{:02}%", share / 100, share % 100),
                threshold: "the most to blame first".to_owned(),
            };
            let readings = [readings.clone(), vec![share]].concat();
            self.throttle.give_way(&group, |yielding| yielding.tighten(used, now), &readings, now);
        }
        self.objectives.step(now);
        Asked::Goes
    }

    /// Gives the group something back whose limits are the same for longest, when all has been well for long enough.
    fn step_back(&mut self, now: Timestamp) {
        let mut since = self.objectives.stepped;
        for objective in self.objectives.all.values().filter(|one| one.heard().is_some()) {
            let Some(calm) = objective.calm_since() else { return };
            since = since.max(calm);
        }
        let ready = |(_, group, yielding): &(&Name, &Group, &Yielding)| {
            let own = group.motion.as_ref().and_then(|motion| motion.changed).unwrap_or_default();
            yielding.since().is_some()
                && now.since(since) >= yielding.cooldown()
                && now.since(own) >= yielding.patience()
        };
        // In turn: one that does harm again each time must not keep the others back.
        let next = self.throttle.yielding().filter(ready);
        let next = next.min_by_key(|(name, group, _)| {
            (group.motion.as_ref().and_then(|motion| motion.changed), (*name).clone())
        });
        let Some(name) = next.map(|(name, _, _)| name.clone()) else { return };
        let readings = self.readings(None);
        self.throttle.give_way(&name, |yielding| yielding.loosen(now), &readings, now);
        self.objectives.trial = Some(name);
        self.objectives.step(now);
    }

    /// Tells which objectives are violated, and which no longer.
    fn tell(&mut self, asked: &BTreeMap<Name, Asked>, now: Timestamp) {
        let candidates = self.throttle.yielding().count();
        let mut notices = Vec::new();
        let mut ended = Vec::new();
        for (name, objective) in &mut self.objectives.all {
            let at_floor = asked.get(name) == Some(&Asked::AtFloor);
            if let Some(told) = objective.begins(at_floor, now) {
                notices.push(Notice::LatencySloViolated {
                    name: name.clone(),
                    p99_us: told.p99_us.unwrap_or(0),
                    objective_us: objective.slo.run_queue_p99_us,
                    lasted_ms: millis(told.lasted),
                    held_by: self.throttle.held_back(),
                    candidates,
                    at_floor,
                    holders: objective.holders.clone(),
                    held: None,
                });
            } else if let Some(told) = objective.ends(now) {
                ended.push((name.clone(), objective.slo.run_queue_p99_us, told));
            }
        }
        notices.into_iter().for_each(|notice| self.out.notify(notice));
        for (name, objective_us, told) in ended {
            self.tell_end(&name, objective_us, told, SloEnd::Held);
        }
    }

    fn tell_end(&mut self, name: &Name, objective_us: u64, told: Told, how: SloEnd) {
        self.out.notify(Notice::LatencySloRecovered {
            name: name.clone(),
            p99_us: told.p99_us,
            objective_us,
            lasted_ms: millis(told.lasted),
            held_by: self.throttle.held_back(),
            how,
        });
    }

    /// Ends what depends on measurements that do not come any more.
    pub(super) fn miss_waits(&mut self, now: Timestamp) {
        if self.objectives.next_timeout().is_none_or(|due| due > now) {
            return;
        }
        let mut ended = Vec::new();
        for (name, objective) in &mut self.objectives.all {
            if objective.heard().is_some_and(|heard| heard.after(DEAF) <= now)
                && let Some(told) = objective.drop_it(now)
            {
                let lives = !self.criticals.instances(name).is_empty();
                let how = if lives { SloEnd::Unmeasured } else { SloEnd::NotAsked };
                ended.push((name.clone(), objective.slo.run_queue_p99_us, told, how));
            }
        }
        for (name, objective_us, told, how) in ended {
            self.tell_end(&name, objective_us, told, how);
        }
        if self.objectives.next_timeout().is_none() {
            self.rest_all(now);
        }
    }

    /// Nobody is held back any more.
    fn rest_all(&mut self, now: Timestamp) {
        let held = self.throttle.yielding().filter(|(_, _, yielding)| yielding.since().is_some());
        let held: Vec<Name> = held.map(|(name, _, _)| name.clone()).collect();
        let reading = Reading {
            what: "run queue p99".to_owned(),
            value: "not measured".to_owned(),
            threshold: "nobody to give way to".to_owned(),
        };
        for name in held {
            self.throttle.give_way(&name, |yielding| yielding.rest(now), std::slice::from_ref(&reading), now);
        }
        self.objectives.trial = None;
    }

    /// The groups that could give way, with their blame on account of this objective.
    fn candidates(&self, objective: &Name) -> Vec<Candidate> {
        let blame = self.objectives.all.get(objective).and_then(|objective| objective.blame.as_ref());
        let candidate = |(name, group, yielding): (&Name, &Group, &Yielding)| {
            let Blame { share, used } = blame.and_then(|blame| blame.get(name)).copied().unwrap_or_default();
            let rule = group.terms.rule().and_then(|rule| self.rules.as_ref()?.rule(rule));
            // What failed is tried again by itself, and where somebody else has the last word nothing is changed.
            let able = group.error.is_none() && !group.dispute.has_yielded();
            Candidate {
                group: name.clone(),
                share,
                used,
                priority: rule.map_or(0, |rule| rule.spec.priority),
                has_weight: able && yielding.has_weight(),
                has_quota: able && yielding.has_quota(),
            }
        };
        self.throttle.yielding().map(candidate).collect()
    }

    /// What groups have to do with it, by who had the CPUs. A cgroup that is not a group's own is shared out by how
    /// many of its processes are the group's.
    fn blame(&self, holders: &[Holder]) -> BTreeMap<Name, Blame> {
        let mut all = BTreeMap::new();
        for (name, group, yielding) in self.throttle.yielding() {
            let mut blame = Blame::default();
            // Its processes are in a cgroup of its own then, which is named; where they were may be told for a while.
            let named_only = yielding.since().is_some() && group.in_force.is_some();
            for holder in holders {
                let (part, whole) = match &holder.group {
                    Some(own) if own == name => (1, 1),
                    Some(_) => continue,
                    None if named_only => continue,
                    None => (group.members_in(holder.cgroup), self.table.in_cgroup(holder.cgroup).max(1)),
                };
                let (part, whole) = (u64::from(part.min(whole)), u64::from(whole));
                let share = u64::from(holder.share) * part / whole;
                blame.share = blame.share.saturating_add(u32::try_from(share).unwrap_or(u32::MAX));
                blame.used = blame.used.saturating_add(holder.used_millis.saturating_mul(part) / whole);
            }
            if blame.share > 0 {
                all.insert(name.clone(), blame);
            }
        }
        all
    }

    /// What was measured of an objective; of all, where none is meant.
    fn readings(&self, name: Option<&Name>) -> Vec<Reading> {
        let meant = |(key, _): &(&Name, &Objective)| name.is_none_or(|name| name == *key);
        let reading = |(name, objective): (&Name, &Objective)| Reading {
            what: format!("run queue p99 of {name}"),
            value: objective.p99_us().map_or_else(|| "no waits".to_owned(), |us| format!("{us} µs")),
            threshold: format!("objective {} µs", objective.slo.run_queue_p99_us),
        };
        self.objectives.all.iter().filter(meant).map(reading).collect()
    }
}

/// Those of the largest shares, for people; what they are called the daemon adds.
fn told(holders: &[Holder]) -> Vec<CpuHolder> {
    let told = holders.iter().take(HOLDERS_TOLD).map(|Holder { cgroup, group, share, used_millis: _ }| {
        CpuHolder { cgroup: *cgroup, path: None, group: group.clone(), share: Hundredths(*share) }
    });
    told.collect()
}
