//! One agent per runtime directory: a PID file held by an advisory lock, which the kernel drops with the
//! process, so that a stale file never blocks a start and a recycled PID is never taken for the agent.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The held lock. Dropping it empties the file and gives the lock back; the file stays, because removing it
/// would let a third process lock a new file while a second one waits on the old.
#[derive(Debug)]
pub struct PidLock {
    file: File,
    path: PathBuf,
    abandoned: bool,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent holds it.
    #[error("another agent is running (pid {pid}, lock {path})")]
    Held {
        /// Its pid, as it wrote it; 0 when it had not yet.
        pid: u32,
        /// The file.
        path: String,
    },
    /// The file cannot be opened or written.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: String,
        /// The error.
        source: io::Error,
    },
}

/// Who holds the lock and names no pid is not an agent at work: it asks who is ([`PidLock::holder`]), which takes
/// microseconds, or it has just begun or ended. It is looked at again for a second.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

impl PidLock {
    /// Takes the lock and writes the own pid, unless the disk is full.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it, [`LockError::Io`] otherwise.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let at = |operation| {
            let path = path.display().to_string();
            move |source| LockError::Io { operation, path, source }
        };
        let mut file = open(path).map_err(at("open"))?;
        let mut looks = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let pid = read_pid(&mut file);
                    looks += 1;
                    if pid != 0 || looks == LOOKS {
                        return Err(LockError::Held { pid, path: path.display().to_string() });
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::Error(source)) => return Err(at("lock")(source)),
            }
        }
        let abandoned = read_pid(&mut file) != 0;
        file.rewind().and_then(|()| file.set_len(0)).map_err(at("truncate"))?;
        match writeln!(file, "{}", std::process::id()) {
            // The lock is what counts: lifting limits must not wait for room on a disk.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(path = %path.display(), %error, "the PID file does not tell the pid");
            }
            written => written.map_err(at("write"))?,
        }
        Ok(Self { file, path: path.to_owned(), abandoned })
    }

    /// Whether who had it before has died without giving it back. A new boot has forgotten it, as runtime directories are
    /// made anew.
    #[must_use]
    pub const fn was_abandoned(&self) -> bool {
        self.abandoned
    }

    /// The pid of the agent that holds the lock now; `None` when none does.
    ///
    /// # Errors
    /// When the file exists but cannot be opened.
    pub fn holder(path: &Path) -> Result<Option<u32>, LockError> {
        let io = |source| LockError::Io { operation: "open", path: path.display().to_string(), source };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_pid(&mut file))),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }
}

impl Drop for PidLock {
    fn drop(&mut self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::warn!(path = %self.path.display(), %error, "cannot empty the PID file");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)
}

fn read_pid(file: &mut File) -> u32 {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_is_refused_and_stale_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pid");
        assert_eq!(PidLock::holder(&path).unwrap(), None);
        std::fs::write(&path, "1\n").unwrap();
        assert_eq!(PidLock::holder(&path).unwrap(), None, "an unlocked file names nobody");

        let lock = PidLock::take(&path).unwrap();
        assert!(lock.was_abandoned());
        let own = std::process::id();
        assert_eq!(PidLock::holder(&path).unwrap(), Some(own));
        assert!(matches!(PidLock::take(&path), Err(LockError::Held { pid, .. }) if pid == own));
        drop(lock);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        assert!(!PidLock::take(&path).unwrap().was_abandoned());
    }

    #[test]
    fn who_only_asks_keeps_nobody_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pid");
        drop(PidLock::take(&path).unwrap());
        let asking = File::open(&path).unwrap();
        asking.lock_shared().unwrap();
        let starting = std::thread::spawn({
            let path = path.clone();
            move || PidLock::take(&path).map(drop)
        });
        // Until the other one has met the lock: its own description of the file is open then.
        while !starting.is_finished() && open_descriptions(&path) < 2 {
            std::thread::yield_now();
        }
        drop(asking);
        starting.join().unwrap().unwrap();
    }

    fn open_descriptions(path: &Path) -> usize {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        descriptors
            .filter(|fd| fd.as_ref().is_ok_and(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path)))
            .count()
    }
}
