//! How long threads waited for a CPU, counted by length, who had it meanwhile, and how long they may wait. Plain
//! arithmetic: where the counts come from is the source's.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::id::{Name, ProcKey};
use crate::model::process::Comm;
use crate::model::signal::Hundredths;
use crate::model::time::Timestamp;
use crate::model::unit::{CpuPercent, Weight};

/// Buckets of a histogram: see [`lower_bound`].
pub const BUCKETS: usize = 28;

/// Least wait of a bucket in ns: 0, then 1024 and twice the one before. The last has no upper bound.
#[must_use]
pub const fn lower_bound(bucket: usize) -> u64 {
    if bucket == 0 { 0 } else { 1 << (9 + bucket) }
}

/// Waits for a CPU, by length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Waits {
    /// How many, by bucket.
    pub counts: [u64; BUCKETS],
    /// All of them together, ns.
    pub wait_ns: u64,
    /// The longest, ns.
    pub longest_ns: u64,
    /// Time on a CPU, ns.
    pub on_cpu_ns: u64,
}

impl Waits {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The mean in ns; `None` of none.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.wait_ns.checked_div(self.count())
    }

    /// The wait in ns that so many of a thousand do not exceed, evenly spread within its bucket; `None` of none. It is
    /// in the bucket of the exact value, so it is off by less than a factor of two.
    #[must_use]
    pub fn percentile_ns(&self, per_mille: u32) -> Option<u64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = (u128::from(total) * u128::from(per_mille.min(1_000))).div_ceil(1_000).max(1);
        let mut before = 0u128;
        for (bucket, count) in self.counts.iter().enumerate() {
            let count = u128::from(*count);
            if before + count >= rank {
                let low = lower_bound(bucket);
                let high = if bucket + 1 < BUCKETS { lower_bound(bucket + 1) - 1 } else { u64::MAX };
                // Nothing was longer than the longest, whatever the bucket would allow.
                let width = u128::from(high.min(self.longest_ns).saturating_sub(low));
                let within = width * (rank - before) / count;
                return Some(low.saturating_add(u64::try_from(within).unwrap_or(u64::MAX)));
            }
            before += count;
        }
        Some(self.longest_ns)
    }

    /// How many were longer than this, in ns, evenly spread within the bucket that it is in.
    #[must_use]
    pub fn longer_than(&self, nanos: u64) -> u64 {
        let mut longer = 0u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            let low = lower_bound(bucket);
            let high = if bucket + 1 < BUCKETS { lower_bound(bucket + 1) - 1 } else { u64::MAX };
            let high = high.min(self.longest_ns);
            let part = if low >= nanos {
                *count
            } else {
                let above = u128::from(high.saturating_sub(nanos));
                let part = (u128::from(*count) * above).checked_div(u128::from(high.saturating_sub(low)));
                u64::try_from(part.unwrap_or(0)).unwrap_or(u64::MAX)
            };
            longer = longer.saturating_add(part);
        }
        longer
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.wrapping_add(count);
        }
        self.wait_ns = self.wait_ns.wrapping_add(other.wait_ns);
        self.on_cpu_ns = self.on_cpu_ns.wrapping_add(other.on_cpu_ns);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    /// What came since an earlier reading of the same counters, which may have come round in between. The longest is
    /// only known as far as its bucket tells, unless it is the longest of all.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut grown = Self {
            counts: [0; BUCKETS],
            wait_ns: self.wait_ns.wrapping_sub(earlier.wait_ns),
            longest_ns: 0,
            on_cpu_ns: self.on_cpu_ns.wrapping_sub(earlier.on_cpu_ns),
        };
        for (at, count) in grown.counts.iter_mut().enumerate() {
            let of = |waits: &Self| waits.counts.get(at).copied().unwrap_or(0);
            *count = of(self).wrapping_sub(of(earlier));
            if *count != 0 {
                let bound = if at + 1 < BUCKETS { lower_bound(at + 1) - 1 } else { u64::MAX };
                grown.longest_ns = self.longest_ns.min(bound);
            }
        }
        grown
    }
}

/// What a slot did, CPU by CPU.
pub type ByCpu = Vec<Waits>;

/// All CPUs together.
#[must_use]
pub fn sum(cpus: &[Waits]) -> Waits {
    cpus.iter().fold(Waits::default(), |mut sum, one| {
        sum.add(one);
        sum
    })
}

/// What came since an earlier reading, CPU by CPU; all of it where there is none.
#[must_use]
pub fn since(later: &[Waits], earlier: Option<&ByCpu>) -> ByCpu {
    let before = |cpu: usize| earlier.and_then(|cpus| cpus.get(cpu)).cloned().unwrap_or_default();
    later.iter().enumerate().map(|(cpu, waits)| waits.since(&before(cpu))).collect()
}

/// Who had the CPUs that somebody waited for, in hundredths of a percent, the most first: each CPU counts by how much
/// of the waiting was for it, and is shared out by who ran there. Nothing where nobody waited.
#[must_use]
pub fn blame<K: Clone>(waiter: &[Waits], users: &[(K, ByCpu)]) -> Vec<(K, u32)> {
    let total: u128 = waiter.iter().map(|waits| u128::from(waits.wait_ns)).sum();
    if total == 0 {
        return Vec::new();
    }
    let ran = |user: &ByCpu, cpu: usize| user.get(cpu).map_or(0, |waits| u128::from(waits.on_cpu_ns));
    let mut shares = vec![0u128; users.len()];
    for (cpu, waits) in waiter.iter().enumerate() {
        let all: u128 = users.iter().map(|(_, user)| ran(user, cpu)).sum();
        if all == 0 {
            continue;
        }
        for (share, (_, user)) in shares.iter_mut().zip(users) {
            // Below 2^64 * 10^9: the share is kept in billionths until all CPUs are in.
            *share += u128::from(waits.wait_ns) * (ran(user, cpu) * 1_000_000_000 / all);
        }
    }
    let named = users.iter().zip(shares).map(|((key, _), share)| {
        (key.clone(), u32::try_from(share / total / 100_000).unwrap_or(10_000).min(10_000))
    });
    let mut named: Vec<(K, u32)> = named.filter(|(_, share)| *share > 0).collect();
    named.sort_by_key(|(_, share)| std::cmp::Reverse(*share));
    named
}

/// A thread that waited, or had the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Party {
    /// Thread id.
    pub pid: u32,
    /// Process id.
    pub tgid: u32,
    /// The thread's comm.
    pub comm: Comm,
}

/// A watched process waited long for a CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Delay {
    /// When the wait ended.
    pub at: Timestamp,
    /// How long it was, ns.
    pub wait_ns: u64,
    /// Who waited.
    pub waiter: Party,
    /// Who had the CPU longest meanwhile; nobody: it was idle.
    pub holder: Option<Party>,
    /// Id of the holder's cgroup; 0 for nobody.
    pub holder_cgroup: u64,
    /// How long the holder had it within the wait, ns.
    pub held_ns: u64,
    /// The CPU.
    pub cpu: u32,
    /// Long waits of the same process since the last report that were not reported.
    pub suppressed: u64,
}

/// What the programs on the scheduler's tracepoints have counted since they were armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When it was read.
    pub at: Timestamp,
    /// By cgroup id, ascending.
    pub cgroups: Vec<(u64, ByCpu)>,
    /// The cgroups that found no slot, together.
    pub other: ByCpu,
    /// The watched processes.
    pub watched: Vec<(ProcKey, ByCpu)>,
    /// What was counted besides.
    pub totals: Totals,
}

/// See [`Reading`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Switches from one thread to another.
    pub switches: u64,
    /// Waits left out because they ended before they began by the clocks of two CPUs.
    pub skewed: u64,
    /// Threads of cgroups that found no slot.
    pub overflows: u64,
    /// Threads that shared an entry with another, by which a wait of either was left out.
    pub collisions: u64,
    /// Reports of long waits that were held back.
    pub suppressed: u64,
    /// Reports of long waits that found no room.
    pub dropped: u64,
}

/// What the program on the tracepoint of a switch takes: some of the switches are timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Switches that were timed.
    pub timed: u64,
    /// What it took in them, ns.
    pub timed_ns: u64,
}

/// How long a critical process may wait for a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LatencySlo {
    /// Ninety-nine of a hundred waits are not longer than this, in µs: 100 µs to 10 s.
    pub run_queue_p99_us: u64,
    /// For how long they must be before that is called violated and acted on, in ms: 100 ms to 1 h.
    pub for_ms: u64,
}

impl LatencySlo {
    /// See [`Self::run_queue_p99_us`].
    #[must_use]
    pub const fn run_queue_p99(&self) -> Duration {
        Duration::from_micros(self.run_queue_p99_us)
    }

    /// See [`Self::for_ms`].
    #[must_use]
    pub const fn lasting(&self) -> Duration {
        Duration::from_millis(self.for_ms)
    }
}

/// A group that gives way to critical processes, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeldBy {
    /// The group.
    pub group: Name,
    /// Its CPU weight.
    pub cpu_weight: Weight,
    /// Its CPU quota, where the weight was not enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuPercent>,
    /// Whether it is at its floor: the lowest quota that its policy permits.
    pub at_floor: bool,
}

impl fmt::Display for HeldBy {
    /// `backups at cpu=12.5% cpu_weight=10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, cpu_weight, cpu, at_floor } = self;
        write!(f, "{group} at ")?;
        if let Some(cpu) = cpu {
            write!(f, "cpu={cpu} ")?;
        }
        write!(f, "cpu_weight={cpu_weight}{}", if *at_floor { " (its floor)" } else { "" })
    }
}

/// A cgroup that had the CPUs for which a critical process waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CpuHolder {
    /// Its id; 0 for those that cannot be told apart.
    pub cgroup: u64,
    /// Its path below the mount point; absent where it is not known, as when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The group of ours that is limited there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Its share of the time that was waited, in hundredths of a percent.
    pub share: Hundredths,
}

impl fmt::Display for CpuHolder {
    /// `group backups 72.00 %`, or its path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cgroup, path, group, share } = self;
        match (group, path) {
            (Some(group), _) => write!(f, "group {group}")?,
            (None, Some(path)) => write!(f, "{path}")?,
            (None, None) => write!(f, "cgroup {cgroup}")?,
        }
        write!(f, " {share} %")
    }
}

/// How the violation of an objective came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SloEnd {
    /// The waits are within the objective again.
    Held,
    /// They are not measured any more.
    Unmeasured,
    /// Nobody asks for it any more: no instance is left, or the profile changed.
    NotAsked,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(wait: u64) -> usize {
        (0..BUCKETS).rev().find(|bucket| lower_bound(*bucket) <= wait).unwrap()
    }

    fn of(waits: &[u64]) -> Waits {
        let mut all = Waits::default();
        for wait in waits {
            all.counts[bucket(*wait)] += 1;
            all.wait_ns += wait;
            all.longest_ns = all.longest_ns.max(*wait);
        }
        all
    }

    fn ran(nanos: &[u64]) -> ByCpu {
        nanos.iter().map(|on_cpu_ns| Waits { on_cpu_ns: *on_cpu_ns, ..Waits::default() }).collect()
    }

    #[test]
    fn of_none_nothing_is_told() {
        assert_eq!((Waits::default().percentile_ns(990), Waits::default().mean_ns()), (None, None));
        assert_eq!(blame::<u8>(&ran(&[5]), &[(1, ran(&[5]))]), []);
    }

    #[test]
    fn blame_follows_the_cpu_that_was_waited_for() {
        let waiter = [of(&[3_000_000]), of(&[1_000_000])];
        let users = [("a", ran(&[100, 0])), ("b", ran(&[100, 100])), ("idle", ran(&[0, 0]))];
        // Three quarters of the waiting was for the CPU that both had in halves.
        assert_eq!(blame(&waiter, &users), [("b", 6_250), ("a", 3_750)]);
    }

    #[test]
    fn counters_that_came_round_still_tell_the_difference() {
        let mut before = of(&[5_000]);
        before.counts[bucket(5_000)] = u64::MAX;
        before.wait_ns = u64::MAX - 10;
        let mut after = before.clone();
        after.add(&of(&[5_000, 6_000]));
        let grown = after.since(&before);
        assert_eq!((grown.count(), grown.wait_ns), (2, 11_000));
    }

    proptest! {
        #[test]
        fn a_percentile_is_in_the_bucket_of_the_exact_one(
            waits in prop::collection::vec(0u64..40_000_000_000, 1..200),
            per_mille in 0u32..=1_000,
        ) {
            let all = of(&waits);
            let mut sorted = waits;
            sorted.sort_unstable();
            let rank = (sorted.len() * per_mille as usize).div_ceil(1_000).max(1);
            let exact = sorted[rank - 1];
            let found = all.percentile_ns(per_mille).unwrap();
            prop_assert_eq!(bucket(found), bucket(exact));
            prop_assert!(found <= all.longest_ns);
            prop_assert_eq!(all.percentile_ns(1_000), Some(all.longest_ns));
        }

        #[test]
        fn what_is_longer_is_told_to_within_a_bucket(
            waits in prop::collection::vec(0u64..40_000_000_000, 1..200),
            limit in 1u64..40_000_000_000,
        ) {
            let all = of(&waits);
            let told = all.longer_than(limit);
            let beyond = |wait: &&u64| bucket(**wait) > bucket(limit);
            let near = |wait: &&u64| bucket(**wait) >= bucket(limit);
            prop_assert!(told >= waits.iter().filter(beyond).count() as u64);
            prop_assert!(told <= waits.iter().filter(near).count() as u64);
            prop_assert_eq!(all.longer_than(u64::MAX), 0);
        }

        #[test]
        fn percentiles_ascend(waits in prop::collection::vec(0u64..=u64::MAX >> 8, 1..100)) {
            let all = of(&waits);
            let found: Vec<_> = [1, 500, 900, 990, 999, 1_000].map(|at| all.percentile_ns(at)).into();
            prop_assert!(found.is_sorted());
        }

        #[test]
        fn what_was_added_since_is_what_is_told(
            before in prop::collection::vec(0u64..10_000_000_000, 0..50),
            added in prop::collection::vec(0u64..10_000_000_000, 0..50),
        ) {
            let earlier = of(&before);
            let mut later = earlier.clone();
            later.add(&of(&added));
            let grown = later.since(&earlier);
            prop_assert_eq!(grown.counts, of(&added).counts);
            prop_assert_eq!(grown.wait_ns, of(&added).wait_ns);
            prop_assert!(grown.longest_ns >= of(&added).longest_ns);
        }

        #[test]
        fn shares_make_up_no_more_than_everything(
            waiter in prop::collection::vec(0u64..1 << 40, 1..8),
            users in prop::collection::vec(prop::collection::vec(0u64..1 << 50, 1..8), 0..8),
        ) {
            let waiter: Vec<Waits> =
                waiter.iter().map(|wait| Waits { wait_ns: *wait, ..Waits::default() }).collect();
            let users: Vec<(usize, ByCpu)> =
                users.iter().enumerate().map(|(at, nanos)| (at, ran(nanos))).collect();
            let shares = blame(&waiter, &users);
            prop_assert!(shares.is_sorted_by(|a, b| a.1 >= b.1));
            prop_assert!(shares.iter().map(|(_, share)| share).sum::<u32>() <= 10_000);
        }
    }
}
