//! `audit`: who changed what. Reads the log itself, so that it works without a daemon; and how commands record what
//! they do without one.

mod offline;
mod search;
mod stats;
mod tail;
mod verify;

use clap::{Args, Subcommand};

pub(super) use offline::{audited, recorded};

use super::error::{CliError, CliResult};
use super::globals::Context;
use crate::audit::files::Place;
use crate::control::failure::{Failure, FailureKind};

const AFTER_HELP: &str = "\
The log is in the log directory: JSON lines, each with a hash over itself and the line before, so that a line that is \
altered, taken out or put in shows.";

/// Arguments of `audit`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Find records
    Search(search::Search),
    /// Count records by type, outcome and actor
    Stats,
    /// Check that no record was altered or taken out; exit code 1 when one was
    Verify,
    /// Show the newest records, or follow what comes
    Tail(tail::Tail),
}

impl Audit {
    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            Command::Search(command) => command.run(context),
            Command::Stats => stats::run(context),
            Command::Verify => verify::run(context),
            Command::Tail(command) => command.run(context),
        }
    }
}

fn place(context: &Context) -> Place {
    Place::new(context.dirs.log.clone())
}

fn unreadable(place: &Place, error: &std::io::Error) -> CliError {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let kind = if denied { FailureKind::Denied } else { FailureKind::Failed };
    let failure = Failure::new(kind, format!("read the audit log in {}: {error}", place.dir().display()));
    if denied { failure.with_hint("become root").into() } else { failure.into() }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    search::samples(gallery);
    stats::samples(gallery);
    verify::samples(gallery);
}
