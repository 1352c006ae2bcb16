//! Version and names shared by the eBPF object and its loader.

/// Version of the records and maps; the loader refuses an object of another one.
pub const ABI_VERSION: u32 = 1;

/// Program names, as the object's function symbols.
pub mod program {
    /// `tp_btf/sched_process_fork`.
    pub const FORK: &str = "on_fork";
    /// `tp_btf/sched_process_exec`.
    pub const EXEC: &str = "on_exec";
    /// `tp_btf/sched_process_exit`.
    pub const EXIT: &str = "on_exit";
    /// `iter/task`: snapshot and sweep.
    pub const TASKS: &str = "on_task";
}

/// Map names, as the object's static symbols.
pub mod map {
    /// Ring of records that wake the agent.
    pub const PRIORITY: &str = "PRIORITY";
    /// Ring of one fused record per ended process, drained by a timer.
    pub const BULK: &str = "BULK";
    /// `Array<Settings>`, one entry.
    pub const SETTINGS: &str = "SETTINGS";
    /// `Array<u32>`, one entry: 1 while the agent sleeps and wants the next event to wake it.
    pub const ARMED: &str = "ARMED";
    /// `PerCpuArray<u64>` indexed by [`crate::loss`].
    pub const COUNTERS: &str = "COUNTERS";
    /// `Array<TaskSlot>` indexed by `tgid & mask`.
    pub const SLOTS: &str = "SLOTS";
    /// `HashMap<[u8; 16], u32>`: exact comm.
    pub const COMMS: &str = "COMMS";
    /// `Array<Prefix>`: comm prefixes, the first `Settings::prefixes` of them valid.
    pub const PREFIXES: &str = "PREFIXES";
    /// `HashMap<u32, u32>`: uid.
    pub const UIDS: &str = "UIDS";
    /// `HashMap<u64, u32>`: cgroup id.
    pub const CGROUPS: &str = "CGROUPS";
    /// `HashMap<u32, u64>`: critical tgid to its start time.
    pub const CRITICAL: &str = "CRITICAL";
}

/// Capacity of `COMMS`, `UIDS` and `CGROUPS`.
pub const RULE_ENTRIES: u32 = 1024;
/// Capacity of `PREFIXES`; each exec walks at most this many.
pub const PREFIX_ENTRIES: u32 = 32;
/// Capacity of `CRITICAL`.
pub const CRITICAL_ENTRIES: u32 = 4096;
/// Default size of the priority ring in bytes: about 2,500 records.
pub const PRIORITY_RING_BYTES: u32 = 256 * 1024;
/// Default size of the bulk ring in bytes: about 8,000 ended processes between two drains.
pub const BULK_RING_BYTES: u32 = 1024 * 1024;
/// Upper bound of `SLOTS`; `kernel.pid_max` when that is smaller.
pub const SLOT_ENTRIES_MAX: u32 = 65_536;
