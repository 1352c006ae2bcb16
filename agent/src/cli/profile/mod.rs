//! `profile`: the profiles of the configuration directory, and which one is in force.
//!
//! Files are read and written without the daemon; what is in force is its business.

mod plan;
mod shelf;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::audit::recorded;
use super::error::{CliError, CliResult};
use super::globals::{Context, call, runtime};
use crate::config::ProfileStore;
use crate::config::file::ReadError;
use crate::config::profiles::{Format, ImportOptions, StoreError};
use crate::control::client::ClientError;
use crate::control::failure::{Failure, FailureKind};
use crate::control::feature;
use crate::control::proto::{Activate, Activated, ActiveProfile, DryRun, Plan, Request};
use crate::model::id::Name;
use crate::model::rule::Profile;

use shelf::{Imported, Listed, Shown};

/// Arguments of `profile`.
#[derive(Args, Debug)]
pub(super) struct ProfileArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the profiles, and which one is active
    List,
    /// Show a profile
    Show {
        /// Its name
        name: Name,
    },
    /// Take a profile from a YAML or JSON file, also one of the predecessor's
    Import {
        /// The file
        file: PathBuf,
        /// Replace a profile of the same name
        #[arg(long)]
        replace: bool,
    },
    /// Print a profile for another machine
    Export {
        /// Its name
        name: Name,
        /// Language
        #[arg(long, value_enum, value_name = "LANGUAGE", default_value_t)]
        format: ExportFormat,
    },
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
            Command::Show { name } => context.output.show(&Shown(load(context, &name)?)),
            Command::Import { file, replace } => {
                let options = ImportOptions { replace, dry_run: context.dry_run };
                let subject = format!("profile file {}", file.display());
                let imported = recorded(context, "profile.imported", subject, || {
                    store.import(&file, options).map_err(refused)
                })?;
                warn(context, &imported.findings);
                context.output.show(&Imported::new(imported, context.dry_run))
            }
            Command::Export { name, format } => {
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
            Command::Activate { name } => {
                let request = Request::Activate(Activate { profile: name, dry_run: context.dry_run });
                changed(context, &request)
            }
            Command::Deactivate => {
                changed(context, &Request::Deactivate(DryRun { dry_run: context.dry_run }))
            }
        }
    }
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

fn changed(context: &Context, request: &Request) -> CliResult {
    let activated: Activated = context.ask(feature::RULES, request)?;
    context.output.show(&activated)
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
        StoreError::Invalid(findings) => {
            let count = findings.errors();
            let noun = if count == 1 { "error" } else { "errors" };
            Failure::new(FailureKind::Invalid, format!("{count} {noun} in the profile\n{findings}"))
        }
        StoreError::Exists { .. } => {
            Failure::from_error(FailureKind::Conflict, &error).with_hint("say --replace to replace it")
        }
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
