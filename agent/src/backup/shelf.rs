//! The directory that backups lie in.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::{BackupError, io};
use crate::model::id::Name;

/// How archives are named.
const PLAIN: &str = ".tar.gz";
const ENCRYPTED: &str = ".tar.gz.age";
/// How names begin that the program chose. Only such backups are deleted because there are newer ones.
const AUTOMATIC: &str = "auto-";

/// A directory of backups.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
}

/// A backup on the shelf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// When the archive was written.
    pub created: jiff::Timestamp,
    /// Size of the archive in bytes.
    pub size: u64,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The archive.
    pub path: PathBuf,
}

impl Shelf {
    /// This directory; it need not exist.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where an archive of this name is to be.
    #[must_use]
    pub fn archive(&self, name: &Name, encrypted: bool) -> PathBuf {
        self.dir.join(format!("{name}{}", if encrypted { ENCRYPTED } else { PLAIN }))
    }

    /// A name for a backup that nobody has named.
    #[must_use]
    pub fn automatic_name(at: jiff::Timestamp) -> Option<Name> {
        let stamp = at.strftime("%Y%m%dt%H%M%S").to_string();
        format!("{AUTOMATIC}{stamp}.{:03}z", at.subsec_millisecond()).parse().ok()
    }

    /// All backups, the newest first. Files that are none are not looked at.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, BackupError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io("list", &self.dir)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(io("list", &self.dir))?.path();
            let Some((name, encrypted)) = path.file_name().and_then(|name| parse(name.to_str()?)) else {
                continue;
            };
            let meta = fs::symlink_metadata(&path).map_err(io("look at", &path))?;
            if !meta.is_file() {
                continue;
            }
            let modified = meta.modified().map_err(io("look at", &path))?;
            let created = jiff::Timestamp::try_from(modified).unwrap_or_default();
            found.push(Entry { name, created, size: meta.len(), encrypted, path });
        }
        found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| b.name.cmp(&a.name)));
        Ok(found)
    }

    /// The backup of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, name: &Name) -> Result<Entry, BackupError> {
        let found = self.list()?.into_iter().find(|entry| entry.name == *name);
        found.ok_or_else(|| BackupError::NotFound(name.to_string()))
    }

    /// Deletes a backup.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn delete(&self, entry: &Entry) -> Result<(), BackupError> {
        fs::remove_file(&entry.path).map_err(io("delete", &entry.path))
    }

    /// The backups beyond the newest `keep` of those that the program named.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn surplus(&self, keep: usize) -> Result<Vec<Entry>, BackupError> {
        let automatic = self.list()?.into_iter().filter(|entry| entry.name.as_str().starts_with(AUTOMATIC));
        Ok(automatic.skip(keep).collect())
    }
}

fn parse(file: &str) -> Option<(Name, bool)> {
    if let Some(name) = file.strip_suffix(ENCRYPTED) {
        return Some((name.parse().ok()?, true));
    }
    Some((file.strip_suffix(PLAIN)?.parse().ok()?, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_automatic_backups_are_surplus_and_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path().to_owned());
        assert_eq!(Shelf::new(dir.path().join("gone")).list().unwrap(), []);
        let made = |name: &str, second: u64| {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(second)).unwrap();
        };
        made("auto-1.tar.gz", 1);
        made("auto-2.tar.gz.age", 2);
        made("auto-3.tar.gz", 3);
        made("mine.tar.gz", 0);
        made("UPPER.tar.gz", 4);
        made(".auto-4.tar.gz", 4);
        made("notes.txt", 4);
        std::os::unix::fs::symlink("mine.tar.gz", dir.path().join("link.tar.gz")).unwrap();
        let names = |entries: Vec<Entry>| entries.iter().map(|e| e.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(shelf.list().unwrap()), ["auto-3", "auto-2", "auto-1", "mine"]);
        assert_eq!(names(shelf.surplus(2).unwrap()), ["auto-1"]);
        assert!(shelf.surplus(3).unwrap().is_empty());
        assert!(matches!(shelf.find(&"other".parse().unwrap()), Err(BackupError::NotFound(_))));
        let name = Shelf::automatic_name("2026-11-27T07:08:09.123Z".parse().unwrap()).unwrap();
        assert_eq!(name.as_str(), "auto-20261127t070809.123z");
    }
}
