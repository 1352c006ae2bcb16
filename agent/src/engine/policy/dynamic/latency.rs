//! How far a group gives way: not at all, by its CPU weight, or by a quota as well, and the steps between. When it has
//! to is decided elsewhere.

use std::time::Duration;

use crate::model::id::Name;
use crate::model::latency::HeldBy;
use crate::model::limits::Limits;
use crate::model::policy::Latency;
use crate::model::time::Timestamp;
use crate::model::unit::{CpuPercent, Weight};

/// What every cgroup weighs that was told nothing else.
const USUAL: u64 = 100;
/// Each step back that had to be undone doubles the wait before the next, so many times.
const STRIKES_MAX: u32 = 6;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Yielding {
    policy: Latency,
    /// What holds while nobody has to give way.
    rest: Limits,
    give: Give,
    /// Where it was before the last step back.
    before: Option<Give>,
    /// Steps back that had to be undone, less those that held.
    strikes: u32,
    /// The quota that it began with, thousandths of a percent: from there on it needs none.
    widest: u64,
    /// Since when it gives way.
    since: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Give {
    Nothing,
    Weight(Weight),
    /// At the lowest weight.
    Quota(CpuPercent),
}

impl Yielding {
    /// A group that gives nothing yet.
    pub(crate) fn begin(policy: &Latency, rest: &Limits) -> Self {
        let (policy, rest) = (policy.clone(), rest.clone());
        Self { policy, rest, give: Give::Nothing, before: None, strikes: 0, widest: 0, since: None }
    }

    /// What the group is limited to now.
    pub(crate) fn limits(&self) -> Limits {
        let held = |cpu_weight| Limits { cpu_weight: Some(cpu_weight), ..self.rest.clone() };
        match self.give {
            Give::Nothing => self.rest.clone(),
            Give::Weight(weight) => held(weight),
            Give::Quota(quota) => Limits { cpu: Some(quota), ..held(self.lowest()) },
        }
    }

    /// Since when it gives way; absent while it does not have to.
    pub(crate) const fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// At least this long after a step of anybody before it gets something back.
    pub(crate) const fn cooldown(&self) -> Duration {
        self.policy.cooldown()
    }

    /// At least this long after its own last step.
    pub(crate) const fn patience(&self) -> Duration {
        self.policy.cooldown().saturating_mul(1 << self.strikes)
    }

    /// Whether its weight can go down.
    pub(crate) fn has_weight(&self) -> bool {
        match self.give {
            Give::Nothing => true,
            Give::Weight(weight) => weight > self.lowest(),
            Give::Quota(_) => false,
        }
    }

    /// Whether its quota can go down, or it can be given one.
    pub(crate) fn has_quota(&self) -> bool {
        match self.give {
            Give::Nothing => false,
            Give::Weight(weight) => weight <= self.lowest(),
            Give::Quota(quota) => quota > self.policy.min,
        }
    }

    /// How far it has given way; `None` while it does not have to.
    pub(crate) fn held(&self, group: &Name) -> Option<HeldBy> {
        let (cpu_weight, cpu) = match self.give {
            Give::Nothing => return None,
            Give::Weight(weight) => (weight, None),
            Give::Quota(quota) => (self.lowest(), Some(quota)),
        };
        let at_floor = !self.has_weight() && !self.has_quota();
        Some(HeldBy { group: group.clone(), cpu_weight, cpu, at_floor })
    }

    /// Takes a step down: to the weight, then to half of the CPU time that the group uses (thousandths of a percent
    /// of a CPU), then to half of its quota each time. Whether there was one to take.
    pub(crate) fn tighten(&mut self, used: u64, now: Timestamp) -> bool {
        let least = self.policy.min;
        let next = match self.give {
            Give::Nothing => Give::Weight(self.lowest()),
            Give::Weight(weight) if weight > self.lowest() => Give::Weight(self.lowest()),
            Give::Weight(_) => {
                let bound = self.rest.cpu.map_or(u64::MAX, CpuPercent::millis);
                self.widest = used.min(bound).max(least.millis());
                Give::Quota(quota(self.widest / 2).max(least))
            }
            Give::Quota(quota_now) if quota_now > least => {
                Give::Quota(quota(quota_now.millis() / 2).max(least))
            }
            Give::Quota(_) => return false,
        };
        self.before = None;
        self.set(next, now)
    }

    /// Takes a step back. Whether there was one to take.
    pub(crate) fn loosen(&mut self, now: Timestamp) -> bool {
        let usual = self.rest.cpu_weight.map_or(USUAL, |weight| weight.get().into());
        let next = match self.give {
            Give::Nothing => return false,
            Give::Quota(old) => {
                let wider = old.millis().saturating_add(old.millis().div_ceil(2));
                if wider >= self.widest { Give::Weight(self.lowest()) } else { Give::Quota(quota(wider)) }
            }
            Give::Weight(weight) => {
                let heavier = u64::from(weight.get()) * 2;
                match Weight::new(heavier).filter(|_| heavier < usual) {
                    Some(heavier) => Give::Weight(heavier),
                    None => Give::Nothing,
                }
            }
        };
        if self.before.is_some() {
            self.strikes = self.strikes.saturating_sub(1);
        }
        let before = self.give;
        let changed = self.set(next, now);
        self.before = Some(before);
        changed
    }

    /// Takes the last step back again, if nothing has followed it. Whether there was one.
    pub(crate) fn undo(&mut self, now: Timestamp) -> bool {
        match self.before.take() {
            Some(before) => {
                self.strikes = (self.strikes + 1).min(STRIKES_MAX);
                self.set(before, now)
            }
            None => false,
        }
    }

    /// Gives nothing any more. Whether it did.
    pub(crate) fn rest(&mut self, now: Timestamp) -> bool {
        (self.before, self.strikes) = (None, 0);
        self.set(Give::Nothing, now)
    }

    fn set(&mut self, give: Give, now: Timestamp) -> bool {
        let changed = self.give != give;
        self.give = give;
        match give {
            Give::Nothing => self.since = None,
            Give::Weight(_) | Give::Quota(_) => {
                self.since.get_or_insert(now);
            }
        }
        changed
    }

    /// The weight at which it is held; never above its own.
    fn lowest(&self) -> Weight {
        self.rest.cpu_weight.map_or(self.policy.weight, |own| own.min(self.policy.weight))
    }
}

/// Whole tenths of a percent, at least the least that there is.
fn quota(millis: u64) -> CpuPercent {
    CpuPercent::from_millis(millis / 100 * 100).unwrap_or(CpuPercent::LEAST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::testing::at;

    fn percent(millis: u64) -> CpuPercent {
        CpuPercent::from_millis(millis).unwrap()
    }

    fn latency(weight: u64, min: u64) -> Latency {
        Latency { weight: Weight::new(weight).unwrap(), min: percent(min), cooldown_ms: 5_000 }
    }

    fn held(one: &Yielding) -> Option<(u16, Option<u64>, bool)> {
        one.held(&"g".parse().unwrap())
            .map(|held| (held.cpu_weight.get(), held.cpu.map(CpuPercent::millis), held.at_floor))
    }

    #[test]
    fn first_the_weight_then_the_quota_down_to_the_floor_and_back() {
        let mut one = Yielding::begin(&latency(10, 20_000), &Limits::default());
        assert_eq!((held(&one), one.limits().is_empty(), one.since()), (None, true, None));
        let mut seen = Vec::new();
        while one.tighten(150_000, at(1)) {
            seen.push(held(&one).unwrap());
        }
        assert_eq!(
            seen,
            [
                (10, None, false),
                (10, Some(75_000), false),
                (10, Some(37_500), false),
                (10, Some(20_000), true)
            ]
        );
        assert_eq!(one.since(), Some(at(1)));
        seen.clear();
        while one.loosen(at(2)) {
            seen.extend(held(&one));
        }
        let back: Vec<_> = seen.iter().map(|(weight, quota, _)| (*weight, *quota)).collect();
        assert_eq!(
            back,
            [
                (10, Some(30_000)),
                (10, Some(45_000)),
                (10, Some(67_500)),
                (10, Some(101_200)),
                (10, None),
                (20, None),
                (40, None),
                (80, None)
            ]
        );
        assert_eq!((held(&one), one.since()), (None, None));
    }

    #[test]
    fn a_step_back_can_be_undone_once() {
        let mut one = Yielding::begin(&latency(10, 5_000), &Limits::default());
        one.tighten(0, at(1));
        one.loosen(at(2));
        one.loosen(at(3));
        assert_eq!(held(&one), Some((40, None, false)));
        assert!(one.undo(at(4)));
        assert_eq!((held(&one), one.patience()), (Some((20, None, false)), 2 * one.cooldown()));
        assert!(!one.undo(at(5)));
        one.loosen(at(6));
        one.loosen(at(7));
        assert_eq!(one.patience(), one.cooldown(), "the step before has held");
    }

    #[test]
    fn limits_of_its_own_bound_what_it_is_given() {
        let own = Limits { cpu: Some(percent(40_000)), cpu_weight: Weight::new(30), ..Limits::default() };
        let mut one = Yielding::begin(&latency(50, 5_000), &own);
        one.tighten(0, at(1));
        assert_eq!(one.limits(), own, "it weighs less already");
        one.tighten(200_000, at(2));
        assert_eq!(one.limits().cpu, Some(percent(20_000)));
        assert!(one.rest(at(3)) && one.limits() == own);
    }

    proptest! {
        #[test]
        fn never_below_the_floor_and_always_back(
            weight in 1..=100u64,
            min in 1_000..100_000u64,
            used in 0..1_000_000u64,
            steps in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut one = Yielding::begin(&latency(weight, min), &Limits::default());
            for (time, down) in steps.into_iter().enumerate() {
                let now = at(time as u64);
                if down { one.tighten(used, now) } else { one.loosen(now) };
                let limits = one.limits();
                prop_assert!(limits.cpu.is_none_or(|cpu| cpu.millis() >= min), "{limits:?}");
                prop_assert!(limits.cpu_weight.is_none_or(|own| u64::from(own.get()) >= weight), "{limits:?}");
                prop_assert_eq!(limits.is_empty(), one.since().is_none());
            }
            let mut left = 0;
            while one.loosen(at(1_000)) {
                left += 1;
                prop_assert!(left < 60);
            }
            prop_assert!(one.limits().is_empty());
        }
    }
}
