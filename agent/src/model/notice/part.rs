//! What a single notice means for alerts: whom it tells of, and whether it begins or ends one.

use crate::model::notice::table::Stage;
use crate::model::notice::{Notice, Response};

/// What a notice does to alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing: it happens and is over.
    Event,
    /// It begins the alert of its type and subject, or tells that it goes on.
    Begins {
        /// Whether it could not be worse. An alert that becomes so is told once more.
        grave: bool,
    },
    /// It ends the alerts of these types about its subject.
    Ends(&'static [&'static str]),
}

impl Notice {
    /// Whom it tells of, by its name; empty when that is the host.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::CriticalProcessDown { name, .. }
            | Self::CriticalProcessMissing { name, .. }
            | Self::CriticalProcessRecovered { name, .. }
            | Self::CriticalProcessRestart { name, .. }
            | Self::HealthCheckFailed { name, .. }
            | Self::HealthCheckRecovered { name, .. }
            | Self::ProtectionFailed { name, .. } => name.as_str(),
            Self::ThrottleApplied { group, .. }
            | Self::ThrottleAdjusted { group, .. }
            | Self::ThrottleFailed { group, .. }
            | Self::ThrottleRemoved { group, .. }
            | Self::ThrottleConflict { group, .. } => group.as_str(),
            Self::WebhookDisabled { endpoint, .. } => endpoint.as_str(),
            Self::EmergencyStop { .. }
            | Self::EmergencyResumed { .. }
            | Self::EventsLost { .. }
            | Self::SecurityViolation { .. }
            | Self::ProfileActivated { .. }
            | Self::ConfigurationChanged { .. }
            | Self::Test { .. } => "",
        }
    }

    /// What it does to alerts.
    #[must_use]
    pub fn part(&self) -> Part {
        match self {
            // While instances are left, the service may be as well; when the last one goes, it is not.
            Self::CriticalProcessDown { remaining, wanted, .. } if remaining >= wanted => Part::Event,
            Self::CriticalProcessDown { remaining, .. } => Part::Begins { grave: *remaining == 0 },
            Self::CriticalProcessMissing { instances, .. } => Part::Begins { grave: *instances == 0 },
            // Written again: nothing is other than it should be.
            Self::ThrottleConflict { response: Response::Reasserted, .. } => Part::Event,
            Self::ThrottleConflict { response: Response::Yielded | Response::GaveUp, .. } => {
                Part::Begins { grave: false }
            }
            Self::EmergencyStop { .. } => Part::Begins { grave: true },
            Self::HealthCheckFailed { .. } => Part::Begins { grave: true },
            Self::CriticalProcessRecovered { .. }
            | Self::HealthCheckRecovered { .. }
            | Self::EmergencyResumed { .. }
            | Self::ThrottleRemoved { .. } => self.ends(),
            Self::ThrottleApplied { .. }
            | Self::ThrottleAdjusted { .. }
            | Self::ThrottleFailed { .. }
            | Self::CriticalProcessRestart { .. }
            | Self::ProtectionFailed { .. }
            | Self::EventsLost { .. }
            | Self::WebhookDisabled { .. }
            | Self::SecurityViolation { .. }
            | Self::ProfileActivated { .. }
            | Self::ConfigurationChanged { .. }
            | Self::Test { .. } => Part::Event,
        }
    }

    /// What its row of the table says that it ends.
    fn ends(&self) -> Part {
        match self.event_type().map(|row| row.stage) {
            Some(Stage::Ends(types)) => Part::Ends(types),
            Some(Stage::Event | Stage::Begins) | None => Part::Event,
        }
    }
}
