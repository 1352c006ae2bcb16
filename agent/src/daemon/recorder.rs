//! Hands the engine's inputs to whoever records. Costs one atomic load per turn while nobody does.

use std::sync::PoisonError;

use bytes::Bytes;

use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::server::Answer;
use crate::control::stream::{Line, Publisher};
use crate::daemon::command::Command;
use crate::daemon::requests::Office;
use crate::engine::input::Input;
use crate::model::time::Timestamp;
use crate::source::record::{Entry, Header};

/// The engine thread's end of the recordings.
#[derive(Clone, Debug)]
pub struct Recorder {
    lines: Publisher,
}

impl Recorder {
    /// Publishes to `lines`.
    #[must_use]
    pub const fn new(lines: Publisher) -> Self {
        Self { lines }
    }

    /// Whether anybody records.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.lines.has_readers()
    }

    /// Hands over one input.
    pub fn take(&self, at: Timestamp, input: &Input) {
        match serde_json::to_vec(&Entry { at, input: input.clone() }) {
            Ok(json) => self.lines.publish(Line { kind: "", json: Bytes::from(json) }),
            Err(error) => tracing::error!(%error, "an input cannot be recorded"),
        }
    }
}

impl Office {
    /// Begins a recording: a stream of its lines.
    ///
    /// # Errors
    /// When the boot's id cannot be read, or the engine does not answer.
    pub async fn record(&self) -> Result<Answer, Failure> {
        let boot = self
            .proc
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .boot_id()
            .map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
        let header = Header::new(boot, clock::unix_millis(clock::wall()), clock::now(), &self.source);
        let head =
            serde_json::to_vec(&header).map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
        let lines = self.recordings.subscribe(vec![head.into()], None);
        // From here on inputs are recorded; a full snapshot makes the recording complete from its beginning.
        self.ask(Command::Resync).await?;
        Ok(Answer::Stream(lines))
    }
}
