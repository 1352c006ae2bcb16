//! Whether there is room for a backup, asked before anything is written: a disk that a backup fills up stops everybody.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::draft::names;
use super::error::{BackupError, io};
use super::inside::{Database, Place};
use crate::config::Dirs;

/// What has to be left for everybody else.
const SPARE: u64 = 16 << 20;

/// Refuses when what is to be backed up does not fit into the directory twice, as copies and as an archive.
pub(super) fn check(dirs: &Dirs, directory: &Path) -> Result<(), BackupError> {
    let needed = size_of_all(dirs)?.saturating_mul(2).saturating_add(SPARE);
    let room = statvfs(directory).map_err(|errno| io("statvfs", directory)(errno.into()))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < needed {
        return Err(BackupError::NoRoom { path: directory.to_owned(), needed, free });
    }
    Ok(())
}

/// Bytes of everything that may be in a backup. What vanishes meanwhile counts as nothing.
fn size_of_all(dirs: &Dirs) -> Result<u64, BackupError> {
    let mut paths: Vec<PathBuf> = vec![dirs.config_file(), dirs.webhooks_file()];
    for dir in [dirs.config_parts(), dirs.profiles(), Place::Log.dir(dirs).clone()] {
        paths.extend(names(&dir)?.into_iter().map(|name| dir.join(name)));
    }
    for database in Database::ALL {
        // With what has not been taken over from the log of the database yet.
        let name = database.file_name();
        paths.extend(["", "-wal"].map(|suffix| dirs.state.join(format!("{name}{suffix}"))));
    }
    let sizes = paths.iter().filter_map(|path| fs::symlink_metadata(path).ok());
    Ok(sizes.filter(fs::Metadata::is_file).map(|meta| meta.len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_figures() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::below(dir.path());
        assert_eq!(size_of_all(&dirs).unwrap(), 0, "nothing is there");
        assert!(check(&dirs, dir.path()).is_ok());
        fs::create_dir(&dirs.state).unwrap();
        fs::write(dirs.state_db(), "x").unwrap();
        assert_eq!(size_of_all(&dirs).unwrap(), 1);
        // A sparse file larger than any disk here takes no room itself.
        fs::File::options().write(true).open(dirs.state_db()).unwrap().set_len(1 << 43).unwrap();
        let refused = check(&dirs, dir.path()).unwrap_err();
        assert!(
            matches!(refused, BackupError::NoRoom { needed, free, .. } if needed > 1 << 44 && free > 0),
            "{refused}"
        );
        assert!(refused.to_string().contains("MiB are needed"), "{refused}");
    }
}
