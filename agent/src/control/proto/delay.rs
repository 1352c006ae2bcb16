//! What kept groups and critical processes from the CPUs of late: quotas, which hold them back, and others, for whom they
//! wait.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::latency::Holder;
use crate::model::id::Name;
use crate::model::signal::Hundredths;

/// Both, side by side. A wait includes the time for which a quota holds back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CpuDelay {
    /// By a CPU quota; absent where there is none, or its cgroup cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldTime>,
    /// For a CPU; absent where that is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited: Option<WaitedTime>,
    /// Why it is not, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_measured: Option<String>,
}

/// For how long a quota held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeldTime {
    /// Within the last so many ms.
    pub over_ms: u64,
    /// So long, summed over CPUs, in µs.
    pub held_us: u64,
    /// The same in hundredths of a percent of that time.
    pub share: Hundredths,
    /// The cgroup that has the quota, by its path; absent where it is the group's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The group of ours whose quota that is; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
}

/// How long was waited in run queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WaitedTime {
    /// Within the last so many ms.
    pub over_ms: u64,
    /// So long, all threads together, in µs; waits that have ended.
    pub waited_us: u64,
    /// The same in hundredths of a percent of that time.
    pub share: Hundredths,
    /// How many waits.
    pub count: u64,
    /// Ninety-nine of a hundred were not longer, in µs; absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// The longest, in µs.
    pub longest_us: u64,
    /// Who had the CPUs that a critical process waited for, the most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
}

impl fmt::Display for HeldTime {
    /// `12.00 % of the last 2.0 s by the quota of group builds`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { over_ms, held_us: _, share, cgroup, group } = self;
        write!(f, "{share} % of the last {}", seconds(*over_ms))?;
        match (group, cgroup) {
            (Some(group), _) => write!(f, ", by the quota of group {group}"),
            (None, Some(cgroup)) => write!(f, ", by the quota of {cgroup}"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for WaitedTime {
    /// `61.00 % of the last 2.0 s in 120 waits, p99 7.30 ms, longest 12.00 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { over_ms, waited_us: _, share, count, p99_us, longest_us, holders: _ } = self;
        write!(f, "{share} % of the last {}", seconds(*over_ms))?;
        let Some(p99_us) = p99_us else { return f.write_str(", no waits") };
        let plural = if *count == 1 { "wait" } else { "waits" };
        write!(f, " in {count} {plural}, p99 {}, longest {}", millis(*p99_us), millis(*longest_us))
    }
}

fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1_000, millis % 1_000 / 100)
}

fn millis(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10)
}
