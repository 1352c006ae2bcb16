//! What the programs on the scheduler's tracepoints count and where: map values, and the arithmetic of the histograms,
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
    /// Since when it is runnable without a CPU (`bpf_ktime_get_ns`); 0: it is not.
    pub queued_ns: u64,
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
    /// Since when it runs what it runs; 0 before the first switch that was seen.
    pub since_ns: u64,
    /// Slot of the cgroup that it runs; [`NO_SLOT`] while it is idle.
    pub slot: u32,
    /// Slot of the watched process that it runs; 0: none.
    pub watched: u32,
    /// Switches seen.
    pub switches: u64,
    /// Waits that ended before they began by the clocks of two CPUs, and were left out.
    pub skewed: u64,
    /// Threads whose cgroup found no slot of its own: they are counted in [`OTHER_SLOT`].
    pub overflows: u64,
    /// Threads whose entry another thread had taken: a wait of either was left out.
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
}
