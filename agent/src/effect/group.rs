//! A group in force: where its limits are. Kept in memory and, as JSON, in the store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::{Controller, membership};
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
    /// How the limits get there.
    pub rung: Rung,
    /// The cgroups.
    pub dirs: Vec<PlaceDir>,
    /// The systemd unit that carries the limits, for the rungs that are systemd's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Why this rung, or why none that is less intrusive; empty where there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// How cgroup limits reach processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// In the cgroup in which they already were.
    InPlace,
    /// In a cgroup of ours, into which they were moved.
    Own,
    /// On the systemd unit in which they already were.
    Unit,
    /// On a systemd slice of ours, into scopes of which they were moved.
    Scope,
}

impl Rung {
    /// Whether processes were moved to get there.
    #[must_use]
    pub const fn moves(self) -> bool {
        matches!(self, Self::Own | Self::Scope)
    }

    /// Whether systemd writes the limits.
    #[must_use]
    pub const fn is_systemds(self) -> bool {
        matches!(self, Self::Unit | Self::Scope)
    }
}

/// A cgroup of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceDir {
    /// The controller that limits here.
    pub controller: Controller,
    /// The cgroup.
    #[serde(with = "escaped")]
    pub path: PathBuf,
    /// Its inode where it is not of our making, else 0: whoever made it may remove it and make another of the same
    /// path.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inode: u64,
}

impl PlaceDir {
    /// A cgroup that is known by its path: one of ours or a unit's.
    pub(crate) const fn new(controller: Controller, path: PathBuf) -> Self {
        Self { controller, path, inode: 0 }
    }

    /// Whether it is the cgroup that was limited, and not another that was made since under the same path.
    pub(crate) fn stands(&self) -> bool {
        self.inode == 0 || membership::inode(&self.path).ok() == Some(self.inode)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(inode: &u64) -> bool {
    *inode == 0
}

impl Place {
    /// A place without a word on why.
    pub(crate) const fn new(each: Option<ProcKey>, rung: Rung, dirs: Vec<PlaceDir>) -> Self {
        Self { each, rung, dirs, unit: None, why: String::new() }
    }

    /// Keeps what a place of the same rung has for controllers that are not asked for now.
    pub(crate) fn keep_dirs(&mut self, known: Option<&Self>) {
        let Some(known) = known.filter(|known| known.rung == self.rung) else { return };
        let more = known.dirs.iter().filter(|dir| self.dir(dir.controller).is_none()).cloned();
        let more: Vec<PlaceDir> = more.collect();
        self.dirs.extend(more);
        self.dirs.sort_by_key(|dir| dir.controller);
    }

    /// Whether its cgroups are those that were limited, and not others that were made since under the same paths.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.dirs.iter().all(PlaceDir::stands)
    }

    /// Whether it is the same place, for whatever reason it was chosen.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { each, rung, dirs, unit, why: _ } = self;
        (each, rung, dirs, unit) == (&other.each, &other.rung, &other.dirs, &other.unit)
    }

    /// The rung in words, for people.
    #[must_use]
    pub fn how(&self) -> String {
        match (self.rung, &self.unit) {
            (Rung::InPlace, _) => "in place".to_owned(),
            (Rung::Own, _) => "by moving".to_owned(),
            (Rung::Unit, Some(unit)) => format!("on unit {unit}"),
            (Rung::Unit, None) => "on a unit".to_owned(),
            (Rung::Scope, _) => "in a transient scope".to_owned(),
        }
    }

    /// How intents name it: empty, or the process's key.
    #[must_use]
    pub fn label(&self) -> String {
        label(self.each)
    }

    /// Its cgroup for a controller.
    #[must_use]
    pub fn dir(&self, controller: Controller) -> Option<&Path> {
        self.place_dir(controller).map(|dir| dir.path.as_path())
    }

    /// The same with what tells it from a later one.
    pub(crate) fn place_dir(&self, controller: Controller) -> Option<&PlaceDir> {
        self.dirs.iter().find(|dir| dir.controller == controller)
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

    /// The rung in words, and after a colon why none that is less intrusive.
    #[must_use]
    pub fn how(&self) -> String {
        how(&self.places)
    }

    /// From its row; `None` when the row's places are not what this version writes.
    #[must_use]
    pub fn from_row(row: &GroupRow, dirty: bool) -> Option<Self> {
        let places = serde_json::from_str(&row.places).ok()?;
        Some(Self { limits: row.limits.clone(), scope: row.scope, places, dirty })
    }
}

/// The rungs of these places in words, and after a colon why none that is less intrusive.
pub(crate) fn how<'a>(places: impl IntoIterator<Item = &'a Place>) -> String {
    let (mut hows, mut whys) = (Vec::new(), Vec::new());
    for place in places {
        hows.push(place.how());
        whys.extend(Some(place.why.as_str()).filter(|why| !why.is_empty()));
    }
    hows.sort();
    hows.dedup();
    // One reason is enough where every process has a place of its own.
    match (hows.is_empty(), whys.first()) {
        (true, _) => "per process".to_owned(),
        (false, None) => hows.join(", "),
        (false, Some(why)) => format!("{}: {why}", hows.join(", ")),
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
