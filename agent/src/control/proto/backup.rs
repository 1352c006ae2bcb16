//! Backups and the state of databases over the control socket. Plain data, stable within `v1`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::id::Name;

/// Make a backup. For root and the daemon's own user only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackUp {
    /// Its name; absent: one with the date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Where, absolute; absent: as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// To whom it is encrypted; absent: as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<Vec<String>>,
    /// How many of the backups without a name of their own are kept; absent: as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// Answer to [`BackUp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BackedUp {
    /// Its name.
    pub name: Name,
    /// The archive.
    pub path: PathBuf,
    /// Size of the archive in bytes; absent when there is none.
    pub size: Option<u64>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// How many files are in it.
    pub files: usize,
    /// What is not in it, and why.
    pub left_out: Vec<String>,
    /// Older backups that were deleted, or would be.
    pub deleted: Vec<Name>,
    /// Nothing was done.
    pub dry_run: bool,
}

/// A database looked over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DatabaseState {
    /// The file.
    pub path: PathBuf,
    /// How it is.
    pub verdict: DatabaseVerdict,
    /// Its schema; absent when there is no such file.
    pub schema: Option<i64>,
    /// The schema of this version.
    pub known: i64,
    /// Damage that was found.
    pub damage: Vec<String>,
    /// Rows that belong to nothing.
    pub orphans: Vec<String>,
}

/// See [`DatabaseState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DatabaseVerdict {
    /// It can be used as it is.
    Sound,
    /// There is none yet.
    Absent,
    /// It has to be migrated.
    Older,
    /// A newer version of the program wrote it.
    Newer,
    /// It is damaged.
    Damaged,
}
