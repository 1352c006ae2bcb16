//! Alerts over the control socket. Plain data, stable within `v1`.

use serde::{Deserialize, Serialize};

use crate::model::alert::{AlertState, Standing};
use crate::model::id::Name;
use crate::model::notice::Severity;

/// Longest comment of an acknowledgement in bytes.
pub const COMMENT_MAX: usize = 1_024;
/// Longest time of an acknowledgement in ms: a year.
pub const TIME_MAX_MS: u64 = 366 * 24 * 3_600_000;

/// Somebody looks after the alerts of a critical process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// The critical process.
    pub name: Name,
    /// For how long, in ms from now, at most [`TIME_MAX_MS`]; absent: until the alert ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// What else there is to say; at most [`COMMENT_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer to [`Acknowledge`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Acknowledged {
    /// The alerts, as they are now.
    pub alerts: Vec<AlertStatus>,
    /// Nothing was done.
    pub dry_run: bool,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertStatus {
    /// The same in every event and delivery of it.
    pub key: String,
    /// Type of the event that began it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The critical process or group; empty: the host.
    pub subject: String,
    /// Where it is.
    pub state: AlertState,
    /// How bad.
    pub severity: Severity,
    /// The latest event in it, in words.
    pub text: String,
    /// Since when.
    pub since: jiff::Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
    /// Events in it so far.
    pub events: u64,
    /// The critical process that it needs and that is down: nobody is told meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back_by: Option<Name>,
    /// Since when it has been over without that having been told, because it comes and goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calm_since: Option<jiff::Timestamp>,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<AcknowledgedBy>,
    /// Endpoints that were told that it stands, and when last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<ToldTo>,
}

/// Who looks after an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AcknowledgedBy {
    /// Uid of whoever said so.
    pub uid: u32,
    /// When.
    pub at: jiff::Timestamp,
    /// When it lapses; absent: with the alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
    /// What else they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// An endpoint that was told of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ToldTo {
    /// The endpoint.
    pub endpoint: Name,
    /// When last.
    pub at: jiff::Timestamp,
}

impl From<Standing> for AlertStatus {
    fn from(standing: Standing) -> Self {
        let Standing {
            alert,
            kind,
            subject,
            grave: _,
            event: _,
            notice,
            at: _,
            serial: _,
            relapses: _,
            calm_since,
            held_back_by,
            acknowledged,
            told,
        } = standing;
        Self {
            key: alert.key,
            kind,
            subject,
            state: alert.state,
            severity: notice.severity(),
            text: notice.to_string(),
            since: moment(alert.since),
            until: alert.until.map(moment),
            events: alert.events,
            held_back_by,
            calm_since: calm_since.map(moment),
            acknowledged: acknowledged.map(|by| AcknowledgedBy {
                uid: by.uid,
                at: moment(by.at),
                until: by.until.map(moment),
                comment: by.comment,
            }),
            told: told.into_iter().map(|(endpoint, at)| ToldTo { endpoint, at: moment(at) }).collect(),
        }
    }
}

fn moment(unix_ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}
