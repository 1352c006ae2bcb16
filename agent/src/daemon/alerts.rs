//! Alerts, as people ask for them and look after them.

use std::time::Duration;

use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{Acknowledge, Acknowledged, AlertStatus, COMMENT_MAX, TIME_MAX_MS};
use crate::daemon::requests::Office;
use crate::daemon::turn::{Parts, Turn};
use crate::model::alert::{Acknowledgement, AlertState, Standing};
use crate::model::id::Name;
use crate::model::notice::table::{About, EventType};

/// Refuses a comment that nobody could read.
///
/// # Errors
/// When it is too long or holds control characters.
fn check(comment: &str) -> Result<(), Failure> {
    if comment.len() > COMMENT_MAX {
        return Err(Failure::new(
            FailureKind::Usage,
            format!("the comment is longer than {COMMENT_MAX} bytes"),
        ));
    }
    // They would reach the terminals of others.
    if comment.chars().any(char::is_control) {
        return Err(Failure::new(FailureKind::Usage, "the comment holds control characters"));
    }
    Ok(())
}

impl Turn {
    /// The alerts of an agent that died may be about processes that are back.
    pub(super) fn tell_who_lives(&self) {
        let Parts { journal, engine, .. } = &self.parts;
        // When the journal is full, they are told at the next snapshot.
        if journal.awaits_life()
            && let Err(failure) = journal.alive(engine.living_criticals())
        {
            tracing::warn!("the end of an alert is told later: {failure}");
        }
    }
}

impl Office {
    /// The alerts on record.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn alerts(&self) -> Result<Vec<AlertStatus>, Failure> {
        Ok(self.standing()?.into_iter().map(AlertStatus::from).collect())
    }

    fn standing(&self) -> Result<Vec<Standing>, Failure> {
        let alerts = self.store().read(|tables| tables.alerts());
        alerts.map(|found| found.rows).map_err(|error| Failure::from_error(FailureKind::Failed, &error))
    }

    /// Somebody looks after the alerts of a critical process.
    ///
    /// # Errors
    /// When none stands, or it cannot be written down.
    pub(super) async fn acknowledge(&self, asked: Acknowledge, uid: u32) -> Result<Acknowledged, Failure> {
        let Acknowledge { name, for_ms, comment, dry_run } = asked;
        comment.as_deref().map_or(Ok(()), check)?;
        if for_ms.is_some_and(|ms| ms == 0 || ms > TIME_MAX_MS) {
            return Err(Failure::new(FailureKind::Usage, "the time must be between 1 ms and a year"));
        }
        let at = clock::unix_millis(clock::wall());
        let until = for_ms.map(|ms| at.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
        let by = Acknowledgement { uid, at, until, comment };
        let alerts = if dry_run {
            let would = self.standing()?.into_iter().filter(|standing| concerns(standing, &name));
            would.map(|standing| Standing { acknowledged: Some(by.clone()), ..standing }).collect()
        } else {
            self.journal.acknowledge(name.clone(), by, for_ms.map(Duration::from_millis)).await?
        };
        if alerts.is_empty() {
            return Err(Failure::new(FailureKind::NotFound, format!("no alert of {name} stands")));
        }
        if !dry_run {
            tracing::info!(uid, critical = %name, alerts = alerts.len(), "alerts acknowledged");
        }
        Ok(Acknowledged { alerts: alerts.into_iter().map(AlertStatus::from).collect(), dry_run })
    }
}

/// Whether an acknowledgement of this critical process is one of this alert.
fn concerns(standing: &Standing, name: &Name) -> bool {
    let critical = EventType::named(&standing.kind).is_some_and(|row| row.about == About::Critical);
    critical && standing.subject == name.as_str() && standing.alert.state != AlertState::Resolved
}
