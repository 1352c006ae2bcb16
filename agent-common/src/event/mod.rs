//! The records, one file each, and the facts of a task that they share.

pub mod death;
pub mod delay;
pub mod exec;
pub mod exit;
pub mod fork;

use crate::header::Header;
use crate::text::CommBytes;

/// Bits of [`TaskFacts::flags`].
pub mod flag {
    /// The task has `PF_KTHREAD`.
    pub const KTHREAD: u32 = 1;
    /// The process has called exec since it was forked, as far as the agent's programs saw.
    pub const EXECED: u32 = 1 << 1;
    /// An entry of the kernel-side rule maps matched (exec records only: nothing else is routed by it).
    pub const RULE: u32 = 1 << 2;
    /// The tgid is in the critical set.
    pub const CRITICAL: u32 = 1 << 3;
    /// Bit 7 of the wait status: a core was dumped (exit records only).
    pub const CORE_DUMP: u32 = 1 << 4;
}

/// What is known of a process without reading `/proc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskFacts {
    /// `group_leader->start_boottime`, ns since boot.
    pub start_ns: u64,
    /// When it last called exec, ns since boot; 0 when not seen.
    pub exec_ns: u64,
    /// Id of its cgroup: in the v1 cpu hierarchy or the v2 one, as `Settings::cgroup_v1` says.
    pub cgroup_id: u64,
    /// Process id in the initial namespace (`tgid`).
    pub tgid: u32,
    /// `real_parent->tgid`.
    pub ppid: u32,
    /// Real uid in the initial user namespace.
    pub uid: u32,
    /// Real gid in the initial user namespace.
    pub gid: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// The group leader's comm.
    pub comm: CommBytes,
}

/// A live process, from the task iterator: snapshot or sweep.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AliveRecord {
    /// Kind [`crate::header::kind::ALIVE`].
    pub header: Header,
    /// The process.
    pub task: TaskFacts,
}

/// What the programs remember of a process between its hooks. Direct-mapped by `tgid & mask`, so an entry
/// is valid only for the process whose tgid and start time it names.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskSlot {
    /// `start_boottime` of the owner.
    pub start_ns: u64,
    /// When the owner last called exec, ns since boot.
    pub exec_ns: u64,
    /// Start of the process whose death was reported last from this slot: where the tracepoint does not tell
    /// which thread was the last, the thread that puts its start here first reports the death.
    pub died_start_ns: u64,
    /// The owner's tgid; 0 when the slot is free.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}
