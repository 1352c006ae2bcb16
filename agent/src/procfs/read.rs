//! Reading small files below an open directory, with "it is gone" told apart from failure.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Why something in `/proc` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// A system call failed.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// It is that of another pid namespace.
    #[error("{} is of another pid namespace: this process needs that of the host (--pid=host, hostPID: true)", .0.display())]
    OtherNamespace(PathBuf),
    /// The content is not what the kernel writes.
    #[error("{path}: expected {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should stand there.
        expected: &'static str,
    },
    /// The file is longer than its like can be.
    #[error("{path}: longer than {max} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: usize,
    },
}

impl ProcError {
    pub(super) fn io(operation: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Io { operation, path: path.to_owned(), source: errno.into() }
    }

    pub(super) fn malformed(path: PathBuf, expected: &'static str) -> Self {
        Self::Malformed { path, expected }
    }
}

/// The head of a file, as much of it as fits; `None` when the file or its process is gone.
pub(super) fn head<'b>(
    dir: BorrowedFd<'_>,
    name: &str,
    buffer: &'b mut [u8],
    path: impl Fn() -> PathBuf,
) -> Result<Option<&'b [u8]>, ProcError> {
    let Some(file) = open(dir, name, &path)? else { return Ok(None) };
    match fill(&file, buffer) {
        Ok(len) => Ok(buffer.get(..len)),
        Err(errno) if is_gone(errno) => Ok(None),
        Err(errno) => Err(ProcError::io("reading", &path(), errno)),
    }
}

/// A whole file of at most `max` bytes; `None` when the file or its process is gone.
pub(super) fn whole(
    dir: BorrowedFd<'_>,
    name: &str,
    max: usize,
    path: impl Fn() -> PathBuf,
) -> Result<Option<Vec<u8>>, ProcError> {
    let Some(file) = open(dir, name, &path)? else { return Ok(None) };
    let mut text = Vec::new();
    loop {
        let len = text.len();
        if len > max {
            return Err(ProcError::TooLong { path: path(), max });
        }
        text.resize(len.saturating_mul(2).clamp(512, max.saturating_add(1)).max(len + 1), 0);
        let room = text.get_mut(len..).unwrap_or_default();
        let wanted = room.len();
        let got = match fill(&file, room) {
            Ok(got) => got,
            Err(errno) if is_gone(errno) => return Ok(None),
            Err(errno) => return Err(ProcError::io("reading", &path(), errno)),
        };
        text.truncate(len + got);
        if got < wanted {
            return Ok(Some(text));
        }
    }
}

/// Target of a symbolic link; `None` when there is none, as for kernel threads.
pub(super) fn link(
    dir: BorrowedFd<'_>,
    name: &str,
    path: impl Fn() -> PathBuf,
) -> Result<Option<Vec<u8>>, ProcError> {
    match rustix::fs::readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(Some(target.into_bytes())),
        Err(errno) if is_gone(errno) => Ok(None),
        Err(errno) => Err(ProcError::io("reading link", &path(), errno)),
    }
}

/// Turns "not permitted" into absence, for facts that other users' processes do not give away.
pub(super) fn permitted<T>(read: Result<Option<T>, ProcError>) -> Result<Option<T>, ProcError> {
    match read {
        Err(ProcError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        other => other,
    }
}

/// `ENOENT` before the open, `ESRCH` after it: the process was reaped.
pub(super) fn is_gone(errno: Errno) -> bool {
    errno == Errno::NOENT || errno == Errno::SRCH
}

fn open(dir: BorrowedFd<'_>, name: &str, path: impl Fn() -> PathBuf) -> Result<Option<OwnedFd>, ProcError> {
    match rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(errno) if is_gone(errno) => Ok(None),
        Err(errno) => Err(ProcError::io("opening", &path(), errno)),
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut len = 0;
    while let Some(room) = buffer.get_mut(len..).filter(|room| !room.is_empty()) {
        match rustix::io::read(file, room) {
            Ok(0) => break,
            Ok(got) => len += got,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(len)
}

/// A decimal number and nothing else.
pub(super) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let first = text.first()?;
    // `FromStr` takes a leading plus sign, which the kernel never writes.
    if *first == b'+' {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `PID` with a suffix, without an allocation.
pub(super) struct Name {
    bytes: [u8; 16],
}

impl Name {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; 16] }
    }

    /// The name; a suffix that does not fit is left out (there is none: 10 digits and `/stat`).
    pub(super) fn of(&mut self, pid: u32, suffix: &str) -> &str {
        use std::io::Write as _;
        let capacity = self.bytes.len();
        let mut rest = &mut self.bytes[..];
        let written = write!(rest, "{pid}{suffix}").map_or(0, |()| capacity - rest.len());
        self.bytes.get(..written).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("")
    }
}
