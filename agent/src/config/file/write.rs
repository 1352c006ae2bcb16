//! Writing a file so that a reader, or a crash at any point, sees either the old content or the new.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};

/// Why a file was not written. The old content, if any, is untouched.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A system call failed.
    #[error("cannot {operation} {path:?}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The path has no directory or no file name.
    #[error("{0:?} is not the path of a file")]
    NotAFile(PathBuf),
    /// The file exists and was not to be replaced.
    #[error("{0:?} exists already")]
    Exists(PathBuf),
    /// The file is not what it was when its new content was made.
    #[error("{0:?} was changed meanwhile")]
    Changed(PathBuf),
}

/// Replaces a file's content by another, if it still is what it was, under the directory's lock; absent content is no
/// file. A replaced file keeps its owner, group and mode; a new one gets `mode`. A symbolic link is followed, so that
/// the file it names is replaced.
///
/// # Errors
/// When the file is something else by now, and when a system call fails; then nothing has changed.
pub fn swap(path: &Path, before: Option<&[u8]>, after: Option<&[u8]>, mode: u32) -> Result<(), WriteError> {
    let (dir, name) = target(path)?;
    let lock = Lock::acquire(&dir)?;
    let path = dir.join(&name);
    let now = match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(WriteError::Io { operation: "read", path, source }),
    };
    if now.as_deref() != before {
        return Err(if before.is_none() { WriteError::Exists(path) } else { WriteError::Changed(path) });
    }
    match after {
        Some(bytes) => lock.write(&name, &Content { bytes, mode, at_most: 0o7777 }),
        None if lock.unlink(&name)? => lock.sync(),
        None => Ok(()),
    }
}

/// Writes what `change` makes of a file, all under the directory's lock, so that no other writer's change is
/// lost. As [`swap`] otherwise, but nobody except the owner may read the file afterwards.
///
/// # Errors
/// Those of `change`, and as [`swap`]; then nothing has changed.
pub fn update<E: From<WriteError>>(
    path: &Path,
    change: impl FnOnce(&Path) -> Result<String, E>,
) -> Result<(), E> {
    const PRIVATE: u32 = 0o600;
    let (dir, name) = target(path)?;
    let lock = Lock::acquire(&dir)?;
    let text = change(&dir.join(&name))?;
    lock.write(&name, &Content { bytes: text.as_bytes(), mode: PRIVATE, at_most: PRIVATE })?;
    Ok(())
}

/// What a file is to be.
struct Content<'a> {
    bytes: &'a [u8],
    /// Mode of a new file.
    mode: u32,
    /// What of its mode an existing file may keep.
    at_most: u32,
}

/// The directory and the name of the file that a path leads to, through links.
fn target(path: &Path) -> Result<(PathBuf, OsString), WriteError> {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_symlink());
    let target = if is_link {
        std::fs::canonicalize(path).map_err(|source| WriteError::Io {
            operation: "resolve",
            path: path.to_owned(),
            source,
        })?
    } else {
        path.to_owned()
    };
    let (Some(dir), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(WriteError::NotAFile(target));
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    Ok((dir.to_owned(), name.to_owned()))
}

/// An exclusive advisory lock on a directory, held by everyone who writes files in it through this module.
/// Released when dropped.
struct Lock {
    dir: PathBuf,
    fd: OwnedFd,
}

impl Lock {
    /// Waits for the lock on an existing directory.
    fn acquire(dir: &Path) -> Result<Self, WriteError> {
        let io = |operation| {
            move |errno: rustix::io::Errno| WriteError::Io {
                operation,
                path: dir.to_owned(),
                source: errno.into(),
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(dir, flags, Mode::empty()).map_err(io("open"))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::LockExclusive))
            .map_err(io("lock"))?;
        Ok(Self { dir: dir.to_owned(), fd })
    }

    /// See [`swap`]; but a symbolic link is replaced itself.
    fn write(&self, name: &OsStr, content: &Content<'_>) -> Result<(), WriteError> {
        let path = self.dir.join(name);
        let before = match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(rustix::io::Errno::NOENT) => None,
            Err(errno) => return Err(WriteError::Io { operation: "stat", path, source: errno.into() }),
        };
        // One name is enough: whoever writes here holds the lock, so a leftover is a crashed writer's.
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(".tmp");
        self.unlink(&temporary)?;
        let written = self.write_new(&temporary, content, before.as_ref()).and_then(|()| {
            rustix::fs::renameat(&self.fd, &temporary, &self.fd, name).map_err(|errno| WriteError::Io {
                operation: "rename to",
                path,
                source: errno.into(),
            })
        });
        if let Err(error) = written {
            // The first error is the one to report; the leftover is removed by the next writer at the latest.
            drop(self.unlink(&temporary));
            return Err(error);
        }
        self.sync()
    }

    fn write_new(
        &self,
        name: &OsStr,
        content: &Content<'_>,
        before: Option<&rustix::fs::Stat>,
    ) -> Result<(), WriteError> {
        let path = self.dir.join(name);
        let io = |operation: &'static str| {
            let path = path.clone();
            move |source: io::Error| WriteError::Io { operation, path, source }
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| io("create")(errno.into()))?;
        let mut file = File::from(fd);
        file.write_all(content.bytes).map_err(io("write"))?;
        let mut mode = Mode::from_raw_mode(content.mode);
        if let Some(stat) = before {
            mode = Mode::from_raw_mode(stat.st_mode & content.at_most);
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::fchown(file.as_fd(), Some(uid), Some(gid))
                .map_err(|errno| io("change the owner of")(errno.into()))?;
        }
        rustix::fs::fchmod(file.as_fd(), mode).map_err(|errno| io("change the mode of")(errno.into()))?;
        file.sync_all().map_err(io("sync"))
    }

    /// Whether there was a file.
    fn unlink(&self, name: &OsStr) -> Result<bool, WriteError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(errno) => {
                Err(WriteError::Io { operation: "remove", path: self.dir.join(name), source: errno.into() })
            }
        }
    }

    fn sync(&self) -> Result<(), WriteError> {
        rustix::fs::fsync(&self.fd).map_err(|errno| WriteError::Io {
            operation: "sync",
            path: self.dir.clone(),
            source: errno.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn replacing_keeps_mode_and_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        swap(&path, None, Some(b"one"), 0o640).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), Some(65_533)).unwrap();
        }
        let before = std::fs::metadata(&path).unwrap();
        swap(&path, Some(b"one"), Some(b"two"), 0o600).unwrap();
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
        assert_ne!(after.ino(), before.ino(), "replaced, not overwritten");
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["x"]);
    }

    #[test]
    fn refusals_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        swap(&path, None, Some(b"one"), 0o600).unwrap();
        assert!(matches!(swap(&path, None, Some(b"two"), 0o600), Err(WriteError::Exists(_))));
        for after in [Some(&b"two"[..]), None] {
            assert!(matches!(swap(&path, Some(b"once"), after, 0o600), Err(WriteError::Changed(_))));
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert!(swap(&dir.path().join("gone/x"), None, Some(b""), 0o600).is_err());
        // A directory in the file's place: the rename fails, and the temporary file is removed.
        std::fs::create_dir(dir.path().join("d")).unwrap();
        assert!(update::<WriteError>(&dir.path().join("d"), |_| Ok("two".to_owned())).is_err());
        assert_eq!(names(dir.path()), ["d", "x"]);
    }

    #[test]
    fn what_is_swapped_for_nothing_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        swap(&path, None, None, 0o600).unwrap();
        swap(&path, None, Some(b"one"), 0o600).unwrap();
        swap(&path, Some(b"one"), None, 0o600).unwrap();
        assert_eq!(names(dir.path()), [""; 0]);
        assert!(matches!(swap(&path, Some(b"one"), Some(b"two"), 0o600), Err(WriteError::Changed(_))));
    }

    #[test]
    fn a_link_stays_and_a_crashed_writers_leftover_goes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("real"), b"old").unwrap();
        std::fs::write(dir.path().join(".real.tmp"), b"half").unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        swap(&dir.path().join("link"), Some(b"old"), Some(b"new"), 0o600).unwrap();
        assert_eq!(std::fs::read(dir.path().join("real")).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["link", "real"]);
    }
}
