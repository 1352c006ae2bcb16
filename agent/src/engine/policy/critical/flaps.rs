//! When deaths are too many to be told one by one. Pure counting: it must not know whose deaths they are.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::absence::Flapping;
use crate::model::time::Timestamp;

/// As many deaths within [`WINDOW`] are flapping.
const MANY: usize = 5;
/// See [`MANY`]; also the time from one summary to the next.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// The recent deaths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flaps {
    recent: VecDeque<Timestamp>,
    held: Option<Held>,
}

/// Deaths that are held back.
#[derive(Clone, Copy, Debug)]
struct Held {
    since: Timestamp,
    deaths: u64,
}

/// What is to be done about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is told.
    Tell,
    /// It is told as the last of many, and further ones are held back.
    TellMany(Flapping),
    /// It is told later, as one of many.
    Hold,
}

impl Flaps {
    /// Takes in a death.
    pub(crate) fn died(&mut self, now: Timestamp) -> Verdict {
        if let Some(held) = &mut self.held {
            held.deaths = held.deaths.saturating_add(1);
            return Verdict::Hold;
        }
        while self.recent.front().is_some_and(|at| now.since(*at) > WINDOW) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        let Some(first) = self.recent.front().filter(|_| self.recent.len() >= MANY) else {
            return Verdict::Tell;
        };
        let flapping = Flapping { deaths: self.recent.len() as u64, held: 0, over: now.since(*first) };
        self.recent.clear();
        self.held = Some(Held { since: now, deaths: 0 });
        Verdict::TellMany(flapping)
    }

    /// Whether deaths are held back.
    pub(crate) const fn is_on(&self) -> bool {
        self.held.is_some()
    }

    /// When [`Self::sum_up`] has something to do.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.held.map(|held| held.since.after(WINDOW))
    }

    /// What was held back until now, when it is due. Flapping ends with a window of few deaths.
    pub(crate) fn sum_up(&mut self, now: Timestamp) -> Option<Flapping> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let deaths = self.held.map_or(0, |held| held.deaths);
        let summed = self.end(now);
        if deaths >= MANY as u64 {
            self.held = Some(Held { since: now, deaths: 0 });
        }
        summed
    }

    /// What was held back until now, when nothing more is to come.
    pub(crate) fn end(&mut self, now: Timestamp) -> Option<Flapping> {
        let held = self.held.take()?;
        let deaths = held.deaths;
        (deaths > 0).then(|| Flapping { deaths, held: deaths, over: now.since(held.since) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::testing::at;

    #[test]
    fn the_fifth_in_a_minute_is_the_last_that_is_told() {
        let mut flaps = Flaps::default();
        for second in 0..4 {
            assert_eq!(flaps.died(at(second * 1_000)), Verdict::Tell);
        }
        let many = Flapping { deaths: 5, held: 0, over: Duration::from_secs(4) };
        assert_eq!(flaps.died(at(4_000)), Verdict::TellMany(many));
        for millis in 0..1_000 {
            assert_eq!(flaps.died(at(5_000 + millis)), Verdict::Hold);
        }
        assert_eq!((flaps.due(), flaps.sum_up(at(63_999))), (Some(at(64_000)), None));
        let sum = Flapping { deaths: 1_000, held: 1_000, over: WINDOW };
        assert_eq!(flaps.sum_up(at(64_000)), Some(sum));
        assert!(flaps.is_on());
        assert_eq!(flaps.sum_up(at(124_000)), None, "a quiet minute ends it");
        assert!(!flaps.is_on() && flaps.due().is_none());
        assert_eq!(flaps.died(at(125_000)), Verdict::Tell);
    }

    #[test]
    fn a_death_every_quarter_of_a_minute_is_told() {
        let mut flaps = Flaps::default();
        for minute in 0..100 {
            assert_eq!(flaps.died(at(minute * 15_001)), Verdict::Tell, "{minute}");
        }
    }

    proptest! {
        #[test]
        fn every_death_is_told_once(waits in proptest::collection::vec(0_u64..40_000, 0..300)) {
            let (mut flaps, mut now, mut told, mut notices) = (Flaps::default(), 0, 0, Vec::new());
            for wait in &waits {
                now += wait;
                while let Some(due) = flaps.due().filter(|due| *due <= at(now)) {
                    if let Some(sum) = flaps.sum_up(due) {
                        told += sum.held;
                        notices.push(due);
                    }
                }
                match flaps.died(at(now)) {
                    Verdict::Tell | Verdict::TellMany(_) => { told += 1; notices.push(at(now)); }
                    Verdict::Hold => {}
                }
            }
            told += flaps.end(at(now)).map_or(0, |sum| sum.held);
            prop_assert_eq!(told, waits.len() as u64);
            for window in notices.windows(2 * MANY + 1) {
                prop_assert!(window[2 * MANY].since(window[0]) >= WINDOW, "too many in a minute");
            }
        }
    }
}
