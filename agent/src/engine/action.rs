//! What the engine wants done.

use serde::{Deserialize, Serialize};

use crate::model::critical::{HealthCheck, Protection, RestartBy};
use crate::model::id::{Name, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::notice::Notice;
use crate::model::policy::Zone;
pub use crate::model::process::Wants;
use crate::model::reason::Reason;
use crate::model::reservation::Reservation;
use crate::model::time::Timestamp;

/// Number of an action, rising by one from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ActionId(pub u64);

/// One action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Action {
    /// Its number, by which its outcome is reported.
    pub id: ActionId,
    /// When it was decided.
    pub at: Timestamp,
    /// What to do.
    #[serde(flatten)]
    pub what: What,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum What {
    /// Read these facts of a process and answer with `Input::Inspected`.
    Inspect {
        /// The process.
        key: ProcKey,
        /// The facts that rules still need.
        wants: Wants,
    },
    /// Bring limits into force. Answered by an outcome.
    Apply(Apply),
    /// Restore prior values and remove the group. Answered by an outcome.
    Release {
        /// The group.
        group: Name,
        /// Why.
        reason: Reason,
    },
    /// Take one process out of a group: move it back, restore its own knobs. Answered by an outcome.
    Detach {
        /// The group.
        group: Name,
        /// The process.
        key: ProcKey,
        /// Why.
        reason: Reason,
    },
    /// Release the group if no process is left in it. Answered by `Released` or `Busy`.
    Reap {
        /// The group.
        group: Name,
    },
    /// Restore everything at once, and limit nothing until `Resume`. Answered by an outcome.
    Lift,
    /// Limit again.
    Resume,
    /// Report this process's events on the priority ring from now on, or no longer.
    Watch {
        /// The process.
        key: ProcKey,
        /// From now on, or no longer.
        on: bool,
        /// Whether the executor must refuse to limit it from now on; never when it is not watched. Told anew
        /// when it changes.
        protected: bool,
    },
    /// Protect an instance of a critical process. Answered by an outcome.
    Protect {
        /// The name under which it is recorded.
        group: Name,
        /// The process.
        key: ProcKey,
        /// What it is an instance of.
        critical: Name,
        /// What it is to have.
        protection: Protection,
    },
    /// Take back what protection has changed. Answered by an outcome.
    Unprotect {
        /// The name under which it is recorded.
        group: Name,
        /// The process, which may have ended.
        key: ProcKey,
    },
    /// Take from a process what it inherited from one that is protected. Answered by an outcome.
    Disinherit {
        /// The name under which the protection is recorded.
        group: Name,
        /// The process.
        key: ProcKey,
        /// The protected one.
        from: ProcKey,
    },
    /// Give the cgroup that a critical process has to itself its share of the machine, without moving anybody.
    /// Answered by an outcome.
    Reserve {
        /// The name under which it is recorded.
        group: Name,
        /// The critical process.
        critical: Name,
        /// What it is to have.
        reservation: Reservation,
        /// Its instances; those for which it holds already are not repeated.
        members: Vec<ProcKey>,
    },
    /// Take back what a reservation has changed. Answered by an outcome.
    Unreserve {
        /// The name under which it is recorded.
        group: Name,
        /// The critical process.
        critical: Name,
    },
    /// Rebuild the process table from a full snapshot.
    Resync,
    /// Measure this and answer with `Input::Sample`.
    Sample(SampleWants),
    /// Measure from now on how long these wait for a CPU, and nobody else, and tell with `Input::Waited`.
    Listen {
        /// Whom; nobody: measure nothing.
        to: Vec<Listener>,
    },
    /// Ask a critical process whether it works, and answer with `Input::Checked`.
    Check {
        /// Its name.
        name: Name,
        /// How.
        check: HealthCheck,
    },
    /// Bring a critical process back, and answer with `Input::Restarted`.
    Restart {
        /// Its name.
        name: Name,
        /// By what.
        by: RestartBy,
        /// Whether it may live, or was stopped on purpose: it is restarted in any case.
        force: bool,
    },
    /// Tell users.
    Notify {
        /// What.
        notice: Notice,
    },
}

impl Apply {
    /// Whether it is what a critical process gets, for which nobody is moved.
    #[must_use]
    pub fn is_of_protection(&self) -> bool {
        self.group.is_of_protection()
    }
}

impl What {
    /// The group that it is done to.
    #[must_use]
    pub const fn group(&self) -> Option<&Name> {
        match self {
            Self::Apply(apply) => Some(&apply.group),
            Self::Release { group, .. }
            | Self::Detach { group, .. }
            | Self::Reap { group }
            | Self::Protect { group, .. }
            | Self::Unprotect { group, .. }
            | Self::Disinherit { group, .. }
            | Self::Reserve { group, .. }
            | Self::Unreserve { group, .. } => Some(group),
            Self::Lift
            | Self::Resume
            | Self::Inspect { .. }
            | Self::Watch { .. }
            | Self::Resync
            | Self::Sample(_)
            | Self::Listen { .. }
            | Self::Check { .. }
            | Self::Restart { .. }
            | Self::Notify { .. } => None,
        }
    }
}

/// Whose waits for a CPU are to be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listener {
    /// The critical process.
    pub critical: Name,
    /// What its waits should not exceed, in µs: who had the CPUs is told when they do.
    pub objective_us: u64,
    /// Its instances, by pid.
    pub instances: Vec<ProcKey>,
}

/// What to measure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SampleWants {
    /// Pressure.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pressure: bool,
    /// How busy the CPUs are and for how long our quotas held tasks back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cpu: bool,
    /// Load.
    #[serde(default, skip_serializing_if = "is_false")]
    pub load: bool,
    /// CPU time used by these groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Name>,
    /// The wall clock in these zones; none: not at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<Zone>,
}

impl SampleWants {
    /// Whether nothing is to be measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Limits to bring into force on a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Apply {
    /// The group's name: the rule's, or the operator's choice.
    pub group: Name,
    /// The limits; writing them again over the same ones is harmless.
    pub limits: Limits,
    /// Shared or each.
    pub scope: Scope,
    /// Whether processes may be moved out of a cgroup that is not a hierarchy's root.
    pub allow_move: bool,
    /// Whether a whole systemd unit may be limited although other processes are in it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_unit: bool,
    /// Whether limits may be written to the cgroup in which the processes already are. True only when every
    /// known process of that cgroup belongs to the group; the effect checks it again.
    pub in_place: bool,
    /// Who else is known in that cgroup, when these few are all that keeps the limits out of it: one that has ended is
    /// not in the way, and its end may be told later than what began after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sharers: Vec<ProcKey>,
    /// Whether values are written even where the limits are known to be in force: somebody changed them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rewrite: bool,
    /// The processes to bring in; those already in it are not repeated.
    pub members: Vec<ProcKey>,
    /// Why.
    pub reason: Reason,
    /// The exec or the request that caused it, for the latency.
    pub caused_at: Timestamp,
}
