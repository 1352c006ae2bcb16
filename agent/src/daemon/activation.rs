//! Which profile is in force: by request, by the calendar, at a reload. What is in force is also what the next start brings.

use std::sync::PoisonError;

use crate::clock;
use crate::config::export;
use crate::control::failure::{Failure, FailureKind, chain};
use crate::daemon::command::Command;
use crate::daemon::report;
use crate::daemon::requests::{Office, Result};
use crate::daemon::scheduler::Scheduler;
use crate::model::id::Name;
use crate::model::rule::Profile;
use crate::store::StoreError;
use crate::store::history::Actor;

impl Office {
    /// Makes a profile, or none, the one in force, now and at the next start. Returns the one before. All of it is done,
    /// or the one before is in force again.
    pub async fn put_in_force(&self, profile: Option<Profile>, actor: &Actor) -> Result<Option<Name>> {
        let name = profile.as_ref().map(|profile| profile.name.clone());
        let previous = self.enforce(profile.clone()).await?;
        let content = profile.as_ref().map(export::to_yaml);
        let noted = name.as_ref().zip(content.as_deref());
        let at = clock::unix_millis(clock::wall());
        let noted = self.store().write(|tables| tables.note_activation(at, actor, noted));
        if let Err(error) = noted {
            return Err(self.take_back(previous, &error).await);
        }
        self.journal.watch(profile.as_ref()).unwrap_or_else(|failure| {
            tracing::error!("alerts follow the profile before this one: {failure}");
        });
        let mut loaded = self.loaded();
        loaded.profile = profile;
        loaded.since = report::since_epoch(clock::wall());
        drop(loaded);
        Ok(previous)
    }

    async fn enforce(&self, profile: Option<Profile>) -> Result<Option<Name>> {
        let profile = profile.map(Box::new);
        self.ask(|answer| Command::Activate { profile, answer }).await
    }

    /// What cannot be remembered does not stay in force: the next start would bring the one before.
    async fn take_back(&self, previous: Option<Name>, why: &StoreError) -> Failure {
        let before = self.loaded().profile.clone().filter(|before| Some(&before.name) == previous.as_ref());
        let why = chain(why);
        match self.enforce(before).await {
            Ok(_) => {
                let back = previous.map_or_else(|| "no profile".to_owned(), |name| format!("profile {name}"));
                Failure::new(FailureKind::Failed, format!("rolled back, {back} is in force: {why}"))
            }
            Err(failure) => {
                let message =
                    format!("in force, but not at the next start: {why}; and not taken back: {failure}");
                Failure::new(FailureKind::Partial, message)
            }
        }
    }

    /// A person activated this profile: its schedule is in force from now on.
    pub(super) fn own_schedule(&self, profile: Option<&Profile>) -> Result<()> {
        let mut scheduler = self.scheduler();
        scheduler.own(profile, report::now().timestamp());
        let owner = scheduler.owner().map(|(name, since)| (name.clone(), since.as_millisecond()));
        drop(scheduler);
        let remembered = owner.as_ref().map(|(name, since)| (name, *since));
        self.store().write(|tables| tables.set_schedule(remembered)).map_err(|error| {
            let message = format!("in force, but its schedule not at the next start: {error}");
            Failure::new(FailureKind::Partial, message)
        })
    }

    /// The profile whose schedule is in force, read again.
    pub(super) fn schedule_owner(&self) -> Result<Option<Profile>> {
        let name = self.scheduler().owner().map(|(name, _)| name.clone());
        name.map(|name| self.load(&name)).transpose()
    }

    /// The schedule.
    pub fn scheduler(&self) -> std::sync::MutexGuard<'_, Scheduler> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a profile may be due.
    pub async fn wait_for_turn(&self) {
        let wait = self.scheduler().wait(&report::now());
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    }

    /// Brings the profile into force that is due by the calendar, if one is.
    pub async fn take_turn(&self) {
        let Some(name) = self.scheduler().due(&report::now()) else { return };
        let result = match self.load(&name) {
            Ok(profile) => self.put_in_force(Some(profile), &Actor { uid: None, by: "schedule" }).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = result {
            self.tell_change(format!("profile {name} was due and is not in force: {failure}"), false);
        }
    }
}
