//! How long processes wait for a CPU, and who has it meanwhile.

use serde::{Deserialize, Serialize};

use crate::model::id::{Name, ProcKey};
use crate::model::latency::{Delay, Totals, Waits};
use crate::model::process::Comm;

/// Longest look in ms: an answer comes within half a minute.
pub const LOOK_MAX_MS: u64 = 20_000;

/// Look how long somebody waits for a CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyLook {
    /// Who; absent: the critical processes, and all cgroups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<LatencyTarget>,
    /// For how long, in ms: 100 to [`LOOK_MAX_MS`].
    pub for_ms: u64,
}

/// See [`LatencyLook`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyTarget {
    /// A critical process or a group, whichever has the name.
    Name(Name),
    /// A cgroup, by its path below the mount point, with a leading `/`.
    Cgroup(String),
    /// A process.
    Pid(u32),
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Latency {
    /// How long it was looked, in ms.
    pub for_ms: u64,
    /// Whether the programs were armed for this look alone.
    pub armed_for_this: bool,
    /// How they came to be armed, in words.
    pub armed_by: String,
    /// What the programs cost meanwhile, in hundredths of a percent of one CPU.
    pub cost: u32,
    /// What a switch of threads is reckoned to cost for that, in ns, as measured on this machine.
    #[serde(default)]
    pub per_switch_ns: u64,
    /// Processes that waited, the longest in all first.
    pub processes: Vec<LatencyOf>,
    /// Cgroups that did, likewise; of a target, its own only.
    pub cgroups: Vec<LatencyOf>,
    /// Who had the CPUs that the target waited for, the most first; without a target, that any process in the list
    /// waited for.
    pub holders: Vec<Holder>,
    /// The last long waits, oldest first.
    pub delays: Vec<Delay>,
    /// What could not be told apart or was left out, since the programs were armed.
    pub totals: Totals,
    /// Processes of the target beyond those that can be watched.
    pub left_out: u64,
}

/// Waits of one process or cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LatencyOf {
    /// What it is called: the path of a cgroup, the name of the critical process or group of a process.
    pub name: String,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcKey>,
    /// Its comm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Comm>,
    /// The waits by length.
    pub waits: Waits,
    /// How many they are.
    pub count: u64,
    /// Half of them were no longer, ns; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<u64>,
    /// Nine tenths of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_ns: Option<u64>,
    /// 99 of a hundred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// 999 of a thousand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p999_ns: Option<u64>,
    /// For how long a CPU quota held its cgroup back meanwhile, ns; absent where it has none, and for processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_ns: Option<u64>,
}

/// Who had a CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Holder {
    /// Path of the cgroup.
    pub cgroup: String,
    /// The group of ours that is limited there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Its share of the time, in hundredths of a percent.
    pub share: u32,
}
