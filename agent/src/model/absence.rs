//! Times at which there is less of a critical process than there must be, and deaths too many to tell.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::id::ProcKey;
use crate::model::process::Comm;

/// Why instances are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Absence {
    /// There were never enough since the profile came into force.
    NeverStarted,
    /// An instance died; that was told by itself.
    Died,
    /// An instance lives on as something else: it runs another program, or has another user.
    Changed {
        /// Which.
        key: ProcKey,
        /// Its name now.
        comm: Comm,
    },
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverStarted => f.write_str("it has not started since the profile came into force"),
            Self::Died => f.write_str("it has not come back since it died"),
            Self::Changed { key, comm } => write!(f, "pid {} is something else by now ({comm})", key.pid),
        }
    }
}

/// How a critical process came to be there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Revival {
    /// Somebody other than the agent started it.
    ByOthers {
        /// The instance that completed it.
        key: ProcKey,
        /// Its name.
        comm: Comm,
        /// Its parent's pid.
        parent: u32,
    },
    /// It need not be there any more: the profile asks for less of it, or does not name it.
    NotRequired,
}

/// Deaths in such a number that they are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Flapping {
    /// How many.
    pub deaths: u64,
    /// Those of them that no other notice tells of, because they were held back.
    pub held: u64,
    /// In which time.
    pub over: Duration,
}
