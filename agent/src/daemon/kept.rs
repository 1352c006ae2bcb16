//! Readings that are kept for whoever asks again: what grew meanwhile is what was of late. Nothing is read for it by
//! itself, and at most two readings are kept.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::time::Timestamp;

/// A reading is compared with one that is this old, if there is such a one: shares of less say little.
const WANTED: Duration = Duration::from_secs(1);
/// One that is younger is of no use: a period of a quota is 100 ms.
const YOUNGEST: Duration = Duration::from_millis(100);
/// What is older tells nothing of late.
const OLDEST: Duration = Duration::from_secs(60);
/// How long to look where there is nothing to compare with: three periods of a quota.
pub(super) const BRIEF: Duration = Duration::from_millis(300);
/// The second last is for whoever asks right after somebody else.
const KEPT: usize = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Kept<T>(VecDeque<(Timestamp, T)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Kept<T> {
    /// What to compare a reading of now with.
    pub(super) fn before(&self, now: Timestamp) -> Option<&(Timestamp, T)> {
        let usable = |(at, _): &&(Timestamp, T)| (YOUNGEST..=OLDEST).contains(&now.since(*at));
        let usable = || self.0.iter().filter(usable);
        usable().find(|(at, _)| now.since(*at) >= WANTED).or_else(|| usable().next_back())
    }

    /// Keeps a reading, unless there is one that is about as new.
    pub(super) fn keep(&mut self, at: Timestamp, reading: T) {
        if self.0.front().is_some_and(|(last, _)| at.since(*last) < WANTED) {
            return;
        }
        self.0.truncate(KEPT - 1);
        self.0.push_front((at, reading));
    }

    /// Drops what is of no use any more.
    pub(super) fn drop_old(&mut self, now: Timestamp) {
        self.0.retain(|(at, _)| now.since(*at) <= OLDEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn before(kept: &Kept<u64>, millis: u64) -> Option<u64> {
        kept.before(at(millis)).map(|(_, reading)| *reading)
    }

    #[test]
    fn a_reading_is_compared_with_one_of_late() {
        let mut kept = Kept::default();
        assert_eq!(before(&kept, 10_000), None);
        kept.keep(at(10_000), 1);
        assert_eq!((before(&kept, 10_050), before(&kept, 10_100)), (None, Some(1)));
        kept.keep(at(10_300), 2);
        assert_eq!(before(&kept, 11_000), Some(1), "that of a moment after was not kept");
        kept.keep(at(12_000), 3);
        assert_eq!((before(&kept, 12_500), before(&kept, 13_000)), (Some(1), Some(3)));
        kept.keep(at(14_000), 4);
        assert_eq!((before(&kept, 14_050), before(&kept, 74_000)), (Some(3), Some(4)));
        assert_eq!(before(&kept, 74_001), None, "older than a minute");
        kept.drop_old(at(73_000));
        assert_eq!((before(&kept, 73_000), kept.0.len()), (Some(4), 1));
    }
}
