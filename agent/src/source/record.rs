//! Recordings: the engine's inputs as JSON lines, written by `record` and read by `replay`.
//!
//! The first line is the [`Header`], every other one an [`Entry`]. Nothing is interpreted here: what a
//! recording means is the engine's business. Readers trust no byte of the file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufWriter, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::input::Input;
use crate::model::time::Timestamp;

/// Value of [`Header::format`].
pub const FORMAT: &str = "process-throttler-record";
/// Value of [`Header::version`]; other versions are refused.
pub const VERSION: u32 = 1;
/// Longest line in bytes, its newline included: far above a profile, the largest input.
pub const LINE_MAX: usize = 4 << 20;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Boot to which the times belong.
    pub boot_id: String,
    /// When the recording began, in ms since the Unix epoch.
    pub started_unix_ms: i64,
    /// When the recording began, on the clock of the entries.
    pub began: Timestamp,
    /// Name of the event source.
    pub source: String,
}

impl Header {
    /// A header of the present version.
    #[must_use]
    pub fn new(boot_id: String, started_unix_ms: i64, began: Timestamp, source: &str) -> Self {
        let format = FORMAT.to_owned();
        Self { format, version: VERSION, boot_id, started_unix_ms, began, source: source.to_owned() }
    }
}

/// One input and when it was handed to the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub input: Input,
}

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be written.
    #[error("writing the recording")]
    Write(#[source] io::Error),
    /// The file cannot be read.
    #[error("line {line}: reading the recording")]
    Read {
        /// Line, from 1.
        line: u64,
        /// The error.
        source: io::Error,
    },
    /// The file has no first line.
    #[error("line 1: the recording is empty")]
    Empty,
    /// The first line is the header of something else.
    #[error("line 1: format is {0:?}, expected {FORMAT:?}")]
    Format(String),
    /// The first line is the header of another version.
    #[error("line 1: version {0} of the format is not supported, expected {VERSION}")]
    Version(u32),
    /// A line is longer than any that is written.
    #[error("line {line}: longer than {LINE_MAX} bytes")]
    TooLong {
        /// Line, from 1.
        line: u64,
    },
    /// The last line has no newline: the writer was stopped in the middle of it.
    #[error("line {line}: cut off")]
    CutOff {
        /// Line, from 1.
        line: u64,
    },
    /// A line is not what it should be.
    #[error("line {line}: malformed")]
    Malformed {
        /// Line, from 1.
        line: u64,
        /// The error, with the column.
        source: serde_json::Error,
    },
}

/// Writes a recording. Call [`Self::finish`] at the end: dropping it loses what is still buffered if that
/// cannot be written, without a word.
#[derive(Debug)]
pub struct Writer<W: Write> {
    file: BufWriter<W>,
    line: Vec<u8>,
    number: u64,
}

impl Writer<File> {
    /// Creates the file, readable by its owner only: command lines hold secrets. An existing file is not
    /// overwritten.
    ///
    /// # Errors
    /// When the file exists, or cannot be created or written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, RecordError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        Self::new(file.map_err(RecordError::Write)?, header)
    }
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn new(file: W, header: &Header) -> Result<Self, RecordError> {
        let mut writer = Self { file: BufWriter::new(file), line: Vec::new(), number: 0 };
        writer.put(header)?;
        Ok(writer)
    }

    /// Appends an input.
    ///
    /// # Errors
    /// When it cannot be written or its line would be too long to be read again; the recording up to it
    /// stays good in the latter case.
    pub fn write(&mut self, entry: &Entry) -> Result<(), RecordError> {
        self.put(entry)
    }

    /// Writes out what is buffered, so that a reader sees it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        self.file.flush().map_err(RecordError::Write)
    }

    /// Writes out what is buffered and hands back the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<W, RecordError> {
        self.file.into_inner().map_err(|error| RecordError::Write(error.into_error()))
    }

    fn put(&mut self, value: &impl Serialize) -> Result<(), RecordError> {
        self.number += 1;
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)
            .map_err(|source| RecordError::Malformed { line: self.number, source })?;
        self.line.push(b'\n');
        if self.line.len() > LINE_MAX {
            self.number -= 1;
            return Err(RecordError::TooLong { line: self.number + 1 });
        }
        self.file.write_all(&self.line).map_err(RecordError::Write)
    }
}

/// Reads a recording: an iterator over its entries that ends after the first error.
#[derive(Debug)]
pub struct Reader<R> {
    file: R,
    header: Header,
    line: Vec<u8>,
    number: u64,
    done: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// When the file is empty, unreadable or no recording of this version.
    pub fn new(file: R) -> Result<Self, RecordError> {
        let header = Header::new(String::new(), 0, Timestamp::ZERO, "");
        let mut reader = Self { file, header, line: Vec::new(), number: 0, done: false };
        if !reader.advance()? {
            return Err(RecordError::Empty);
        }
        // Format and version first: another version's header may have other fields.
        let Preamble { format, version } = reader.parse()?;
        if format != FORMAT {
            return Err(RecordError::Format(format.chars().take(64).collect()));
        }
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        reader.header = reader.parse()?;
        Ok(reader)
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next line; false at the end of the file.
    fn advance(&mut self) -> Result<bool, RecordError> {
        self.number += 1;
        self.line.clear();
        let line = self.number;
        // One byte more than allowed, so that too long and cut off can be told apart.
        let mut bounded = self.file.by_ref().take(LINE_MAX as u64 + 1);
        bounded.read_until(b'\n', &mut self.line).map_err(|source| RecordError::Read { line, source })?;
        match self.line.last() {
            None => Ok(false),
            Some(_) if self.line.len() > LINE_MAX => Err(RecordError::TooLong { line }),
            Some(b'\n') => Ok(true),
            Some(_) => Err(RecordError::CutOff { line }),
        }
    }

    fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, RecordError> {
        serde_json::from_slice(&self.line)
            .map_err(|source| RecordError::Malformed { line: self.number, source })
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Entry, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let entry = match self.advance() {
            Ok(true) => self.parse(),
            Ok(false) => {
                self.done = true;
                return None;
            }
            Err(error) => Err(error),
        };
        self.done = entry.is_err();
        Some(entry)
    }
}

/// What all versions of the header have in common.
#[derive(Deserialize)]
struct Preamble {
    format: String,
    version: u32,
}

#[cfg(test)]
mod tests;
