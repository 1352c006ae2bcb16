//! The files of the audit log: where they are, their order, their lock, and their lines.
//!
//! `audit.jsonl` is written to; `audit-N.jsonl` is a closed file whose last record is number N.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::chain::LINE_MAX;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";
/// Log readers of the group may read it; nobody else.
const MODE: u32 = 0o640;
const PRIVATE: u32 = 0o600;

/// The directory of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    dir: PathBuf,
}

/// Held while the log is written or its files are listed; given back by the kernel with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Place {
    /// The log in this directory.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that is written to.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.dir.join("audit.jsonl")
    }

    /// A closed file.
    #[must_use]
    pub fn closed(&self, last: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{last:020}{SUFFIX}"))
    }

    /// Where the torn end of a file is kept, that would have become record `seq`.
    #[must_use]
    pub fn torn(&self, seq: u64, unix_ms: i64) -> PathBuf {
        self.dir.join(format!("audit-torn-{seq}-{unix_ms}"))
    }

    /// Where the progress of a destination is kept.
    #[must_use]
    pub fn cursor(&self, destination: &str) -> PathBuf {
        self.dir.join(format!("audit-ship-{destination}.json"))
    }

    /// Closed files with the number of their last record, in order.
    ///
    /// # Errors
    /// When the directory cannot be read; one that is not there has none.
    pub fn list_closed(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
            if let Some(last) = number.and_then(|number| number.parse().ok()) {
                found.push((last, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// All files in the order of their records.
    ///
    /// # Errors
    /// As [`Self::list_closed`].
    pub fn list(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> = self.list_closed()?.into_iter().map(|(_, path)| path).collect();
        if self.current().exists() {
            paths.push(self.current());
        }
        Ok(paths)
    }

    /// Makes the directory if it is missing and keeps other writers out.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn lock(&self) -> io::Result<Lock> {
        DirBuilder::new().recursive(true).mode(0o750).create(&self.dir)?;
        let path = self.dir.join("audit.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(path)?;
        file.lock()?;
        Ok(Lock { _file: file })
    }

    /// Keeps writers out while files are listed; `None` where nobody has ever written.
    ///
    /// # Errors
    /// When the lock cannot be had.
    pub(super) fn lock_shared(&self) -> io::Result<Option<Lock>> {
        match File::open(self.dir.join("audit.lock")) {
            Ok(file) => {
                file.lock_shared()?;
                Ok(Some(Lock { _file: file }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the current file for writing, and says whether it is new.
    pub(super) fn open_current(&self) -> io::Result<(File, bool)> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(MODE);
        match options.open(self.current()) {
            Ok(file) => Ok((file, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok((options.create_new(true).open(self.current())?, true))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a file that nobody else may read, so that a crash leaves the former one or this one.
    pub(super) fn write_private(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE).open(&beside)?;
        io::Write::write_all(&mut file, content)?;
        file.sync_data()?;
        std::fs::rename(&beside, path)?;
        self.sync()
    }

    /// Makes names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// Lines of a file up to a length, one after the other.
#[derive(Debug)]
pub struct Lines {
    reader: BufReader<io::Take<File>>,
    /// Where the next line begins.
    pub offset: u64,
    line: Vec<u8>,
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Without its end, and no more than one byte over [`LINE_MAX`].
    pub bytes: &'a [u8],
    /// Whether it has an end.
    pub complete: bool,
}

impl Lines {
    /// From `offset` to `end`.
    ///
    /// # Errors
    /// When the file cannot seek.
    pub fn new(mut file: File, offset: u64, end: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        let reader = BufReader::new(file.take(end.saturating_sub(offset)));
        Ok(Self { reader, offset, line: Vec::new() })
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let most = u64::try_from(LINE_MAX + 1).unwrap_or(u64::MAX);
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.offset += u64::try_from(read).unwrap_or(0);
        let complete = self.line.last() == Some(&b'\n');
        if complete {
            self.line.pop();
        }
        // What is left of a longer line is of no use.
        let complete = complete || (read > LINE_MAX && self.skip_line()?);
        Ok(Some(Line { bytes: &self.line, complete }))
    }

    /// Goes on behind the next end of a line, and says whether there is one.
    fn skip_line(&mut self) -> io::Result<bool> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let skipped = end.map_or(buffer.len(), |end| end + 1);
            self.reader.consume(skipped);
            self.offset += u64::try_from(skipped).unwrap_or(0);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

/// The files as they are at one moment. Later records, and a rotation, do not disturb it.
#[derive(Debug)]
pub struct Snapshot {
    files: Vec<(PathBuf, File, u64)>,
}

impl Snapshot {
    /// Takes it, between two writes.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn take(place: &Place) -> io::Result<Self> {
        let _lock = place.lock_shared()?;
        let mut files = Vec::new();
        for path in place.list()? {
            let file = File::open(&path)?;
            let len = file.metadata()?.len();
            files.push((path, file, len));
        }
        Ok(Self { files })
    }

    /// How many files, and how many bytes in them.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.files.len(), self.files.iter().map(|(_, _, len)| len).sum())
    }

    /// Shows every line with its file and number until `look` has seen enough and returns false.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn each(self, mut look: impl FnMut(&Path, u64, &Line<'_>) -> bool) -> io::Result<()> {
        for (path, file, len) in self.files {
            let mut lines = Lines::new(file, 0, len)?;
            let mut number = 0;
            while let Some(line) = lines.read()? {
                number += 1;
                if !look(&path, number, &line) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
