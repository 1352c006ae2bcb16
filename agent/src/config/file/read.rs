//! Reading a file that root will act upon: bounded, plain, text, and writable by nobody but root.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use crate::config::error::{Finding, Severity};

/// Largest file read.
pub const MAX_BYTES: u64 = 1 << 20;

/// A file's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
    text: String,
    /// Where lines start, so that a thousand findings do not walk the text a thousand times.
    starts: Vec<usize>,
    /// Other files that the tree of this one was merged with.
    others: Vec<Self>,
}

impl Source {
    /// A text and the file that it came from, or would go to.
    #[must_use]
    pub fn new(path: PathBuf, text: String) -> Self {
        let bytes = text.as_bytes();
        // A lone carriage return ends a line too (YAML 1.2, section 5.4).
        let is_end =
            |at: usize| bytes[at] == b'\n' || (bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
        let starts =
            std::iter::once(0).chain((0..bytes.len()).filter(|at| is_end(*at)).map(|at| at + 1)).collect();
        Self { path, text, starts, others: Vec::new() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its text, given away.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    /// Adds a file whose tree is merged into that of this one. Returns its number, by which values know it.
    pub fn add(&mut self, other: Self) -> u8 {
        self.others.push(other);
        u8::try_from(self.others.len()).unwrap_or(u8::MAX)
    }

    /// The file with a number: 0 is this one.
    #[must_use]
    pub fn file(&self, number: u8) -> &Self {
        usize::from(number).checked_sub(1).and_then(|index| self.others.get(index)).unwrap_or(self)
    }

    /// A line, counted from 1, without its end; empty when there is none.
    #[must_use]
    pub fn line(&self, number: u32) -> &str {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(start) = index.checked_sub(1).and_then(|index| self.starts.get(index)) else { return "" };
        let end = self.starts.get(index).copied().unwrap_or(self.text.len());
        self.text.get(*start..end).unwrap_or("").trim_end_matches(['\r', '\n'])
    }
}

/// Who may have written a file for it to be acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anyone: the caller names the file and acts on nothing but a copy of its validated content.
    Anyone,
    /// Root, if the reader is root with this effective uid.
    Owner(u32),
    /// As `Owner`, and nobody else may read it either: it holds a secret.
    Secret(u32),
}

impl Trust {
    /// [`Self::Owner`] for this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::Owner(rustix::process::geteuid().as_raw())
    }
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A system call failed.
    #[error("cannot {operation} {path:?}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The file as it is cannot be used.
    #[error("{0}")]
    Refused(Box<Finding>),
}

impl ReadError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// As a finding about the file.
    #[must_use]
    pub fn into_finding(self) -> Finding {
        match self {
            Self::Refused(finding) => *finding,
            Self::Io { operation, path, source } => {
                Finding::about_file(Severity::Error, &path, format!("cannot {operation} it: {source}"), None)
            }
        }
    }
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read, is no plain file, is larger than [`MAX_BYTES`], could have been written by
/// someone who is not trusted, or is no UTF-8 text.
pub fn read(path: &Path, trust: Trust) -> Result<Source, ReadError> {
    let bytes = read_bytes(path, trust)?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            return Err(not_text(path, &bytes, valid, "the file is not UTF-8 text"));
        }
    };
    if let Some(nul) = text.bytes().position(|byte| byte == 0) {
        return Err(not_text(path, text.as_bytes(), nul, "the file contains a NUL byte: it is not text"));
    }
    // A byte order mark would otherwise become part of the first key.
    let text = text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned);
    Ok(Source::new(path.to_owned(), text))
}

/// Reads a file's bytes, under the same conditions but for being text. For secrets.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(path: &Path, trust: Trust) -> Result<Vec<u8>, ReadError> {
    let io = |operation: &'static str| {
        move |source: io::Error| ReadError::Io { operation, path: path.to_owned(), source }
    };
    // NONBLOCK: opening a FIFO must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| io("open")(errno.into()))?;
    // Everything is checked on what was opened, so that nobody can swap the file in between.
    let stat = rustix::fs::fstat(&fd).map_err(|errno| io("stat")(errno.into()))?;
    if let Some((message, fix)) = objection(&stat, trust) {
        let finding = Finding::about_file(Severity::Error, path, message, Some(fix));
        return Err(ReadError::Refused(Box::new(finding)));
    }
    let mut bytes = Vec::new();
    File::from(fd).take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io("read"))?;
    if bytes.len() as u64 > MAX_BYTES {
        let finding = Finding::about_file(Severity::Error, path, too_large(bytes.len() as u64), None);
        return Err(ReadError::Refused(Box::new(finding)));
    }
    Ok(bytes)
}

/// What is wrong with an opened file, and what to do about it.
fn objection(stat: &Stat, trust: Trust) -> Option<(String, String)> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Some(("not a regular file".to_owned(), "give the path of a regular file".to_owned()));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > MAX_BYTES {
        return Some((too_large(size), "no configuration needs this much; check the path".to_owned()));
    }
    let (euid, forbidden) = match trust {
        Trust::Anyone => return None,
        Trust::Owner(euid) => (euid, 0o022),
        Trust::Secret(euid) => (euid, 0o077),
    };
    let mode = stat.st_mode & 0o7777;
    if euid == 0 && stat.st_uid != 0 {
        let message = format!("owned by uid {}, but root acts upon it", stat.st_uid);
        return Some((message, "chown root it, after checking its content".to_owned()));
    }
    let matters = euid == 0 || matches!(trust, Trust::Secret(_));
    if matters && mode & forbidden != 0 {
        let (who, fix) = if forbidden == 0o077 {
            ("accessible by", "chmod 0600 it")
        } else {
            ("writable by", "chmod go-w it")
        };
        return Some((format!("mode {mode:04o} makes it {who} others than its owner"), fix.to_owned()));
    }
    None
}

fn too_large(size: u64) -> String {
    format!("{size} bytes are more than the {MAX_BYTES} that a configuration file may have")
}

fn not_text(path: &Path, bytes: &[u8], offset: usize, message: &str) -> ReadError {
    let before = &bytes[..offset];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    // The line may hold anything: no snippet.
    let finding = Finding::at(Severity::Error, path, "", narrow(line), narrow(column), message.to_owned())
        .with_fix("save it as UTF-8 text, or check the path");
    ReadError::Refused(Box::new(Finding { snippet: String::new(), ..finding }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn refused(content: &[u8]) -> Finding {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.yaml");
        std::fs::write(&path, content).unwrap();
        let finding = read(&path, Trust::Anyone).unwrap_err().into_finding();
        assert_eq!(std::fs::read(&path).unwrap(), content, "reading changes nothing");
        finding
    }

    #[test]
    fn binary_files_are_refused_at_the_first_bad_byte() {
        let nul = refused(b"name: a\nx: \0\n");
        assert_eq!((nul.line, nul.column), (2, 4));
        let invalid = refused(
            "name: ä\nök: ".as_bytes().iter().copied().chain([0xff, 0xfe]).collect::<Vec<_>>().as_slice(),
        );
        assert_eq!((invalid.line, invalid.column), (2, 5));
        assert_eq!(refused(b"\x7fELF\x02\x01\x01\0\0").line, 1);
    }

    #[test]
    fn large_and_odd_files_are_refused() {
        let large = refused(&vec![b'#'; 10 << 20]);
        assert!(large.message.starts_with("10485760 bytes are more than"), "{large}");
        let dir = tempfile::tempdir().unwrap();
        let message = read(dir.path(), Trust::Anyone).unwrap_err().into_finding().message;
        assert_eq!(message, "not a regular file");
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let message = read(&fifo, Trust::Anyone).unwrap_err().into_finding().message;
        assert_eq!(message, "not a regular file");
        assert!(read(&dir.path().join("gone"), Trust::Anyone).unwrap_err().is_not_found());
    }

    #[test]
    fn root_trusts_only_what_root_alone_can_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.yaml");
        std::fs::write(&path, "a: 1").unwrap();
        let chmod = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        if uid == 0 {
            chmod(0o644);
            assert!(read(&path, Trust::Owner(0)).is_ok());
            chmod(0o664);
            let finding = read(&path, Trust::Owner(0)).unwrap_err().into_finding();
            assert!(finding.message.contains("0664") && finding.fix.unwrap().contains("go-w"));
            chmod(0o644);
            assert!(read(&path, Trust::Secret(0)).unwrap_err().into_finding().message.contains("accessible"));
            chmod(0o600);
            assert!(read(&path, Trust::Secret(0)).is_ok());
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        }
        // Now somebody else's in root's eyes, whoever runs this test.
        let finding = read(&path, Trust::Owner(0)).unwrap_err().into_finding();
        assert!(finding.message.contains("owned by uid"), "{finding}");
        assert!(read(&path, Trust::Owner(1000)).is_ok(), "users read their own files as they please");
        assert!(read(&path, Trust::Anyone).is_ok());
    }

    #[test]
    fn lines_end_as_yaml_says() {
        let source = Source::new("/x".into(), "a\r\nb\rc\n\nd".to_owned());
        let lines: Vec<_> = (0..8).map(|number| source.line(number)).collect();
        assert_eq!(lines, ["", "a", "b", "c", "", "d", "", ""]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.yaml");
        std::fs::write(&path, "\u{feff}a: 1").unwrap();
        assert_eq!(read(&path, Trust::Anyone).unwrap().text(), "a: 1");
    }
}
