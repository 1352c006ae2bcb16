//! `sched_delay`: a watched process waited for a CPU longer than the threshold.

use crate::header::Header;
use crate::sched::Party;

/// A long wait, written when it ends. At most one per slot and interval; the others are counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DelayRecord {
    /// Kind [`crate::header::kind::DELAY`]; its time is the end of the wait.
    pub header: Header,
    /// How long it waited, ns.
    pub wait_ns: u64,
    /// Id of the cgroup of `holder`; 0: nobody had the CPU.
    pub holder_cgroup: u64,
    /// How long `holder` had the CPU within the wait, ns.
    pub held_ns: u64,
    /// Long waits of this slot that were not reported since the last report.
    pub suppressed: u64,
    /// Who waited.
    pub waiter: Party,
    /// Who had the CPU longest meanwhile, as far as [`crate::sched::Stints`] tell, or else last.
    pub holder: Party,
    /// The CPU.
    pub cpu: u32,
    /// The slot.
    pub slot: u32,
}
