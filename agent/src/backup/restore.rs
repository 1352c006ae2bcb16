//! The way back: everything is unpacked and judged beside what is in use, and takes its place at once.
//!
//! The caller holds the lock of the daemon, which therefore does not run.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::draft::{digest, names, private_dir, remove};
use super::error::{BackupError, io};
use super::inside::{Database, Inside, Place};
use super::manifest::{FileRecord, Manifest};
use super::read::Archive;
use super::switch::{Move, switch};
use super::{Progress, trial};
use crate::config::Dirs;
use crate::effect::fail_point::FailPoints;
use crate::store::{Store, Tables, check};

/// Directories of the configuration that are replaced as a whole.
const WHOLE: [&str; 2] = ["config.d", "profiles"];
/// Files of the configuration that go when the backup has none.
const SINGLE: [&str; 3] = ["config.yaml", "webhooks.yaml", "webhooks.yaml.age"];
/// Where archives are unpacked to, in each place.
const STAGING: &str = ".restore";

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is in the backup only.
    Create,
    /// The backup has another.
    Replace,
    /// It is the same.
    Unchanged,
    /// The backup has none, and it is of a kind that it would have.
    Remove,
    /// It stays although the backup has another or none.
    Keep,
}

/// What a restore does to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Change {
    /// The file.
    pub path: PathBuf,
    /// What becomes of it.
    pub fate: Fate,
    /// Why, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(skip)]
    inside: Inside,
}

impl Change {
    /// Whether anything is done.
    #[must_use]
    pub const fn acts(&self) -> bool {
        match self.fate {
            Fate::Create | Fate::Replace | Fate::Remove => true,
            Fate::Unchanged | Fate::Keep => false,
        }
    }

    /// One as it is shown; a backup has no such file.
    #[cfg(test)]
    pub(crate) fn of(path: PathBuf, fate: Fate, why: Option<String>) -> Self {
        Self { path, fate, why, inside: Database::State.inside() }
    }
}

/// What a restore would do. The configuration as it would be is checked, in a directory of its own that is removed
/// after: what is in use is only read.
///
/// # Errors
/// When anything of the archive is wrong, the configuration would not be valid, or a file in use cannot be read.
pub fn foresee(
    dirs: &Dirs,
    archive: Archive,
    scratch: &Path,
    progress: Progress<'_>,
) -> Result<Vec<Change>, BackupError> {
    let stage = Stage { dirs, scratch: Some(scratch) };
    // It must be new: what somebody else has made there is not ours to fill.
    DirBuilder::new().mode(0o700).create(scratch).map_err(io("create", scratch))?;
    let _removed = Staging(vec![scratch.to_owned()]);
    let is_config = |inside: &Inside| inside.place() == Place::Config;
    let manifest = archive.unpack(&|inside| is_config(inside).then(|| stage.file(inside)), progress)?;
    let changes = compare(dirs, &manifest)?;
    stage.harden(manifest.files.iter().filter(|file| is_config(&file.path)))?;
    let mut planned = Planned { stage, kept: String::new(), moves: Vec::new(), before: Vec::new() };
    planned.configuration(&changes)?;
    planned.others(&changes)?;
    trial::check(dirs, &scratch.join("trial"), &planned.moves, &changes)?;
    Ok(changes)
}

/// What would become of each file, by path inside of the backup. Reads only.
pub(super) fn compare(dirs: &Dirs, manifest: &Manifest) -> Result<Vec<Change>, BackupError> {
    let mut changes = BTreeMap::new();
    for file in &manifest.files {
        let path = file.path.place().dir(dirs).join(file.path.rest());
        let (fate, why) = if !path.exists() {
            (Fate::Create, None)
        } else if file.path.place() == Place::State {
            // Two copies of a database are seldom the same bytes.
            (Fate::Replace, None)
        } else {
            match (digest(&path)?.0 == file.sha256, file.path.place()) {
                (true, _) => (Fate::Unchanged, None),
                (false, Place::Log) if begins_as(&path, &file.sha256, file.size)? => {
                    (Fate::Keep, Some("it has gone on since the backup"))
                }
                (false, Place::Config | Place::State | Place::Log) => (Fate::Replace, None),
            }
        };
        changes.insert(file.path.clone(), (path, fate, why.map(ToOwned::to_owned)));
    }
    for inside in in_use(dirs)? {
        let path = dirs.config.join(inside.rest());
        let text = inside.to_string();
        let left_out = manifest.left_out.iter().any(|file| file.path == text);
        changes.entry(inside).or_insert_with(|| match left_out {
            true => (path, Fate::Keep, Some("the backup does not hold it: it may hold a secret".to_owned())),
            false => (path, Fate::Remove, None),
        });
    }
    Ok(changes.into_iter().map(|(inside, (path, fate, why))| Change { path, fate, why, inside }).collect())
}

/// Files of the configuration that a backup of it would have.
fn in_use(dirs: &Dirs) -> Result<Vec<Inside>, BackupError> {
    let mut rests: Vec<String> = SINGLE
        .iter()
        .filter(|name| dirs.config.join(name).is_file())
        .map(|name| (*name).to_owned())
        .collect();
    for dir in WHOLE {
        for name in names(&dirs.config.join(dir))? {
            rests.extend(name.to_str().map(|name| format!("{dir}/{name}")));
        }
    }
    Ok(rests.iter().filter_map(|rest| Inside::new(Place::Config, rest).ok()).collect())
}

/// Whether a file, as far as it went then, is as it was.
fn begins_as(path: &Path, sha256: &str, size: u64) -> Result<bool, BackupError> {
    use std::io::Read as _;

    use sha2::Digest as _;
    let mut start = fs::File::open(path).map_err(io("open", path))?.take(size);
    let mut digest = sha2::Sha256::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = start.read(&mut chunk).map_err(io("read", path))?;
        if read == 0 {
            return Ok(super::manifest::hex(&digest.finalize()) == sha256);
        }
        digest.update(&chunk[..read]);
    }
}

/// A restore of which everything is checked and nothing done. Dropping it removes what was unpacked.
#[derive(Debug)]
pub struct Prepared {
    dirs: Dirs,
    changes: Vec<Change>,
    moves: Vec<Move>,
    /// Where the old is kept, per place that changes.
    before: Vec<PathBuf>,
    staging: Staging,
}

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// Where the old files are.
    pub before: Vec<PathBuf>,
    /// What was done.
    pub changes: Vec<Change>,
}

#[derive(Debug)]
struct Staging(Vec<PathBuf>);

impl Drop for Staging {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = remove(path) {
                tracing::warn!("left behind, and removed with the next restore: {error}");
            }
        }
    }
}

impl Prepared {
    /// Unpacks an archive beside what is in use, and checks all of it: the digests, the databases, the configuration as
    /// it would be.
    ///
    /// # Errors
    /// When anything is wrong. Nothing has changed then.
    pub fn new(
        dirs: &Dirs,
        archive: Archive,
        at: jiff::Timestamp,
        progress: Progress<'_>,
    ) -> Result<Self, BackupError> {
        let staging = Staging(Place::ALL.map(|place| place.dir(dirs).join(STAGING)).into());
        for dir in &staging.0 {
            // Of whoever was killed before anything counted.
            remove(dir)?;
        }
        let stage = Stage { dirs, scratch: None };
        let manifest = archive.unpack(&|inside| Some(stage.file(inside)), progress)?;
        let mut changes = compare(dirs, &manifest)?;
        stage.harden(manifest.files.iter())?;
        databases(dirs, &stage, &mut changes)?;
        let kept = format!("before-restore-{}.{:03}Z", at.strftime("%Y%m%dT%H%M%S"), at.subsec_millisecond());
        let mut planned = Planned { stage, kept, moves: Vec::new(), before: Vec::new() };
        planned.configuration(&changes)?;
        planned.others(&changes)?;
        let Planned { moves, before, .. } = planned;
        trial::check(dirs, &dirs.config.join(STAGING).join("trial"), &moves, &changes)?;
        Ok(Self { dirs: dirs.clone(), changes, moves, before, staging })
    }

    /// Puts everything in its place, or nothing.
    ///
    /// # Errors
    /// When a step fails; everything is as before then, except with [`BackupError::Stuck`].
    pub fn commit(self, points: &FailPoints) -> Result<Restored, BackupError> {
        let Self { dirs, changes, moves, before, staging } = self;
        for step in &moves {
            if let Some(parent) = step.old.parent() {
                private_dir(parent)?;
            }
        }
        let undone: Vec<PathBuf> = staging.0.iter().chain(&before).cloned().collect();
        let switched = switch(&dirs, undone, moves, points);
        if matches!(switched, Err(BackupError::Stuck { .. })) {
            // What is needed to go back lies there.
            std::mem::forget(staging);
        }
        switched?;
        Ok(Restored { before, changes })
    }
}

/// Where the files of an archive are unpacked to: beside those in use, or where nothing is in use.
#[derive(Clone, Copy)]
struct Stage<'a> {
    dirs: &'a Dirs,
    scratch: Option<&'a Path>,
}

impl Stage<'_> {
    fn dir(&self, place: Place) -> PathBuf {
        let beside = || place.dir(self.dirs).join(STAGING);
        self.scratch.map_or_else(beside, |scratch| scratch.join(place.as_str())).join("new")
    }

    fn file(&self, inside: &Inside) -> PathBuf {
        self.dir(inside.place()).join(inside.rest())
    }

    /// Gives files their modes; nobody but the owner may write what root trusts.
    fn harden<'f>(&self, files: impl Iterator<Item = &'f FileRecord>) -> Result<(), BackupError> {
        for file in files {
            let path = self.file(&file.path);
            let mode = fs::Permissions::from_mode(file.mode & 0o755 | 0o600);
            fs::set_permissions(&path, mode).map_err(io("chmod", &path))?;
        }
        Ok(())
    }
}

/// Checks the databases of the backup, and keeps the present state while limits stand: undoing them takes it.
fn databases(dirs: &Dirs, stage: &Stage<'_>, changes: &mut [Change]) -> Result<(), BackupError> {
    for database in Database::ALL {
        let inside = database.inside();
        let Some(change) = changes.iter_mut().find(|change| change.inside == inside) else { continue };
        let path = stage.file(&inside);
        let found = check::inspect(&path, database.durability())?;
        let why = if found.is_newer() {
            Some(format!("its schema {} is newer than {}", found.schema, found.known))
        } else {
            found.damage.first().cloned()
        };
        if let Some(why) = why {
            return Err(BackupError::Refused { path: PathBuf::from(inside.to_string()), why });
        }
        if database == Database::State {
            // What it says was done to the kernel was undone since, or by another boot.
            Store::open(&path, database.durability())?.store.forget_changes()?;
            if change.fate == Fate::Replace && limits_stand(dirs)? {
                change.fate = Fate::Keep;
                change.why = Some("limits stand, and undoing them takes it; release them first".to_owned());
            }
        }
    }
    Ok(())
}

/// Whether anything is to be undone. Damage is dealt with as at a start of the daemon.
fn limits_stand(dirs: &Dirs) -> Result<bool, BackupError> {
    let store = Store::open(&dirs.state_db(), Database::State.durability())?.store;
    Ok(!store.read(Tables::intents)?.is_empty())
}

struct Planned<'a> {
    stage: Stage<'a>,
    /// Name of the directory that keeps the old.
    kept: String,
    moves: Vec<Move>,
    before: Vec<PathBuf>,
}

impl Planned<'_> {
    fn configuration(&mut self, changes: &[Change]) -> Result<(), BackupError> {
        let new = self.stage.dir(Place::Config);
        for name in WHOLE {
            let prefix = format!("{name}/");
            let own = || {
                changes.iter().filter(|change| is_config(change) && change.inside.rest().starts_with(&prefix))
            };
            if !own().any(Change::acts) {
                continue;
            }
            private_dir(&new.join(name))?;
            for change in own().filter(|change| change.fate == Fate::Keep) {
                let to = new.join(change.inside.rest());
                if !to.exists() {
                    // With its mode: it holds secrets.
                    fs::copy(&change.path, &to).map_err(io("copy", &change.path))?;
                }
            }
            let present = fs::metadata(self.stage.dirs.config.join(name))
                .map_or(0o755, |meta| meta.permissions().mode());
            let to = new.join(name);
            fs::set_permissions(&to, fs::Permissions::from_mode(present & 0o755))
                .map_err(io("chmod", &to))?;
            self.push(Place::Config, name, true);
        }
        Ok(())
    }

    /// Files that are replaced one by one.
    fn others(&mut self, changes: &[Change]) -> Result<(), BackupError> {
        let whole = |change: &Change| {
            let top = change.inside.rest().split_once('/').map(|(top, _)| top);
            is_config(change) && top.is_some_and(|top| WHOLE.contains(&top))
        };
        for change in changes.iter().filter(|change| change.acts() && !whole(change)) {
            let (place, rest) = (change.inside.place(), change.inside.rest());
            self.push(place, rest, change.fate != Fate::Remove);
            if place == Place::State {
                // The log of the old database must not be taken for that of the new one.
                for suffix in ["-wal", "-shm"] {
                    self.push(place, &format!("{rest}{suffix}"), false);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, place: Place, rest: &str, comes: bool) {
        let dir = place.dir(self.stage.dirs);
        let before = dir.join(&self.kept);
        let new = comes.then(|| self.stage.dir(place).join(rest));
        self.moves.push(Move { target: dir.join(rest), new, old: before.join(rest) });
        if !self.before.contains(&before) {
            self.before.push(before);
        }
    }
}

fn is_config(change: &Change) -> bool {
    change.inside.place() == Place::Config
}
