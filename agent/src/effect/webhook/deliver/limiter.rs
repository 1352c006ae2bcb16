//! How many deliveries an endpoint gets a minute: a bucket of tokens that fills at the configured rate. A tenth of a
//! minute's tokens fit in, so that a few alerts at once go out at once.

use std::time::Duration;

use crate::model::time::Timestamp;

/// Nanoseconds of a minute.
const MINUTE: u64 = 60_000_000_000;

/// A bucket of tokens; one delivery takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limiter {
    /// Time in which one token comes, in ns; zero: no limit.
    each: u64,
    /// Time in which the bucket fills, in ns.
    room: u64,
    /// When the bucket will be full, or was.
    full_at: Timestamp,
}

impl Limiter {
    /// A full bucket for `rate` deliveries a minute; `None` or zero: no limit.
    #[must_use]
    pub fn new(rate: Option<u32>) -> Self {
        let rate = u64::from(rate.unwrap_or(0));
        let each = MINUTE.checked_div(rate).unwrap_or(0);
        Self { each, room: each * (rate / 10).max(1), full_at: Timestamp::default() }
    }

    /// How long until there is a token.
    #[must_use]
    pub fn wait(&self, now: Timestamp) -> Duration {
        let missing = self.full_at.since(now);
        let most = Duration::from_nanos(self.room.saturating_sub(self.each));
        missing.saturating_sub(most)
    }

    /// Takes a token, also when there is none: the next one is waited for the longer then.
    pub fn take(&mut self, now: Timestamp) {
        self.full_at = self.full_at.max(now).after(Duration::from_nanos(self.each));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn without_a_rate_there_is_no_wait() {
        for rate in [None, Some(0)] {
            let mut limiter = Limiter::new(rate);
            (0..1_000).for_each(|_| limiter.take(at(5)));
            assert_eq!(limiter.wait(at(5)), Duration::ZERO);
        }
    }

    #[test]
    fn a_tenth_at_once_then_evenly() {
        let mut limiter = Limiter::new(Some(60));
        for _ in 0..6 {
            assert_eq!(limiter.wait(at(100_000)), Duration::ZERO);
            limiter.take(at(100_000));
        }
        assert_eq!(limiter.wait(at(100_000)), Duration::from_secs(1));
        assert_eq!(limiter.wait(at(100_400)), Duration::from_millis(600));
        assert_eq!(limiter.wait(at(101_000)), Duration::ZERO);
    }

    proptest! {
        /// Whoever waits when told to is never faster than the rate and the bucket, in any stretch of time.
        #[test]
        fn never_more_than_rate_and_bucket(
            rate in 1u32..2_000,
            gaps in prop::collection::vec(0u64..3_000, 1..200),
        ) {
            let (mut limiter, mut now, mut taken) = (Limiter::new(Some(rate)), at(1_000_000), Vec::new());
            for gap in gaps {
                now = now.after(Duration::from_millis(gap)).after(limiter.wait(now.after(Duration::from_millis(gap))));
                prop_assert_eq!(limiter.wait(now), Duration::ZERO);
                limiter.take(now);
                taken.push(now);
            }
            let bucket = f64::from((rate / 10).max(1));
            for (first, start) in taken.iter().enumerate() {
                for (last, end) in taken.iter().enumerate().skip(first) {
                    let seconds = end.since(*start).as_secs_f64();
                    let most = bucket + seconds * f64::from(rate) / 60.0;
                    prop_assert!((last - first + 1) as f64 <= most + 0.01, "{} in {seconds} s", last - first + 1);
                }
            }
        }
    }
}
