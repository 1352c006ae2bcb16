//! Backups by the daemon: on request and by the calendar. The state is copied by whoever has it open, the engine
//! thread; the rest is done on a thread of the pool.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::{Timestamp, Zoned};

use crate::backup::{BackupError, Database, Draft, Entry, Manifest, Order, Shelf};
use crate::clock;
use crate::config::Dirs;
use crate::config::calendar;
use crate::config::settings::Backup;
use crate::control::failure::{Failure, FailureKind};
use crate::control::peer::Peer;
use crate::control::proto::{BackUp, BackedUp, DatabaseState, DatabaseVerdict};
use crate::daemon::command::Command;
use crate::daemon::report;
use crate::daemon::requests::Office;
use crate::daemon::run::hostname;
use crate::model::id::Name;
use crate::model::notice::Notice;
use crate::store::check::{self, Inspection};

/// Longest sleep: bounds how late a clock that was set is noticed.
const WAIT_MAX: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Failure>;

/// The next backup by the calendar.
#[derive(Debug, Default)]
pub struct Calendar {
    next: Option<(String, Zoned)>,
    /// Up to when an earlier daemon has taken the turns of a schedule.
    taken: Option<(String, Timestamp)>,
    /// The schedule that is remembered for the next start.
    remembered: Option<String>,
}

impl Calendar {
    /// Goes on where an earlier daemon has stopped: a turn that came meanwhile, or several, are made up for once.
    #[must_use]
    pub fn resume(taken: Option<(String, i64)>) -> Self {
        let taken = taken.and_then(|(schedule, at)| Some((schedule, Timestamp::from_millisecond(at).ok()?)));
        Self { next: None, remembered: taken.as_ref().map(|(schedule, _)| schedule.clone()), taken }
    }

    /// When the next one is due; computed once, so that being busy then does not skip it.
    fn next(&mut self, schedule: Option<&str>, now: &Zoned) -> Option<Zoned> {
        let taken = self.taken.take();
        let Some(schedule) = schedule else {
            self.next = None;
            return None;
        };
        if self.next.as_ref().is_none_or(|(known, _)| known != schedule) {
            // A clock that was set back must not put it off.
            let missed_since = taken.filter(|(known, at)| known == schedule && *at < now.timestamp());
            let from =
                missed_since.map_or_else(|| now.clone(), |(_, at)| at.to_zoned(now.time_zone().clone()));
            self.next = calendar::next_of(schedule, &from).map(|at| (schedule.to_owned(), at));
        }
        self.next.as_ref().map(|(_, at)| at.clone())
    }

    /// Whether the schedule is a new one, whose turns count from now: told once.
    fn is_new(&mut self, schedule: Option<&str>) -> bool {
        let is_new = self.remembered.as_deref() != schedule;
        if is_new {
            self.remembered = schedule.map(ToOwned::to_owned);
        }
        is_new
    }

    /// Whether it is due now: told once.
    fn is_due(&mut self, schedule: Option<&str>, now: &Zoned) -> bool {
        let due = self.next(schedule, now).is_some_and(|at| at <= *now);
        if due {
            self.next = None;
        }
        due
    }
}

impl Office {
    /// Makes a backup for somebody who asks.
    ///
    /// # Errors
    /// When it is not theirs to ask for, or it cannot be made.
    pub async fn back_up(&self, asked: BackUp, peer: Peer) -> Result<BackedUp> {
        if peer.uid != 0 && peer.uid != nix::unistd::geteuid().as_raw() {
            return Err(Failure::new(FailureKind::Denied, "backups are for root only"));
        }
        if asked.directory.as_ref().is_some_and(|directory| !directory.is_absolute()) {
            return Err(Failure::new(FailureKind::Usage, "the directory of a backup must be absolute"));
        }
        let (dirs, settings) = self.backup_settings();
        let job = Job::new(&dirs, &settings, asked)?;
        if job.dry_run {
            return job.foretell();
        }
        let draft = job.begin(&dirs)?;
        let to = draft.database(Database::State);
        self.ask(|answer| Command::CopyState { to, answer }).await?;
        let done = tokio::task::spawn_blocking(move || {
            let to = draft.database(Database::Journal);
            check::copy(&dirs.journal_db(), &to)
                .map_err(BackupError::from)
                .map_err(|error| failure(&error))?;
            job.finish(draft, &mut |_| {})
        });
        let done = done.await.map_err(|error| Failure::from_error(FailureKind::Failed, &error))??;
        self.journal.tell(clock::now(), notice(&done));
        Ok(done)
    }

    /// Looks the databases over.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn check_state(&self) -> Result<Vec<DatabaseState>> {
        let dirs = self.loaded().dirs.clone();
        let state = self.ask(Command::CheckState).await?;
        let path = dirs.journal_db();
        let journal =
            tokio::task::spawn_blocking(move || check::inspect(&path, Database::Journal.durability()));
        let journal = journal.await.map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
        let journal = journal.map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
        Ok(vec![judged(&dirs, Database::State, Some(state)), judged(&dirs, Database::Journal, Some(journal))])
    }

    /// Waits until [`Self::take_backup`] may have something to do.
    pub async fn wait_for_backup(&self) {
        let now = report::now();
        let (_, settings) = self.backup_settings();
        let schedule = settings.schedule.as_deref();
        let (next, is_new) = {
            let mut calendar = self.backups.lock().unwrap_or_else(PoisonError::into_inner);
            (calendar.next(schedule, &now), calendar.is_new(schedule))
        };
        if is_new {
            self.remember_turn(schedule);
        }
        let Some(next) = next else { return std::future::pending().await };
        let left = Duration::try_from(next.timestamp().duration_since(now.timestamp())).unwrap_or_default();
        // Late by a hair rather than early.
        tokio::time::sleep((left + Duration::from_millis(1)).min(WAIT_MAX)).await;
    }

    /// Whether a backup is due by the calendar: told once.
    pub fn backup_is_due(&self) -> bool {
        let (_, settings) = self.backup_settings();
        let mut calendar = self.backups.lock().unwrap_or_else(PoisonError::into_inner);
        calendar.is_due(settings.schedule.as_deref(), &report::now())
    }

    /// Makes the backup that is due by the calendar.
    pub async fn take_backup(&self) {
        let own = Peer { uid: nix::unistd::geteuid().as_raw(), gid: 0, pid: None };
        match self.back_up(BackUp::default(), own).await {
            Ok(done) => tracing::info!(path = %done.path.display(), "backup written"),
            Err(failure) => tracing::error!("the backup that was due was not made: {failure}"),
        }
        // Not before: one that a crash cut short is made up for.
        self.remember_turn(self.backup_settings().1.schedule.as_deref());
    }

    /// Remembers that the turns of the schedule up to now are taken.
    fn remember_turn(&self, schedule: Option<&str>) {
        let at = clock::unix_millis(clock::wall());
        let noted = self.store().write(|tables| tables.set_backup_turn(schedule.map(|text| (text, at))));
        if let Err(error) = noted {
            let why = crate::model::chain::chain(&error);
            tracing::warn!("a backup that is missed will not be made up for: {why}");
        }
    }

    fn backup_settings(&self) -> (Dirs, Backup) {
        let loaded = self.loaded();
        (loaded.dirs.clone(), loaded.settings.backup.clone())
    }
}

/// What is to be made and kept.
#[derive(Clone, Debug)]
pub struct Job {
    order: Order,
    keep: usize,
    /// Whether older ones may go: not for a backup with a name of its own, unless asked for.
    sweeps: bool,
    dry_run: bool,
}

impl Job {
    /// What was asked for, the rest as configured.
    ///
    /// # Errors
    /// When no name can be made of the time.
    pub fn new(dirs: &Dirs, settings: &Backup, asked: BackUp) -> Result<Self> {
        let at = Timestamp::try_from(clock::wall())
            .map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
        let sweeps = asked.name.is_none() || asked.keep.is_some();
        let name = asked.name.or_else(|| Shelf::automatic_name(at));
        let name =
            name.ok_or_else(|| Failure::new(FailureKind::Failed, "the time of the clock makes no name"))?;
        let order = Order {
            name,
            directory: asked.directory.unwrap_or_else(|| settings.directory(dirs)),
            recipients: asked.recipients.unwrap_or_else(|| settings.recipients.clone()),
            at,
            host: hostname(),
        };
        Ok(Self { order, keep: asked.keep.unwrap_or(settings.keep), sweeps, dry_run: asked.dry_run })
    }

    /// What would be done.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn foretell(&self) -> Result<BackedUp> {
        let shelf = Shelf::new(self.order.directory.clone());
        let encrypted = !self.order.recipients.is_empty();
        let taken =
            shelf.list().map_err(|error| failure(&error))?.iter().any(|entry| entry.name == self.order.name);
        if taken {
            return Err(failure(&BackupError::Exists(self.order.name.to_string())));
        }
        // With the one that would come.
        let surplus = self.surplus(&shelf, self.keep.saturating_sub(1))?;
        Ok(BackedUp {
            path: shelf.archive(&self.order.name, encrypted),
            name: self.order.name.clone(),
            size: None,
            encrypted,
            files: 0,
            left_out: Vec::new(),
            deleted: surplus.into_iter().map(|entry| entry.name).collect(),
            dry_run: true,
        })
    }

    /// Begins it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self, dirs: &Dirs) -> Result<Draft> {
        Draft::begin(dirs, self.order.clone()).map_err(|error| failure(&error))
    }

    /// Writes it, and deletes what there is too much of.
    ///
    /// # Errors
    /// When it cannot be written. When an older one cannot be deleted, the new one exists.
    pub fn finish(&self, draft: Draft, progress: &mut dyn FnMut(u64)) -> Result<BackedUp> {
        let (entry, manifest) = draft.finish(progress).map_err(|error| failure(&error))?;
        let shelf = Shelf::new(self.order.directory.clone());
        let mut deleted = Vec::new();
        for old in self.surplus(&shelf, self.keep)? {
            shelf.delete(&old).map_err(|error| {
                let message =
                    format!("the backup is written, an older one stays: {}", failure(&error).message);
                Failure::new(FailureKind::Partial, message)
            })?;
            deleted.push(old.name);
        }
        Ok(told(entry, manifest, deleted))
    }

    fn surplus(&self, shelf: &Shelf, keep: usize) -> Result<Vec<Entry>> {
        if self.sweeps { shelf.surplus(keep).map_err(|error| failure(&error)) } else { Ok(Vec::new()) }
    }
}

fn told(entry: Entry, manifest: Manifest, deleted: Vec<Name>) -> BackedUp {
    BackedUp {
        name: entry.name,
        path: entry.path,
        size: Some(entry.size),
        encrypted: entry.encrypted,
        files: manifest.files.len(),
        left_out: manifest.left_out.into_iter().map(|file| format!("{}: {}", file.path, file.why)).collect(),
        deleted,
        dry_run: false,
    }
}

fn notice(done: &BackedUp) -> Notice {
    Notice::BackupCreated {
        name: done.name.clone(),
        path: done.path.display().to_string(),
        size: done.size.unwrap_or(0),
        encrypted: done.encrypted,
    }
}

/// What was found in a database, with a verdict; nothing: there is none.
#[must_use]
pub fn judged(dirs: &Dirs, database: Database, found: Option<Inspection>) -> DatabaseState {
    let path = dirs.state.join(database.file_name());
    let known = crate::store::known_schema(database.durability());
    let Some(found) = found else {
        let (damage, orphans) = (Vec::new(), Vec::new());
        return DatabaseState {
            path,
            verdict: DatabaseVerdict::Absent,
            schema: None,
            known,
            damage,
            orphans,
        };
    };
    let verdict = if found.is_newer() {
        DatabaseVerdict::Newer
    } else if !found.damage.is_empty() {
        DatabaseVerdict::Damaged
    } else if found.is_older() {
        DatabaseVerdict::Older
    } else {
        DatabaseVerdict::Sound
    };
    let Inspection { schema, known, damage, orphans } = found;
    DatabaseState { path, verdict, schema: Some(schema), known, damage, orphans }
}

/// An error of a backup as whoever asked is told.
#[must_use]
pub fn failure(error: &BackupError) -> Failure {
    let (kind, hint) = match error {
        BackupError::NotFound(_) => (FailureKind::NotFound, Some("see: process-throttler backup list")),
        BackupError::Exists(_) => (FailureKind::Conflict, Some("choose another name, or delete it first")),
        BackupError::Busy(_) => (FailureKind::Conflict, Some("try again when it is done")),
        BackupError::Invalid(_) => (FailureKind::Invalid, Some("nothing was changed")),
        BackupError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            (FailureKind::Denied, Some("become root"))
        }
        BackupError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            (FailureKind::NotFound, None)
        }
        BackupError::Key(_) => (
            FailureKind::Failed,
            Some("keys are made by age-keygen: recipients begin with age1, --identity names its file"),
        ),
        BackupError::NoRoom { .. } => {
            (FailureKind::Failed, Some("delete older backups, or choose another file system by --directory"))
        }
        BackupError::Store(_) => (FailureKind::Failed, Some("see: process-throttler state check")),
        BackupError::Stuck { .. } => {
            (FailureKind::Partial, Some("run the command again: it goes on going back"))
        }
        BackupError::Refused { .. } => (FailureKind::Failed, Some("nothing of it was used")),
        BackupError::Io { .. } | BackupError::Unfit { .. } => (FailureKind::Failed, None),
    };
    let failure = Failure::from_error(kind, error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_due_once_and_is_not_skipped_by_being_busy() {
        let at = |text: &str| -> Zoned { format!("2026-11-27T{text}+00:00[UTC]").parse().unwrap() };
        let nightly = Some("30 3 * * *");
        let mut calendar = Calendar::default();
        assert!(!calendar.is_due(nightly, &at("03:00:00")));
        assert_eq!(calendar.next(nightly, &at("03:29:59")).unwrap(), at("03:30:00"));
        // Long after, because something else took its time.
        assert!(calendar.is_due(nightly, &at("03:40:00")));
        assert!(!calendar.is_due(nightly, &at("03:40:00")));
        assert!(!calendar.is_due(None, &at("03:40:00")));
        assert_eq!(calendar.next(Some("0 5 * * *"), &at("03:41:00")).unwrap(), at("05:00:00"));
    }

    #[test]
    fn a_backup_that_was_missed_is_made_up_for_once() {
        let at = |text: &str| -> Zoned { format!("2026-11-{text}+00:00[UTC]").parse().unwrap() };
        let nightly = Some("30 3 * * *");
        let taken = |text: &str| Some(("30 3 * * *".to_owned(), at(text).timestamp().as_millisecond()));
        let mut calendar = Calendar::resume(taken("24T03:31:00"));
        assert!(!calendar.is_new(nightly), "it is known");
        assert!(calendar.is_due(nightly, &at("27T12:00:00")), "three were missed");
        assert!(!calendar.is_due(nightly, &at("27T12:00:01")), "one is enough");
        assert_eq!(calendar.next(nightly, &at("27T12:00:01")).unwrap(), at("28T03:30:00"));

        let mut in_time = Calendar::resume(taken("27T03:30:01"));
        assert!(!in_time.is_due(nightly, &at("27T12:00:00")), "none was missed");
        let mut set_back = Calendar::resume(taken("29T00:00:00"));
        assert_eq!(set_back.next(nightly, &at("27T12:00:00")).unwrap(), at("28T03:30:00"));
        let mut other = Calendar::resume(taken("24T03:31:00"));
        assert!(!other.is_due(Some("0 5 * * *"), &at("27T12:00:00")), "turns of another schedule");
        assert!(other.is_new(Some("0 5 * * *")) && !other.is_new(Some("0 5 * * *")));
        // Switched off meanwhile: what came then was not missed.
        let mut off = Calendar::resume(taken("24T03:31:00"));
        assert!(!off.is_due(None, &at("27T12:00:00")) && !off.is_due(nightly, &at("27T12:00:01")));
    }
}
