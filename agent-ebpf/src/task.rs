//! Reads of kernel structures: all of them, at the offsets that the loader resolved.
//!
//! The pointers are BTF pointers to the verifier and the offsets constants of a frozen map, so a read is one
//! load instruction that the kernel guards against faults (a bad address reads as zero), not a helper call.
//! Nothing here decides anything.

use agent_common::event::{TaskFacts, flag};
use agent_common::text::{CommBytes, clear_after_nul};
use aya_ebpf::helpers::bpf_probe_read_kernel_buf;

use crate::maps::{OFFSETS, WAIT_OFFSETS, resolved};

/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;

/// The value of one offset that every program may use.
macro_rules! at {
    ($field:ident) => {
        resolved!(OFFSETS.$field)
    };
}

/// The same of those that only the program on `sched_switch` uses.
macro_rules! wait_at {
    ($field:ident) => {
        resolved!(WAIT_OFFSETS.$field)
    };
}

/// A pointer to a kernel structure.
#[derive(Clone, Copy)]
struct Object(*const u8);

impl Object {
    /// Reads a member; zero where there is no object.
    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: usize) -> T {
        if self.0.is_null() {
            return T::default();
        }
        // SAFETY: the verifier has proven the pointer to be one to a structure with a member of this size at
        // this offset, and the kernel handles a fault of the load.
        unsafe { self.0.add(offset).cast::<T>().read_volatile() }
    }

    /// Follows a pointer member.
    #[inline(always)]
    fn follow(self, offset: usize) -> Self {
        if self.0.is_null() {
            return self;
        }
        // SAFETY: as in `read`.
        Self(unsafe { self.0.add(offset).cast::<*const u8>().read_volatile() })
    }
}

/// A `task_struct`: one thread.
#[derive(Clone, Copy)]
pub struct Task(Object);

impl Task {
    /// # Safety
    /// `pointer` must be null or a `task_struct` pointer that came from the program's context.
    #[inline(always)]
    pub unsafe fn new(pointer: *const u8) -> Self {
        Self(Object(pointer))
    }

    /// Thread id in the initial namespace.
    #[inline(always)]
    pub fn pid(self) -> u32 {
        self.0.read(at!(task_pid))
    }

    /// Process id in the initial namespace.
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        self.0.read(at!(task_tgid))
    }

    /// Whether it is the first thread of its process.
    #[inline(always)]
    pub fn is_leader(self) -> bool {
        self.pid() == self.tgid()
    }

    /// The first thread of its process.
    #[inline(always)]
    pub fn leader(self) -> Self {
        Self(self.0.follow(at!(task_group_leader)))
    }

    /// Start in ns since boot.
    #[inline(always)]
    pub fn start_ns(self) -> u64 {
        self.0.read(at!(task_start_boottime))
    }

    /// Wait status of this thread.
    #[inline(always)]
    pub fn exit_code(self) -> i32 {
        self.0.read(at!(task_exit_code))
    }

    /// CPU time of this thread in ns, as of the scheduler's last update.
    #[inline(always)]
    pub fn cpu_ns(self) -> u64 {
        self.0.read(at!(task_se) + at!(se_sum_exec_runtime))
    }

    /// Address of its state under a controller; 0 where there is none.
    #[inline(always)]
    pub fn css(self, subsys: usize) -> usize {
        let states = at!(css_set_subsys) + subsys * size_of::<*const u8>();
        self.0.follow(at!(task_cgroups)).follow(states).0 as usize
    }

    /// Where its set of cgroups lies: another one after every move.
    #[inline(always)]
    pub fn css_set(self) -> u64 {
        self.0.read(at!(task_cgroups))
    }

    /// The time by the run queue that it is on, ns. In `sched_switch` that is the CPU's own, and the time is that of the
    /// switch (`__schedule` in kernel/sched/core.c updates it first).
    #[inline(always)]
    pub fn queue_ns(self) -> u64 {
        let group = self.0.follow(at!(task_se) + wait_at!(se_cfs_rq));
        group.follow(wait_at!(cfs_rq_rq)).read(wait_at!(rq_clock))
    }

    /// How often it was given a CPU before.
    #[inline(always)]
    pub fn times_run(self) -> u64 {
        self.0.read(wait_at!(task_sched_info) + wait_at!(info_pcount))
    }

    /// How long it has waited in all, ns, less what it has waited since [`Self::queued_ns`].
    #[inline(always)]
    pub fn waited_ns(self) -> u64 {
        self.0.read(wait_at!(task_sched_info) + wait_at!(info_run_delay))
    }

    /// Since when it waits on the run queue that it is on, by that one's time; 0: it does not.
    #[inline(always)]
    pub fn queued_ns(self) -> u64 {
        self.0.read(wait_at!(task_sched_info) + wait_at!(info_last_queued))
    }

    /// What the threads of its process share.
    #[inline(always)]
    pub fn signal(self) -> Signal {
        Signal(self.0.follow(at!(task_signal)))
    }

    /// What a record tells of the process whose leader this is; no time of exec, no matches.
    #[inline(always)]
    pub fn facts(self, cgroup_v1: bool) -> TaskFacts {
        let cred = self.0.follow(at!(task_cred));
        let kthread = self.0.read::<u32>(at!(task_flags)) & PF_KTHREAD != 0;
        TaskFacts {
            start_ns: self.start_ns(),
            exec_ns: 0,
            cgroup_id: self.cgroup_id(cgroup_v1),
            tgid: self.tgid(),
            ppid: Self(self.0.follow(at!(task_real_parent))).tgid(),
            uid: cred.read(at!(cred_uid)),
            gid: cred.read(at!(cred_gid)),
            flags: if kthread { flag::KTHREAD } else { 0 },
            reserved: 0,
            comm: self.comm(),
        }
    }

    /// Id of its cgroup.
    #[inline(always)]
    pub fn cgroup_id(self, v1: bool) -> u64 {
        let set = self.0.follow(at!(task_cgroups));
        let cgroup = if v1 {
            let states = at!(css_set_subsys) + at!(cpu_subsys) * size_of::<*const u8>();
            set.follow(states).follow(at!(css_cgroup))
        } else {
            set.follow(at!(css_set_dfl_cgrp))
        };
        cgroup.follow(at!(cgroup_kn)).read(at!(kernfs_id))
    }

    /// The name, cleared after its first NUL so that it can be a map key.
    #[inline(always)]
    pub fn comm(self) -> CommBytes {
        let mut comm = CommBytes::default();
        let source = self.0.0.wrapping_add(at!(task_comm));
        // SAFETY: the helper reads no more than the destination's length and handles faults.
        if unsafe { bpf_probe_read_kernel_buf(source, &mut comm) }.is_err() {
            return CommBytes::default();
        }
        clear_after_nul(comm)
    }
}

/// Id of the cgroup of a controller's state, each read done by `read`.
#[inline(always)]
pub fn kernfs_of_css(css: usize, read: impl Fn(usize) -> u64) -> u64 {
    let cgroup = read(css + at!(css_cgroup)) as usize;
    let directory = read(cgroup + at!(cgroup_kn)) as usize;
    read(directory + at!(kernfs_id))
}

/// A `signal_struct`: one process.
#[derive(Clone, Copy)]
pub struct Signal(Object);

impl Signal {
    /// Number of threads that have not exited.
    #[inline(always)]
    pub fn live(self) -> i32 {
        self.0.read(at!(signal_live))
    }

    /// Wait status of a group exit, valid when [`Self::flags`] say so.
    #[inline(always)]
    pub fn group_exit_code(self) -> i32 {
        self.0.read(at!(signal_group_exit_code))
    }

    /// `SIGNAL_*`.
    #[inline(always)]
    pub fn flags(self) -> u32 {
        self.0.read(at!(signal_flags))
    }

    /// Peak resident set in pages.
    #[inline(always)]
    pub fn maxrss_pages(self) -> u64 {
        self.0.read(at!(signal_maxrss))
    }

    /// CPU time of released threads in ns.
    #[inline(always)]
    pub fn cpu_ns(self) -> u64 {
        self.0.read(at!(signal_sum_sched_runtime))
    }
}
