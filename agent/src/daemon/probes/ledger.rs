//! What has been counted since metrics asked last, by process and by cgroup. Counters come and go with their slots and
//! with the programs: it has to be told before they do, and adds up what each has grown by.

use std::collections::BTreeMap;

use crate::model::id::ProcKey;
use crate::model::latency::{Reading, Waits, sum};

/// Most waiters that are kept: all that there are slots for, several times over.
const WAITERS_MAX: usize = 2_048;

/// Whose waits they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiter {
    /// A process that is watched.
    Process(ProcKey),
    /// The threads of a cgroup, by its id.
    Cgroup(u64),
}

/// What is handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Whether the programs count at present.
    pub armed: bool,
    /// What came since the last time, by waiter; without any waits of one who is counted and did not wait.
    pub grown: BTreeMap<Waiter, Waits>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    wanted: bool,
    /// The last reading; none after one that failed: what came in between is nobody's.
    last: Option<BTreeMap<Waiter, Waits>>,
    grown: BTreeMap<Waiter, Waits>,
}

impl Ledger {
    /// Whether anybody has ever asked: while nobody does there is nothing to be read for it.
    pub(super) const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Counting begins anew.
    pub(super) fn restart(&mut self) {
        self.last = Some(BTreeMap::new());
    }

    /// It could not be read.
    pub(super) fn lose(&mut self) {
        self.last = None;
    }

    /// Takes in a reading.
    pub(super) fn take(&mut self, reading: &Reading) {
        let watched = reading.watched.iter().map(|(key, cpus)| (Waiter::Process(*key), sum(cpus)));
        let cgroups = reading.cgroups.iter().map(|(id, cpus)| (Waiter::Cgroup(*id), sum(cpus)));
        let now: BTreeMap<Waiter, Waits> = watched.chain(cgroups).collect();
        if let Some(last) = &self.last {
            let since = |(waiter, waits): (&Waiter, &Waits)| {
                (*waiter, last.get(waiter).map_or_else(|| waits.clone(), |before| waits.since(before)))
            };
            let grown = now.iter().map(since).collect();
            self.add(grown);
        }
        self.last = Some(now);
    }

    /// Hands over what has come since the last time.
    pub(super) fn hand_over(&mut self) -> BTreeMap<Waiter, Waits> {
        self.wanted = true;
        std::mem::take(&mut self.grown)
    }

    /// Adds what has grown, or what was handed over to somebody who had gone away.
    pub(super) fn add(&mut self, grown: BTreeMap<Waiter, Waits>) {
        for (waiter, waits) in grown {
            if self.grown.len() < WAITERS_MAX || self.grown.contains_key(&waiter) {
                self.grown.entry(waiter).or_default().add(&waits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::latency::{ByCpu, Totals};
    use crate::model::time::Timestamp;

    const VITAL: ProcKey = ProcKey { pid: 7, start: 1 };

    fn waits(count: u64) -> ByCpu {
        let mut one = Waits { wait_ns: count * 10_000, ..Waits::default() };
        one.counts[4] = count;
        // Two CPUs: what is told is of both.
        vec![one, Waits::default()]
    }

    fn reading(watched: &[(ProcKey, u64)], cgroup: u64) -> Reading {
        Reading {
            at: Timestamp::ZERO,
            cgroups: vec![(12, waits(cgroup))],
            other: waits(0),
            watched: watched.iter().map(|(key, count)| (*key, waits(*count))).collect(),
            totals: Totals::default(),
        }
    }

    fn counts(ledger: &mut Ledger) -> Vec<(Waiter, u64)> {
        ledger.hand_over().into_iter().map(|(waiter, waits)| (waiter, waits.count())).collect()
    }

    #[test]
    fn what_has_grown_is_handed_over_once() {
        let mut ledger = Ledger::default();
        assert!(!ledger.is_wanted());
        ledger.restart();
        ledger.take(&reading(&[(VITAL, 5)], 50));
        ledger.take(&reading(&[(VITAL, 7)], 50));
        assert_eq!(counts(&mut ledger), [(Waiter::Process(VITAL), 7), (Waiter::Cgroup(12), 50)]);
        assert!(ledger.is_wanted());
        ledger.take(&reading(&[(VITAL, 8)], 50));
        assert_eq!(counts(&mut ledger), [(Waiter::Process(VITAL), 1), (Waiter::Cgroup(12), 0)]);
        assert_eq!(counts(&mut ledger), []);
        ledger.take(&reading(&[(VITAL, 10)], 50));
        let unheard = ledger.hand_over();
        ledger.add(unheard);
        assert_eq!(counts(&mut ledger), [(Waiter::Process(VITAL), 2), (Waiter::Cgroup(12), 0)]);
    }

    #[test]
    fn a_slot_that_is_anothers_and_programs_that_begin_anew_lose_and_double_nothing() {
        let mut ledger = Ledger::default();
        ledger.restart();
        ledger.take(&reading(&[(VITAL, 5)], 1));
        // Watched no more, then again: in a slot that begins at none.
        ledger.take(&reading(&[], 1));
        ledger.take(&reading(&[(VITAL, 2)], 1));
        ledger.restart();
        ledger.take(&reading(&[(VITAL, 1)], 3));
        assert_eq!(counts(&mut ledger), [(Waiter::Process(VITAL), 8), (Waiter::Cgroup(12), 4)]);
    }

    #[test]
    fn what_could_not_be_read_is_nobodys() {
        let mut ledger = Ledger::default();
        ledger.restart();
        ledger.take(&reading(&[(VITAL, 5)], 1));
        ledger.lose();
        ledger.take(&reading(&[(VITAL, 2)], 1));
        ledger.take(&reading(&[(VITAL, 3)], 1));
        assert_eq!(counts(&mut ledger), [(Waiter::Process(VITAL), 6), (Waiter::Cgroup(12), 1)]);
    }

    #[test]
    fn waiters_are_bounded() {
        let mut ledger = Ledger::default();
        for pid in 0..5_000 {
            ledger.restart();
            ledger.take(&reading(&[(ProcKey { pid, start: 1 }, 1)], 1));
        }
        let counts = counts(&mut ledger);
        assert_eq!(counts.len(), WAITERS_MAX);
        assert_eq!(counts.last(), Some(&(Waiter::Cgroup(12), 5_000)), "who is known goes on");
    }
}
