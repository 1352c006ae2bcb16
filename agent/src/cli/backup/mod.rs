//! `backup`: keep configuration, state and audit trail, and put them back. With a daemon or without one; only a restore
//! needs that none runs.

mod create;
mod restore;
mod shelf;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::error::CliResult;
use super::globals::Context;
use crate::backup::{Archive, BackupError, Shelf};
use crate::config::settings::Backup as Configured;
use crate::daemon::backups::failure;
use crate::model::id::Name;

/// Arguments of `backup`.
#[derive(Args, Debug)]
pub(super) struct Backup {
    #[command(subcommand)]
    command: Command,
    /// Where backups are [default: as configured, else `backups` in the state directory]
    #[arg(long, global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Back up the configuration, the state and the audit trail
    Create(create::Create),
    /// List the backups, the newest first
    #[command(visible_alias = "ls")]
    List,
    /// Show what a backup holds
    Show(Which),
    /// Check that a backup is whole
    Verify(Which),
    /// Put a backup in the place of what is there; the daemon must be stopped
    Restore(Which),
    /// Delete a backup
    #[command(visible_aliases = ["rm", "remove"])]
    Delete {
        /// Its name
        name: Name,
    },
}

/// A backup to be read.
#[derive(Args, Debug)]
struct Which {
    /// Its name, or the path of an archive
    backup: String,
    /// File with the age identity that it was encrypted to
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

impl Backup {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let directory = self.directory.map(std::path::absolute).transpose()?;
        let shelf =
            || Shelf::new(directory.clone().unwrap_or_else(|| configured(context).directory(&context.dirs)));
        match self.command {
            Command::Create(create) => create.run(context, directory),
            Command::List => shelf::list(context, &shelf()),
            Command::Show(which) => shelf::show(context, &which.open(&shelf())?),
            Command::Verify(which) => shelf::verify(context, which.open(&shelf())?),
            Command::Restore(which) => restore::run(context, &which, &shelf()),
            Command::Delete { name } => shelf::delete(context, &shelf(), &name),
        }
    }
}

impl Which {
    /// What contains a slash is a path: no name does.
    fn path(&self, shelf: &Shelf) -> CliResult<PathBuf> {
        if self.backup.contains('/') {
            return Ok(PathBuf::from(&self.backup));
        }
        let name: Name = self.backup.parse().map_err(|error: crate::model::id::NameError| {
            super::error::usage(error.to_string()).with_hint("a path contains a slash: ./NAME")
        })?;
        Ok(shelf.find(&name).map_err(|error| failure(&error))?.path)
    }

    fn open(&self, shelf: &Shelf) -> CliResult<Archive> {
        let archive = Archive::open(&self.path(shelf)?, self.identity.as_deref());
        archive.map_err(|error| told(&error))
    }
}

fn told(error: &BackupError) -> super::error::CliError {
    failure(error).into()
}

/// The settings as far as they can be read: a broken configuration must not keep anyone from restoring a good one.
fn configured(context: &Context) -> Configured {
    context.settings_or("backups are as by default").map(|settings| settings.backup).unwrap_or_default()
}

/// The text of a file that names recipients.
fn recipients_of(path: &Path) -> CliResult<Vec<String>> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| told(&BackupError::Io { operation: "read", path: path.to_owned(), source }))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(ToOwned::to_owned).collect())
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    create::samples(gallery);
    shelf::samples(gallery);
    restore::samples(gallery);
}
