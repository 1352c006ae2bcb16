//! What can go wrong with a backup.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Findings;
use crate::store::StoreError;

/// An error of a backup or a restore.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file system failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive is none of ours, damaged, or made to do harm. Nothing of it was used.
    #[error("{} is refused: {why}", path.display())]
    Refused {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The configuration in the archive is not valid. Nothing was changed.
    #[error("the configuration of the backup is not valid: {}", summary(.0))]
    Invalid(Findings),
    /// A backup of this name exists.
    #[error("backup {0} exists already")]
    Exists(String),
    /// No backup of this name exists.
    #[error("no backup {0}")]
    NotFound(String),
    /// Another backup is being written to the same directory.
    #[error("another backup is being written to {}", .0.display())]
    Busy(PathBuf),
    /// The file system has no room for another one. Nothing was written.
    #[error(
        "no room for a backup in {}: {} MiB are needed and {} MiB are free",
        path.display(), needed.div_ceil(1 << 20), free >> 20
    )]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// Bytes that making it may take.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A recipient or an identity cannot be used. Never with anything of a key in it.
    #[error("{0}")]
    Key(String),
    /// A file cannot be part of a backup.
    #[error("{} cannot be backed up: {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A restore failed half-way, and going back failed as well.
    #[error("{cause}; going back failed, too: {source}")]
    Stuck {
        /// Why it failed.
        cause: String,
        /// Why going back did.
        source: Box<BackupError>,
    },
}

/// For `map_err`: an error of the file system.
pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { operation, path, source }
}

fn summary(findings: &Findings) -> String {
    findings.into_iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
