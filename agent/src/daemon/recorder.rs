//! Hands the engine's inputs to whoever records. Costs one atomic load per turn while nobody does.

use bytes::Bytes;

use crate::control::stream::{Line, Publisher};
use crate::engine::input::Input;
use crate::model::time::Timestamp;
use crate::source::record::Entry;

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
