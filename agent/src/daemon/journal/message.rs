//! What the journal thread is told.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock;
use crate::control::failure::Failure;
use crate::model::alert::{Acknowledgement, Standing};
use crate::model::endpoint::Endpoint;
use crate::model::id::Name;
use crate::model::notice::Notice;
use crate::model::time::Timestamp;
use crate::model::trace::{Course, EVENT_PREFIX};

/// A message.
pub(super) enum Message {
    /// Something happened.
    Notice(Box<Entry>),
    /// Other endpoints.
    Endpoints(Vec<Endpoint>),
    /// Other critical processes, each with those that it needs.
    Watched(BTreeMap<Name, Vec<Name>>),
    /// These critical processes live.
    Alive(Vec<Name>),
    /// An alert of this type about this subject is over, which no event tells.
    Over { kind: &'static str, subject: String },
    /// Somebody looks after a critical process.
    Acknowledge(Acknowledge),
}

/// See [`Message::Acknowledge`].
pub(super) struct Acknowledge {
    pub(super) name: Name,
    pub(super) by: Acknowledgement,
    pub(super) time: Option<Duration>,
    /// The alerts that are acknowledged, once that is on the disk.
    pub(super) answer: Answer,
}

/// Where the acknowledged alerts are waited for.
pub(super) type Answer = oneshot::Sender<Result<Vec<Standing>, Failure>>;

/// A notice with its id and time.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) unix_ms: i64,
    pub(super) notice: Notice,
    /// When it happened.
    pub(super) at: Timestamp,
    /// How the action went that it tells of, where that is known.
    pub(super) course: Option<Course>,
}

impl Entry {
    /// Version 7 ids sort by time; the same id names the event in the stream and in every delivery.
    pub(super) fn new(at: Timestamp, notice: Notice) -> Self {
        let id = format!("{EVENT_PREFIX}{}", uuid::Uuid::now_v7().simple());
        Self { id, unix_ms: clock::unix_millis(clock::wall_at(at)), notice, at, course: None }
    }
}
