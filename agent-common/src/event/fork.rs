//! `sched_process_fork`.

use crate::event::TaskFacts;
use crate::header::Header;

/// A critical process forked a process (never a thread): its child is watched from birth.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkRecord {
    /// Kind [`crate::header::kind::FORK`].
    pub header: Header,
    /// The child.
    pub task: TaskFacts,
}
