//! Recordings: inputs with their times, as JSON lines, and how they are run through an engine.

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::engine::action::Action;
use crate::engine::input::Input;
use crate::model::time::Timestamp;

/// One line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// When the input was handed over.
    pub now: Timestamp,
    /// The input.
    #[serde(flatten)]
    pub input: Input,
}

/// Hands one recorded input to the engine, after everything that was due before it, and returns what the
/// engine wants done. The same recording gives the same actions.
pub fn step(engine: &mut Engine, recorded: Recorded) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some(due) = engine.poll_timeout().filter(|due| *due <= recorded.now) {
        engine.handle_timeout(due);
        actions.extend(std::iter::from_fn(|| engine.next_action()));
    }
    engine.handle(recorded.input, recorded.now);
    actions.extend(std::iter::from_fn(|| engine.next_action()));
    actions
}
