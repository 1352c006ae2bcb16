//! A quota on its way: in equal steps from one value to another, never back, and exactly there at the end.

use std::time::Duration;

use crate::model::policy::Gradual;
use crate::model::time::Timestamp;
use crate::model::unit::CpuPercent;

/// A ramp that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ramp {
    began: Timestamp,
    from: CpuPercent,
    to: CpuPercent,
    over: Duration,
    interval: Duration,
}

impl Ramp {
    /// Begins one. A group that is limited already begins where it is.
    pub(crate) fn begin(
        gradual: &Gradual,
        to: CpuPercent,
        present: Option<CpuPercent>,
        now: Timestamp,
    ) -> Self {
        Self {
            began: now,
            from: present.unwrap_or(gradual.from),
            to,
            over: gradual.over(),
            interval: gradual.interval(),
        }
    }

    /// The quota at a moment.
    pub(crate) fn at(&self, now: Timestamp) -> CpuPercent {
        let elapsed = now.since(self.began);
        if elapsed >= self.over {
            return self.to;
        }
        let (done, whole) = (self.steps(elapsed) * self.interval.as_nanos(), self.over.as_nanos().max(1));
        let (from, to) = (u128::from(self.from.millis()), u128::from(self.to.millis()));
        let way = from.abs_diff(to) * done.min(whole) / whole;
        let millis = if from > to { from - way } else { from + way };
        u64::try_from(millis).ok().and_then(CpuPercent::from_millis).unwrap_or(self.to)
    }

    /// When it changes next; `None` at the end.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let elapsed = now.since(self.began);
        let ahead = (self.steps(elapsed) + 1) * self.interval.as_nanos();
        let ahead = Duration::from_nanos(u64::try_from(ahead).unwrap_or(u64::MAX));
        (elapsed < self.over).then(|| self.began.after(ahead.min(self.over)))
    }

    /// How much of its time is over, in percent.
    pub(crate) fn progress(&self, now: Timestamp) -> u128 {
        (now.since(self.began).as_nanos() * 100 / self.over.as_nanos().max(1)).min(100)
    }

    fn steps(&self, elapsed: Duration) -> u128 {
        elapsed.as_nanos() / self.interval.as_nanos().max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percent(millis: u64) -> CpuPercent {
        CpuPercent::from_millis(millis).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_monotone_ends_at_the_target_and_writes_no_more_than_once_an_interval(
            from in 1_000u64..6_400_000,
            to in 1_000u64..6_400_000,
            over_ms in 1_000u64..600_000,
            interval_ms in 1_000u64..60_000,
            began in 0u64..1 << 50,
            looks in prop::collection::vec(0u64..700_000, 1..40),
        ) {
            let gradual = Gradual { from: percent(from), over_ms, interval_ms };
            let began = Timestamp::from_nanos(began);
            let ramp = Ramp::begin(&gradual, percent(to), None, began);
            prop_assert_eq!(ramp.at(began), percent(from));
            let later = |ms| began.after(Duration::from_millis(ms));
            prop_assert_eq!(ramp.at(later(over_ms)), percent(to));
            prop_assert_eq!(ramp.next(later(over_ms)), None);
            // Whenever it is looked at, in any rhythm, it goes one way and stays between both ends.
            let mut looks = looks;
            looks.sort_unstable();
            let values: Vec<u64> = looks.iter().map(|ms| ramp.at(later(*ms)).millis()).collect();
            prop_assert!(values.iter().all(|value| (from.min(to)..=from.max(to)).contains(value)));
            let one_way = values.is_sorted_by(|a, b| if from > to { a >= b } else { a <= b });
            prop_assert!(one_way, "{:?}", values);
            // By its own clock it changes at most once an interval, and no step is larger than its share.
            let (mut now, mut steps, mut value) = (began, 0u64, from);
            while let Some(next) = ramp.next(now) {
                prop_assert!(next > now);
                let there = ramp.at(next).millis();
                let share = from.abs_diff(to) * interval_ms / over_ms + 1;
                prop_assert!(there.abs_diff(value) <= share.max(1) || interval_ms > over_ms);
                (now, value, steps) = (next, there, steps + 1);
            }
            prop_assert_eq!(value, to);
            prop_assert!(steps <= over_ms / interval_ms + 1);
        }
    }
}
