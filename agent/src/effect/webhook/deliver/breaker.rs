//! Leaves an endpoint alone that does not answer: after some failures in a row it is only probed, ever more seldom,
//! with the delivery that is first in line. Never gives a delivery up.

use std::time::Duration;

/// Failures in a row after which the endpoint is left alone.
pub const OPENS_AFTER: u32 = 5;
/// Before the first probe.
const FIRST_PROBE: Duration = Duration::from_secs(60);
/// Between later probes at most.
const LAST_PROBE: Duration = Duration::from_secs(600);

/// Whether an endpoint is left alone. Moments are ms since the Unix epoch, because they outlive the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row.
    pub failures: u32,
    /// When to probe. Before the breaker opens, until when the receiver asked to be left alone.
    pub not_before: Option<i64>,
}

impl Breaker {
    /// Whether the endpoint is only probed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.failures >= OPENS_AFTER
    }

    /// When the delivery that is first in line may be attempted, which is due at `due` by its schedule. While the
    /// breaker is open it is not waited for the schedule, which is slower.
    #[must_use]
    pub fn ready_at(&self, due: i64) -> i64 {
        match self.not_before {
            Some(probe) if self.is_open() => probe,
            Some(asked) => due.max(asked),
            None => due,
        }
    }

    /// The endpoint answered.
    pub const fn succeeded(&mut self) {
        *self = Self { failures: 0, not_before: None };
    }

    /// An attempt failed at `now`; the receiver may have asked to be left alone.
    pub fn failed(&mut self, now: i64, retry_after: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        let probes = self.failures.checked_sub(OPENS_AFTER);
        let probe = probes.map(|probes| FIRST_PROBE.saturating_mul(1 << probes.min(10)).min(LAST_PROBE));
        let wait = probe.max(retry_after);
        self.not_before =
            wait.map(|wait| now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn opens_probes_ever_more_seldom_and_closes() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker.failed(0, None);
            assert_eq!((breaker.is_open(), breaker.ready_at(77)), (false, 77));
        }
        for seconds in [60, 120, 240, 480, 600, 600] {
            breaker.failed(1_000, None);
            assert!(breaker.is_open());
            assert_eq!(breaker.ready_at(i64::MAX), 1_000 + seconds * 1_000);
        }
        breaker.succeeded();
        assert_eq!((breaker.is_open(), breaker.ready_at(5)), (false, 5));
    }

    #[test]
    fn a_receiver_that_asks_for_peace_gets_it() {
        let mut breaker = Breaker::default();
        breaker.failed(0, Some(Duration::from_secs(30)));
        assert_eq!((breaker.ready_at(5_000), breaker.ready_at(90_000)), (30_000, 90_000));
        for _ in 0..4 {
            breaker.failed(0, Some(Duration::from_secs(3_600)));
        }
        assert_eq!(breaker.ready_at(5_000), 3_600_000, "no probe before that");
    }

    proptest! {
        /// Whatever happens: it is open exactly after so many failures in a row, and a probe is never farther off
        /// than the longest of both waits.
        #[test]
        fn follows_the_last_failures(outcomes in prop::collection::vec(prop::option::of(0u64..4_000), 0..40)) {
            let (mut breaker, mut now, mut row) = (Breaker::default(), 0, 0u32);
            for outcome in outcomes {
                now += 1_000;
                match outcome {
                    None => {
                        breaker.succeeded();
                        row = 0;
                    }
                    Some(asked) => {
                        breaker.failed(now, (asked > 0).then_some(Duration::from_secs(asked)));
                        row += 1;
                    }
                }
                prop_assert_eq!(breaker.is_open(), row >= OPENS_AFTER);
                prop_assert_eq!(breaker.failures, row);
                if breaker.is_open() {
                    let wait = breaker.ready_at(0) - now;
                    prop_assert!((60_000..=4_000_000).contains(&wait), "{}", wait);
                }
            }
        }
    }
}
