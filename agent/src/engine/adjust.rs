//! What changes while nothing happens: conditions that begin and cease to hold, and limits that move. Measuring is
//! asked for only while something depends on it, so that an agent without such rules sleeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::action::{SampleWants, What};
use crate::engine::input::{Override, Sample};
use crate::engine::policy::group::{Origin, Terms};
use crate::engine::process::Open;
use crate::engine::rule::RuleSet;
use crate::engine::rule::condition::{Gate, Latch};
use crate::model::id::{Name, ProcKey};
use crate::model::limits::Limits;
use crate::model::notice::Notice;
use crate::model::policy::Policy;
use crate::model::reason::{Reading, Reason};
use crate::model::rule::Rule;
use crate::model::signal::{Resource, Signal};
use crate::model::time::Timestamp;

/// Between two looks at the machine while a rule depends on it. The kernel renews pressure every 2 s.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at the clock, if nothing shorter is known: bounds how late a clock that was set is noticed.
const CLOCK_MAX: Duration = Duration::from_secs(60);

/// Which rules hold at present.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    latches: BTreeMap<Name, Latch>,
    /// Rules that do not hold.
    pub(crate) dormant: BTreeSet<Name>,
    /// When to look next.
    pub(crate) due: Option<Timestamp>,
    /// What is looked at.
    wants: SampleWants,
}

impl Conditions {
    /// What stands against a rule; `None` when it holds.
    pub(crate) fn against(&self, rule: &Name) -> Option<Vec<Reading>> {
        self.dormant.contains(rule).then(|| self.readings(rule).to_vec())
    }

    /// What was measured for the conditions of a rule.
    pub(crate) fn readings(&self, rule: &Name) -> &[Reading] {
        self.latches.get(rule).map_or(&[], |latch| &latch.readings)
    }

    /// Every rule with conditions: whether it holds, since when, and what was measured.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Latch)> {
        self.latches.iter()
    }

    fn gates(&self) -> impl Iterator<Item = &Gate> {
        self.latches.values().map(|latch| &latch.gate)
    }
}

/// Policies that an operator has put over others, by rule or group.
pub(crate) type Overrides = BTreeMap<Name, Overridden>;

/// See [`Overrides`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overridden {
    /// What holds.
    pub(crate) limits: Limits,
    /// What holds.
    pub(crate) policy: Policy,
    /// What a group made by hand had before; a rule has its own.
    before: Option<(Limits, Policy)>,
}

impl Engine {
    /// What a rule imposes, with what an operator has put over it.
    pub(super) fn terms_of(&self, rule: &Rule) -> Terms {
        let terms = rule.terms();
        match self.overrides.get(&rule.name) {
            Some(over) => Terms { limits: over.limits.clone(), policy: over.policy.clone(), ..terms },
            None => terms,
        }
    }

    fn gate_of(&self, rule: &Rule) -> Option<Gate> {
        let terms = self.terms_of(rule);
        Gate::of(rule.when.as_ref(), &terms.limits, &terms.policy)
    }

    /// Takes over the conditions of a new profile; those that are as they were keep their state. What an operator
    /// has put over rules that are not as they were is gone.
    pub(super) fn renew_conditions(&mut self, before: Option<&RuleSet>) {
        let rules = self.rules.clone();
        let rule = |rules: Option<&RuleSet>, name: &Name| -> Option<Rule> {
            rules.and_then(|rules| rules.rule(name)).map(|rule| rule.spec.clone())
        };
        self.overrides.retain(|name, over| {
            let now = rule(rules.as_deref(), name);
            over.before.is_some() || (now.is_some() && rule(before, name) == now)
        });
        let mut old = std::mem::take(&mut self.conditions.latches);
        let enabled = rules.iter().flat_map(|rules| &rules.rules).filter(|rule| rule.spec.enabled);
        let gates: Vec<(Name, Gate)> =
            enabled.filter_map(|rule| Some((rule.spec.name.clone(), self.gate_of(&rule.spec)?))).collect();
        for (name, gate) in gates {
            let latch = match old.remove(&name).filter(|latch| latch.gate == gate) {
                Some(latch) => latch,
                None => Latch::new(gate),
            };
            self.conditions.latches.insert(name, latch);
        }
        self.conditions.dormant = dormant(&self.conditions.latches);
    }

    /// Has conditions that changed looked at: by what is measured at once, or else by what is known.
    pub(super) fn reconsider(&mut self) {
        if !self.sense() {
            let now = self.out.now();
            self.judge(now);
            self.throttle.look_at_clock(&self.gauge, now);
        }
    }

    /// Has a group that is new look at the clock, if that is what it follows.
    pub(super) fn begin_to_follow(&mut self, policy: &Policy) {
        if matches!(policy, Policy::Schedule(_)) && !self.sense() {
            self.throttle.look_at_clock(&self.gauge, self.out.now());
        }
    }

    /// Finds out what has to be measured from now on. What is new is asked for at once; whether anything was.
    pub(super) fn sense(&mut self) -> bool {
        let mut wants = SampleWants::default();
        for threshold in self.conditions.gates().flat_map(Gate::thresholds) {
            match threshold.signal {
                Signal::Pressure { resource, .. } => {
                    wants.pressure = true;
                    wants.cpu |= resource == Resource::Cpu;
                }
                Signal::Load { .. } => wants.load = true,
            }
        }
        let mut zones = self.throttle.zones();
        zones.extend(self.conditions.gates().flat_map(Gate::zones).cloned());
        wants.zones = zones.into_iter().collect();
        let new = wants != self.conditions.wants;
        if wants.is_empty() {
            self.conditions.due = None;
        } else if new {
            self.look(&wants);
        }
        self.conditions.wants = wants;
        new
    }

    fn look(&mut self, wants: &SampleWants) {
        let measures = wants.pressure || wants.load;
        self.conditions.due = Some(self.out.now().after(if measures { LOOK } else { CLOCK_MAX }));
        self.out.push(What::Sample(wants.clone()));
    }

    /// Moves the limits that are due, and has measured what is due to be.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let mut wants = SampleWants::default();
        if self.conditions.due.is_some_and(|due| due <= now) {
            // Groups that followed the clock may be gone.
            self.sense();
        }
        if self.conditions.due.is_some_and(|due| due <= now) {
            wants = self.conditions.wants.clone();
        }
        self.throttle.advance(now, &mut wants);
        if self.conditions.due.is_some_and(|due| due <= now) {
            self.look(&wants);
        } else if !wants.is_empty() {
            self.out.push(What::Sample(wants));
        }
    }

    /// Takes in what was measured.
    pub(super) fn sampled(&mut self, sample: &Sample) {
        let now = self.out.now();
        self.gauge.take(sample, now);
        if sample.clock.is_some()
            && !self.conditions.wants.zones.is_empty()
            && let (Some(due), Some(left)) = (self.conditions.due, self.gauge.to_next_minute())
        {
            // Hours begin and end with minutes.
            self.conditions.due = Some(due.min(now.after(Duration::from_millis(left))));
        }
        self.judge(now);
        if sample.clock.is_some() {
            self.throttle.look_at_clock(&self.gauge, now);
        }
        for group in &sample.groups {
            self.throttle.observe(group, &self.gauge, now);
        }
    }

    /// Looks at all conditions, and has those rules begin and cease to hold whose conditions do.
    fn judge(&mut self, now: Timestamp) {
        let mut changed = false;
        for latch in self.conditions.latches.values_mut() {
            changed |= latch.look(&self.gauge, now);
        }
        if !changed {
            return;
        }
        let after = dormant(&self.conditions.latches);
        let before = std::mem::replace(&mut self.conditions.dormant, after.clone());
        let mut released = Vec::new();
        for rule in after.difference(&before) {
            released.extend(self.cease(rule));
        }
        // What falls to a rule that holds from now on: whoever is in no group, or in one of a later rule.
        let Some(rules) = self.rules.clone() else { return };
        let place = |rule: &Name| rules.rules.iter().position(|known| known.spec.name == *rule);
        let first = before.difference(&after).filter_map(place).min();
        for key in first.map(|_| self.table.keys()).unwrap_or_default() {
            let holder = self.table.get(key).and_then(|entry| entry.group.clone());
            let rule = holder.as_ref().and_then(|group| self.throttle.group(group)?.terms.rule());
            if holder.is_none() {
                self.evaluate(key);
            } else if rule.and_then(place) > first {
                self.reopen(key);
                self.evaluate(key);
            }
        }
        for key in released {
            self.evaluate(key);
        }
        self.sense();
    }

    /// Releases the groups of a rule that does not hold any more; returns who was in them.
    fn cease(&mut self, rule: &Name) -> Vec<ProcKey> {
        let readings = self.conditions.readings(rule).to_vec();
        let reason = Reason::Condition { rule: rule.clone(), readings };
        let mut members = Vec::new();
        for (group, of) in self.rule_groups() {
            if of == *rule {
                members.extend(self.throttle.group(&group).iter().flat_map(|group| group.members.keys()));
                self.release_group(&group, &reason);
            }
        }
        members
    }

    fn reopen(&mut self, key: ProcKey) {
        if let Some(entry) = self.table.get_mut(key) {
            entry.open = entry.open.max(Open::ToRules);
        }
    }

    /// Puts a policy over that of a rule or of a group made by hand, or takes it away again.
    pub(super) fn override_policy(&mut self, request: Override) {
        let Override { target, terms, reason } = request;
        let now = self.out.now();
        let made: BTreeSet<Name> =
            self.throttle.iter().filter_map(|(_, group)| group.terms.operator().cloned()).collect();
        self.overrides.retain(|name, over| over.before.is_none() || made.contains(name));
        let rule = self.rules.as_ref().and_then(|rules| rules.rule(&target)).map(|rule| rule.spec.clone());
        if let Some(rule) = rule {
            match terms {
                Some((limits, policy)) => {
                    let over = Overridden { limits, policy, before: None };
                    self.overrides.insert(target.clone(), over);
                }
                None => drop(self.overrides.remove(&target)),
            }
            self.gate_anew(&rule);
            let terms = self.terms_of(&rule);
            for (group, of) in self.rule_groups() {
                if of == target {
                    self.throttle.set_terms(&group, terms.clone(), reason.clone(), now);
                }
            }
        } else {
            let groups = self.operator_groups(&target);
            let Some((_, present)) = groups.first() else {
                let error = format!("there is no rule and no group {target}");
                return self.out.notify(Notice::ThrottleFailed { group: target, error, reason });
            };
            let over = self.overrides.remove(&target);
            let own = over.and_then(|over| over.before);
            let own = own.unwrap_or_else(|| (present.limits.clone(), present.policy.clone()));
            let (limits, policy) = terms.clone().unwrap_or_else(|| own.clone());
            if terms.is_some() {
                let (limits, policy) = (limits.clone(), policy.clone());
                self.overrides.insert(target.clone(), Overridden { limits, policy, before: Some(own) });
            }
            for (group, old) in groups {
                let origin = Origin::Operator(target.clone());
                let terms = Terms { origin, limits: limits.clone(), policy: policy.clone(), ..old };
                self.throttle.set_terms(&group, terms, reason.clone(), now);
            }
        }
        self.reconsider();
    }

    /// The windows of a policy may be all that a rule has limits in.
    fn gate_anew(&mut self, rule: &Rule) {
        let was = self.conditions.dormant.contains(&rule.name);
        match self.gate_of(rule) {
            Some(gate) => {
                let same = self.conditions.latches.get(&rule.name).is_some_and(|latch| latch.gate == gate);
                if !same {
                    let latch = Latch { on: !was, ..Latch::new(gate) };
                    self.conditions.latches.insert(rule.name.clone(), latch);
                }
            }
            None => {
                self.conditions.latches.remove(&rule.name);
            }
        }
        self.conditions.dormant = dormant(&self.conditions.latches);
        if was && !self.conditions.dormant.contains(&rule.name) {
            for key in self.table.keys() {
                self.evaluate(key);
            }
        }
    }
}

fn dormant(latches: &BTreeMap<Name, Latch>) -> BTreeSet<Name> {
    latches.iter().filter(|(_, latch)| !latch.on).map(|(name, _)| name.clone()).collect()
}
