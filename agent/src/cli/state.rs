//! `state`: look the databases over, and bring them up to date.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::error::{CliError, CliResult};
use super::globals::Context;
use super::offline;
use super::output::View;
use super::page::{Always, Page, or_dash};
use crate::backup::Database;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{DatabaseState, DatabaseVerdict, Request};
use crate::daemon::backups::judged;
use crate::model::plural::counted;
use crate::store::{Store, check};

/// Arguments of `state`.
#[derive(Args, Debug)]
pub(super) struct State {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Look the databases over: damage, schema, rows that belong to nothing; exit code 1 when one cannot be used
    Check,
    /// Bring the databases to the schema of this version, as a start of the daemon does; what was there is kept
    Migrate,
}

impl State {
    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            Command::Check => {
                let states = match context.ask_if_running(&Request::State)? {
                    Some(states) => states,
                    None => look(context)?,
                };
                let usable = states.iter().all(|state| state.verdict.is_usable());
                context.output.show(&Checked(states))?;
                if usable { Ok(()) } else { Err(CliError::Exit(FailureKind::Failed)) }
            }
            Command::Migrate => migrate(context),
        }
    }
}

/// Looks at the databases without a daemon.
fn look(context: &Context) -> CliResult<Vec<DatabaseState>> {
    let one = |database: Database| {
        let path = context.dirs.state.join(database.file_name());
        let found =
            offline::is_there(&path)?.then(|| check::inspect(&path, database.durability())).transpose();
        found
            .map(|found| judged(&context.dirs, database, found))
            .map_err(|error| offline::store_failure(&error))
    };
    Database::ALL.into_iter().map(one).collect()
}

fn migrate(context: &Context) -> CliResult {
    let lock = if context.dry_run { None } else { Some(offline::lock(context)?) };
    let before = look(context)?;
    if let Some(newer) = before.iter().find(|state| state.verdict == DatabaseVerdict::Newer) {
        let (found, known) = (newer.schema.unwrap_or_default(), newer.known);
        let message = format!(
            "{} has schema {found}, this version knows up to {known}: it was written by a newer version",
            newer.path.display()
        );
        let failure = Failure::new(FailureKind::Failed, message);
        return Err(failure.with_hint("install that version again, or restore a backup of this one").into());
    }
    let mut done = Vec::new();
    for (database, state) in Database::ALL.into_iter().zip(before) {
        let mut step = Step::new(&state);
        if lock.is_some() && step.action != Action::None {
            let opened = Store::open(&state.path, database.durability());
            let opened = opened.map_err(|error| offline::store_failure(&error))?;
            if let Some((aside, carried)) = opened.set_aside {
                step.kept = Some(aside);
                step.carried = (database == Database::State).then_some(carried);
            }
            step.to = opened.store.inspect().map_err(|error| offline::store_failure(&error))?.schema;
        }
        done.push(step);
    }
    context.output.show(&Migrated { databases: done, dry_run: context.dry_run })
}

impl DatabaseVerdict {
    /// Whether the daemon starts with it as it is.
    const fn is_usable(self) -> bool {
        match self {
            Self::Sound | Self::Absent | Self::Older => true,
            Self::Newer | Self::Damaged => false,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Absent => "absent",
            Self::Older => "older",
            Self::Newer => "newer",
            Self::Damaged => "damaged",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Sound | Self::Absent => "-",
            Self::Older => "process-throttler state migrate, or start the daemon",
            Self::Newer => "install the newer version again, or restore a backup of this one",
            Self::Damaged => "process-throttler state migrate sets it aside and keeps the limits releasable",
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
struct Checked(Vec<DatabaseState>);

impl View for Checked {
    const KIND: &'static str = "StateCheck";

    fn page(&self, page: &mut Page) {
        let columns =
            [Always("DATABASE"), Always("STATE"), Always("SCHEMA"), Always("KNOWN"), Always("WHAT TO DO")];
        page.table(
            columns,
            self.0.iter().map(|state| {
                [
                    state.path.display().to_string(),
                    state.verdict.as_str().to_owned(),
                    or_dash(state.schema),
                    state.known.to_string(),
                    state.verdict.advice().to_owned(),
                ]
            }),
        );
        for state in &self.0 {
            for problem in state.damage.iter().chain(&state.orphans) {
                page.line(format!("{}: {problem}", state.path.display()));
            }
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Migrated {
    databases: Vec<Step>,
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Nothing is to be done.
    None,
    /// The schema is brought up to date, a copy of the older kept beside it.
    Migrate,
    /// It is renamed, and a new one begun.
    SetAside,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Step {
    path: PathBuf,
    action: Action,
    from: Option<i64>,
    to: i64,
    /// Where a damaged one was set aside.
    kept: Option<PathBuf>,
    /// Changes that could be read in it, and can still be undone.
    carried: Option<usize>,
}

impl Step {
    fn new(state: &DatabaseState) -> Self {
        let action = match state.verdict {
            DatabaseVerdict::Sound | DatabaseVerdict::Absent | DatabaseVerdict::Newer => Action::None,
            DatabaseVerdict::Older => Action::Migrate,
            DatabaseVerdict::Damaged => Action::SetAside,
        };
        Self {
            path: state.path.clone(),
            action,
            from: state.schema,
            to: state.known,
            kept: None,
            carried: None,
        }
    }
}

impl View for Migrated {
    const KIND: &'static str = "StateMigration";

    fn page(&self, page: &mut Page) {
        let would = if self.dry_run { "would be " } else { "" };
        for step in &self.databases {
            let path = step.path.display();
            match step.action {
                Action::None => page.line(format!("{path}: nothing to do")),
                Action::Migrate => page.line(format!(
                    "{path}: {would}migrated from schema {} to {}, a copy of the older kept beside it",
                    step.from.unwrap_or_default(),
                    step.to
                )),
                Action::SetAside => page.line(format!("{path}: damaged, {would}set aside and begun anew")),
            }
            if let Some(kept) = &step.kept {
                page.line(format!("{path}: the damaged one is {}", kept.display()));
            }
            if let Some(carried) = step.carried {
                let (changes, are) =
                    (counted(carried, "change", "changes"), if carried == 1 { "is" } else { "are" });
                page.line(format!("{path}: {changes} could be read and {are} undone by release --all"));
            }
        }
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    let state = |name: &str, verdict, schema, damage: &[&str], orphans: &[&str]| DatabaseState {
        path: PathBuf::from("/var/lib/process-throttler").join(name),
        verdict,
        schema,
        known: 9,
        damage: damage.iter().map(ToString::to_string).collect(),
        orphans: orphans.iter().map(ToString::to_string).collect(),
    };
    let states = || {
        vec![
            state("a.db", DatabaseVerdict::Sound, Some(9), &[], &["2 attempts of deliveries that are gone"]),
            state("b.db", DatabaseVerdict::Absent, None, &[], &[]),
            state("c.db", DatabaseVerdict::Older, Some(7), &[], &[]),
            state("d.db", DatabaseVerdict::Newer, Some(10), &[], &[]),
            state("e.db", DatabaseVerdict::Damaged, None, &["file is not a database"], &[]),
        ]
    };
    gallery.show("state check", &Checked(states()));
    for dry_run in [false, true] {
        let mut databases: Vec<Step> = states().iter().map(Step::new).collect();
        if let Some(last) = databases.last_mut().filter(|_| !dry_run) {
            (last.kept, last.carried) =
                (Some(PathBuf::from("/var/lib/process-throttler/e.db.damaged")), Some(3));
        }
        let line = if dry_run { "state migrate --dry-run" } else { "state migrate" };
        gallery.show(line, &Migrated { databases, dry_run });
    }
}
