//! What requests and replies carry about webhook endpoints and deliveries. Plain data, stable within `v1`.

use serde::{Deserialize, Serialize};

use crate::model::delivery::DeliveryState;
use crate::model::id::Name;

/// Most deliveries that one request returns.
pub const DELIVERIES_MAX: u32 = 1_000;

/// How an endpoint fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookState {
    /// Its name.
    pub endpoint: Name,
    /// Whether the configuration has it switched on.
    pub enabled: bool,
    /// Why nothing is sent to it although it is switched on: it said that it wants nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<String>,
    /// Whether it failed so often in a row that it is only probed.
    pub breaker: BreakerState,
    /// Failed attempts in a row.
    pub failures: u32,
    /// Until when it is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<jiff::Timestamp>,
    /// Deliveries that are owed to it.
    pub pending: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// What came of attempts since the start of the daemon.
    pub attempts: AttemptCounts,
    /// Deliveries that were given up since the start of the daemon.
    pub given_up: u64,
    /// How long the last attempt took, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_latency_ms: Option<u64>,
    /// The status of the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// Why the last attempt failed; absent when it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Whether an endpoint is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakerState {
    /// It gets what is owed to it.
    Closed,
    /// It is only probed.
    Open,
}

/// Attempts by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptCounts {
    /// Accepted.
    pub delivered: u64,
    /// Failed, or put off by the receiver.
    pub failed: u64,
    /// Rejected by the receiver.
    pub rejected: u64,
}

/// Send a test event to an endpoint, past its queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookTest {
    /// The endpoint.
    pub endpoint: Name,
}

/// What came of a test event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WebhookTested {
    /// The endpoint.
    pub endpoint: Name,
    /// The event's id.
    pub event: String,
    /// Whether it was accepted.
    pub delivered: bool,
    /// The attempt.
    #[serde(flatten)]
    pub attempt: AttemptStatus,
}

/// An attempt at a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AttemptStatus {
    /// When it ended.
    pub at: jiff::Timestamp,
    /// The answer's status; absent when there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long it took, in ms.
    pub latency_ms: u64,
    /// What went wrong; absent when it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The beginning of the answer's body; what is no UTF-8 is replaced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
}

/// Which deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryQuery {
    /// To this endpoint only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Name>,
    /// In this state only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// Recorded no earlier than this, in ms since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// The newest so many; at most [`DELIVERIES_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeliveryStatus {
    /// Its number: the order in which its endpoint gets it.
    pub id: i64,
    /// The event's id, the same on every attempt.
    pub event: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// What became of it.
    pub state: DeliveryState,
    /// When it was recorded.
    pub created: jiff::Timestamp,
    /// Attempts by the schedule.
    pub attempts: u32,
    /// When it is tried next by the schedule; absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<jiff::Timestamp>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Size of the body in bytes.
    pub bytes: u64,
}

/// A delivery with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeliveryDetail {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: DeliveryStatus,
    /// What is sent.
    pub body: String,
    /// The attempts, oldest first.
    pub history: Vec<AttemptStatus>,
}

/// Owe deliveries again, as if they had never been tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookReplay {
    /// Which.
    pub which: Replayed,
    /// Only tell how many.
    #[serde(default)]
    pub dry_run: bool,
}

/// See [`WebhookReplay`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replayed {
    /// This one.
    Id(i64),
    /// All that these conditions select.
    Matching(DeliveryQuery),
}

/// Answer to a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WebhookReplayed {
    /// Deliveries that are owed again.
    pub deliveries: u64,
    /// Nothing was done.
    pub dry_run: bool,
}
