//! The head of every record.

/// Record kinds, as raw integers: an unknown one is skipped by its length.
pub mod kind {
    /// A process replaced its program.
    pub const EXEC: u32 = 1;
    /// A process was forked; sent for children of critical processes only.
    pub const FORK: u32 = 2;
    /// The last thread of a process ended: the fused life of the process.
    pub const EXIT: u32 = 3;
    /// A process that is alive, from the task iterator.
    pub const ALIVE: u32 = 4;
    /// The last thread of a critical process ended: as [`EXIT`], with what may have been the cause.
    pub const DEATH: u32 = 5;
    /// A watched process waited long for a CPU.
    pub const DELAY: u32 = 6;
}

/// Head of every record on both rings and in the iterator's output.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// Length of the whole record in bytes, header included.
    pub len: u32,
    /// `bpf_ktime_get_boot_ns`, when the hook ran.
    pub time_ns: u64,
}
