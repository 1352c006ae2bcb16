//! Listening to critical processes that have an objective: ten times a second how long they waited and, while that is
//! too long, who had the CPUs. It must not judge more than whether it is worth looking at the latter, which
//! takes a system call per cgroup and CPU.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::action::Listener;
use crate::engine::input::{Holder, Waited, WaitedOf};
use crate::model::id::ProcKey;
use crate::model::latency::{ByCpu, Reading, Waits, blame, since, sum};
use crate::model::time::{Timestamp, millis};
use crate::source::SourceError;

/// Between two measurements.
const INTERVAL: Duration = Duration::from_millis(100);
/// For how long after waits that were too long the CPUs are looked at: whoever is asked to give way goes on to be.
const AFTER: Duration = Duration::from_secs(2);
/// Most cgroups that are told, those with the largest shares.
const HOLDERS_MAX: usize = 32;

/// What is read, as the probes have it.
pub(super) trait Counters {
    /// The waits of the watched processes.
    fn watched(&self) -> Result<Vec<(ProcKey, ByCpu)>, SourceError>;
    /// All that is counted.
    fn all(&self) -> Result<Reading, SourceError>;
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listening {
    to: Vec<Listener>,
    /// What had been counted when it was told last.
    told: BTreeMap<ProcKey, ByCpu>,
    at: Option<Timestamp>,
    /// What had been counted of all when they were looked at last.
    full: Option<Reading>,
    /// When waits were too long last.
    long: Option<Timestamp>,
}

impl Listening {
    /// Listens to these from now on.
    pub(super) fn to(&mut self, to: Vec<Listener>) {
        self.to = to;
    }

    /// Whether it listens to anybody.
    pub(super) fn is_on(&self) -> bool {
        !self.to.is_empty()
    }

    /// Who is to be watched.
    pub(super) fn processes(&self) -> impl Iterator<Item = ProcKey> {
        self.to.iter().flat_map(|one| one.instances.iter().copied())
    }

    /// Counting begins anew.
    pub(super) fn restart(&mut self) {
        *self = Self { to: std::mem::take(&mut self.to), ..Self::default() };
    }

    /// When to measure next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.is_on().then(|| self.at.map_or(Timestamp::ZERO, |at| at.after(INTERVAL)))
    }

    /// Measures, when it is due; what `tell` has no room for is told with the next.
    pub(super) fn hear(
        &mut self,
        counters: &impl Counters,
        now: Timestamp,
        tell: impl FnOnce(Waited) -> bool,
    ) -> Result<(), SourceError> {
        if self.due().is_none_or(|due| due > now) {
            return Ok(());
        }
        let watched: BTreeMap<ProcKey, ByCpu> = counters.watched()?.into_iter().collect();
        let Some(before) = self.at else {
            (self.at, self.told) = (Some(now), watched);
            return Ok(());
        };
        let grown: Vec<ByCpu> = self.to.iter().map(|one| self.grown(one, &watched)).collect();
        let too_long = self.to.iter().zip(&grown).any(|(one, waits)| {
            sum(waits).percentile_ns(990).is_some_and(|nanos| nanos / 1_000 > one.objective_us)
        });
        if too_long {
            self.long = Some(now);
        }
        let looks = self.long.is_some_and(|long| now.since(long) <= AFTER);
        let full = if looks { Some(counters.all()?) } else { None };
        let users = full.as_ref().zip(self.full.as_ref()).map(|(now, before)| users(now, before));
        let of = self.to.iter().zip(grown).map(|(one, waits)| WaitedOf {
            critical: one.critical.clone(),
            holders: users.as_ref().map(|users| holders(&waits, users)).unwrap_or_default(),
            waits: sum(&waits),
        });
        let interval_ms = millis(now.since(before));
        let waited = Waited { interval_ms, of: of.collect() };
        self.full = full;
        if tell(waited) {
            (self.at, self.told) = (Some(now), watched);
        }
        Ok(())
    }

    /// What came of the instances of one since the last time; of a new one nothing that was before.
    fn grown(&self, one: &Listener, watched: &BTreeMap<ProcKey, ByCpu>) -> ByCpu {
        let mut all = ByCpu::new();
        for key in &one.instances {
            let (Some(now), Some(before)) = (watched.get(key), self.told.get(key)) else { continue };
            let grown = since(now, Some(before));
            all.resize(all.len().max(grown.len()), Waits::default());
            for (sum, waits) in all.iter_mut().zip(&grown) {
                sum.add(waits);
            }
        }
        all
    }
}

/// Who ran on which CPU for how long since an earlier reading, and how long that is.
struct Users {
    by_cpu: Vec<(u64, ByCpu)>,
    time: Duration,
}

fn users(now: &Reading, before: &Reading) -> Users {
    let earlier: BTreeMap<u64, &ByCpu> = before.cgroups.iter().map(|(id, waits)| (*id, waits)).collect();
    let mut by_cpu: Vec<(u64, ByCpu)> =
        now.cgroups.iter().map(|(id, waits)| (*id, since(waits, earlier.get(id).copied()))).collect();
    by_cpu.push((0, since(&now.other, Some(&before.other))));
    Users { by_cpu, time: now.at.since(before.at) }
}

fn holders(waiter: &[Waits], users: &Users) -> Vec<Holder> {
    let mut shares = blame(waiter, &users.by_cpu);
    shares.truncate(HOLDERS_MAX);
    let used = |cgroup: u64| {
        let waits = users.by_cpu.iter().find(|(id, _)| *id == cgroup).map(|(_, waits)| sum(waits));
        let nanos = u128::from(waits.map_or(0, |waits| waits.on_cpu_ns));
        let millis = (nanos * 100_000).checked_div(users.time.as_nanos()).unwrap_or(0);
        u64::try_from(millis).unwrap_or(u64::MAX)
    };
    let holder = |(cgroup, share)| Holder { cgroup, group: None, share, used_millis: used(cgroup) };
    shares.into_iter().map(holder).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::model::latency::Totals;

    const VITAL: ProcKey = ProcKey { pid: 7, start: 1 };

    /// What has been counted so far, of one CPU.
    struct Counted {
        watched: Waits,
        hog_ns: u64,
        at: u64,
        looks: RefCell<u32>,
    }

    impl Counters for Counted {
        fn watched(&self) -> Result<Vec<(ProcKey, ByCpu)>, SourceError> {
            Ok(vec![(VITAL, vec![self.watched.clone()])])
        }

        fn all(&self) -> Result<Reading, SourceError> {
            *self.looks.borrow_mut() += 1;
            let hog = Waits { on_cpu_ns: self.hog_ns, ..Waits::default() };
            Ok(Reading {
                at: ms(self.at),
                cgroups: vec![(42, vec![hog])],
                other: vec![Waits::default()],
                watched: self.watched()?,
                totals: Totals::default(),
            })
        }
    }

    impl Counted {
        fn new() -> Self {
            Self { watched: Waits::default(), hog_ns: 0, at: 0, looks: RefCell::new(0) }
        }

        /// A tenth of a second goes by, in which the process waited so many times for so long.
        fn pass(&mut self, count: u64, bucket: usize) {
            self.at += 100;
            self.hog_ns += 50_000_000;
            self.watched.counts[bucket] += count;
            self.watched.wait_ns += count << (9 + bucket);
            self.watched.longest_ns = self.watched.longest_ns.max(1 << (9 + bucket));
        }
    }

    fn ms(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn listening() -> Listening {
        let mut listening = Listening::default();
        let critical = "web".parse().unwrap();
        listening.to(vec![Listener { critical, objective_us: 5_000, instances: vec![VITAL] }]);
        listening
    }

    fn hear(listening: &mut Listening, counted: &Counted) -> Option<Waited> {
        let mut heard = None;
        let tell = |waited| {
            heard = Some(waited);
            true
        };
        listening.hear(counted, ms(counted.at), tell).unwrap();
        heard
    }

    #[test]
    fn nobody_is_listened_to_without_being_asked_for() {
        let mut listening = Listening::default();
        assert_eq!((listening.due(), listening.is_on()), (None, false));
        assert_eq!(hear(&mut listening, &Counted::new()), None);
    }

    #[test]
    fn the_cpus_are_looked_at_only_while_waits_are_too_long() {
        let (mut listening, mut counted) = (listening(), Counted::new());
        counted.pass(5, 14);
        assert_eq!(hear(&mut listening, &counted), None, "what was before is nobody's");
        assert_eq!(listening.due(), Some(ms(200)));
        counted.pass(3, 3);
        let waited = hear(&mut listening, &counted).unwrap();
        assert_eq!((waited.interval_ms, waited.of[0].waits.count()), (100, 3));
        assert_eq!((waited.of[0].holders.len(), *counted.looks.borrow()), (0, 0));
        // The first look is what the second is compared with.
        counted.pass(2, 14);
        assert_eq!(hear(&mut listening, &counted).unwrap().of[0].holders, []);
        counted.pass(2, 14);
        let waited = hear(&mut listening, &counted).unwrap();
        let hog = Holder { cgroup: 42, group: None, share: 10_000, used_millis: 50_000 };
        assert_eq!(waited.of[0].holders, [hog]);
        let looks = *counted.looks.borrow();
        for _ in 0..40 {
            counted.pass(2, 3);
            hear(&mut listening, &counted);
        }
        assert_eq!(*counted.looks.borrow(), looks + 20);
    }

    #[test]
    fn what_found_no_room_is_told_with_the_next() {
        let (mut listening, mut counted) = (listening(), Counted::new());
        hear(&mut listening, &counted);
        counted.pass(1, 3);
        listening.hear(&counted, ms(counted.at), |_| false).unwrap();
        counted.pass(2, 3);
        let waited = hear(&mut listening, &counted).unwrap();
        assert_eq!((waited.interval_ms, waited.of[0].waits.count()), (200, 3));
        listening.restart();
        assert_eq!(hear(&mut listening, &counted), None);
    }
}
