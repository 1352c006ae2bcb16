//! `profile rollback`: what a profile's file, or the choice of the profile in force, was before.

use clap::Args;

use super::change::Change;
use super::history::{content, content_after, entry};
use super::{activate, refused};
use crate::cli::error::{CliError, CliResult, usage};
use crate::cli::globals::Context;
use crate::cli::offline::{self, store_failure};
use crate::config::ProfileStore;
use crate::config::file::Source;
use crate::config::profiles::StoreError;
use crate::control::failure::{Failure, FailureKind};
use crate::model::id::Name;
use crate::store::Store;
use crate::store::history::{Act, HistoryRow, Outcome, hash};

const AFTER_HELP: &str = "\
With a name, the last change of that profile's file is undone: edited, created, deleted or imported. Without one, the \
profile that was in force before comes into force again. With --to, the state right after a change of the history is \
restored. A rollback is a change, too, and can be rolled back.";

/// Arguments of `profile rollback`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Rollback {
    /// The profile whose file is meant; without it, the profile in force is
    name: Option<Name>,
    /// Restore what was right after this change, by its number in profile history
    #[arg(long, value_name = "ID")]
    to: Option<i64>,
}

impl Rollback {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Some(book) = offline::existing_journal(context)? else {
            return Err(nothing("the history is empty"));
        };
        match (self.to, self.name) {
            (Some(id), name) => {
                let mut row = entry(&book, id)?;
                if let Some(of) = row.profile.clone().filter(|_| !row.act.is_of_force()) {
                    row.outcome = row.outcome_by(present(context, &of)?.as_deref());
                }
                match (row.act.is_of_force(), &row.profile, name) {
                    (true, profile, None) => activate(context, profile.clone()),
                    (false, Some(of), name) if name.is_none() || name.as_ref() == Some(of) => {
                        let text = content_after(&book, &row)?;
                        restore(context, of, text)
                    }
                    (_, _, name) => {
                        let name =
                            name.map(|name| format!(" of the file of profile {name}")).unwrap_or_default();
                        let failure = usage(format!("change {id} is none{name}"));
                        Err(failure.with_hint("see: process-throttler profile history").into())
                    }
                }
            }
            (None, Some(name)) => {
                let now = present(context, &name)?;
                let last = last(&book, Some(&name), now.as_deref(), |row| !row.act.is_of_force())?;
                let Some(last) = last else {
                    return Err(nothing(&format!("no change of profile {name} is known")));
                };
                restore(context, &name, content(&book, last.before.as_deref())?)
            }
            (None, None) => {
                let last = last(&book, None, None, |row| row.act.is_of_force())?;
                let Some(last) = last else { return Err(nothing("no profile has been in force before")) };
                activate(context, last.previous)
            }
        }
    }
}

/// The last change that was done, those included whose author died before saying so: `now` is the hash of what the
/// file has.
fn last(
    book: &Store,
    name: Option<&Name>,
    now: Option<&str>,
    is_meant: impl Fn(&HistoryRow) -> bool,
) -> CliResult<Option<HistoryRow>> {
    let rows = book.read(|tables| tables.history(name, u64::MAX)).map_err(|error| store_failure(&error))?;
    Ok(rows.into_iter().find(|row| row.outcome_by(now) == Outcome::Done && is_meant(row)))
}

/// The hash of what the profile's file has now.
fn present(context: &Context, name: &Name) -> CliResult<Option<String>> {
    match ProfileStore::new(&context.dirs).own_text(name) {
        Ok(source) => Ok(Some(hash(source.text()))),
        Err(StoreError::NotFound { .. } | StoreError::Shared { .. }) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

fn nothing(message: &str) -> CliError {
    let failure = Failure::new(FailureKind::NotFound, format!("nothing to go back to: {message}"));
    failure.with_hint("see: process-throttler profile history").into()
}

/// Gives a file an earlier content, or takes it away again.
fn restore(context: &Context, name: &Name, after: Option<String>) -> CliResult {
    let store = ProfileStore::new(&context.dirs);
    let before = match store.own_text(name) {
        Ok(source) => Some(source.into_text()),
        Err(StoreError::NotFound { .. } | StoreError::Shared { .. }) => None,
        Err(error) => return Err(refused(error)),
    };
    let counts = match &after {
        // The machine or a base may have changed since: what does not hold now is not restored.
        Some(text) => {
            let source = Source::new(store.path(name), text.clone());
            let (profile, findings) = store.check_as(&source, name).map_err(refused)?;
            super::warn(context, &findings);
            (profile.rules.len(), profile.critical.len())
        }
        None if before.is_some() => {
            if super::known_active(context)?.as_ref() == Some(name) {
                let message = format!("profile {name} is active, and did not exist before");
                let failure = Failure::new(FailureKind::Conflict, message);
                return Err(failure.with_hint("deactivate it first").into());
            }
            context.confirm(&format!("Profile {name} did not exist before. Delete it?"))?;
            (0, 0)
        }
        None => (0, 0),
    };
    let change =
        Change { act: Act::Rollback, name: name.clone(), before, after, counts, migration: Vec::new() };
    change.apply(context, &store)
}
