//! `sched_process_exit`, at the death of the thread group.

use crate::event::TaskFacts;
use crate::header::Header;

/// The fused life of a process: one record, however many hooks it passed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitRecord {
    /// Kind [`crate::header::kind::EXIT`]; its time is the time of death.
    pub header: Header,
    /// The process as it died.
    pub task: TaskFacts,
    /// CPU time of the whole group in ns (`signal->sum_sched_runtime` and the threads not yet folded in),
    /// as of the scheduler's last update.
    pub cpu_ns: u64,
    /// Peak resident set in pages (`signal->maxrss`): as in wait4(2), of every image the process has had,
    /// so after vfork and exec also of the image it shared with its parent.
    pub maxrss_pages: u64,
    /// Wait status as `wait4` would report it: exit code in bits 8..16, signal in bits 0..7.
    pub status: u32,
    /// Zero.
    pub reserved: u32,
}
