//! What the rules let the kernel side know, so that it reports matching processes at once.

use crate::model::process::Comm;

/// Kernel-side hints, compiled from the rules: an exec that satisfies one is reported at once. They need not
/// be complete: what they miss is found by the next sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Exact comms.
    pub comms: Vec<Comm>,
    /// Comm prefixes, 1 to 15 bytes.
    pub prefixes: Vec<Vec<u8>>,
    /// Uids.
    pub uids: Vec<u32>,
    /// Cgroup ids.
    pub cgroups: Vec<u64>,
    /// Whether a rule waits on facts that only the sweep brings: drain fast while events come in.
    pub eager: bool,
}
