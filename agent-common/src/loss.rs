//! Fields of the per-CPU counters. For every ring and kind: `produced == sent + dropped`, each counted on
//! its own, so that the equation is a check and not a definition.

/// Records decided for the priority ring.
pub const PRIORITY_PRODUCED: u32 = 0;
/// Records written to the priority ring.
pub const PRIORITY_SENT: u32 = 1;
/// Records for which the priority ring had no room.
pub const PRIORITY_DROPPED: u32 = 2;
/// Records decided for the bulk ring.
pub const BULK_PRODUCED: u32 = 3;
/// Records written to the bulk ring.
pub const BULK_SENT: u32 = 4;
/// Records for which the bulk ring had no room.
pub const BULK_DROPPED: u32 = 5;
/// Execs of processes, whether reported at once or left to the sweep.
pub const EXECS: u32 = 6;
/// Forks of processes, threads not counted.
pub const FORKS: u32 = 7;
/// Deaths of processes.
pub const EXITS: u32 = 8;
/// A slot was taken over from a process that may not have been swept yet: the next sweep must be a full
/// snapshot. Only where `kernel.pid_max` exceeds the slot table.
pub const SLOT_TAKEOVERS: u32 = 9;
/// Wake-ups sent to the agent.
pub const WAKEUPS: u32 = 10;
/// Number of fields.
pub const COUNT: u32 = 11;
