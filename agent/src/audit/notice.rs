//! What of an event is recorded: its type by the table of event types, who caused it, and how it ended.

use super::actor::Actor;
use super::record::{Entry, Outcome};
use crate::model::critical::RestartResult;
use crate::model::notice::Notice;
use crate::model::notice::table::About;

/// Its type where the table has none; there is no such event.
const UNNAMED: &str = "event";

/// An event as a record.
#[must_use]
pub fn entry(id: &str, unix_ms: i64, notice: &Notice) -> Entry {
    let row = notice.event_type();
    let kind = row.map_or(UNNAMED, |row| row.audit);
    let (actor, outcome) = judge(notice);
    let about = match (notice, row.map(|row| row.about)) {
        (Notice::ProfileActivated { profile }, _) => {
            profile.as_ref().map_or("no profile".to_owned(), |profile| format!("profile {profile}"))
        }
        (Notice::ConfigurationChanged { .. }, _) => "configuration".to_owned(),
        (_, Some(About::Critical)) => format!("critical {}", notice.subject()),
        (_, Some(About::Group)) => format!("group {}", notice.subject()),
        (_, Some(About::Endpoint)) => format!("webhook {}", notice.subject()),
        (_, Some(About::Host) | None) => "host".to_owned(),
    };
    let entry = Entry::new(unix_ms, kind, actor, about).ended(outcome, notice.to_string());
    Entry { event: Some(id.to_owned()), ..entry }
}

fn judge(notice: &Notice) -> (Actor, Outcome) {
    match notice {
        Notice::ThrottleApplied { reason, .. }
        | Notice::ThrottleAdjusted { reason, .. }
        | Notice::ThrottleRemoved { reason, .. } => (Actor::of(reason), Outcome::Success),
        Notice::ThrottleFailed { reason, .. } => (Actor::of(reason), Outcome::Failure),
        Notice::EmergencyStop { uid, .. } | Notice::EmergencyResumed { uid } => {
            (Actor::uid(*uid), Outcome::Success)
        }
        Notice::SecurityViolation { uid, gid, pid, .. } => {
            (Actor::User { uid: *uid, gid: Some(*gid), pid: *pid, loginuid: None }, Outcome::Denied)
        }
        Notice::ConfigurationChanged { accepted: false, .. } => (Actor::Daemon, Outcome::Failure),
        Notice::CriticalProcessRestart { result, .. } => {
            let outcome = match result {
                RestartResult::Restarted => Outcome::Success,
                RestartResult::Declined => Outcome::Denied,
                RestartResult::Failed | RestartResult::GivenUp => Outcome::Failure,
            };
            (Actor::Daemon, outcome)
        }
        Notice::ProtectionFailed { .. } => (Actor::Daemon, Outcome::Failure),
        Notice::ConfigurationChanged { accepted: true, .. }
        | Notice::ProfileActivated { .. }
        | Notice::BackupCreated { .. }
        | Notice::WebhookDisabled { .. }
        | Notice::Test { .. } => (Actor::Daemon, Outcome::Success),
        Notice::CriticalProcessDown { .. }
        | Notice::CriticalProcessMissing { .. }
        | Notice::CriticalProcessRecovered { .. }
        | Notice::HealthCheckFailed { .. }
        | Notice::HealthCheckRecovered { .. }
        | Notice::LatencySloViolated { .. }
        | Notice::LatencySloRecovered { .. }
        | Notice::ThrottleConflict { .. }
        | Notice::EventsLost { .. }
        | Notice::ProbesShed { .. } => (Actor::Daemon, Outcome::Observed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::notice::testing::{applied, down, stopped};
    use crate::model::reason::Reason;

    #[test]
    fn types_are_those_of_the_table_and_actors_those_of_the_reason() {
        let mut notice = applied("backups");
        if let Notice::ThrottleApplied { reason, .. } = &mut notice {
            *reason = Reason::RuleGone { rule: "nightly".parse().unwrap() };
        }
        let entry = entry("evt_1", 5, &notice);
        assert_eq!((entry.kind, entry.subject.as_str()), ("throttle.applied", "group backups"));
        assert_eq!(entry.actor.to_string(), "rule nightly");
        assert_eq!((entry.outcome, entry.event.as_deref()), (Outcome::Success, Some("evt_1")));
    }

    #[test]
    fn what_nobody_did_is_observed() {
        let entry = entry("e", 0, &down("nginx", 0));
        assert_eq!((entry.kind, entry.subject.as_str()), ("critical.down", "critical nginx"));
        assert_eq!((entry.actor, entry.outcome), (Actor::Daemon, Outcome::Observed));
    }

    #[test]
    fn an_emergency_is_by_whoever_asked() {
        let entry = entry("e", 0, &stopped());
        assert_eq!((entry.kind, entry.actor), ("emergency.stop", Actor::uid(0)));
    }
}
