//! The configuration as loaded, and what reading it again changes. The last good one is kept when the new
//! one has errors.

use std::sync::Arc;

use crate::config::error::Findings;
use crate::config::paths::Dirs;
use crate::config::profiles::{ProfileStore, StoreError};
use crate::config::settings::Settings;
use crate::control::failure::{Failure, FailureKind, chain};
use crate::control::proto::Reloaded;
use crate::daemon::requests::Office;
use crate::model::id::Name;
use crate::model::rule::Profile;
use crate::model::telemetry::MetricsSettings;
use crate::store::history::Actor;

/// What the daemon runs with.
#[derive(Debug)]
pub struct Loaded {
    /// Where the files are.
    pub dirs: Dirs,
    /// The settings.
    pub settings: Settings,
    /// The profile in force.
    pub profile: Option<Profile>,
    /// Since when it is.
    pub since: Option<jiff::Timestamp>,
    /// Why the last reload was refused.
    pub error: Option<String>,
}

/// What a reload found.
#[derive(Debug)]
pub struct Change {
    /// The settings now.
    pub settings: Settings,
    /// The active profile's new contents; absent when they are as before or none is active.
    pub profile: Option<Profile>,
}

impl Change {
    /// What is different from what is in force, in words.
    #[must_use]
    pub fn detail(&self, loaded: &Loaded) -> String {
        let mut parts = Vec::new();
        if let Some(profile) = &self.profile {
            parts.push(format!("profile {}", profile.name));
        }
        if self.settings.on_stop != loaded.settings.on_stop {
            parts.push("on_stop".to_owned());
        }
        if self.settings.access != loaded.settings.access {
            parts.push("access".to_owned());
        }
        if self.settings.endpoints != loaded.settings.endpoints {
            parts.push("webhook endpoints".to_owned());
        }
        if self.settings.metrics != loaded.settings.metrics {
            parts.push("metrics".to_owned());
        }
        if at_start_only(&self.settings) != at_start_only(&loaded.settings) {
            parts.push("settings that take effect at the next start of the daemon".to_owned());
        }
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}

/// The settings that a running daemon cannot change: all but `on_stop`, who may do what, the endpoints, and where
/// metrics go.
fn at_start_only(settings: &Settings) -> Settings {
    Settings {
        on_stop: crate::config::settings::OnStop::default(),
        access: crate::model::access::Access::default(),
        endpoints: Vec::new(),
        webhook: None,
        metrics: MetricsSettings::default(),
        ..settings.clone()
    }
}

impl Office {
    /// Reads the configuration again.
    ///
    /// # Errors
    /// When it has errors, or the engine does not take it over.
    pub async fn reload(&self, dry_run: bool) -> Result<Reloaded, Failure> {
        let next = {
            // Once: a second guard in the same statement would wait for the first one for ever.
            let loaded = self.loaded();
            read(&loaded.dirs, &self.profiles, loaded.profile.as_ref())
        };
        let change = match next {
            Ok(change) => change,
            Err(failure) => {
                if !dry_run {
                    self.loaded().error = Some(failure.message.clone());
                    self.tell_change(failure.message.clone(), false);
                }
                return Err(failure);
            }
        };
        let detail = change.detail(&self.loaded());
        let owner = self.schedule_owner()?;
        if !dry_run {
            if let Some(owner) = &owner {
                self.scheduler().renew(owner);
            }
            if let Some(profile) = change.profile {
                self.put_in_force(Some(profile), &Actor { uid: None, by: "reload" }).await?;
            }
            self.deliveries.route(change.settings.endpoints.clone())?;
            self.exporter.apply(&change.settings.metrics).await;
            self.export.apply(change.settings.metrics.otlp.as_ref());
            self.access.send_replace(Arc::new(change.settings.access.clone()));
            {
                let mut loaded = self.loaded();
                loaded.settings = change.settings;
                loaded.error = None;
            }
            self.tell_change(detail.clone(), true);
        }
        Ok(Reloaded { detail, dry_run })
    }
}

/// Reads settings and the active profile again; all errors at once.
///
/// # Errors
/// When either has errors: nothing is to be changed then.
pub fn read(dirs: &Dirs, profiles: &ProfileStore, active: Option<&Profile>) -> Result<Change, Failure> {
    let (settings, warnings) = Settings::load(dirs).map_err(|findings| invalid(&findings))?;
    warn(&warnings);
    let fresh = active.map(|profile| self::profile(profiles, &profile.name)).transpose()?;
    let profile = fresh.filter(|fresh| Some(fresh) != active);
    Ok(Change { settings, profile })
}

/// Loads a profile by name.
///
/// # Errors
/// When there is none of that name, or it has errors.
pub fn profile(profiles: &ProfileStore, name: &Name) -> Result<Profile, Failure> {
    match profiles.load(name) {
        Ok((profile, warnings)) => {
            warn(&warnings);
            Ok(profile)
        }
        Err(StoreError::Invalid(findings)) => Err(invalid(&findings)),
        Err(error @ StoreError::NotFound { .. }) => Err(Failure::new(FailureKind::NotFound, chain(&error))
            .with_hint("process-throttler profile list shows what there is")),
        Err(error) => Err(Failure::from_error(FailureKind::Failed, &error)),
    }
}

/// A configuration with errors, as a failure that names them all.
#[must_use]
pub fn invalid(findings: &Findings) -> Failure {
    Failure::new(FailureKind::Invalid, findings.to_string())
}

/// Logs warnings of a configuration.
pub fn warn(findings: &Findings) {
    for finding in findings.iter() {
        tracing::warn!("{finding}");
    }
}
