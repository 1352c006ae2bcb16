//! The emergency stop, on record: a small file beside the databases, so that it holds across restarts and
//! reboots and whatever becomes of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::process::printable;
use crate::store::StoreError;

/// Longest reason in bytes.
pub const REASON_MAX: usize = 1_024;
/// Largest file that is taken for one.
const SIZE_MAX: u64 = 16 * 1024;

/// An emergency stop that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Why, in the words of whoever asked.
    pub reason: String,
    /// Uid of whoever asked.
    pub uid: u32,
    /// Their name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When, in ms since the Unix epoch.
    pub at: i64,
    /// How many groups were released by it; absent while that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<usize>,
    /// Whether it has been told as an event: a command without a daemon tells nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
}

impl Block {
    /// The block in force, if there is one. A file that cannot be read or understood is one, too: it was put
    /// there because something was wrong, and blocks until somebody resumes.
    ///
    /// # Errors
    /// When this user may not look.
    pub fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(StoreError::io("read", path, error));
            }
            Err(error) => return Ok(Some(Self::unreadable(path, &error.to_string()))),
        };
        Ok(Some(
            serde_json::from_str(&text).unwrap_or_else(|error| Self::unreadable(path, &error.to_string())),
        ))
    }

    fn unreadable(path: &Path, why: &str) -> Self {
        let path = printable(path.as_os_str().as_encoded_bytes()).to_string();
        Self {
            reason: format!("{path} is damaged: {why}"),
            uid: 0,
            user: None,
            at: 0,
            released: None,
            told: false,
        }
    }

    /// Puts it into force: afterwards it is on the disk, whole.
    ///
    /// # Errors
    /// When it cannot be written. An earlier one is then still in force.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        let new = path.with_extension("new");
        let error = |operation| {
            let new = new.clone();
            move |source| StoreError::io(operation, &new, source)
        };
        // Numbers and texts always serialise.
        let text = serde_json::to_string(self).unwrap_or_default();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&new)
            .map_err(error("create"))?;
        file.write_all(text.as_bytes()).map_err(error("write"))?;
        file.sync_all().map_err(error("sync"))?;
        std::fs::rename(&new, path).map_err(error("rename"))?;
        sync_dir(path)
    }

    /// Ends whatever block is in force.
    ///
    /// # Errors
    /// When the file cannot be removed: the block is still in force.
    pub fn clear(path: &Path) -> Result<(), StoreError> {
        match std::fs::remove_file(path) {
            Ok(()) => sync_dir(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("remove", path, error)),
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.len() > SIZE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    io::read_to_string(file)
}

fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let dir = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    File::open(&dir).and_then(|dir| dir.sync_all()).map_err(|source| StoreError::io("sync", &dir, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn block() -> Block {
        Block {
            reason: "load test".to_owned(),
            uid: 7,
            user: Some("me".to_owned()),
            at: 5,
            released: Some(3),
            told: true,
        }
    }

    #[test]
    fn it_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("emergency.json");
        assert_eq!(Block::read(&path).unwrap(), None);
        Block::clear(&path).unwrap();
        block().write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Block::read(&path).unwrap(), Some(block()));
        Block { released: None, ..block() }.write(&path).unwrap();
        assert_eq!(Block::read(&path).unwrap().unwrap().released, None);
        Block::clear(&path).unwrap();
        assert_eq!(Block::read(&path).unwrap(), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_understood_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("emergency.json");
        for text in [&b""[..], b"{", b"\xff", &[b' '; 20_000]] {
            std::fs::write(&path, text).unwrap();
            let found = Block::read(&path).unwrap().unwrap();
            assert!(found.reason.contains("emergency.json is damaged"), "{found:?}");
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Block::read(&path).unwrap().is_some(), "a link is followed by nobody");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(Block::read(&path).unwrap().is_some());
        assert!(block().write(&path).is_err());
    }
}
