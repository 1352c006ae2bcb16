//! Values of ours that somebody else changed, and what is done about them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value of ours that somebody else changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Clash {
    /// The file or property that holds it, and the part of it.
    pub at: String,
    /// What we set.
    pub ours: String,
    /// What it is now.
    pub found: String,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, ours, found } = self;
        write!(f, "{at} was set to {found:?} by somebody else, instead of {ours:?}")
    }
}

/// What was done about a value that somebody else changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Theirs stays.
    Yielded,
    /// Ours is written again.
    Reasserted,
    /// Ours was written again and again: theirs stays now.
    GaveUp,
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yielded => "left so",
            Self::Reasserted => "written again",
            Self::GaveUp => "left so, after it had been written again several times",
        })
    }
}
