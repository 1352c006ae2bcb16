//! What the program on the scheduler's tracepoint counts and where: map values, and the arithmetic of the histograms,
//! the same on both sides.

use crate::text::CommBytes;

/// Buckets of a histogram of waits. The first holds what is below 2^[`FIRST_BITS`] ns, each next one up to twice the
/// bound of the one before, the last everything else.
pub const BUCKETS: usize = 28;
/// Waits below 2^10 ns, about a microsecond, are told apart no further.
pub const FIRST_BITS: u32 = 10;

/// The slot of all cgroups that found no slot of their own.
pub const OTHER_SLOT: u32 = 0;
/// Slots of cgroups, [`OTHER_SLOT`] included.
pub const CGROUP_SLOTS: u32 = 256;
/// Slots of watched processes, behind those of the cgroups.
pub const WATCHED_SLOTS: u32 = 64;
/// All slots.
pub const SLOTS: u32 = CGROUP_SLOTS + WATCHED_SLOTS;
/// In place of a slot while a CPU is idle.
pub const NO_SLOT: u32 = u32::MAX;

/// What one slot did on one CPU. Only that CPU writes to it, with interrupts off: plain additions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Waits by their length, see [`bucket`].
    pub waits: [u64; BUCKETS],
    /// Time waited, all waits together, ns.
    pub wait_ns: u64,
    /// The longest of them, ns.
    pub longest_ns: u64,
    /// Time on the CPU, ns; what runs now is not in it yet.
    pub on_cpu_ns: u64,
    /// Zero.
    pub reserved: u64,
}

impl Default for Cell {
    fn default() -> Self {
        Self { waits: [0; BUCKETS], wait_ns: 0, longest_ns: 0, on_cpu_ns: 0, reserved: 0 }
    }
}

/// What is remembered of one thread. Direct-mapped by `pid & mask`: valid for the thread that it names only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskWait {
    /// How long it had waited in all when it was given a CPU last, as the kernel has it, ns.
    pub waited_ns: u64,
    /// What `slots` was found for: the address of the thread's set of cgroups; 0: nothing yet.
    pub css_set: u64,
    /// And the generation of the settings.
    pub generation: u64,
    /// The thread.
    pub pid: u32,
    /// Its slots, see [`pack`].
    pub slots: u32,
}

/// What one CPU is doing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuState {
    /// Since when it runs what it runs, by the clock of its run queue; 0 before the first switch that was seen.
    pub since_ns: u64,
    /// Slot of the cgroup that it runs; [`NO_SLOT`] while it is idle.
    pub slot: u32,
    /// Slot of the watched process that it runs; 0: none.
    pub watched: u32,
    /// Switches seen.
    pub switches: u64,
    /// Waits that ended before they began by the clock of the run queue, and were left out.
    pub skewed: u64,
    /// Threads whose cgroup found no slot of its own: they are counted in [`OTHER_SLOT`].
    pub overflows: u64,
    /// Threads whose entry another thread had taken: what they had waited on other CPUs just before was left out.
    pub collisions: u64,
    /// Switches that were timed, see [`is_timed`].
    pub timed: u64,
    /// What the program on `sched_switch` took in them, ns, from one reading of the clock to another at its end.
    pub timed_ns: u64,
}

/// One in so many switches is timed, a power of two: the second reading of the clock then costs a thousandth of what it
/// tells of.
pub const TIMED_EVERY: u64 = 1024;

/// What takes longer, in ns, was interrupted: by the hypervisor, or something that cannot be masked.
pub const TIMED_MAX_NS: u64 = 1 << 16;

/// Whether the switch of this number is timed.
#[must_use]
#[inline(always)]
pub const fn is_timed(switches: u64) -> bool {
    switches & (TIMED_EVERY - 1) == 0
}

/// What the agent tells the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedSettings {
    /// Changes whenever slots are to be found anew.
    pub generation: u64,
    /// Waits of watched processes at least this long are reported, ns; `u64::MAX`: none.
    pub threshold_ns: u64,
    /// Shortest time between two reports of one slot, ns.
    pub interval_ns: u64,
    /// 1: cgroup ids are those of the v1 cpu hierarchy; 0: of the unified one.
    pub cgroup_v1: u32,
    /// Zero.
    pub reserved: u32,
}

/// A process that is watched.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Its start, in ticks of [`crate::gate::TICK_NANOS`].
    pub start_ticks: u64,
    /// Its slot, one from [`CGROUP_SLOTS`] on.
    pub slot: u32,
    /// Zero.
    pub reserved: u32,
}

/// How often a slot is reported.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportLimit {
    /// When it was last (`bpf_ktime_get_ns`).
    pub last_ns: u64,
    /// Reports held back since.
    pub suppressed: u64,
    /// Reports held back in all.
    pub suppressed_total: u64,
}

/// Stints that are remembered of each CPU, a power of two.
pub const STINTS: usize = 16;

/// The shortest stint that is remembered, where waits of `threshold_ns` are reported: as many fit into such a wait as are
/// remembered. Shorter ones, which are most, cost a comparison.
#[must_use]
#[inline(always)]
pub const fn notable_ns(threshold_ns: u64) -> u64 {
    threshold_ns / STINTS as u64
}

/// A time for which a thread had a CPU, with no break but for what is too short to be remembered itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stint {
    /// When it ended, by the clock of the run queue.
    pub end_ns: u64,
    /// How long the thread ran, ns; 0: nothing is remembered here.
    pub ran_ns: u64,
    /// Id of the thread's cgroup.
    pub cgroup: u64,
    /// The thread.
    pub party: Party,
}

impl Stint {
    /// How much of it was after `since_ns`, ns; short breaks within it may count as well.
    #[must_use]
    #[inline(always)]
    pub const fn since(&self, since_ns: u64) -> u64 {
        let after = self.end_ns.saturating_sub(since_ns);
        if after < self.ran_ns { after } else { self.ran_ns }
    }
}

/// The last long stints of one CPU. Only that CPU accesses them, with interrupts off.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stints {
    /// How many there were; the next one goes to this number modulo [`STINTS`].
    pub seen: u64,
    /// In a ring.
    pub last: [Stint; STINTS],
}

impl Stints {
    /// Takes in what a thread ran until `stint.end_ns`: as the rest of the last stint, if it is the same thread's and the
    /// break between them is shorter than `notable_ns`, or else in place of the one that is longest ago.
    #[inline(always)]
    pub fn remember(&mut self, stint: Stint, notable_ns: u64) {
        let seen = self.seen as usize;
        if let Some(last) = self.last.get_mut(seen.wrapping_sub(1) & (STINTS - 1)) {
            let paused = stint.end_ns.wrapping_sub(stint.ran_ns).wrapping_sub(last.end_ns);
            if last.party.pid == stint.party.pid && paused < notable_ns {
                last.end_ns = stint.end_ns;
                last.ran_ns += stint.ran_ns;
                return;
            }
        }
        if let Some(place) = self.last.get_mut(seen & (STINTS - 1)) {
            *place = stint;
        }
        self.seen += 1;
    }

    /// The stint that was longest since `since_ns`: its place, and how much of it was after that, ns; 0 when all were
    /// before. One number is compared, with the place in its low bits: the verifier follows every branch.
    #[must_use]
    #[inline(always)]
    pub fn longest(&self, since_ns: u64) -> (usize, u64) {
        let mut longest = 0;
        for (at, stint) in self.last.iter().enumerate() {
            let ran = stint.since(since_ns) * STINTS as u64 + at as u64;
            if ran > longest {
                longest = ran;
            }
        }
        (longest as usize & (STINTS - 1), longest / STINTS as u64)
    }
}

/// A thread in a [`crate::event::delay::DelayRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// Thread id in the initial namespace; 0: nobody, the CPU was idle.
    pub pid: u32,
    /// Process id.
    pub tgid: u32,
    /// The thread's comm.
    pub comm: CommBytes,
}

/// The bucket of a wait. Five comparisons: the instruction set has no count of leading zeros.
#[must_use]
#[inline(always)]
pub const fn bucket(wait_ns: u64) -> u32 {
    let mut rest = wait_ns >> FIRST_BITS;
    if rest > u32::MAX as u64 {
        return BUCKETS as u32 - 1;
    }
    let mut bits = 0;
    if rest >= 1 << 16 {
        rest >>= 16;
        bits += 16;
    }
    if rest >= 1 << 8 {
        rest >>= 8;
        bits += 8;
    }
    if rest >= 1 << 4 {
        rest >>= 4;
        bits += 4;
    }
    if rest >= 1 << 2 {
        rest >>= 2;
        bits += 2;
    }
    if rest >= 1 << 1 {
        rest >>= 1;
        bits += 1;
    }
    // What is left is 1, or 0 below the first bound.
    let bucket = bits + rest as u32;
    if bucket >= BUCKETS as u32 { BUCKETS as u32 - 1 } else { bucket }
}

/// Least wait of a bucket in ns.
#[must_use]
pub const fn lower_bound(bucket: u32) -> u64 {
    if bucket == 0 { 0 } else { 1 << (FIRST_BITS + bucket - 1) }
}

/// Two slots in one word: of the cgroup, and of the watched process (0: not watched).
#[must_use]
#[inline(always)]
pub const fn pack(cgroup: u32, watched: u32) -> u32 {
    (cgroup & 0xffff) | (watched << 16)
}

/// The slots out of [`pack`].
#[must_use]
#[inline(always)]
pub const fn unpack(slots: u32) -> (u32, u32) {
    (slots & 0xffff, slots >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_is_in_the_bucket_of_its_bounds() {
        for shift in 0..64 {
            let power = 1u64 << shift;
            for wait in [power - 1, power, power + 1, power | (power >> 1)] {
                let bucket = bucket(wait);
                assert!(lower_bound(bucket) <= wait, "{wait} in {bucket}");
                if (bucket as usize) < BUCKETS - 1 {
                    assert!(wait < lower_bound(bucket + 1), "{wait} in {bucket}");
                }
            }
        }
        assert_eq!((bucket(0), bucket(1023), bucket(1024), bucket(u64::MAX)), (0, 0, 1, 27));
    }

    #[test]
    fn slots_survive_packing() {
        for cgroup in 0..CGROUP_SLOTS {
            for watched in [0, CGROUP_SLOTS, SLOTS - 1] {
                assert_eq!(unpack(pack(cgroup, watched)), (cgroup, watched));
            }
        }
    }

    #[test]
    fn who_had_a_cpu_longest_is_found_by_what_was_within_the_wait() {
        let stint = |pid, end_ns, ran_ns| Stint {
            end_ns,
            ran_ns,
            cgroup: u64::from(pid),
            party: Party { pid, tgid: pid, comm: CommBytes::default() },
        };
        let mut stints = Stints::default();
        assert_eq!(stints.longest(0).1, 0);
        for one in [stint(1, 100, 90), stint(2, 160, 50), stint(3, 200, 40), stint(2, 230, 30)] {
            stints.remember(one, 10);
        }
        let longest = |stints: &Stints, since| {
            let (place, ran_ns) = stints.longest(since);
            (stints.last[place].party.pid, ran_ns)
        };
        assert_eq!(longest(&stints, 0), (1, 90));
        assert_eq!(longest(&stints, 80), (2, 50), "what was before the wait does not count");
        assert_eq!(longest(&stints, 150), (3, 40));
        assert_eq!(stints.longest(230).1, 0, "all were before it");
        stints.remember(stint(2, 265, 30), 10);
        assert_eq!((longest(&stints, 0), stints.seen), ((1, 90), 4), "a short break is none");
        assert_eq!(longest(&stints, 200), (2, 60), "and what was run before it counts");
        stints.remember(stint(2, 305, 30), 10);
        assert_eq!(stints.seen, 5, "a long break is one");
        for _ in 0..STINTS {
            stints.remember(stint(4, 400, 5), 1);
            stints.remember(stint(5, 400, 6), 1);
        }
        assert_eq!(longest(&stints, 0), (5, 6), "the ring came round");
    }
}
