//! What can go wrong between us and the database.

use std::path::{Path, PathBuf};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite failed. A full disk arrives here; nothing of the transaction is kept then.
    #[error("{operation} in {}", path.display())]
    Sql {
        /// What was tried.
        operation: &'static str,
        /// The database.
        path: PathBuf,
        /// The error.
        source: rusqlite::Error,
    },
    /// The file system failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// A later version of this program wrote the database.
    #[error("{} has schema {found}, this program knows up to {known}: it was written by a newer version", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The schema could not be brought up to date.
    #[error("migrate {}", path.display())]
    Migrate {
        /// The database.
        path: PathBuf,
        /// The error.
        source: rusqlite_migration::Error,
    },
    /// A row does not hold what we write.
    #[error("{} holds a malformed {what}: {value:?}", path.display())]
    Malformed {
        /// The database.
        path: PathBuf,
        /// Table and column.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// Another group already limits the same thing.
    #[error("{what} is limited by group {group} already")]
    Taken {
        /// A file, a thread or a cgroup.
        what: String,
        /// The group that has it.
        group: String,
    },
}

impl StoreError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    /// Whether the disk is full. SQLite says so, or reports that its shared memory cannot grow as an I/O error.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
        match self {
            Self::Sql { source, path, .. } => match source.sqlite_error_code() {
                Some(DiskFull) => true,
                Some(SystemIoFailure) => rustix::fs::statvfs(path).is_ok_and(|room| room.f_bavail == 0),
                Some(_) | None => false,
            },
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Migrate { .. } | Self::Newer { .. } | Self::Malformed { .. } | Self::Taken { .. } => false,
        }
    }

    /// Whether somebody else had the database for longer than is waited for.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let busy = Some(rusqlite::ErrorCode::DatabaseBusy);
        matches!(self, Self::Sql { source, .. } if source.sqlite_error_code() == busy)
    }

    /// Whether the file is no database, or a damaged one.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Sql { source, .. } => {
                matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Migrate { source: rusqlite_migration::Error::RusqliteError { err, .. }, .. } => {
                matches!(err.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Malformed { .. } => true,
            Self::Migrate { .. } | Self::Io { .. } | Self::Newer { .. } | Self::Taken { .. } => false,
        }
    }
}
