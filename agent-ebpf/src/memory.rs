//! Reads of memory cgroups: which one is at its limit. All by helper calls, because a controller's state is
//! behind a pointer to what all controllers have, where the verifier permits no more than that; this runs once
//! per victim of the OOM killer, not per event. Nothing here decides anything but by `gate`.

use agent_common::gate;
use aya_ebpf::helpers::bpf_probe_read_kernel;

use crate::maps::{CAUSE_OFFSETS, resolved};
use crate::task::{Task, kernfs_of_css};

/// Levels of cgroups that are looked at from a process upwards; deeper ones are rare.
const LEVELS: u32 = 16;

/// The value of one offset that tells of memory cgroups.
macro_rules! at {
    ($field:ident) => {
        resolved!(CAUSE_OFFSETS.$field)
    };
}

/// Reads at an address of the kernel; zero where there is nothing to read.
#[inline(always)]
pub fn read_at(address: usize) -> u64 {
    // SAFETY: the helper handles faults.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.unwrap_or(0)
}

/// A memory cgroup, by the address of its state; 0 where there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Memcg(usize);

impl Memcg {
    /// The one that a process is in.
    #[inline(always)]
    pub fn of(task: Task) -> Self {
        Self(task.css(at!(memory_subsys)))
    }

    /// The next one from here upwards that is at its limit.
    #[inline(always)]
    pub fn full(self) -> Option<Self> {
        let mut memcg = self;
        let mut level = 0;
        while level < LEVELS && memcg.0 != 0 {
            if gate::at_limit(memcg.usage_pages(), memcg.limit_pages()) {
                return Some(memcg);
            }
            memcg = memcg.parent();
            level += 1;
        }
        None
    }

    /// Whether this is `other` or below it.
    #[inline(always)]
    pub fn is_in(self, other: Self) -> bool {
        let mut memcg = self;
        let mut level = 0;
        while level < LEVELS && memcg.0 != 0 {
            if memcg.0 == other.0 {
                return true;
            }
            memcg = memcg.parent();
            level += 1;
        }
        false
    }

    /// Whether the process is in any.
    #[inline(always)]
    pub fn is_some(self) -> bool {
        self.0 != 0
    }

    /// The limit in pages.
    #[inline(always)]
    pub fn limit_pages(self) -> u64 {
        read_at(self.counter() + at!(counter_max))
    }

    /// Id of the cgroup's directory.
    #[inline(always)]
    pub fn cgroup_id(self) -> u64 {
        kernfs_of_css(self.0, read_at)
    }

    #[inline(always)]
    fn usage_pages(self) -> u64 {
        read_at(self.counter() + at!(counter_usage))
    }

    /// The state of every controller is the first member of its own (checked by the loader).
    #[inline(always)]
    fn counter(self) -> usize {
        self.0 + at!(memcg_memory)
    }

    #[inline(always)]
    fn parent(self) -> Self {
        Self(read_at(self.0 + at!(css_parent)) as usize)
    }
}
