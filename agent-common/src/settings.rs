//! What the agent writes into the kernel side.

use crate::text::{CommBytes, comm_key, until_nul};

/// The one entry of the `SETTINGS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The iterator reports processes born or exec'd at or after this time (ns since boot); 0 reports all.
    pub since_ns: u64,
    /// The agent's own tgid: its events are never reported.
    pub own_tgid: u32,
    /// Number of valid entries in `PREFIXES`.
    pub prefixes: u32,
    /// 1 when `COMMS` has entries.
    pub has_comms: u32,
    /// 1 when `UIDS` has entries.
    pub has_uids: u32,
    /// 1 when `CGROUPS` has entries.
    pub has_cgroups: u32,
    /// 1 when `CRITICAL` has entries.
    pub has_critical: u32,
    /// 1: cgroup ids are those of the v1 cpu hierarchy; 0: of the unified one.
    pub cgroup_v1: u32,
    /// Zero.
    pub reserved: u32,
}

/// A comm prefix, at most 15 bytes, in the form in which it is compared without a branch per byte: that times
/// 32 prefixes is more paths than the verifier of Linux 6.1 is willing to walk.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// 0xff for every byte that counts, from the first on; without any it matches nothing.
    pub mask: CommBytes,
    /// The bytes; zero where the mask is.
    pub bytes: CommBytes,
}

impl Prefix {
    /// The prefix `text`, up to its first NUL and to 15 bytes.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let bytes = comm_key(text);
        let mut mask = CommBytes::default();
        for (slot, _) in mask.iter_mut().zip(until_nul(&bytes)) {
            *slot = 0xff;
        }
        Self { mask, bytes }
    }
}
