//! Whether a critical process waits longer for a CPU than its objective says: since when, how long, and when that is
//! over. It must not decide what follows from it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::id::Name;
use crate::model::latency::{CpuHolder, LatencySlo, Waits};
use crate::model::time::Timestamp;

/// What is judged is at most this many measurements together: a second.
const WINDOW_MAX: usize = 10;
/// So many measurements in a row without a long wait tell that what was before is over.
const CLEAN: u32 = 2;
/// Fewer long waits than this are chance, whatever their share.
const LONG_MIN: u64 = 2;
/// So many measurements, or waits, are enough for another step.
const SURE_MEASUREMENTS: usize = 3;
const SURE_WAITS: u64 = 100;
/// Whoever has not waited for so long does not have to: shorter than that, it may be that it still waits.
const SILENCE: Duration = Duration::from_secs(1);
/// How long waits are within the objective before that is told.
const RECOVERS_AFTER: Duration = Duration::from_secs(1);

/// What a group has to do with the waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blame {
    /// Its share of the time that others had on the CPUs which were waited for, in hundredths of a percent.
    pub(crate) share: u32,
    /// CPU time that it used, in thousandths of a percent of a CPU.
    pub(crate) used: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Objective {
    pub(crate) slo: LatencySlo,
    /// The last measurements, oldest first.
    window: VecDeque<Waits>,
    /// Measurements in a row without a long wait.
    clean: u32,
    /// When it was measured last.
    heard: Option<Timestamp>,
    /// When it waited last.
    waited: Option<Timestamp>,
    /// Since when the waits have been too long, without a break.
    bad: Option<Timestamp>,
    /// Since when they have been within the objective.
    good: Option<Timestamp>,
    /// Since when they have been well within it.
    calm: Option<Timestamp>,
    p99_us: Option<u64>,
    violation: Option<Violation>,
    /// What groups that can give way have to do with it; absent until that was measured.
    pub(crate) blame: Option<BTreeMap<Name, Blame>>,
    /// Who had the CPUs when that was measured last, the most first.
    pub(crate) holders: Vec<CpuHolder>,
}

/// A violation that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Violation {
    since: Timestamp,
    /// Whether it was told that nobody can give way any further.
    at_floor: bool,
}

/// What is to be told of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The waits, in µs; absent where there were none.
    pub(crate) p99_us: Option<u64>,
    /// For how long they were too long.
    pub(crate) lasted: Duration,
}

impl Objective {
    pub(crate) const fn new(slo: LatencySlo) -> Self {
        Self {
            slo,
            window: VecDeque::new(),
            clean: 0,
            heard: None,
            waited: None,
            bad: None,
            good: None,
            calm: None,
            p99_us: None,
            violation: None,
            blame: None,
            holders: Vec::new(),
        }
    }

    /// Takes in the waits of so many milliseconds.
    pub(crate) fn hear(&mut self, waits: Waits, interval_ms: u64, now: Timestamp) {
        let began =
            Timestamp::from_nanos(now.as_nanos().saturating_sub(interval_ms.saturating_mul(1_000_000)));
        self.heard = Some(now);
        let objective_ns = self.slo.run_queue_p99_us.saturating_mul(1_000);
        if waits.count() > 0 {
            self.waited = Some(now);
            self.clean = if waits.longer_than(objective_ns) == 0 { self.clean.saturating_add(1) } else { 0 };
        }
        while self.window.len() >= WINDOW_MAX {
            self.window.pop_front();
        }
        self.window.push_back(waits);
        if self.clean == CLEAN {
            self.window.drain(..self.window.len().saturating_sub(CLEAN as usize));
        }
        let all = self.all();
        let total = all.count();
        let waited = *self.waited.get_or_insert(now);
        if total == 0 && now.since(waited) < SILENCE {
            return;
        }
        let too_many = |nanos: u64| {
            let longer = all.longer_than(nanos);
            longer >= LONG_MIN && longer.saturating_mul(100) > total
        };
        if too_many(objective_ns) {
            self.bad.get_or_insert(began);
            (self.good, self.calm) = (None, None);
        } else {
            self.bad = None;
            self.good.get_or_insert(now);
            // Three quarters: what is on the edge already is not loosened.
            if too_many(objective_ns / 4 * 3) {
                self.calm = None;
            } else {
                self.calm.get_or_insert(now);
            }
        }
        self.p99_us = all.percentile_ns(990).map(|nanos| nanos / 1_000);
    }

    fn all(&self) -> Waits {
        self.window.iter().fold(Waits::default(), |mut all, one| {
            all.add(one);
            all
        })
    }

    /// It was measured, at a moment that tells nothing.
    pub(crate) const fn hear_nothing(&mut self, now: Timestamp) {
        self.heard = Some(now);
    }

    /// Drops what was measured: it tells of how things were before the last step.
    pub(crate) fn forget(&mut self) {
        self.window.clear();
        self.calm = None;
    }

    /// The waits were too long because of a try that is taken back: that is no violation.
    pub(crate) fn excuse(&mut self) {
        self.bad = None;
        self.forget();
    }

    /// Whether the waits are too long.
    pub(crate) const fn is_bad(&self) -> bool {
        self.bad.is_some()
    }

    /// Whether enough was measured since the last step to take another.
    pub(crate) fn is_sure(&self) -> bool {
        self.window.len() >= SURE_MEASUREMENTS || self.all().count() >= SURE_WAITS
    }

    /// Whether they have been for as long as the objective permits.
    pub(crate) fn is_violated(&self, now: Timestamp) -> bool {
        self.violation.is_some() || self.bad.is_some_and(|bad| now.since(bad) >= self.slo.lasting())
    }

    /// Whether a violation was told that is not over.
    pub(crate) const fn is_told(&self) -> bool {
        self.violation.is_some()
    }

    /// Since when they are well within the objective.
    pub(crate) const fn calm_since(&self) -> Option<Timestamp> {
        self.calm
    }

    /// Ninety-nine of a hundred waits were not longer, in µs.
    pub(crate) const fn p99_us(&self) -> Option<u64> {
        self.p99_us
    }

    /// The violation, if it is to be told now: when it begins, and once when nobody can give way any further.
    pub(crate) fn begins(&mut self, at_floor: bool, now: Timestamp) -> Option<Told> {
        let bad = self.bad.filter(|bad| now.since(*bad) >= self.slo.lasting())?;
        let since = match &mut self.violation {
            None => {
                self.violation = Some(Violation { since: bad, at_floor });
                bad
            }
            Some(violation) if at_floor && !violation.at_floor => {
                violation.at_floor = true;
                violation.since
            }
            Some(_) => return None,
        };
        Some(Told { p99_us: self.p99_us, lasted: now.since(since) })
    }

    /// The violation, if its end is to be told now.
    pub(crate) fn ends(&mut self, now: Timestamp) -> Option<Told> {
        let good = self.good.filter(|good| now.since(*good) >= RECOVERS_AFTER)?;
        let Violation { since, .. } = self.violation.take()?;
        Some(Told { p99_us: self.p99_us, lasted: good.since(since) })
    }

    /// Begins anew, because it is measured no more; the violation, if one was told.
    pub(crate) fn drop_it(&mut self, now: Timestamp) -> Option<Told> {
        let violation = std::mem::replace(self, Self::new(self.slo)).violation?;
        Some(Told { p99_us: None, lasted: now.since(violation.since) })
    }

    /// When it was measured last.
    pub(crate) const fn heard(&self) -> Option<Timestamp> {
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::at;

    fn objective(for_ms: u64) -> Objective {
        Objective::new(LatencySlo { run_queue_p99_us: 5_000, for_ms })
    }

    const NEVER: [u64; 0] = [];

    /// So many waits of 10 ms among a hundred.
    fn waits(long: u64) -> Waits {
        let mut waits = Waits::default();
        waits.counts[14] = long;
        waits.counts[3] = 100 - long;
        waits.longest_ns = if long > 0 { 10_000_000 } else { 5_000 };
        waits
    }

    /// Hears the same every 100 ms from `from` on, and tells when a violation begins.
    fn hear(one: &mut Objective, from: u64, until: u64, waits: &Waits) -> Vec<u64> {
        let mut began = Vec::new();
        for now in (from..until).step_by(100) {
            one.hear(waits.clone(), 100, at(now));
            began.extend(one.begins(false, at(now)).map(|_| now));
        }
        began
    }

    #[test]
    fn violated_is_what_lasts_and_it_is_told_once() {
        let mut one = objective(1_000);
        assert_eq!(hear(&mut one, 1_000, 2_000, &waits(1)), NEVER, "one of a hundred is what p99 permits");
        assert_eq!(hear(&mut one, 2_000, 2_500, &waits(5)), NEVER);
        assert_eq!(hear(&mut one, 2_500, 3_000, &waits(0)), NEVER, "it has not lasted");
        assert!(!one.is_bad());
        let began = hear(&mut one, 5_000, 9_000, &waits(50));
        assert_eq!(began, [5_900], "counted from the beginning of the first measurement");
        assert!(one.begins(true, at(9_000)).is_some(), "that it cannot be met is told as well");
        assert_eq!((one.begins(true, at(9_100)), one.begins(false, at(9_100))), (None, None));
    }

    #[test]
    fn it_is_over_when_that_has_lasted_too() {
        let mut one = objective(200);
        assert_eq!(hear(&mut one, 1_000, 2_000, &waits(50)), [1_100]);
        assert_eq!(hear(&mut one, 2_000, 2_900, &waits(0)), NEVER);
        assert_eq!(one.ends(at(2_900)), None);
        assert_eq!(hear(&mut one, 2_900, 3_100, &waits(0)), NEVER);
        assert_eq!(one.ends(at(3_000)), None);
        let told = one.ends(at(3_100)).unwrap();
        assert_eq!(told.lasted, Duration::from_millis(1_200));
        assert_eq!(one.ends(at(9_000)), None);
    }

    #[test]
    fn silence_is_good_only_when_it_lasts() {
        let mut one = objective(500);
        assert_eq!(hear(&mut one, 1_000, 1_300, &waits(50)), NEVER);
        // It may wait still.
        assert_eq!(hear(&mut one, 1_300, 2_000, &Waits::default()), [1_400]);
        assert!(one.is_bad());
        hear(&mut one, 2_000, 2_600, &Waits::default());
        assert!(!one.is_bad() && one.calm_since().is_some());
    }

    #[test]
    fn a_single_long_wait_is_no_violation() {
        let mut single = Waits { longest_ns: 50_000_000, ..Waits::default() };
        single.counts[16] = 1;
        let mut few = Waits { longest_ns: 5_000, ..Waits::default() };
        few.counts[3] = 1;
        for for_ms in [400, 1_000, 10_000] {
            let mut one = objective(for_ms);
            hear(&mut one, 1_000, 2_000, &few);
            one.hear(single.clone(), 100, at(2_000));
            assert_eq!(hear(&mut one, 2_100, 20_000, &few), NEVER, "{for_ms}");
        }
    }
}
