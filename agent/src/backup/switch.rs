//! Putting new files in the place of old ones so that a death at any point leaves all old or all new.
//!
//! What is to be renamed is written down first. As long as that record exists, whoever finds it goes back; removing it
//! is the moment at which the new files count.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::draft::remove;
use super::error::{BackupError, io};
use crate::config::Dirs;
use crate::config::file::write;
use crate::effect::fail_point::{FailPoints, Point};

/// A file or directory that takes the place of another. All three are on one file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Move {
    /// The place.
    pub(super) target: PathBuf,
    /// What is to be there; nothing: the old goes, and nothing comes.
    pub(super) new: Option<PathBuf>,
    /// Where the old goes.
    pub(super) old: PathBuf,
}

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Removed when all is undone.
    staging: Vec<PathBuf>,
    moves: Vec<Move>,
}

/// Where it is written down. The databases of the state are never opened while it exists.
fn record_path(dirs: &Dirs) -> PathBuf {
    dirs.state.join("restore.json")
}

/// Carries all moves out, or none of them.
///
/// # Errors
/// When one fails; all are undone then, except with [`BackupError::Stuck`].
pub(super) fn switch(
    dirs: &Dirs,
    staging: Vec<PathBuf>,
    moves: Vec<Move>,
    points: &FailPoints,
) -> Result<(), BackupError> {
    // Going back takes a file that did not wait for its turn for one that is in its place.
    for new in moves.iter().filter_map(|step| step.new.as_ref()) {
        fs::symlink_metadata(new).map_err(io("look at", new))?;
    }
    let path = record_path(dirs);
    let record = Record { staging, moves };
    let text = serde_json::to_vec_pretty(&record).map_err(|error| io("write", &path)(error.into()))?;
    write::swap(&path, None, Some(&text), 0o600)
        .map_err(|error| io("write", &path)(std::io::Error::other(error)))?;
    points.pass(Point::RestoreRecorded);
    let carried = carry_out(&record, points);
    let carried = carried.and_then(|()| {
        points.pass(Point::RestoreSwitched);
        fs::remove_file(&path).map_err(io("remove", &path))
    });
    if let Err(error) = carried {
        return Err(match undo(&record, &path) {
            Ok(()) => error,
            Err(source) => {
                BackupError::Stuck { cause: crate::model::chain::chain(&error), source: Box::new(source) }
            }
        });
    }
    sync(&dirs.state)?;
    points.pass(Point::RestoreCommitted);
    Ok(())
}

/// Undoes what a restore left half-way that was killed. Returns whether there was one. The caller holds the daemon's
/// lock.
///
/// # Errors
/// When it cannot be undone; trying again is safe.
pub fn recover(dirs: &Dirs) -> Result<bool, BackupError> {
    let path = record_path(dirs);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io("read", &path)(error)),
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| io("read", &path)(error.into()))?;
    undo(&record, &path)?;
    Ok(true)
}

/// Whether a restore was killed half-way, or is under way.
#[must_use]
pub fn is_pending(dirs: &Dirs) -> bool {
    record_path(dirs).exists()
}

fn carry_out(record: &Record, points: &FailPoints) -> Result<(), BackupError> {
    for step in &record.moves {
        if exists(&step.target)? {
            rename(&step.target, &step.old)?;
        }
        points.pass(Point::RestoreMovedOut);
        if let Some(new) = &step.new {
            if let Some(parent) = step.target.parent() {
                fs::create_dir_all(parent).map_err(io("create", parent))?;
            }
            rename(new, &step.target)?;
        }
        points.pass(Point::RestoreMovedIn);
    }
    sync_targets(record)
}

/// Backwards, and each only as far as it was done, so that this may be broken off and done again.
fn undo(record: &Record, path: &Path) -> Result<(), BackupError> {
    for step in record.moves.iter().rev() {
        if let Some(new) = &step.new
            && !exists(new)?
            && exists(&step.target)?
        {
            rename(&step.target, new)?;
        }
        if exists(&step.old)? {
            rename(&step.old, &step.target)?;
        }
    }
    sync_targets(record)?;
    fs::remove_file(path).map_err(io("remove", path))?;
    if let Some(dir) = path.parent() {
        sync(dir)?;
    }
    record.staging.iter().try_for_each(|staging| remove(staging))
}

fn exists(path: &Path) -> Result<bool, BackupError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io("look at", path)(error)),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::rename(from, to).map_err(io("rename", from))
}

fn sync_targets(record: &Record) -> Result<(), BackupError> {
    let dirs: std::collections::BTreeSet<_> =
        record.moves.iter().filter_map(|step| step.target.parent()).collect();
    dirs.into_iter().filter(|dir| dir.exists()).try_for_each(sync)
}

fn sync(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync", dir))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// A directory with an old and a new state: one file replaced, one new, one taken away, one directory replaced.
    struct Scene {
        root: tempfile::TempDir,
        dirs: Dirs,
    }

    impl Scene {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| root.path().join(name);
            for (name, text) in [
                ("a", "old"),
                ("c", "old"),
                ("d/x", "old"),
                ("new/a", "new"),
                ("new/b", "new"),
                ("new/d/y", "new"),
            ] {
                fs::create_dir_all(at(name).parent().unwrap()).unwrap();
                fs::write(at(name), text).unwrap();
            }
            fs::create_dir(at("old")).unwrap();
            let dirs = Dirs::all_at(root.path());
            Self { root, dirs }
        }

        fn moves(&self) -> Vec<Move> {
            let at = |name: &str| self.root.path().join(name);
            let step = |name: &str, comes: bool| Move {
                target: at(name),
                new: comes.then(|| at("new").join(name)),
                old: at("old").join(name),
            };
            vec![step("a", true), step("b", true), step("c", false), step("d", true)]
        }

        fn switch(&self, points: &FailPoints) -> Result<(), BackupError> {
            switch(&self.dirs, vec![self.root.path().join("new")], self.moves(), points)
        }

        fn state(&self) -> Vec<Option<String>> {
            let read = |name| fs::read_to_string(self.root.path().join(name)).ok();
            ["a", "b", "c", "d/x", "d/y"].map(read).into()
        }
    }

    fn texts(list: [Option<&str>; 5]) -> Vec<Option<String>> {
        list.map(|text| text.map(ToOwned::to_owned)).into()
    }

    fn old() -> Vec<Option<String>> {
        texts([Some("old"), None, Some("old"), Some("old"), None])
    }

    fn new() -> Vec<Option<String>> {
        texts([Some("new"), Some("new"), None, None, Some("new")])
    }

    #[test]
    fn a_death_at_any_point_leaves_all_old_or_all_new() {
        let scene = Scene::new();
        scene.switch(&FailPoints::default()).unwrap();
        assert_eq!(scene.state(), new());
        let points = [
            (Point::RestoreRecorded, 1),
            (Point::RestoreMovedOut, 4),
            (Point::RestoreMovedIn, 4),
            (Point::RestoreSwitched, 1),
            (Point::RestoreCommitted, 1),
        ];
        for (point, times) in points {
            for after in 0..times {
                let scene = Scene::new();
                let fail = FailPoints::default();
                fail.die_at(point, after);
                assert!(catch_unwind(AssertUnwindSafe(|| scene.switch(&fail))).is_err(), "{point:?} {after}");
                let committed = point == Point::RestoreCommitted;
                assert_eq!(recover(&scene.dirs).unwrap(), !committed);
                assert_eq!(scene.state(), if committed { new() } else { old() }, "{point:?} {after}");
                assert!(!recover(&scene.dirs).unwrap(), "nothing is left to undo");
            }
        }
    }

    #[test]
    fn a_step_that_fails_undoes_those_before_it() {
        let scene = Scene::new();
        let at = |name: &str| scene.root.path().join(name);
        fs::write(at("new/e"), "new").unwrap();
        let mut moves = scene.moves();
        // There is nothing below a file.
        moves.push(Move { target: at("a/e"), new: Some(at("new/e")), old: at("old/e") });
        let failed = switch(&scene.dirs, vec![at("new")], moves, &FailPoints::default());
        assert!(matches!(failed, Err(BackupError::Io { operation: "look at", .. })), "{failed:?}");
        assert_eq!(scene.state(), old());
        assert!(!record_path(&scene.dirs).exists());
        let mut moves = scene.moves();
        moves.push(Move { target: at("e"), new: Some(at("gone")), old: at("old/e") });
        assert!(switch(&scene.dirs, Vec::new(), moves, &FailPoints::default()).is_err());
        assert_eq!(scene.state(), old(), "what is not there is noticed before anything is moved");
    }

    #[test]
    fn going_back_may_be_broken_off_and_done_again() {
        let scene = Scene::new();
        let fail = FailPoints::default();
        fail.die_at(Point::RestoreSwitched, 0);
        assert!(catch_unwind(AssertUnwindSafe(|| scene.switch(&fail))).is_err());
        // As if it had died after the last step was undone, and between the halves of the one before.
        let at = |name: &str| scene.root.path().join(name);
        fs::rename(at("d"), at("new/d")).unwrap();
        fs::rename(at("old/d"), at("d")).unwrap();
        assert!(recover(&scene.dirs).unwrap());
        assert_eq!(scene.state(), old());
    }
}
