//! The writer: appends records under the lock, on the disk before it returns, and closes files that are large or old.
//!
//! It trusts nothing that it remembers: another process may have written meanwhile, so the end of the file is looked
//! at again unless it is the one that was left.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::actor::Actor;
use super::chain::{self, GENESIS};
use super::files::{Lines, Place};
use super::record::{Entry, Outcome};
use crate::model::audit::Rotation;

/// Type of the record about a torn line that was set aside.
pub const REPAIRED: &str = "audit.repaired";
/// Type of the record about closed files that are removed, with `through` and `hash` of the last record in them.
pub const PRUNED: &str = "audit.pruned";
/// Type of the record about others that could not be written, with their number as `missing`.
pub const GAP: &str = "audit.gap";

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A system call failed.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: String,
        /// The error.
        source: io::Error,
    },
    /// A record cannot be written as JSON.
    #[error("write a record as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The log, for writing.
#[derive(Debug)]
pub struct Log {
    place: Place,
    rotation: Rotation,
    left: Option<Left>,
}

/// The end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    seq: u64,
    hash: String,
    /// When the current file's first record was made, in ms since the Unix epoch; absent when it has none.
    since: Option<i64>,
    /// Bytes of whole lines in the current file.
    len: u64,
}

/// What was left behind, to be recognised.
#[derive(Debug)]
struct Left {
    device: u64,
    inode: u64,
    head: Head,
}

impl Log {
    /// The log in a directory. Nothing is opened yet.
    #[must_use]
    pub const fn new(place: Place, rotation: Rotation) -> Self {
        Self { place, rotation, left: None }
    }

    /// Where it is.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Appends records, flushed to the disk. Returns the number of the last one.
    ///
    /// # Errors
    /// When they cannot be written; then none of them is in the log.
    pub fn append(&mut self, entries: &[Entry]) -> Result<u64, AuditError> {
        let dir = self.place.dir().to_owned();
        let _lock = self.place.lock().map_err(|source| failed("lock the audit log in", &dir, source))?;
        let now = entries.last().map_or(0, |entry| entry.unix_ms);
        let (mut file, mut made, mut head, mut own) = self.find(now)?;
        let mut lines = Lot::after(&head);
        own.iter().chain(entries).try_for_each(|entry| lines.add(entry))?;
        let mut pruned = Vec::new();
        if self.is_full(&head, lines.len(), now) {
            (pruned, own) = self.rotate(&head, now, own)?;
            (file, made) = self.open()?;
            head = Head { since: None, len: 0, ..head };
            lines = Lot::after(&head);
            own.iter().chain(entries).try_for_each(|entry| lines.add(entry))?;
        }
        self.left = None;
        self.write(&mut file, made, &head, &lines.bytes)?;
        let meta = file.metadata().map_err(|source| failed("look at", &self.place.current(), source))?;
        let since = head.since.or(Some(now));
        let head = Head { seq: lines.seq, hash: lines.hash, since, len: head.len + lines.bytes.len() as u64 };
        self.left = Some(Left { device: meta.dev(), inode: meta.ino(), head });
        for path in pruned {
            // What stays is counted again at the next rotation.
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old file of the audit log cannot be removed");
            }
        }
        Ok(lines.seq)
    }

    fn open(&self) -> Result<(File, bool), AuditError> {
        self.place.open_current().map_err(|source| failed("open", &self.place.current(), source))
    }

    /// Opens the current file and finds the end of the chain. A torn line is set aside, for which there is a record.
    fn find(&self, now: i64) -> Result<(File, bool, Head, Vec<Entry>), AuditError> {
        let path = self.place.current();
        let (file, made) = self.open()?;
        let meta = file.metadata().map_err(|source| failed("look at", &path, source))?;
        if let Some(Left { device, inode, head }) = &self.left
            && (*device, *inode, head.len) == (meta.dev(), meta.ino(), meta.len())
        {
            return Ok((file, made, head.clone(), Vec::new()));
        }
        let read = |source| failed("read", &path, source);
        let again = File::open(&path).map_err(read)?;
        let scan = scan(again, meta.len()).map_err(read)?;
        let (seq, hash) = match scan.last {
            Some(last) => last,
            None => self.end_of_closed()?,
        };
        let head = Head { seq, hash, since: scan.since, len: scan.whole };
        let mut own = Vec::new();
        if scan.whole < meta.len() {
            own.push(self.set_aside(&file, &head, meta.len(), now)?);
        }
        Ok((file, made, head, own))
    }

    fn end_of_closed(&self) -> Result<(u64, String), AuditError> {
        let dir = self.place.dir();
        let closed = self.place.list_closed().map_err(|source| failed("list", dir, source))?;
        match closed.last() {
            None => Ok((0, GENESIS.to_owned())),
            Some((last, path)) => Ok((*last, end_of(path)?)),
        }
    }

    /// Keeps the bytes of a torn line elsewhere, so that the next line begins where it should.
    fn set_aside(&self, file: &File, head: &Head, len: u64, now: i64) -> Result<Entry, AuditError> {
        let (path, aside) = (self.place.current(), self.place.torn(head.seq + 1, now));
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|mut file| {
                io::Seek::seek(&mut file, io::SeekFrom::Start(head.len))?;
                io::Read::read_to_end(&mut file, &mut bytes)
            })
            .map_err(|source| failed("read", &path, source))?;
        self.place.write_private(&aside, &bytes).map_err(|source| failed("write", &aside, source))?;
        file.set_len(head.len).map_err(|source| failed("shorten", &path, source))?;
        tracing::warn!(bytes = len - head.len, kept = %aside.display(), "a torn line of the audit log was set aside");
        let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let entry = Entry::new(now, REPAIRED, Actor::Daemon, "audit log");
        let entry =
            entry.ended(Outcome::Success, "an interrupted write left a torn line, which is set aside");
        Ok(entry.with("bytes", len - head.len).with("kept", name))
    }

    fn is_full(&self, head: &Head, more: usize, now: i64) -> bool {
        let Some(since) = head.since else { return false };
        let age = Duration::from_millis(u64::try_from(now.saturating_sub(since)).unwrap_or(0));
        head.len.saturating_add(more as u64) > self.rotation.size || age >= self.rotation.after
    }

    /// Closes the current file. Returns the closed files that are too many, and what is to be recorded first.
    fn rotate(
        &self,
        head: &Head,
        now: i64,
        mut own: Vec<Entry>,
    ) -> Result<(Vec<PathBuf>, Vec<Entry>), AuditError> {
        let (from, to) = (self.place.current(), self.place.closed(head.seq));
        std::fs::rename(&from, &to).map_err(|source| failed("close", &from, source))?;
        let mut closed =
            self.place.list_closed().map_err(|source| failed("list", self.place.dir(), source))?;
        closed.truncate(closed.len().saturating_sub(self.rotation.keep.max(1)));
        if let Some((through, path)) = closed.last() {
            let entry = Entry::new(now, PRUNED, Actor::Daemon, "audit log");
            let entry = entry.ended(Outcome::Success, "the oldest files are removed");
            own.push(entry.with("through", through).with("hash", end_of(path)?).with("files", closed.len()));
        }
        Ok((closed.into_iter().map(|(_, path)| path).collect(), own))
    }

    fn write(&self, file: &mut File, made: bool, head: &Head, bytes: &[u8]) -> Result<(), AuditError> {
        let path = self.place.current();
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(source) = written {
            // Half a batch must not be taken for the whole one; what cannot be taken back is repaired later.
            if let Err(error) = file.set_len(head.len) {
                tracing::warn!(%error, "the torn end of the audit log stays until the next write");
            }
            return Err(failed("write", &path, source));
        }
        if made {
            self.place.sync().map_err(|source| failed("flush", self.place.dir(), source))?;
        }
        Ok(())
    }
}

/// Lines to be written.
struct Lot {
    bytes: Vec<u8>,
    seq: u64,
    hash: String,
}

impl Lot {
    fn after(head: &Head) -> Self {
        Self { bytes: Vec::new(), seq: head.seq, hash: head.hash.clone() }
    }

    fn add(&mut self, entry: &Entry) -> Result<(), AuditError> {
        let (line, hash) = chain::seal(&entry.placed(self.seq + 1, &self.hash))?;
        self.bytes.extend_from_slice(&line);
        self.bytes.push(b'\n');
        (self.seq, self.hash) = (self.seq + 1, hash);
        Ok(())
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// What is in a file.
struct Scan {
    /// Number and hash that the next record follows; absent in an empty file.
    last: Option<(u64, String)>,
    since: Option<i64>,
    /// Bytes of whole lines.
    whole: u64,
}

/// Reads a file to its end. A line that is no record breaks the chain for good: what comes after it follows its
/// bytes, so that writing goes on and `audit verify` still finds it.
fn scan(file: File, len: u64) -> io::Result<Scan> {
    let mut scan = Scan { last: None, since: None, whole: 0 };
    let mut lines = Lines::new(file, 0, len)?;
    while let Some(line) = lines.read()? {
        if !line.complete {
            break;
        }
        let last = match chain::open(line.bytes) {
            Ok(record) => {
                scan.since.get_or_insert(record.body.time.as_millisecond());
                (record.body.seq, record.hash)
            }
            Err(_broken) => {
                let (seq, hash) = scan.last.take().unwrap_or((0, GENESIS.to_owned()));
                (seq + 1, chain::digest(&hash, line.bytes))
            }
        };
        scan.last = Some(last);
        scan.whole = lines.offset;
    }
    Ok(scan)
}

/// The hash of the last line of a closed file.
fn end_of(path: &Path) -> Result<String, AuditError> {
    let read = |source| failed("read", path, source);
    let file = File::open(path).map_err(read)?;
    let len = file.metadata().map_err(read)?.len();
    let scan = scan(file, len).map_err(read)?;
    Ok(scan.last.map_or_else(|| GENESIS.to_owned(), |(_, hash)| hash))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> AuditError {
    AuditError::Io { operation, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests;
