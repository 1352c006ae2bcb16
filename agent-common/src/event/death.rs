//! The death of a critical process: its exit, and what may have been the cause of it.

use crate::event::exit::ExitRecord;
use crate::header::Header;
use crate::text::CommBytes;

/// Values of [`SignalMark::origin`].
pub mod origin {
    /// No signal was seen.
    pub const NONE: u32 = 0;
    /// A process sent it: the one that the mark names.
    pub const PROCESS: u32 = 1;
    /// The kernel sent it, for a fault, the OOM killer, a terminal and so on.
    pub const KERNEL: u32 = 2;
    /// A timer or a message queue of the kernel, or a process that says so (rt_sigqueueinfo(2)).
    pub const UNKNOWN: u32 = 3;
}

/// Values of [`VictimMark::limit`].
pub mod limit {
    /// The OOM killer did not choose it.
    pub const NONE: u32 = 0;
    /// The memory limit of the cgroup that the mark names.
    pub const CGROUP: u32 = 1;
    /// The memory of the machine, or of the nodes it may use.
    pub const MACHINE: u32 = 2;
    /// It cannot be told.
    pub const UNKNOWN: u32 = 3;
}

/// The last of one signal that was sent to a critical process and not ignored.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalMark {
    /// Start of the process that it was sent to, in ticks of [`crate::gate::TICK_NANOS`].
    pub start_ticks: u64,
    /// When, in ns since boot.
    pub time_ns: u64,
    /// One of [`origin`].
    pub origin: u32,
    /// Who sent it: `tgid` in the initial namespace, where `origin` says a process.
    pub tgid: u32,
    /// The sender's real uid in the initial user namespace.
    pub uid: u32,
    /// `si_code` (sigaction(2)), as an `i32`.
    pub code: u32,
    /// The sending thread's comm.
    pub comm: CommBytes,
}

/// A critical process that the OOM killer has chosen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VictimMark {
    /// Start of the process, in ticks.
    pub start_ticks: u64,
    /// When, in ns since boot.
    pub time_ns: u64,
    /// Id of the cgroup whose limit it was, in the hierarchy of the memory controller.
    pub cgroup_id: u64,
    /// That limit, in pages.
    pub limit_pages: u64,
    /// One of [`limit`].
    pub limit: u32,
    /// Zero.
    pub reserved: u32,
}

/// The end of a critical process, on the priority ring instead of an [`ExitRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeathRecord {
    /// The exit, but for its header: the kind is [`crate::header::kind::DEATH`].
    pub exit: ExitRecord,
    /// Number of the signal that `sent` is about: the one that ended the process, or, if it ended by itself,
    /// the last one that asked it to.
    pub signal: u32,
    /// Zero.
    pub reserved: u32,
    /// Who sent it.
    pub sent: SignalMark,
    /// What the OOM killer did.
    pub victim: VictimMark,
}

const _: () = assert!(core::mem::offset_of!(DeathRecord, exit.header) == 0 && size_of::<Header>() == 16);
