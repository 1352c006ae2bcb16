//! Version and names shared by the eBPF object and its loader.

/// Version of the records and maps; the loader refuses an object of another one.
pub const ABI_VERSION: u32 = 7;

/// Names of the object's `.rodata` globals.
pub mod global {
    /// A symbol that only objects of [`super::ABI_VERSION`] have; its value means nothing.
    pub const ABI: &str = "PROCESS_THROTTLER_ABI_7";
    /// [`crate::offsets::Offsets`].
    pub const OFFSETS: &str = "OFFSETS";
    /// `u32`: number of entries of `SLOTS` less one; the number is a power of two.
    pub const SLOT_MASK: &str = "SLOT_MASK";
    /// [`crate::offsets::CauseOffsets`].
    pub const CAUSE_OFFSETS: &str = "CAUSE_OFFSETS";
    /// [`crate::offsets::WaitOffsets`], for the program on `sched_switch` alone.
    pub const WAIT_OFFSETS: &str = "WAIT_OFFSETS";
    /// `u32`: what `mark_victim` carries, one of [`crate::offsets::victim`].
    pub const VICTIM_IS: &str = "VICTIM_IS";
    /// `u32`: 1 where limits of memory cgroups can be read.
    pub const HAS_MEMCG: &str = "HAS_MEMCG";
    /// `u32`: 1 where `sched_process_exit` carries `group_dead` as its second argument.
    pub const HAS_GROUP_DEAD: &str = "HAS_GROUP_DEAD";
    /// `u8`, defined by aya-log: 0 removes the debug output from the loaded programs.
    pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
}

/// Program names, as the object's function symbols.
pub mod program {
    /// `tp_btf/sched_process_fork`.
    pub const FORK: &str = "on_fork";
    /// `tp_btf/sched_process_exec`.
    pub const EXEC: &str = "on_exec";
    /// `tp_btf/sched_process_exit`.
    pub const EXIT: &str = "on_exit";
    /// `tp_btf/signal_generate`: who sends signals to critical processes.
    pub const SIGNAL: &str = "on_signal";
    /// `tp_btf/mark_victim`: critical processes that the OOM killer chooses.
    pub const VICTIM: &str = "on_victim";
    /// `iter/task`: snapshot and sweep.
    pub const TASKS: &str = "on_task";
    /// `tp_btf/sched_switch`: armed on demand.
    pub const SWITCH: &str = "on_switch";
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
    /// `PerCpuArray<[u64; loss::COUNT]>`, one entry, so that one system call reads them all; the fields are
    /// those of [`crate::loss`].
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
    /// `HashMap<u32, u64>`: critical tgid to its start in ticks of [`crate::gate::TICK_NANOS`].
    pub const CRITICAL: &str = "CRITICAL";
    /// `Array<u64>`: one bit per tgid of the critical set, see [`crate::gate::watched`]; tgids share bits.
    pub const WATCHED: &str = "WATCHED";
    /// `LruHashMap<u64, SignalMark>`: what was sent to critical processes, by [`crate::gate::signal_key`].
    pub const SIGNALS: &str = "SIGNALS";
    /// `LruHashMap<u32, VictimMark>`: critical processes that the OOM killer has chosen, by tgid.
    pub const VICTIMS: &str = "VICTIMS";
    /// `Array<TaskWait>` indexed by `pid & mask`, as large as `SLOTS`.
    pub const SCHED_TASKS: &str = "SCHED_TASKS";
    /// `Array<CpuState>` indexed by CPU.
    pub const SCHED_CPUS: &str = "SCHED_CPUS";
    /// `Array<Cell>` indexed by `cpu * sched::SLOTS + slot`. An array and not one per CPU: the look-up of an
    /// array is inlined on every kernel, that of the other is a call before Linux 6.10.
    pub const SCHED_CELLS: &str = "SCHED_CELLS";
    /// `Array<SchedSettings>`, one entry.
    pub const SCHED_SETTINGS: &str = "SCHED_SETTINGS";
    /// `HashMap<u64, u32>`: cgroup id to its slot; asked once per thread and generation.
    pub const SCHED_SLOTS: &str = "SCHED_SLOTS";
    /// `Array<u32>`, one entry: the next slot that is free.
    pub const SCHED_NEXT: &str = "SCHED_NEXT";
    /// `HashMap<u32, Watch>`: watched processes by tgid; asked as `SCHED_SLOTS` is.
    pub const SCHED_WATCHED: &str = "SCHED_WATCHED";
    /// `Array<ReportLimit>` indexed by slot.
    pub const SCHED_LIMITS: &str = "SCHED_LIMITS";
    /// `Array<Stints>` indexed by CPU.
    pub const SCHED_STINTS: &str = "SCHED_STINTS";
}

/// Capacity of `COMMS`, `UIDS` and `CGROUPS`.
pub const RULE_ENTRIES: u32 = 1024;
/// Capacity of `PREFIXES`; each exec walks at most this many.
pub const PREFIX_ENTRIES: u32 = 32;
/// Capacity of `CRITICAL`.
pub const CRITICAL_ENTRIES: u32 = 4096;
/// Words of `WATCHED`: a bit for each of 65,536 tgids.
pub const WATCHED_WORDS: u32 = 1024;
/// Capacity of `SIGNALS`; what was sent longest ago makes room.
pub const SIGNAL_ENTRIES: u32 = 2048;
/// Capacity of `VICTIMS`, likewise.
pub const VICTIM_ENTRIES: u32 = 512;
/// Default size of the priority ring in bytes: about 1,200 deaths or 2,500 other records.
pub const PRIORITY_RING_BYTES: u32 = 256 * 1024;
/// Default size of the bulk ring in bytes: about 4,600 ended processes between two drains.
pub const BULK_RING_BYTES: u32 = 512 * 1024;
/// Upper bound of `SLOTS`; `kernel.pid_max` when that is smaller.
pub const SLOT_ENTRIES_MAX: u32 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_names_the_version() {
        let (_, version) = global::ABI.rsplit_once('_').unwrap();
        assert_eq!(version.parse(), Ok(ABI_VERSION));
    }
}
