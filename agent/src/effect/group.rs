//! A group in force: where its limits are. Kept in memory and, as JSON, in the store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Controller;
use crate::model::id::ProcKey;
use crate::model::limits::{Limits, Scope};
use crate::store::GroupRow;

/// A group in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its limits.
    pub limits: Limits,
    /// Shared or each.
    pub scope: Scope,
    /// Where its cgroup limits are; none when it has per-process limits only.
    pub places: Vec<Place>,
    /// Whether the kernel may have less than this says: an agent died, or undoing failed, in between.
    pub dirty: bool,
}

/// A set of cgroups, one per hierarchy, with limits of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The process that has it to itself, with `scope: process`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<ProcKey>,
    /// Whether the cgroups are ours.
    pub rung: Rung,
    /// The cgroups.
    pub dirs: Vec<PlaceDir>,
}

/// How cgroup limits reach processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// In the cgroup in which they already were.
    InPlace,
    /// In a cgroup of ours, into which they were moved.
    Own,
}

/// A cgroup of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceDir {
    /// The controller that limits here.
    pub controller: Controller,
    /// The cgroup.
    #[serde(with = "escaped")]
    pub path: PathBuf,
}

impl Place {
    /// How intents name it: empty, or the process's key.
    #[must_use]
    pub fn label(&self) -> String {
        label(self.each)
    }

    /// Its cgroup for a controller.
    #[must_use]
    pub fn dir(&self, controller: Controller) -> Option<&Path> {
        self.dirs.iter().find(|dir| dir.controller == controller).map(|dir| dir.path.as_path())
    }

    /// Its cgroups, each once (on v2 all controllers share one).
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths: Vec<&Path> = self.dirs.iter().map(|dir| dir.path.as_path()).collect();
        paths.dedup();
        paths
    }

    /// Whether a process with these cgroups is in it, as far as these controllers are concerned.
    #[must_use]
    pub fn holds(&self, origins: &[(Controller, PathBuf)]) -> bool {
        origins
            .iter()
            .all(|(controller, path)| self.dir(*controller).is_some_and(|dir| path.starts_with(dir)))
    }
}

pub(crate) fn label(each: Option<ProcKey>) -> String {
    each.map_or_else(String::new, |key| key.to_string())
}

impl Group {
    /// The place of a process with `scope: process`, or the one of all.
    #[must_use]
    pub fn place(&self, each: Option<ProcKey>) -> Option<&Place> {
        self.places.iter().find(|place| place.each == each)
    }

    /// The rung in words, for people.
    #[must_use]
    pub fn how(&self) -> &'static str {
        if self.places.is_empty() {
            "per process"
        } else if self.places.iter().any(|place| place.rung == Rung::Own) {
            "by moving"
        } else {
            "in place"
        }
    }

    /// From its row; `None` when the row's places are not what this version writes.
    #[must_use]
    pub fn from_row(row: &GroupRow, dirty: bool) -> Option<Self> {
        let places = serde_json::from_str(&row.places).ok()?;
        Some(Self { limits: row.limits.clone(), scope: row.scope, places, dirty })
    }
}

mod escaped {
    //! Paths in JSON as escaped text: they need not be UTF-8.

    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::model::process::{printable, unprintable};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&printable(path.as_os_str().as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(deserializer)?;
        unprintable(&text)
            .map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
            .ok_or_else(|| serde::de::Error::custom("malformed \\xNN escape"))
    }
}
