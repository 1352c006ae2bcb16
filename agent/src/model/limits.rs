//! What a rule or an operator imposes on a group of processes.

use serde::{Deserialize, Serialize};

use crate::model::attribute::{Demand, IoClass, IoLevel, IoPriority, OomScoreAdj, Sched};
use crate::model::cpu_list::CpuList;
use crate::model::unit::{Bytes, CpuPercent, Nice, Weight};

/// Limits of a group. An absent field is left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU quota: a hard cap even on an idle machine, in percent of one CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuPercent>,
    /// CPU weight: a share under contention, work-conserving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<Weight>,
    /// Memory that reclaim spares while there is other memory to take. Given to critical processes only (v1:
    /// there is no such thing).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_low: Option<Bytes>,
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
    /// Scheduling policy of every thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sched: Option<Sched>,
    /// I/O class of every thread; best effort when only a priority is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_class: Option<IoClass>,
    /// I/O priority of every thread within the best-effort class; there is none within the idle class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoLevel>,
    /// CPUs that every thread is confined to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<CpuList>,
    /// Raises the OOM killer's interest in every process; never lowers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<OomScoreAdj>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether any limit needs a cgroup, as opposed to an attribute of each process.
    #[must_use]
    pub fn needs_cgroup(&self) -> bool {
        let of_cgroup = Self {
            nice: None,
            sched: None,
            io_class: None,
            io_priority: None,
            cpu_affinity: None,
            oom_score_adj: None,
            ..self.clone()
        };
        !of_cgroup.is_empty()
    }

    /// What is asked of each process, or of each of its threads.
    #[must_use]
    pub fn demands(&self) -> Vec<Demand> {
        let io = match (self.io_class, self.io_priority) {
            (None, None) => None,
            (Some(IoClass::Idle), _) => Some(IoPriority::Idle),
            (Some(IoClass::BestEffort) | None, level) => {
                Some(IoPriority::BestEffort(level.unwrap_or(IoLevel::NORMAL)))
            }
        };
        [
            self.nice.map(Demand::Nice),
            self.sched.map(Demand::Sched),
            io.map(Demand::Io),
            self.cpu_affinity.clone().map(Demand::Cpus),
            self.oom_score_adj.map(Demand::OomAtLeast),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Why these limits contradict each other; `None` when they do not.
    #[must_use]
    pub fn contradiction(&self) -> Option<&'static str> {
        (self.io_class == Some(IoClass::Idle) && self.io_priority.is_some())
            .then_some("there are no priorities within the idle I/O class")
    }
}

impl std::fmt::Display for Limits {
    /// Space-separated `key=value` pairs in the order of the fields; `none` when empty.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cpu,
            cpu_weight,
            memory_low,
            memory_high,
            memory_max,
            pids,
            io_weight,
            io_read,
            io_write,
            nice,
            sched,
            io_class,
            io_priority,
            cpu_affinity,
            oom_score_adj,
        } = self;
        let pairs = [
            ("cpu", cpu.map(|v| v.to_string())),
            ("cpu_weight", cpu_weight.map(|v| v.to_string())),
            ("memory_low", memory_low.map(|v| v.to_string())),
            ("memory_high", memory_high.map(|v| v.to_string())),
            ("memory_max", memory_max.map(|v| v.to_string())),
            ("pids", pids.map(|v| v.to_string())),
            ("io_weight", io_weight.map(|v| v.to_string())),
            ("io_read", io_read.map(|v| v.to_string())),
            ("io_write", io_write.map(|v| v.to_string())),
            ("nice", nice.map(|v| v.to_string())),
            ("sched", sched.map(|v| v.to_string())),
            ("io_class", io_class.map(|v| v.to_string())),
            ("io_priority", io_priority.map(|v| v.to_string())),
            ("cpu_affinity", cpu_affinity.as_ref().map(ToString::to_string)),
            ("oom_score_adj", oom_score_adj.map(|v| v.to_string())),
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One cgroup per rule: the limits are shared by all its processes.
    #[default]
    Group,
    /// One cgroup per process: each has the limits to itself.
    Process,
}
