//! What the agent writes into the kernel side.

use crate::text::COMM_LEN;

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

/// A comm prefix, at most 15 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// Number of bytes that count, 1 to 15; 0 matches nothing.
    pub len: u32,
    /// The bytes.
    pub bytes: [u8; COMM_LEN],
}
