//! What a rule or an operator imposes on a group of processes.

use serde::{Deserialize, Serialize};

use crate::model::unit::{Bytes, CpuPercent, Nice, Weight};

/// Limits of a group. An absent field is left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU quota: a hard cap even on an idle machine, in percent of one CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuPercent>,
    /// CPU weight: a share under contention, work-conserving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<Weight>,
    /// Memory above which the group is reclaimed and slowed (v1: the soft limit, which only steers reclaim).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<Bytes>,
    /// Memory above which the OOM killer acts inside the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<Bytes>,
    /// Number of tasks, threads included; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// I/O weight: a share under contention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<Weight>,
    /// Bytes read per second, on every block device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_read: Option<Bytes>,
    /// Bytes written per second, on every block device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_write: Option<Bytes>,
    /// Nice value of every thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<Nice>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether any limit needs a cgroup, as opposed to a per-process knob.
    #[must_use]
    pub fn needs_cgroup(&self) -> bool {
        !Self { nice: None, ..self.clone() }.is_empty()
    }
}

impl std::fmt::Display for Limits {
    /// Space-separated `key=value` pairs in the order of the fields; `none` when empty.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, cpu_weight, memory_high, memory_max, pids, io_weight, io_read, io_write, nice } =
            self;
        let pairs = [
            ("cpu", cpu.map(|v| v.to_string())),
            ("cpu_weight", cpu_weight.map(|v| v.to_string())),
            ("memory_high", memory_high.map(|v| v.to_string())),
            ("memory_max", memory_max.map(|v| v.to_string())),
            ("pids", pids.map(|v| v.to_string())),
            ("io_weight", io_weight.map(|v| v.to_string())),
            ("io_read", io_read.map(|v| v.to_string())),
            ("io_write", io_write.map(|v| v.to_string())),
            ("nice", nice.map(|v| v.to_string())),
        ];
        let mut space = "";
        for (key, value) in pairs {
            if let Some(value) = value {
                write!(f, "{space}{key}={value}")?;
                space = " ";
            }
        }
        if space.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

/// How a rule's processes share its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One cgroup per rule: the limits are shared by all its processes.
    #[default]
    Group,
    /// One cgroup per process: each has the limits to itself.
    Process,
}
