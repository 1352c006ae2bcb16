//! `sched_process_exec`.

use crate::event::TaskFacts;
use crate::header::Header;

/// A process replaced its program. Sent at once for processes that the rule maps match and for critical
/// ones; all others are found by the sweep or reported whole at their exit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecRecord {
    /// Kind [`crate::header::kind::EXEC`].
    pub header: Header,
    /// The process after the exec.
    pub task: TaskFacts,
}
