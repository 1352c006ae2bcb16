//! What a single notice means for alerts: whom it tells of, how bad it is, and whether it begins or ends one.

use crate::model::critical::RestartResult;
use crate::model::notice::table::Stage;
use crate::model::notice::{Notice, Response, Severity};

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
            | Self::LatencySloViolated { name, .. }
            | Self::LatencySloRecovered { name, .. }
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
            | Self::ProbesShed { .. }
            | Self::ProfileActivated { .. }
            | Self::ConfigurationChanged { .. }
            | Self::BackupCreated { .. }
            | Self::SecurityViolation { .. }
            | Self::Test { .. } => "",
        }
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::CriticalProcessDown { .. }
            | Self::CriticalProcessMissing { .. }
            | Self::HealthCheckFailed { .. }
            | Self::CriticalProcessRestart { result: RestartResult::GivenUp, .. }
            | Self::EmergencyStop { .. }
            | Self::SecurityViolation { .. } => Severity::Critical,
            Self::CriticalProcessRestart { result: RestartResult::Failed, .. }
            | Self::LatencySloViolated { .. }
            | Self::ThrottleFailed { .. }
            | Self::ThrottleConflict { .. }
            | Self::ProtectionFailed { .. }
            | Self::EventsLost { .. }
            | Self::ProbesShed { .. }
            | Self::WebhookDisabled { .. } => Severity::Warning,
            Self::ConfigurationChanged { accepted, .. } => {
                if *accepted {
                    Severity::Info
                } else {
                    Severity::Warning
                }
            }
            Self::CriticalProcessRecovered { .. }
            | Self::CriticalProcessRestart {
                result: RestartResult::Restarted | RestartResult::Declined,
                ..
            }
            | Self::HealthCheckRecovered { .. }
            | Self::LatencySloRecovered { .. }
            | Self::ThrottleApplied { .. }
            | Self::ThrottleAdjusted { .. }
            | Self::ThrottleRemoved { .. }
            | Self::EmergencyResumed { .. }
            | Self::ProfileActivated { .. }
            | Self::BackupCreated { .. }
            | Self::Test { .. } => Severity::Info,
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
            Self::LatencySloViolated { at_floor, .. } => Part::Begins { grave: *at_floor },
            Self::CriticalProcessRecovered { .. }
            | Self::HealthCheckRecovered { .. }
            | Self::LatencySloRecovered { .. }
            | Self::EmergencyResumed { .. }
            | Self::ThrottleRemoved { .. } => self.ends(),
            Self::ThrottleApplied { .. }
            | Self::ThrottleAdjusted { .. }
            | Self::ThrottleFailed { .. }
            | Self::CriticalProcessRestart { .. }
            | Self::ProtectionFailed { .. }
            | Self::EventsLost { .. }
            | Self::ProbesShed { .. }
            | Self::WebhookDisabled { .. }
            | Self::ProfileActivated { .. }
            | Self::ConfigurationChanged { .. }
            | Self::BackupCreated { .. }
            | Self::SecurityViolation { .. }
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
