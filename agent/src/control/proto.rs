//! What is said over the control socket. Plain data: no I/O and no policy.
//!
//! The JSON is a public interface, stable within `v1`: fields may be added, never renamed or removed.

mod alert;
mod backup;
mod critical;
mod delay;
mod event;
mod latency;
mod moving;
mod reply;
mod webhooks;

use serde::{Deserialize, Serialize};

use crate::model::id::{Name, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::policy::Policy;
use crate::telemetry::Family;

pub use alert::{Acknowledge, Acknowledged, AcknowledgedBy, AlertStatus, COMMENT_MAX, TIME_MAX_MS, ToldTo};
pub use backup::{BackUp, BackedUp, DatabaseState, DatabaseVerdict};
pub use critical::{
    CriticalDeath, CriticalHealth, CriticalReservation, CriticalRestart, CriticalRestarted, CriticalRestarts,
    CriticalStatus,
};
pub use delay::{CpuDelay, HeldTime, WaitedTime};
pub use event::{EventQuery, EventRecord, FollowQuery, StreamEnd};
pub use latency::{Holder, LOOK_MAX_MS, Latency, LatencyLook, LatencyOf, LatencyTarget};
pub use moving::{
    DynamicApplied, DynamicApply, DynamicRemove, DynamicRemoved, DynamicStatus, Moving, PolicyStatus,
};
pub use reply::{
    Activated, ActiveProfile, DaemonState, DaemonStatus, EmergencyStatus, Explanation, Feature, FeatureState,
    GroupStatus, Member, Plan, PlannedCritical, PlannedRule, Refused, Released, Reloaded, RuleVerdict,
    SourceStatus, Throttled,
};
pub use webhooks::{
    AttemptCounts, AttemptStatus, BreakerState, DELIVERIES_MAX, DeliveryDetail, DeliveryQuery,
    DeliveryStatus, Replayed, WebhookReplay, WebhookReplayed, WebhookState, WebhookTest, WebhookTested,
};

/// Version of the JSON, in every reply.
pub const API_VERSION: &str = "v1";

/// Longest request body in bytes.
pub const BODY_MAX: usize = 256 * 1024;

/// Most events that one `events` request returns.
pub const EVENTS_MAX: usize = 10_000;

/// Most processes that one `throttle` request names.
pub const PROCESSES_MAX: usize = 4_096;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `GET /v1/status`: answered by [`Reply::Status`].
    Status,
    /// `GET /v1/groups`: answered by [`Reply::Groups`].
    Groups,
    /// `POST /v1/throttle`: answered by [`Reply::Throttled`].
    Throttle(Throttle),
    /// `POST /v1/release`: answered by [`Reply::Released`].
    Release(Release),
    /// `GET /v1/explain/{pid}`: answered by [`Reply::Explanation`].
    Explain {
        /// The process now behind this pid.
        pid: u32,
    },
    /// `POST /v1/plan`: answered by [`Reply::Plan`].
    Plan {
        /// A profile of the configuration directory.
        profile: Name,
    },
    /// `POST /v1/activate`: answered by [`Reply::Activated`].
    Activate(Activate),
    /// `POST /v1/deactivate`: answered by [`Reply::Activated`].
    Deactivate(DryRun),
    /// `GET /v1/profile`: answered by [`Reply::Profile`].
    ActiveProfile,
    /// `GET /v1/events`: answered by [`Reply::Events`].
    Events(EventQuery),
    /// `GET /v1/follow`: answered by a stream of [`EventRecord`] lines.
    Follow(FollowQuery),
    /// `GET /v1/record`: answered by a stream: the lines of a recording (`source::record`).
    Record,
    /// `POST /v1/emergency`: answered by [`Reply::Emergency`].
    Emergency(Emergency),
    /// `GET /v1/dynamic`: answered by [`Reply::Dynamics`].
    Dynamics,
    /// `POST /v1/dynamic/apply`: answered by [`Reply::DynamicApplied`].
    DynamicApply(DynamicApply),
    /// `POST /v1/dynamic/remove`: answered by [`Reply::DynamicRemoved`].
    DynamicRemove(DynamicRemove),
    /// `GET /v1/webhooks/state`: answered by [`Reply::WebhookStates`].
    WebhookStates,
    /// `GET /v1/webhooks/deliveries`: answered by [`Reply::Deliveries`].
    Deliveries(DeliveryQuery),
    /// `GET /v1/webhooks/deliveries/{id}`: answered by [`Reply::Delivery`].
    Delivery {
        /// Its number.
        id: i64,
    },
    /// `POST /v1/webhooks/test`: answered by [`Reply::WebhookTested`].
    WebhookTest(WebhookTest),
    /// `POST /v1/webhooks/replay`: answered by [`Reply::WebhookReplayed`].
    WebhookReplay(WebhookReplay),
    /// `GET /v1/critical`: answered by [`Reply::Criticals`].
    Criticals,
    /// `POST /v1/critical/restart`: answered by [`Reply::CriticalRestarted`].
    CriticalRestart(CriticalRestart),
    /// `POST /v1/reload`: answered by [`Reply::Reloaded`].
    Reload(DryRun),
    /// `GET /v1/alerts`: answered by [`Reply::Alerts`].
    Alerts,
    /// `POST /v1/alerts/acknowledge`: answered by [`Reply::Acknowledged`].
    Acknowledge(Acknowledge),
    /// `POST /v1/backup`: answered by [`Reply::BackedUp`].
    BackUp(BackUp),
    /// `POST /v1/latency`: answered by [`Reply::Latency`].
    Latency(LatencyLook),
    /// `GET /v1/state`: answered by [`Reply::State`].
    State,
    /// `GET /v1/metrics`, and as text `GET /metrics`: answered by [`Reply::Metrics`].
    Metrics,
}

/// Whether to change anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DryRun {
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// Begin or end an emergency stop, or tell of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emergency {
    /// What to do.
    pub order: EmergencyOrder,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// See [`Emergency`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmergencyOrder {
    /// Lift everything, and limit nothing until resumed.
    Stop {
        /// Why; at most 1024 bytes.
        reason: String,
    },
    /// Limit again.
    Resume,
    /// Tell whether one is in force.
    Tell,
}

/// A process named by whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcRef {
    /// Its pid.
    pub pid: u32,
    /// Its start in ticks since boot, so that a successor with the same pid is not taken for it. Without
    /// it, whatever process has the pid when the request arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
}

impl From<ProcKey> for ProcRef {
    fn from(key: ProcKey) -> Self {
        Self { pid: key.pid, start: Some(key.start) }
    }
}

/// Limit processes by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// The processes: 1 to [`PROCESSES_MAX`].
    pub processes: Vec<ProcRef>,
    /// The limits, at least one unless the policy has some.
    pub limits: Limits,
    /// How they change over time.
    #[serde(default, skip_serializing_if = "Policy::is_fixed")]
    pub policy: Policy,
    /// The group; absent: one named after the first pid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Shared or each.
    #[serde(default)]
    pub scope: Scope,
    /// Whether processes may be moved out of a systemd unit that others share.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_move: bool,
    /// Whether a whole systemd unit may be limited although other processes are in it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_unit: bool,
    /// When it ends by itself, in ms from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl Throttle {
    /// Whether processes may be moved. Without systemd nobody minds: whoever names processes by hand means them
    /// wherever they are.
    #[must_use]
    pub const fn may_move(&self, systemd: bool) -> bool {
        self.allow_move || !systemd
    }
}

/// Restore prior values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Of what.
    pub target: ReleaseOf,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What to release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseOf {
    /// Everything.
    All,
    /// One group.
    Group(Name),
    /// The groups of a rule.
    Rule(Name),
    /// One process, out of whichever group holds it.
    Process(ProcRef),
}

/// Bring a profile into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// A profile of the configuration directory.
    pub profile: Name,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanOf {
    /// A profile of the configuration directory.
    pub profile: Name,
}

/// Envelope of every reply. A client reads a [`Reply`] from the same text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<T> {
    /// [`API_VERSION`].
    pub api_version: &'static str,
    /// `kind` and `data`.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Envelope<T> {
    /// In the present version.
    pub fn new(body: T) -> Self {
        Self { api_version: API_VERSION, body }
    }
}

/// A reply. In JSON: `{"apiVersion": "v1", "kind": "Status", "data": …}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
pub enum Reply {
    /// State of the daemon.
    Status(Box<DaemonStatus>),
    /// Throttled groups, by name.
    Groups(Vec<GroupStatus>),
    /// Limits are in force, or would be.
    Throttled(Box<Throttled>),
    /// Groups were released, or would be.
    Released(Released),
    /// Why a process is or is not limited.
    Explanation(Box<Explanation>),
    /// What activating would do.
    Plan(Plan),
    /// A profile came into or went out of force, or would.
    Activated(Activated),
    /// The profile in force.
    Profile(ActiveProfile),
    /// Past events, oldest first.
    Events(Vec<EventRecord>),
    /// Whether an emergency stop is in force.
    Emergency(EmergencyStatus),
    /// What changes by itself.
    Dynamics(Vec<DynamicStatus>),
    /// A policy was put over another, or would be.
    DynamicApplied(Box<DynamicApplied>),
    /// A policy by hand was taken away, or would be.
    DynamicRemoved(DynamicRemoved),
    /// How webhook endpoints fare.
    WebhookStates(Vec<WebhookState>),
    /// Deliveries, newest first.
    Deliveries(Vec<DeliveryStatus>),
    /// A delivery.
    Delivery(Box<DeliveryDetail>),
    /// What came of a test event.
    WebhookTested(WebhookTested),
    /// Deliveries are owed again, or would be.
    WebhookReplayed(WebhookReplayed),
    /// The critical processes, by name.
    Criticals(Vec<CriticalStatus>),
    /// A critical process was restarted, or would be.
    CriticalRestarted(CriticalRestarted),
    /// The configuration was read again.
    Reloaded(Reloaded),
    /// Alerts that stand, and those that ended a short while ago, by key.
    Alerts(Vec<AlertStatus>),
    /// Somebody looks after alerts now, or would.
    Acknowledged(Acknowledged),
    /// A backup was made, or would be.
    BackedUp(BackedUp),
    /// The databases, looked over.
    State(Vec<DatabaseState>),
    /// How long processes waited for a CPU.
    Latency(Box<Latency>),
    /// Every metric with its series, in the order of the reference.
    Metrics(Vec<Family>),
    /// It did not work.
    Failure(super::failure::Failure),
}

macro_rules! replies {
    ($($kind:ident is $data:ty),+ $(,)?) => {$(
        impl TryFrom<Reply> for $data {
            type Error = Box<Reply>;

            /// Gives a reply of another kind back.
            fn try_from(reply: Reply) -> Result<Self, Box<Reply>> {
                if let Reply::$kind(data) = reply { Ok(data) } else { Err(Box::new(reply)) }
            }
        }
    )+};
}
replies! {
    Status is Box<DaemonStatus>,
    Groups is Vec<GroupStatus>,
    Throttled is Box<Throttled>,
    Released is Released,
    Explanation is Box<Explanation>,
    Plan is Plan,
    Activated is Activated,
    Profile is ActiveProfile,
    Events is Vec<EventRecord>,
    Emergency is EmergencyStatus,
    Dynamics is Vec<DynamicStatus>,
    DynamicApplied is Box<DynamicApplied>,
    DynamicRemoved is DynamicRemoved,
    WebhookStates is Vec<WebhookState>,
    Deliveries is Vec<DeliveryStatus>,
    Delivery is Box<DeliveryDetail>,
    WebhookTested is WebhookTested,
    WebhookReplayed is WebhookReplayed,
    Criticals is Vec<CriticalStatus>,
    CriticalRestarted is CriticalRestarted,
    Reloaded is Reloaded,
    Alerts is Vec<AlertStatus>,
    Acknowledged is Acknowledged,
    BackedUp is BackedUp,
    State is Vec<DatabaseState>,
    Latency is Box<Latency>,
    Metrics is Vec<Family>,
}
