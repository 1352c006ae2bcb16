//! Events as streams and lists carry them. Plain data, stable within `v1`.

use serde::{Deserialize, Serialize};

use crate::model::notice::{Notice, Severity};

/// An event of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventRecord {
    /// Rises with every event, also across restarts of the daemon.
    pub seq: u64,
    /// When.
    pub at: jiff::Timestamp,
    /// How bad.
    pub severity: Severity,
    /// The same in words.
    pub text: String,
    /// The facts, with `type`.
    #[serde(flatten)]
    pub notice: Notice,
}

impl EventRecord {
    /// A record of a notice.
    #[must_use]
    pub fn new(seq: u64, at: jiff::Timestamp, notice: Notice) -> Self {
        Self { seq, at, severity: notice.severity(), text: notice.to_string(), notice }
    }
}

/// Why a stream ended early: its last line, `{"type":"stream_cut","lost":N}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StreamEnd {
    /// The reader was too slow and this many lines are lost to it.
    StreamCut {
        /// Lines.
        lost: u64,
    },
}

/// Which past events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventQuery {
    /// Not older than this, in ms since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Of this kind only (`Notice::kind`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The newest so many; at most [`super::EVENTS_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Which coming events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FollowQuery {
    /// Of this kind only (`Notice::kind`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}
