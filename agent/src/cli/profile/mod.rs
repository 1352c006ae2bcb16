//! `profile`: the profiles of the configuration directory, and which one is in force.
//!
//! Files are read and written without the daemon; what is in force is its business.

mod change;
mod create;
mod delete;
mod diff;
mod edit;
mod history;
mod plan;
mod rollback;
mod running;
mod shelf;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::error::{CliError, CliResult};
use super::globals::{Context, call, runtime};
use crate::config::file::{ReadError, WriteError};
use crate::config::profiles::{Format, StoreError};
use crate::config::revise::ReviseError;
use crate::config::{ProfileStore, export, validate_profile_file};
use crate::control::client::ClientError;
use crate::control::failure::{Failure, FailureKind};
use crate::control::feature;
use crate::control::proto::{Activate, Activated, ActiveProfile, DryRun, Plan, Request};
use crate::model::id::Name;
use crate::model::rule::Profile;

use shelf::{Listed, Shown};

/// Arguments of `profile`.
#[derive(Args, Debug)]
pub(super) struct ProfileArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the profiles, and which one is active
    #[command(visible_alias = "ls")]
    List,
    /// Show a profile
    Show {
        /// Its name
        name: Name,
        /// As it comes into force, its bases merged in; JSON and YAML documents always are
        #[arg(long)]
        resolved: bool,
    },
    /// Make a profile: empty, from a file, from an example, or from what runs now
    Create(create::Create),
    /// Change a profile in an editor, or single values of it
    Edit(edit::Edit),
    /// Copy a profile under another name
    Clone(create::CloneOf),
    /// Remove a profile
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(delete::Delete),
    /// Take a profile from a YAML or JSON file, also one of the predecessor's
    Import(create::Import),
    /// Print a profile for another machine
    Export {
        /// Its name
        name: Name,
        /// Language
        #[arg(long, value_enum, value_name = "LANGUAGE", default_value_t)]
        format: ExportFormat,
        /// With its bases merged in, for a machine that has them not; JSON always is
        #[arg(long)]
        resolved: bool,
    },
    /// Tell what two profiles say differently
    Diff(diff::Diff),
    /// Show what became of profiles: by whom, when, and what they said
    History(history::History),
    /// Undo a change of a profile, or of which one is active
    Rollback(rollback::Rollback),
    /// Check a profile: all errors at once
    Validate {
        /// A profile's name, or a file if it has a slash or an ending
        profile: PathBuf,
    },
    /// Tell what activating a profile would do to the processes alive now
    Plan {
        /// Its name
        name: Name,
    },
    /// Bring a profile into force, in place of the active one
    Activate {
        /// Its name
        name: Name,
    },
    /// Take the active profile out of force and lift its limits
    Deactivate,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ExportFormat {
    /// As it is in its file, with its comments
    #[default]
    Yaml,
    /// As JSON
    Json,
}

impl ProfileArgs {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let store = ProfileStore::new(&context.dirs);
        match self.command {
            Command::List => {
                let entries = store.list().map_err(refused)?;
                context.output.show(&Listed::new(entries, active(context)?.as_ref()))
            }
            Command::Show { name, resolved } => {
                let profile = load(context, &name)?;
                let source = store.text(&name).map_err(refused)?;
                context.output.message(&format!("# {}", source.path().display()));
                context.output.show(&if resolved {
                    Shown::resolved(profile, &source)
                } else {
                    Shown::as_written(profile, source)
                })
            }
            Command::Create(command) => command.run(context),
            Command::Edit(command) => command.run(context),
            Command::Clone(command) => command.run(context),
            Command::Delete(command) => command.run(context),
            Command::Import(command) => command.run(context),
            Command::Diff(command) => command.run(context),
            Command::History(command) => command.run(context),
            Command::Rollback(command) => command.run(context),
            Command::Export { name, format: ExportFormat::Yaml, resolved: true } => {
                context.output.raw(export::to_yaml(&load(context, &name)?).as_bytes())
            }
            Command::Export { name, format, resolved: _ } => {
                let format = match format {
                    ExportFormat::Yaml => Format::Yaml,
                    ExportFormat::Json => Format::Json,
                };
                context.output.raw(store.export(&name, format).map_err(refused)?.as_bytes())
            }
            Command::Validate { profile } => super::validate::profile(context, &profile),
            Command::Plan { name } => {
                let plan: Plan = context.ask(feature::RULES, &Request::Plan { profile: name })?;
                context.output.show(&plan)
            }
            Command::Activate { name } => activate(context, Some(name)),
            Command::Deactivate => activate(context, None),
        }
    }
}

/// Brings a profile into force, or none.
fn activate(context: &Context, profile: Option<Name>) -> CliResult {
    let dry_run = context.dry_run;
    let request = match profile {
        Some(profile) => Request::Activate(Activate { profile, dry_run }),
        None => Request::Deactivate(DryRun { dry_run }),
    };
    let activated: Activated = context.ask(feature::RULES, &request)?;
    context.output.show(&activated)
}

/// A profile of the configuration directory.
///
/// # Errors
/// When there is none of that name, or it has errors.
pub(super) fn load(context: &Context, name: &Name) -> CliResult<Profile> {
    let (profile, findings) = ProfileStore::new(&context.dirs).load(name).map_err(refused)?;
    warn(context, &findings);
    Ok(profile)
}

/// A profile by its name, or of a file anywhere.
fn named(context: &Context, profile: &Path) -> CliResult<Profile> {
    let path = super::validate::file_of(context, profile)?;
    match validate_profile_file(&path, &context.dirs.shared_profiles) {
        (Some(profile), findings) => {
            warn(context, &findings);
            Ok(profile)
        }
        (None, findings) => Err(refused(StoreError::Invalid(findings))),
    }
}

/// The profile in force, or without a daemon the one that its next start would bring.
fn known_active(context: &Context) -> CliResult<Option<Name>> {
    if let Some(active) = context.ask_if_running::<ActiveProfile>(&Request::ActiveProfile)? {
        return Ok(active.profile);
    }
    let Some(book) = super::offline::existing_journal(context)? else { return Ok(None) };
    book.read(|tables| tables.active_profile()).map_err(|error| super::offline::store_failure(&error))
}

/// The profile in force; none without a daemon. A listing of files must not fail because the daemon keeps
/// us out.
fn active(context: &Context) -> CliResult<Option<Name>> {
    let (client, request) = (context.client(), Request::ActiveProfile);
    let asked = runtime()?.block_on(call::<ActiveProfile>(&client, &request));
    match asked {
        Ok(active) => Ok(active.profile),
        Err(ClientError::NotRunning(_)) => Ok(None),
        Err(error) => {
            let why = Failure::from(error).message;
            context.output.message(&format!("Warning: which profile is active is not known: {why}"));
            Ok(None)
        }
    }
}

fn warn(context: &Context, findings: &crate::config::Findings) {
    if !findings.is_empty() {
        context.output.message(&findings.to_string());
    }
}

fn refused(error: StoreError) -> CliError {
    let failure = match &error {
        StoreError::NotFound { near, .. } => {
            let failure = Failure::from_error(FailureKind::NotFound, &error);
            match near {
                Some(near) => failure.with_hint(format!("did you mean {near}?")),
                None => failure.with_hint("see: process-throttler profile list"),
            }
        }
        StoreError::Shared { name, .. } => {
            let hint = format!("copy it and change the copy: process-throttler profile clone {name} NEW");
            Failure::from_error(FailureKind::Denied, &error).with_hint(hint)
        }
        StoreError::Invalid(findings) => {
            let count = findings.errors();
            let noun = if count == 1 { "error" } else { "errors" };
            Failure::new(FailureKind::Invalid, format!("{count} {noun} in the profile\n{findings}"))
        }
        StoreError::Exists { .. } => {
            let hint = "change it with profile edit, or replace it with profile import --replace";
            Failure::from_error(FailureKind::Conflict, &error).with_hint(hint)
        }
        StoreError::Write(WriteError::Changed(_)) => {
            Failure::from_error(FailureKind::Conflict, &error).with_hint("look at it, and try again")
        }
        StoreError::Directory { source, .. }
        | StoreError::Read(ReadError::Io { source, .. })
        | StoreError::Write(WriteError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Failure::from_error(FailureKind::Denied, &error)
        }
        StoreError::Revise(revise) => of_revision(revise, &error),
        StoreError::Read(read) if read.is_not_found() => Failure::from_error(FailureKind::NotFound, &error),
        // Too large, no text, not to be trusted: nothing that another attempt would change.
        StoreError::Read(ReadError::Refused(_)) => Failure::from_error(FailureKind::Invalid, &error),
        StoreError::Directory { .. }
        | StoreError::Read(_)
        | StoreError::Write(_)
        | StoreError::Json { .. } => Failure::from_error(FailureKind::Failed, &error),
    };
    failure.into()
}

fn of_revision(revise: &ReviseError, error: &StoreError) -> Failure {
    match revise {
        ReviseError::Path(_) | ReviseError::Value { .. } => Failure::from_error(FailureKind::Usage, error),
        ReviseError::Missing { .. } => Failure::from_error(FailureKind::NotFound, error)
            .with_hint("the keys are those of the file: see process-throttler profile show"),
        ReviseError::Malformed(_) => Failure::from_error(FailureKind::Invalid, error),
        ReviseError::Unfit { .. } => {
            Failure::from_error(FailureKind::Failed, error).with_hint("change it with an editor")
        }
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    shelf::samples(gallery);
    change::samples(gallery);
    diff::samples(gallery);
    history::samples(gallery);
}
