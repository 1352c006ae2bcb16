//! What the engine shows of critical processes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ReservationView;
use crate::model::critical::{Checked, RestartBy, RestartPolicy, RestartResult};
use crate::model::death::Toll;
use crate::model::event::Exit;
use crate::model::id::{Name, ProcKey};
use crate::model::time::Timestamp;

/// A critical process of the profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CriticalView {
    /// Its name.
    pub name: Name,
    /// Its live processes, by pid.
    pub instances: Vec<ProcKey>,
    /// Deaths since the profile was activated.
    pub deaths: u64,
    /// The same by cause.
    #[serde(default)]
    pub toll: Toll,
    /// The last death.
    pub last_death: Option<Exit>,
    /// How many instances there must be.
    pub wanted: usize,
    /// Since when there are fewer, if that is to be told.
    pub absent_since: Option<Timestamp>,
    /// Whether its deaths are so many that they are summed up.
    pub flapping: bool,
    /// Its health, where it is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthView>,
    /// Its restarts, where something says how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartView>,
    /// What is reserved for its instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<ReservationView>,
    /// Whether it is told that its objective for waits is violated; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_violated: Option<bool>,
}

/// The health of a critical process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthView {
    /// Since when it is not healthy.
    pub unhealthy_since: Option<Timestamp>,
    /// Checks that failed in a row.
    pub failures: u32,
    /// The last check, and what it found.
    pub last: Option<(Timestamp, Checked)>,
    /// When it is checked next.
    pub next: Option<Timestamp>,
}

/// The restarts of a critical process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartView {
    /// After which deaths.
    pub policy: RestartPolicy,
    /// By what.
    pub by: RestartBy,
    /// Where it is.
    pub state: RestartState,
    /// Attempts within the window.
    pub attempts: u32,
    /// Most of them.
    pub most: u32,
    /// The window.
    pub per: Duration,
    /// When it is restarted next.
    pub next: Option<Timestamp>,
    /// The last attempt: when, how it ended, and in words.
    pub last: Option<(Timestamp, RestartResult, String)>,
}

/// Where the restart of a critical process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartState {
    /// Nothing is to be done.
    Idle,
    /// It is restarted after the back-off.
    Due,
    /// So it would be, but for one that it needs and that is down.
    WaitsFor(Name),
    /// It is being restarted.
    Restarting,
    /// That is done, and an instance is waited for.
    Awaited,
    /// It is not tried any more.
    GivenUp,
}
