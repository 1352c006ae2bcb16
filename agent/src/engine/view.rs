//! What the engine shows of itself: plain data for `status`, `explain`, `profile plan` and metrics.

mod critical;

use serde::{Deserialize, Serialize};

pub use self::critical::{CriticalView, HealthView, RestartState, RestartView};
use crate::model::critical::Protection;
use crate::model::id::{Name, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::notice::Clash;
use crate::model::policy::{Policy, When};
use crate::model::process::{Comm, Process};
use crate::model::reason::{Reading, Reason};
use crate::model::reservation::Reservation;
use crate::model::time::Timestamp;

/// The whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The active profile.
    pub profile: Option<Name>,
    /// Groups, by name.
    pub groups: Vec<GroupView>,
    /// Enabled rules of the profile that hold under conditions only, by name.
    pub conditions: Vec<ConditionView>,
    /// Rules and groups over whose policy an operator has put another, by name.
    pub overrides: Vec<Name>,
    /// Critical processes of the profile, by name.
    pub critical: Vec<CriticalView>,
    /// Totals since the engine was made, and the present size of the table.
    pub counts: Counts,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Its name.
    pub name: Name,
    /// The rule that made it; absent for one made by hand.
    pub rule: Option<Name>,
    /// The name of the rule, or the one by which it was made by hand; its own but for groups of one process.
    pub base: Name,
    /// How far it has got.
    pub state: GroupState,
    /// What it imposes now.
    pub limits: Limits,
    /// How its limits move; absent when they do not.
    pub motion: Option<MotionView>,
    /// Shared or each.
    pub scope: Scope,
    /// Why it exists.
    pub reason: Reason,
    /// When it was made.
    pub created: Timestamp,
    /// Since when the limits hold.
    pub in_force: Option<Timestamp>,
    /// How: the rung of the ladder, in words.
    pub how: Option<String>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The error of the last try, while it stands.
    pub error: Option<String>,
    /// Values of ours that somebody else has changed and holds.
    pub conflicts: Vec<Clash>,
    /// Its processes, by pid.
    pub members: Vec<MemberView>,
}

/// How the limits of a group move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MotionView {
    /// The policy.
    pub policy: Policy,
    /// The name by which an operator can put another over it: the rule's, or that of the group made by hand.
    pub target: Name,
    /// The limits as they are written: where a ramp ends, or what holds outside of all windows.
    pub written: Limits,
    /// When the limits changed last.
    pub changed: Option<Timestamp>,
    /// What decided about them last.
    pub readings: Vec<Reading>,
}

/// A rule that holds under conditions only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionView {
    /// The rule.
    pub rule: Name,
    /// The conditions as they are written; absent when they are the windows of its policy.
    pub when: Option<When>,
    /// Whether they hold.
    pub holds: bool,
    /// Since when it is so.
    pub since: Option<Timestamp>,
    /// What was measured last.
    pub readings: Vec<Reading>,
}

/// How far a group has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// Limits are being brought into force.
    Pending,
    /// Limits are in force.
    Active,
    /// Nothing is limited for now: it gives way when it has to.
    Resting,
    /// The last try failed; it is tried again.
    Failing,
    /// Prior values are being restored.
    Releasing,
}

/// A process in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// The process.
    pub key: ProcKey,
    /// Its name when it came in.
    pub comm: Comm,
    /// How it came in.
    pub membership: Membership,
    /// Since when the limits hold for it.
    pub limited: Option<Timestamp>,
}

/// How a process came into a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// The rule matches it.
    Matched,
    /// It was born in the group, or matched before it ran another program.
    Inherited,
    /// By hand.
    Manual,
}

/// Totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Live processes known.
    pub processes: u64,
    /// Events taken in.
    pub events: u64,
    /// Exits among them.
    pub exits: u64,
    /// Exits of processes that were not known: short lives.
    pub short_lives: u64,
    /// Events about the past: late, repeated or overtaken.
    pub stale: u64,
    /// Processes that ended unseen: their pid was reused, or a snapshot missed them.
    pub missed_exits: u64,
    /// Processes dropped from a full table, and newcomers that found no place.
    pub evicted: u64,
    /// Evaluations of the rules.
    pub evaluations: u64,
    /// Processes brought into a group by a rule.
    pub matches: u64,
    /// Questions asked of `/proc`.
    pub inspections: u64,
    /// Limits brought into force.
    pub applied: u64,
    /// Groups released.
    pub released: u64,
    /// Actions that failed.
    pub failed: u64,
    /// Deaths of critical processes.
    pub critical_deaths: u64,
    /// Kernel records reported lost.
    pub lost: u64,
    /// Full snapshots asked for.
    pub resyncs: u64,
    /// Outcomes of unknown actions.
    pub odd_outcomes: u64,
}

/// Everything about one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The process.
    pub process: Process,
    /// Why it is never limited, if so.
    pub protected: Option<String>,
    /// Every critical process of the profile, in declared order.
    pub critical: Vec<Judgement>,
    /// Every rule of the profile, in the order in which they are tried.
    pub rules: Vec<Judgement>,
    /// The rule that owns it: the first that matches and that it may be limited by.
    pub owner: Option<Name>,
    /// What was done to it.
    pub limited: Option<Limited>,
    /// Why the executor refused to limit it, if so.
    pub refused: Option<String>,
    /// What is done to keep it alive.
    pub protection: Option<ProtectionView>,
    /// What is reserved for the critical process that it is an instance of.
    pub reservation: Option<ReservationView>,
}

/// What is reserved for the instances of a critical process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationView {
    /// What they are to have together.
    pub reservation: Reservation,
    /// Since when it holds; absent until it does.
    pub since: Option<Timestamp>,
    /// How: the rung of the ladder, in words.
    pub how: Option<String>,
    /// Why it does not hold, or not for all, if so.
    pub error: Option<String>,
}

/// What is done to keep a process alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectionView {
    /// The critical process that it is an instance of.
    pub critical: Name,
    /// What the profile states.
    pub protection: Protection,
    /// Since when it holds; absent until it does.
    pub since: Option<Timestamp>,
    /// Why it does not hold, if so.
    pub error: Option<String>,
}

/// One rule's word on a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The rule, or the critical process of the profile.
    pub name: Name,
    /// Priority; absent for critical processes.
    pub priority: Option<i32>,
    /// Whether it matches.
    pub answer: Answer,
    /// Which condition decided, in words.
    pub why: String,
}

/// Whether a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It matches.
    Yes,
    /// It does not.
    No,
    /// Facts are missing; it does not limit meanwhile.
    Unknown,
    /// It matches, but an operator released the process from it.
    Exempt,
    /// The rule is disabled.
    Disabled,
    /// It matches, but the rule's conditions do not hold at present.
    Dormant,
}

/// What was done to a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// The group that holds it.
    pub group: Name,
    /// How it came in.
    pub membership: Membership,
    /// What matched, in words.
    pub matched: String,
    /// Why the group exists.
    pub reason: Reason,
    /// What the group imposes.
    pub limits: Limits,
    /// Since when the limits hold for it; absent until they do.
    pub since: Option<Timestamp>,
    /// How: the rung of the ladder, in words.
    pub how: Option<String>,
    /// The error of the last try, while it stands.
    pub error: Option<String>,
}

/// What activating a profile would do to one process alive now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// The process.
    pub process: Process,
    /// What would be done.
    pub plan: Plan,
    /// Which condition decided, in words.
    pub why: String,
}

/// See [`PlanEntry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "plan", rename_all = "snake_case")]
pub enum Plan {
    /// Watched as critical; never limited either, unless it is critical for alerts only.
    Watch {
        /// The critical process of the profile.
        critical: Name,
    },
    /// Limited.
    Limit {
        /// The rule.
        rule: Name,
        /// The group.
        group: Name,
        /// The limits.
        limits: Limits,
    },
    /// Left alone although a rule matches it.
    Spare {
        /// The rule.
        rule: Name,
        /// Why it is left alone.
        because: String,
    },
}
