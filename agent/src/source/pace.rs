//! When to drain and when to sweep: pure, told the time.

use std::time::Duration;

use crate::model::time::Timestamp;
use crate::source::{EAGER_INTERVAL, LAZY_INTERVAL};

/// From a fork to its exec it takes most programs less.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// A sweep may take this fraction of the time at most.
const SWEEP_SHARE: u32 = 50;

/// Asleep until a first event, or awake with a next drain and a next sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    interval: Duration,
    asleep: bool,
    drain_at: Timestamp,
    sweep_at: Timestamp,
    /// When the present wait began.
    waiting_since: Timestamp,
}

impl Pace {
    /// Awake, everything due.
    pub(super) const fn new() -> Self {
        Self {
            interval: LAZY_INTERVAL,
            asleep: false,
            drain_at: Timestamp::ZERO,
            sweep_at: Timestamp::ZERO,
            waiting_since: Timestamp::ZERO,
        }
    }

    /// Drains come at this interval from now on.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
        self.drain_at = self.drain_at.min(self.waiting_since.after(interval));
    }

    /// When the next drain is due; `None` while asleep.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        (!self.asleep).then_some(self.drain_at)
    }

    pub(super) const fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// A first event came; the drain for it is due after an interval, or when a rule waits on the sweep after
    /// a moment. Not at once: what follows a fork, the exec and often the exit, is then found by the same
    /// round, and a matched exec does not wait behind it.
    pub(super) fn wake(&mut self, now: Timestamp) {
        if self.asleep {
            self.asleep = false;
            self.next(now);
            if self.interval <= EAGER_INTERVAL {
                self.drain_at = now.after(FIRST_LOOK);
            }
        }
    }

    pub(super) fn drain_is_due(&self, now: Timestamp) -> bool {
        !self.asleep && now >= self.drain_at
    }

    pub(super) fn sweep_is_due(&self, now: Timestamp) -> bool {
        now >= self.sweep_at
    }

    /// A sweep began and ended: the next one waits at least fifty times as long as this one took.
    pub(super) fn swept(&mut self, began: Timestamp, ended: Timestamp) {
        let rest = ended.since(began).saturating_mul(SWEEP_SHARE);
        // A hair less than the interval, or the sweep would miss every other drain.
        self.sweep_at = began.after(rest.max(self.interval / 2));
    }

    /// The drain was cut short: more at once.
    pub(super) const fn again(&mut self, now: Timestamp) {
        self.drain_at = now;
    }

    /// The drain is done; the next comes after the interval.
    pub(super) fn next(&mut self, now: Timestamp) {
        self.waiting_since = now;
        self.drain_at = now.after(self.interval);
    }

    /// The drain is done and nothing has come since it began.
    pub(super) const fn sleep(&mut self) {
        self.asleep = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn sleeps_until_an_event_and_then_waits_for_its_followers() {
        let mut pace = Pace::new();
        assert!(pace.drain_is_due(ms(1000)) && pace.sweep_is_due(ms(1000)));
        pace.sleep();
        assert_eq!(pace.deadline(), None);
        assert!(!pace.drain_is_due(ms(5000)));
        pace.wake(ms(5000));
        assert_eq!(pace.deadline(), Some(ms(5100)));
        pace.wake(ms(5050));
        assert_eq!(pace.deadline(), Some(ms(5100)), "waking while awake changes nothing");
        assert!(!pace.drain_is_due(ms(5099)) && pace.drain_is_due(ms(5100)));
        pace.next(ms(5100));
        assert_eq!(pace.deadline(), Some(ms(5200)));
        pace.set_interval(EAGER_INTERVAL);
        assert_eq!(pace.deadline(), Some(ms(5120)));
        pace.again(ms(5110));
        assert!(pace.drain_is_due(ms(5110)));
        pace.sleep();
        pace.wake(ms(6000));
        assert_eq!(pace.deadline(), Some(ms(6001)), "a rule waits");
    }

    #[test]
    fn long_sweeps_are_rare() {
        let mut pace = Pace::new();
        pace.swept(ms(1000), ms(1001));
        assert!(pace.sweep_is_due(ms(1050)) && !pace.sweep_is_due(ms(1049)));
        pace.swept(ms(2000), ms(2010));
        assert!(pace.sweep_is_due(ms(2500)) && !pace.sweep_is_due(ms(2499)));
        assert!(!pace.sweep_is_due(ms(2100)), "drains go on meanwhile");
    }
}
