//! Critical processes over the control socket. Plain data, stable within `v1`.

use serde::{Deserialize, Serialize};

use super::delay::CpuDelay;
use super::reply::Member;
use crate::model::circumstances::Circumstances;
use crate::model::critical::{Checked, RestartBy, RestartPolicy, RestartResult};
use crate::model::event::Status;
use crate::model::id::Name;
use crate::model::reservation::Reservation;

/// Restart a critical process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CriticalRestart {
    /// Its name in the active profile.
    pub name: Name,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// A critical process of the active profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CriticalStatus {
    /// Its name.
    pub name: Name,
    /// In a word: `up`, `down`, `unhealthy`, `restarting`, `given_up`.
    pub state: String,
    /// Its live processes, by pid.
    pub instances: Vec<Member>,
    /// How many there must be.
    pub wanted: usize,
    /// Since when there are fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<jiff::Timestamp>,
    /// Whether its deaths are so many that they are summed up.
    pub flapping: bool,
    /// Deaths since the profile came into force.
    pub deaths: u64,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_death: Option<CriticalDeath>,
    /// Its health; absent where it is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<CriticalHealth>,
    /// Its restarts; absent where nothing says how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<CriticalRestarts>,
    /// What is reserved for its instances; absent where nothing is, and while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<CriticalReservation>,
    /// What kept its instances from the CPUs of late, all of them together; absent when no daemon was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_delay: Option<CpuDelay>,
    /// Critical processes that it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Name>,
}

/// What is reserved for the instances of a critical process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CriticalReservation {
    /// What they are to have together.
    pub values: Reservation,
    /// Since when it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    /// How it is given, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// Why it does not hold, or not for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl std::fmt::Display for CriticalReservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { values, since, how, error } = self;
        write!(f, "{values}; ")?;
        match (error, since) {
            (Some(error), Some(_)) => write!(f, "in force, but {error}"),
            (Some(error), None) => write!(f, "not given: {error}"),
            (None, Some(_)) => write!(f, "in force: {}", how.as_deref().unwrap_or_default()),
            (None, None) => f.write_str("being given"),
        }
    }
}

/// A death.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CriticalDeath {
    /// Who died.
    pub process: Member,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<jiff::Timestamp>,
    /// How; absent where the event source does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// How in words, with who or what did it.
    pub how: String,
    /// How long it lived, in ms.
    pub lived_ms: u64,
    /// What the machine was like; absent for deaths that were summed up with others, except for the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circumstances: Option<Circumstances>,
}

/// The health of a critical process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CriticalHealth {
    /// What is asked.
    pub check: String,
    /// `healthy`, `unhealthy`, or `unknown` until it has been asked.
    pub state: String,
    /// Since when it is unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    /// Checks that failed in a row.
    pub failures: u32,
    /// When it was asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<jiff::Timestamp>,
    /// What was found then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Checked>,
}

/// The restarts of a critical process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CriticalRestarts {
    /// After which deaths.
    pub policy: RestartPolicy,
    /// By what.
    pub by: RestartBy,
    /// In words, such as `idle`, or `waits for postgres`.
    pub state: String,
    /// Attempts within the window.
    pub attempts: u32,
    /// Most of them.
    pub most: u32,
    /// The window, in ms.
    pub per_ms: u64,
    /// When it is restarted next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<jiff::Timestamp>,
    /// When the last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<jiff::Timestamp>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_result: Option<RestartResult>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_detail: Option<String>,
}

/// Answer to a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CriticalRestarted {
    /// Its name.
    pub name: Name,
    /// What was done, or would be, in words.
    pub how: String,
    /// Whether it goes on: the events will tell how it ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub under_way: bool,
    /// Whether nothing was changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
