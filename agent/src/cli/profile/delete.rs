//! `profile delete`: removes a profile's file; its content stays in the history.

use clap::Args;

use super::change::Change;
use super::{known_active, refused};
use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::cli::offline;
use crate::clock;
use crate::config::{ProfileStore, Settings};
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{Activated, DryRun, Request};
use crate::model::id::Name;
use crate::store::history::{Act, Actor};

/// Arguments of `profile delete`.
#[derive(Args, Debug)]
#[command(after_help = "profile rollback NAME brings a deleted profile back.")]
pub(super) struct Delete {
    /// Its name
    name: Name,
    /// Also when it is active, which it is no more then, and when others need it
    #[arg(long)]
    force: bool,
}

impl Delete {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Self { name, force } = self;
        let store = ProfileStore::new(&context.dirs);
        let before = store.own_text(&name).map_err(refused)?.into_text();
        let is_active = known_active(context)?.as_ref() == Some(&name);
        if !force {
            refuse_if_needed(context, &store, &name, is_active)?;
        }
        context.confirm(&format!("Delete profile {name}?"))?;
        if is_active && !context.dry_run {
            deactivate(context)?;
        }
        let change = Change {
            act: Act::Delete,
            name,
            before: Some(before),
            after: None,
            counts: (0, 0),
            migration: Vec::new(),
        };
        change.apply(context, &store)
    }
}

fn refuse_if_needed(context: &Context, store: &ProfileStore, name: &Name, is_active: bool) -> CliResult {
    let mut needed = Vec::new();
    if is_active {
        needed.push("it is active".to_owned());
    }
    let dependents = store.dependents(name).map_err(refused)?;
    needed.extend(dependents.iter().map(|other| format!("profile {other} needs it")));
    // A configuration with errors is told by other commands, and must not keep anyone from cleaning up.
    if let Ok((settings, _)) = Settings::load_own(&context.dirs)
        && settings.profile.as_ref() == Some(name)
    {
        needed.push(format!("{} names it", context.dirs.config_file().display()));
    }
    if needed.is_empty() {
        return Ok(());
    }
    let message = format!("profile {name} is not deleted: {}", needed.join(", "));
    Err(Failure::new(FailureKind::Conflict, message)
        .with_hint("say --force to delete it all the same")
        .into())
}

/// In the daemon, or where it would read it at its next start.
fn deactivate(context: &Context) -> CliResult {
    let request = Request::Deactivate(DryRun { dry_run: false });
    match context.ask_if_running::<Activated>(&request)? {
        Some(_) => Ok(()),
        None => {
            let actor = Actor { uid: Some(nix::unistd::getuid().as_raw()), by: "command" };
            let at = clock::unix_millis(clock::wall());
            let noted = offline::journal(context)?.write(|tables| tables.note_activation(at, &actor, None));
            noted.map_err(|error| offline::store_failure(&error))
        }
    }
}
