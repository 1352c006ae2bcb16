//! Alerts: conditions that begin, go on and end, as opposed to events that just happen.

use serde::{Deserialize, Serialize};

use crate::model::notice::Notice;

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
}
