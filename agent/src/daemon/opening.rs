//! With which profile and schedule a daemon begins.

use crate::config::profiles::ProfileStore;
use crate::config::settings::Settings;
use crate::control::failure::{Failure, FailureKind};
use crate::daemon::scheduler::Scheduler;
use crate::daemon::{reload, report};
use crate::model::rule::Profile;
use crate::store::Store;

type Result<T> = std::result::Result<T, Failure>;

fn failed(error: impl std::error::Error) -> Failure {
    Failure::from_error(FailureKind::Failed, &error)
}

/// The profile to begin with: the configured one, else the one that was active last.
///
/// # Errors
/// When the store cannot be read, or the configured one cannot be loaded.
pub(super) fn first_profile(
    settings: &Settings,
    store: &Store,
    profiles: &ProfileStore,
) -> Result<Option<Profile>> {
    if let Some(name) = &settings.profile {
        return reload::profile(profiles, name).map(Some);
    }
    let Some(name) = store.read(|tables| tables.active_profile()).map_err(failed)? else { return Ok(None) };
    match reload::profile(profiles, &name) {
        Ok(profile) => Ok(Some(profile)),
        Err(failure) => {
            // Watching without rules beats not running at all, and the status says so.
            tracing::error!("profile {name} was active and cannot be loaded, none is: {failure}");
            Ok(None)
        }
    }
}

/// The schedule to go on with, and the profile that is due by it, instead of `profile` if there is one.
///
/// # Errors
/// When the store refuses.
pub(super) fn by_the_calendar(
    settings: &Settings,
    store: &mut Store,
    profiles: &ProfileStore,
    profile: Option<Profile>,
) -> Result<(Option<Profile>, Scheduler)> {
    let stored = store.read(|tables| tables.schedule()).map_err(failed)?;
    let Some(name) = settings.profile.as_ref().or(stored.as_ref().map(|(name, _)| name)) else {
        return Ok((profile, Scheduler::default()));
    };
    let owner = match profile.clone().filter(|profile| profile.name == *name) {
        Some(owner) => Ok(owner),
        None => reload::profile(profiles, name),
    };
    let owner = match owner {
        Ok(owner) => owner,
        Err(failure) => {
            tracing::error!("the schedule of profile {name} cannot be loaded, none is in force: {failure}");
            return Ok((profile, Scheduler::default()));
        }
    };
    let now = report::now();
    let since = stored.as_ref().filter(|(known, _)| known == name).map(|(_, since)| *since);
    let since = since.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let mut scheduler = Scheduler::resume(&owner, since.unwrap_or_else(|| now.timestamp()));
    let remembered = scheduler.owner().map(|(name, since)| (name, since.as_millisecond()));
    store.write(|tables| tables.set_schedule(remembered)).map_err(failed)?;
    let Some(due) = scheduler.due(&now) else { return Ok((profile, scheduler)) };
    match reload::profile(profiles, &due) {
        Ok(due) => Ok((Some(due), scheduler)),
        Err(failure) => {
            tracing::error!("profile {due} is due and cannot be loaded: {failure}");
            Ok((profile, scheduler))
        }
    }
}
