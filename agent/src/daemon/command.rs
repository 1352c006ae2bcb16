//! What the main thread asks of the engine thread.

use std::path::PathBuf;

use tokio::sync::oneshot;

use crate::control::failure::Failure;
use crate::control::proto::{
    CriticalRestarted, CriticalStatus, DaemonStatus, DynamicApplied, DynamicRemoved, DynamicStatus,
    Explanation, Plan, Released, Throttled,
};
use crate::daemon::delays::Placed;
use crate::daemon::figures::Figures;
use crate::engine::input::{ManualThrottle, ReleaseTarget, Remembered};
use crate::model::id::Name;
use crate::model::limits::Limits;
use crate::model::policy::Policy;
use crate::model::reason::Reason;
use crate::model::rule::Profile;
use crate::store::check::Inspection;

/// Where the answer goes; a caller that went away is no error.
pub type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// A command to the engine thread.
#[derive(Debug)]
pub enum Command {
    /// What the engine thread knows of the daemon's state.
    Status(Answer<DaemonStatus>),
    /// What metrics tell.
    Figures(Answer<Figures>),
    /// The throttled groups.
    Groups(Answer<Vec<Placed>>),
    /// Why a process is or is not limited.
    Explain {
        /// Its pid.
        pid: u32,
        /// The answer, without the past.
        answer: Answer<Explanation>,
    },
    /// What a profile would do to the processes alive now.
    Plan {
        /// The profile.
        profile: Box<Profile>,
        /// The answer.
        answer: Answer<Plan>,
    },
    /// Limit processes by hand.
    Throttle {
        /// What to do; every process named by its start as well.
        throttle: ManualThrottle,
        /// Only tell what would be done.
        dry_run: bool,
        /// Answered when the limits are in force.
        answer: Answer<Throttled>,
    },
    /// Limit again what operators asked for of an earlier agent. Answered when the limits are in force.
    Recall(Answer<()>),
    /// Release groups or processes.
    Release {
        /// Which.
        target: ReleaseTarget,
        /// Why.
        reason: Reason,
        /// Only tell what would be done.
        dry_run: bool,
        /// Answered when prior values are restored.
        answer: Answer<Released>,
    },
    /// Make this profile the active one, or none. Answered with the one before, when all its limits are in
    /// force; on a failure the one before is active again.
    Activate {
        /// The profile.
        profile: Option<Box<Profile>>,
        /// The answer.
        answer: Answer<Option<Name>>,
    },
    /// Lift everything and limit nothing, or limit again.
    Emergency {
        /// Why, to begin; none to end.
        stop: Option<String>,
        /// Whether it has been told: it was in force before the daemon was started.
        told: bool,
        /// Who asks.
        uid: u32,
        /// How many groups were limited, and what could not be lifted.
        answer: Answer<(usize, Vec<String>)>,
    },
    /// What changes limits over time, and under which conditions rules hold.
    Dynamics(Answer<Vec<DynamicStatus>>),
    /// Put a policy over that of a rule or a group made by hand.
    ApplyPolicy {
        /// The rule or the group.
        target: Name,
        /// The limits; absent: those it has.
        limits: Option<Limits>,
        /// The policy.
        policy: Policy,
        /// Who asked.
        reason: Reason,
        /// Only tell what would be done.
        dry_run: bool,
        /// Answered when what it says for now is in force.
        answer: Answer<DynamicApplied>,
    },
    /// Take away what was put there by hand.
    RemovePolicy {
        /// The rule or the group.
        target: Name,
        /// Who asked.
        reason: Reason,
        /// Only tell what would be done.
        dry_run: bool,
        /// Answered when what was before is in force.
        answer: Answer<DynamicRemoved>,
    },
    /// The critical processes and what is known of them.
    Criticals(Answer<Vec<CriticalStatus>>),
    /// Restart a critical process.
    RestartCritical {
        /// Its name.
        name: Name,
        /// Only tell what would be done.
        dry_run: bool,
        /// Answered when that has ended.
        answer: Answer<CriticalRestarted>,
    },
    /// What an earlier agent did about critical processes. Comes before the first profile.
    Remember {
        /// By critical process.
        restarts: Vec<Remembered>,
        /// Answered at once.
        answer: Answer<()>,
    },
    /// Copy the state, which the engine thread alone has open, to a file that does not exist.
    CopyState {
        /// The file.
        to: PathBuf,
        /// Answered when it is written.
        answer: Answer<()>,
    },
    /// Look the state over.
    CheckState(Answer<Inspection>),
    /// Rebuild the process table and re-evaluate; used when a recording begins, so that it starts complete.
    Resync(Answer<()>),
    /// End the thread: release or keep, then answer with what could not be released.
    Stop {
        /// Whether limits are released.
        release: bool,
        /// The answer.
        answer: Answer<Vec<String>>,
    },
}
