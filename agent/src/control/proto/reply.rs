//! What replies carry. Plain data, stable within `v1`.

use serde::{Deserialize, Serialize};

use super::delay::CpuDelay;
use super::event::EventRecord;
use super::moving::PolicyStatus;
use crate::model::container;
use crate::model::critical::Protection;
use crate::model::event::Status as ExitStatus;
use crate::model::id::{Name, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::notice::Clash;
use crate::model::process::{Comm, Facts};
use crate::model::reason::Reason;
use crate::model::reservation::Reservation;

/// Where the daemon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DaemonState {
    /// Not ready yet.
    Starting,
    /// Does its work.
    Running,
    /// On its way out.
    Stopping,
}

/// State of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DaemonStatus {
    /// Its pid.
    pub pid: u32,
    /// Where it is in its life.
    pub state: DaemonState,
    /// Since its start, in ms.
    pub uptime_ms: u64,
    /// Its version.
    pub version: String,
    /// The profile in force.
    pub profile: Option<Name>,
    /// Where events come from.
    pub source: SourceStatus,
    /// The cgroup driver in words, such as `v2 at /sys/fs/cgroup`.
    pub cgroups: String,
    /// Every feature, whether it works or not.
    pub features: Vec<Feature>,
    /// Processes in the table.
    pub processes: u64,
    /// Groups with limits.
    pub groups: u64,
    /// Processes in them.
    pub throttled: u64,
    /// Resident memory of the daemon in bytes.
    pub rss: u64,
    /// CPU time of the daemon since its start, in ms.
    pub cpu_ms: u64,
    /// Why nothing is limited, when an emergency stop is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<String>,
    /// Time without a sign of life after which systemd restarts it, in ms; absent where systemd does not ask for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_ms: Option<u64>,
    /// The error of the last reload, when the last good configuration is kept because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_error: Option<String>,
    /// Records of the audit log that could not be written since the start.
    #[serde(default)]
    pub audit_failed: u64,
}

/// Whether an emergency stop is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EmergencyStatus {
    /// Whether nothing may be limited.
    pub active: bool,
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Uid of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Their name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    /// How many groups were released by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<usize>,
    /// How long releasing took, in ms; only in the answer to a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Whether nothing was changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Where events come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SourceStatus {
    /// `ebpf`, `netlink` or `poll`.
    pub name: String,
    /// Why it is not the best one; empty when it is.
    pub degraded: Vec<String>,
    /// Records that the kernel side decided to send.
    pub produced: u64,
    /// Records it sent.
    pub sent: u64,
    /// Records it could not send.
    pub dropped: u64,
    /// Records that were not understood.
    pub malformed: u64,
    /// Times the kernel side woke the agent.
    pub wakeups: u64,
    /// Whether the losses are counted exactly.
    pub exact: bool,
}

/// Whether a feature works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FeatureState {
    /// It does its work.
    Working,
    /// It is switched off or has nothing to do.
    Disabled,
    /// It works with restrictions.
    Degraded,
    /// It cannot work here.
    Unavailable,
}

/// A feature of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Feature {
    /// Its name, as the "requires the daemon" message has it.
    pub name: String,
    /// Whether it works.
    pub state: FeatureState,
    /// Whether it needs the daemon.
    pub requires_daemon: bool,
    /// Why it is in that state; empty when it simply works.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// A throttled group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GroupStatus {
    /// Its name.
    pub group: Name,
    /// The rule it belongs to; absent for one made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Name>,
    /// What it is limited to.
    pub limits: Limits,
    /// Shared or each.
    pub scope: Scope,
    /// How: the rung of the ladder, in words. Empty while limits are still being applied.
    pub how: String,
    /// Values that somebody else has changed and holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Clash>,
    /// The processes in it.
    pub members: Vec<Member>,
    /// Periods in which the CPU quota was used up (`nr_throttled` of cpu.stat), where readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_periods: Option<u64>,
    /// Time for which it was held back, in µs, where readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_us: Option<u64>,
    /// What kept it from the CPUs of late; absent when no daemon was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_delay: Option<CpuDelay>,
    /// How the limits change over time; absent when they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStatus>,
    /// Why it is limited.
    pub reason: Reason,
    /// Since when; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
}

/// A process of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Member {
    /// Identity.
    pub key: ProcKey,
    /// Its name, where known.
    pub comm: Comm,
}

/// Answer to `throttle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Throttled {
    /// The group.
    pub group: Name,
    /// What it is limited to now.
    pub limits: Limits,
    /// How: the rung of the ladder, in words.
    pub how: String,
    /// The processes that are limited.
    pub members: Vec<Member>,
    /// Processes left out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
    /// Nothing was done.
    pub dry_run: bool,
}

/// A process left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Refused {
    /// Its pid.
    pub pid: u32,
    /// Why.
    pub why: String,
}

/// Answer to `release`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Released {
    /// Groups that are released whole.
    pub groups: Vec<Name>,
    /// Processes taken out of groups that stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcKey>,
    /// Nothing was done.
    pub dry_run: bool,
}

/// Why a process is or is not limited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Explanation {
    /// Identity.
    pub key: ProcKey,
    /// Its name.
    pub comm: Comm,
    /// Parent's pid.
    pub ppid: u32,
    /// Real uid.
    pub uid: u32,
    /// What `/proc` tells.
    pub facts: Facts,
    /// The container it is in, told from its cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<container::Membership>,
    /// How it ended, when it is dead but still remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<ExitStatus>,
    /// Why it is never touched: critical, a kernel thread, the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<String>,
    /// What is done to keep it alive, or why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<String>,
    /// What is reserved for the critical process that it is an instance of, or why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// What kept it from the CPUs of late, if it is an instance of a critical process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_delay: Option<CpuDelay>,
    /// The profile in force.
    pub profile: Option<Name>,
    /// Each rule of the profile in the order of their evaluation.
    pub rules: Vec<RuleVerdict>,
    /// The group that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupStatus>,
    /// What happened to it, oldest first.
    pub history: Vec<EventRecord>,
}

/// What a rule says of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RuleVerdict {
    /// The rule, or the critical process's entry.
    pub rule: Name,
    /// Its priority; absent for a critical process's entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Whether it matches.
    pub matched: bool,
    /// What matched or what did not.
    pub why: String,
}

/// What activating a profile would do to the processes alive now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plan {
    /// The profile.
    pub profile: Name,
    /// What each rule would limit.
    pub rules: Vec<PlannedRule>,
    /// Which processes would count as critical.
    pub critical: Vec<PlannedCritical>,
    /// Groups of the present profile that would be released.
    pub released: Vec<Name>,
}

/// What a rule would limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedRule {
    /// The rule.
    pub rule: Name,
    /// Its limits.
    pub limits: Limits,
    /// Shared or each.
    pub scope: Scope,
    /// The processes it would own.
    pub processes: Vec<Member>,
    /// How the limits would be brought into force and after a colon why so, and which processes would be left
    /// alone, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub how: Vec<String>,
    /// Why it would do less than it says, such as `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Which processes an entry would make critical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedCritical {
    /// The entry.
    pub name: Name,
    /// What they would have.
    #[serde(default, skip_serializing_if = "Protection::is_empty")]
    pub protection: Protection,
    /// What they would have together of the CPUs, of I/O and memory.
    #[serde(default, skip_serializing_if = "Reservation::is_empty")]
    pub reservation: Reservation,
    /// How that would be given, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub how: Vec<String>,
    /// The processes.
    pub processes: Vec<Member>,
}

/// Answer to `activate` and `deactivate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Activated {
    /// The profile in force afterwards.
    pub profile: Option<Name>,
    /// The one before.
    pub previous: Option<Name>,
    /// What it does to the processes alive now; absent on deactivation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Nothing was done.
    pub dry_run: bool,
}

/// The profile in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveProfile {
    /// It; absent when none is.
    pub profile: Option<Name>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
}

/// Answer to `reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reloaded {
    /// What changed, in words; `nothing` when nothing did.
    pub detail: String,
    /// Nothing was done.
    pub dry_run: bool,
}
