//! Alerts: conditions that begin, go on and end, as opposed to events that just happen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::id::Name;
use crate::model::notice::Notice;
use crate::model::trace::TraceContext;

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// It has begun, or got worse.
    Firing,
    /// It goes on and is told again.
    Repeated,
    /// Somebody looks after it: it is not repeated.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Repeated => "repeated",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// The alert that an event belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The same for all events of it, and for nothing else: type, subject and host. At most 255 bytes.
    pub key: String,
    /// Where it is.
    pub state: AlertState,
    /// When it began, in ms since the Unix epoch.
    pub since: i64,
    /// When it ended, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Events in it so far, those included that were held back.
    pub events: u64,
}

/// What a delivery tells.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The event's id: the same in the event stream and on every attempt.
    pub id: &'a str,
    /// What happened.
    pub notice: &'a Notice,
    /// When, in ms since the Unix epoch.
    pub unix_ms: i64,
    /// This host's name.
    pub host: &'a str,
    /// The alert that it belongs to; none: it just happened.
    pub alert: Option<&'a Alert>,
    /// How many alike events it tells of, of which this is the first; 1 unless they were held back to be told
    /// together.
    pub alike: u64,
    /// The span that it follows from, if it is traced.
    pub trace: Option<TraceContext>,
}

/// An alert as it is on record: what it is, and who knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its key and where it is.
    #[serde(flatten)]
    pub alert: Alert,
    /// Type of the event that began it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whom it is about; empty: the host.
    pub subject: String,
    /// Whether it could not be worse.
    pub grave: bool,
    /// Id of the event that began it.
    pub event: String,
    /// The latest event in it.
    pub notice: Notice,
    /// When that was, in ms since the Unix epoch.
    pub at: i64,
    /// Deliveries that had no event of their own: repetitions, mostly. Their ids are made of it.
    pub serial: u64,
    /// Times that it began again soon after it had ended.
    pub relapses: u32,
    /// Since when it has been over without that having been told, in ms since the Unix epoch: it comes and
    /// goes so often that calm is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calm_since: Option<i64>,
    /// Because of which critical process being down nobody has been told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back_by: Option<Name>,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
    /// Endpoints that were told that it stands, and when last, in ms since the Unix epoch.
    pub told: BTreeMap<Name, i64>,
}

/// Somebody looks after an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Uid of whoever said so.
    pub uid: u32,
    /// When, in ms since the Unix epoch.
    pub at: i64,
    /// When it lapses, likewise; none: with the alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// What else they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Alike events that an endpoint has not been told of yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The first of them; none: all were told, and this remembers when.
    pub first: Option<First>,
    /// How many there are.
    pub count: u64,
    /// When the first came, or when they were told, in ms since the Unix epoch.
    pub since: i64,
}

/// The first event of a [`Bundle`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct First {
    /// Its id.
    pub event: String,
    /// What happened.
    pub notice: Notice,
    /// When, in ms since the Unix epoch.
    pub at: i64,
}
