//! What users are told: the event stream, webhooks and the audit log carry these.

mod clash;
pub mod part;
pub mod table;
mod text;
#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::absence::{Absence, Flapping, Revival};
use crate::model::circumstances::Circumstances;
use crate::model::critical::RestartResult;
use crate::model::event::Exit;
use crate::model::id::{Name, ProcKey};
use crate::model::last_seconds::Held;
use crate::model::latency::{CpuHolder, HeldBy, SloEnd};
use crate::model::limits::Limits;
use crate::model::process::Comm;
use crate::model::reason::Reason;
use crate::model::signal::Hundredths;

pub use clash::{Clash, Response};

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth looking at.
    Warning,
    /// Wake somebody.
    Critical,
}

/// A notice: one of the event types of the contract, with its facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notice {
    /// A critical process died. Begins that it is down if `remaining` is less than `wanted`.
    CriticalProcessDown {
        /// Name of the critical process in the profile.
        name: Name,
        /// How it died and what it used.
        exit: Exit,
        /// How many instances of it are still alive.
        remaining: usize,
        /// How many there must be.
        #[serde(default = "one")]
        wanted: usize,
        /// The deaths that this notice stands for, `exit` being the last of them; absent: that one alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flapping: Option<Flapping>,
        /// The group of ours that limited it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<Name>,
        /// What the machine was like; the daemon adds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        circumstances: Option<Box<Circumstances>>,
    },
    /// There are fewer instances of a critical process than its `expect` asks for, for too long. Begins that it is
    /// missing.
    CriticalProcessMissing {
        /// Name of the critical process in the profile.
        name: Name,
        /// How many there are.
        instances: usize,
        /// How many there must be.
        wanted: usize,
        /// For how long.
        absent: Duration,
        /// Why.
        why: Absence,
    },
    /// There are enough instances of a critical process again. Ends that it is down, and that it is missing.
    CriticalProcessRecovered {
        /// Name of the critical process in the profile.
        name: Name,
        /// How that came about.
        how: Revival,
        /// How many there are.
        instances: usize,
        /// For how long there were too few.
        absent: Duration,
    },
    /// A critical process was restarted, or was to be.
    CriticalProcessRestart {
        /// Name of the critical process in the profile.
        name: Name,
        /// How it ended.
        result: RestartResult,
        /// What restarts it.
        by: String,
        /// Attempts within the window that bounds them, this one included; 0 for one by hand.
        attempt: u32,
        /// What was done, or why not.
        detail: String,
    },
    /// A critical process is not healthy any more.
    HealthCheckFailed {
        /// Name of the critical process in the profile.
        name: Name,
        /// Checks that failed in a row.
        failures: u32,
        /// What the last one found.
        error: String,
    },
    /// A critical process is healthy again.
    HealthCheckRecovered {
        /// Name of the critical process in the profile.
        name: Name,
        /// For how long it was not, in ms.
        lasted_ms: u64,
    },
    /// A critical process waits longer for a CPU than its objective says. Told again, once, when nobody can give way
    /// any further.
    LatencySloViolated {
        /// Name of the critical process in the profile.
        name: Name,
        /// Ninety-nine of a hundred of its waits were not longer than this, in µs.
        p99_us: u64,
        /// What its objective says they should not exceed, in µs.
        objective_us: u64,
        /// For how long they have, in ms.
        lasted_ms: u64,
        /// The groups that give way, in the order in which they were asked to.
        held_by: Vec<HeldBy>,
        /// Groups that can be asked to: those with the policy `latency`.
        candidates: usize,
        /// Whether none of them can give way any further so that it would help; always, where there are none.
        at_floor: bool,
        /// Who had the CPUs that it waited for, the most first; empty where that was not measured yet.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        holders: Vec<CpuHolder>,
        /// For how long a CPU quota held it back in the last seconds, which is part of its waits; the daemon adds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<Box<Held>>,
    },
    /// A critical process waits no longer for a CPU than its objective says. Ends that it is violated.
    LatencySloRecovered {
        /// Name of the critical process in the profile.
        name: Name,
        /// Ninety-nine of a hundred of its waits were not longer than this, in µs; absent where it is not measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        p99_us: Option<u64>,
        /// What its objective says they should not exceed, in µs.
        objective_us: u64,
        /// For how long they did, in ms.
        lasted_ms: u64,
        /// The groups that give way, in the order in which they were asked to.
        held_by: Vec<HeldBy>,
        /// How it ended.
        how: SloEnd,
    },
    /// Limits came into force on a group.
    ThrottleApplied {
        /// The group.
        group: Name,
        /// The limits.
        limits: Limits,
        /// The processes that this application brought in.
        processes: Vec<(ProcKey, Comm)>,
        /// How: the rung of the ladder, in words.
        how: String,
        /// Why.
        reason: Reason,
        /// From the exec (or the request) to the limit in force, in ns, where it is known.
        latency_ns: Option<u64>,
    },
    /// A policy changed the limits of a group, and the new ones are in force.
    ThrottleAdjusted {
        /// The group.
        group: Name,
        /// The limits before.
        from: Limits,
        /// The limits now.
        to: Limits,
        /// Why, with what was measured.
        reason: Reason,
    },
    /// Limits could not be brought into force.
    ThrottleFailed {
        /// The group.
        group: Name,
        /// The error, whole.
        error: String,
        /// Why it was tried.
        reason: Reason,
    },
    /// A group was released and its prior values restored.
    ThrottleRemoved {
        /// The group.
        group: Name,
        /// Why.
        reason: Reason,
    },
    /// Somebody else changed what a limit had set.
    ThrottleConflict {
        /// The group.
        group: Name,
        /// Whose value it is now.
        clash: Clash,
        /// What was done about it.
        response: Response,
    },
    /// A critical process could not be protected. Told once for each of them under a profile.
    ProtectionFailed {
        /// Name of the critical process in the profile.
        name: Name,
        /// The first instance that it failed for.
        process: ProcKey,
        /// The error, whole.
        error: String,
    },
    /// Everything was lifted, and nothing is limited until somebody resumes.
    EmergencyStop {
        /// Why, in the words of whoever asked.
        reason: String,
        /// Uid of whoever asked.
        uid: u32,
        /// Groups that were limited.
        groups: usize,
    },
    /// The emergency is over: rules limit again.
    EmergencyResumed {
        /// Uid of whoever said so.
        uid: u32,
    },
    /// The kernel dropped records; the process table was rebuilt from the task iterator.
    EventsLost {
        /// Dropped records since the last such notice.
        dropped: u64,
        /// Processes that ended unseen.
        missed_exits: u64,
    },
    /// The programs on the scheduler's tracepoints cost more than they may and were disarmed for a minute: meanwhile
    /// nobody measures who waits for a CPU. Told once each time.
    ProbesShed {
        /// What they cost, in hundredths of a percent of one CPU.
        cost: Hundredths,
        /// What they may cost, likewise.
        budget: Hundredths,
    },
    /// A webhook endpoint said that it wants nothing any more: nothing is sent to it until it is enabled again.
    WebhookDisabled {
        /// The endpoint.
        endpoint: Name,
        /// What it said.
        why: String,
    },
    /// A profile came into force.
    ProfileActivated {
        /// The profile; absent when one was deactivated without a successor.
        profile: Option<Name>,
    },
    /// A configuration was loaded, or refused and the last good one kept.
    ConfigurationChanged {
        /// What changed, or the error.
        detail: String,
        /// Whether it came into force.
        accepted: bool,
    },
    /// A backup was written.
    BackupCreated {
        /// Its name.
        name: Name,
        /// The archive.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// Whether it is encrypted.
        encrypted: bool,
    },
    /// Somebody asked over the control socket for what their role does not have.
    SecurityViolation {
        /// Effective uid of whoever asked.
        uid: u32,
        /// Effective gid.
        gid: u32,
        /// Their process, where the daemon can see it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        /// What they asked for.
        request: String,
        /// Why it was denied.
        why: String,
        /// How often this uid was denied something since it was told last, this time included.
        times: u64,
    },
    /// Sent on request, to test a receiver.
    Test {
        /// Free text.
        detail: String,
    },
}

/// Notices of versions that knew no number say nothing.
const fn one() -> usize {
    1
}

impl Notice {
    /// The type's name in the contract.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CriticalProcessDown { .. } => "critical_process_down",
            Self::CriticalProcessMissing { .. } => "critical_process_missing",
            Self::CriticalProcessRecovered { .. } => "critical_process_recovered",
            Self::CriticalProcessRestart { .. } => "critical_process_restart",
            Self::HealthCheckFailed { .. } => "health_check_failed",
            Self::HealthCheckRecovered { .. } => "health_check_recovered",
            Self::LatencySloViolated { .. } => "latency_slo_violated",
            Self::LatencySloRecovered { .. } => "latency_slo_recovered",
            Self::ThrottleApplied { .. } => "throttle_applied",
            Self::ThrottleAdjusted { .. } => "throttle_adjusted",
            Self::ThrottleFailed { .. } => "throttle_failed",
            Self::ThrottleRemoved { .. } => "throttle_removed",
            Self::ThrottleConflict { .. } => "throttle_conflict",
            Self::ProtectionFailed { .. } => "protection_failed",
            Self::EmergencyStop { .. } => "emergency_stop",
            Self::EmergencyResumed { .. } => "emergency_resumed",
            Self::EventsLost { .. } => "events_lost",
            Self::ProbesShed { .. } => "probes_shed",
            Self::WebhookDisabled { .. } => "webhook_disabled",
            Self::ProfileActivated { .. } => "profile_activated",
            Self::ConfigurationChanged { .. } => "configuration_changed",
            Self::BackupCreated { .. } => "backup_created",
            Self::SecurityViolation { .. } => "security_violation",
            Self::Test { .. } => "test",
        }
    }

    /// Whether it tells of this process.
    #[must_use]
    pub fn concerns(&self, key: ProcKey) -> bool {
        match self {
            Self::CriticalProcessDown { exit, .. } => exit.process.key == key,
            Self::CriticalProcessMissing { why: Absence::Changed { key: changed, .. }, .. } => {
                *changed == key
            }
            Self::CriticalProcessRecovered { how: Revival::ByOthers { key: new, .. }, .. } => *new == key,
            Self::ProtectionFailed { process, .. } => *process == key,
            Self::ThrottleApplied { processes, .. } => processes.iter().any(|(process, _)| *process == key),
            Self::CriticalProcessMissing { why: Absence::NeverStarted | Absence::Died, .. }
            | Self::CriticalProcessRecovered { how: Revival::NotRequired, .. }
            | Self::CriticalProcessRestart { .. }
            | Self::HealthCheckFailed { .. }
            | Self::HealthCheckRecovered { .. }
            | Self::LatencySloViolated { .. }
            | Self::LatencySloRecovered { .. }
            | Self::ThrottleAdjusted { .. }
            | Self::ThrottleFailed { .. }
            | Self::ThrottleRemoved { .. }
            | Self::ThrottleConflict { .. }
            | Self::EmergencyStop { .. }
            | Self::EmergencyResumed { .. }
            | Self::EventsLost { .. }
            | Self::ProbesShed { .. }
            | Self::WebhookDisabled { .. }
            | Self::ProfileActivated { .. }
            | Self::ConfigurationChanged { .. }
            | Self::BackupCreated { .. }
            | Self::SecurityViolation { .. }
            | Self::Test { .. } => false,
        }
    }
}
