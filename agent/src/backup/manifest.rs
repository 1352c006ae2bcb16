//! What a backup says of itself: its first file.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::inside::{Inside, Place};
use crate::model::id::Name;

/// Its name in the archive.
pub(super) const FILE_NAME: &str = "manifest.json";
/// Format of archives that this version writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;
/// Largest manifest that is read, in bytes.
pub(super) const BYTES_MAX: u64 = 4 << 20;
/// Most files in a backup.
pub(super) const FILES_MAX: usize = 10_000;
/// Largest file of the configuration in a backup, in bytes: what the configuration reads.
const CONFIG_FILE_MAX: u64 = crate::config::file::read::MAX_BYTES;
/// Largest other file, in bytes: what a tar header can say, less than 8 GiB.
const FILE_MAX: u64 = 4 << 30;
/// Most bytes in all, unpacked.
const TOTAL_MAX: u64 = 16 << 30;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Manifest {
    /// Format of the archive.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Its name when it was written.
    pub name: Name,
    /// When it was begun.
    pub created: jiff::Timestamp,
    /// The machine.
    pub host: String,
    /// Whether it was encrypted, and therefore holds secrets.
    pub encrypted: bool,
    /// The files, in the order of the archive.
    pub files: Vec<FileRecord>,
    /// What belongs to the installation and is not in here.
    pub left_out: Vec<LeftOut>,
}

/// A file in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FileRecord {
    /// Where.
    pub path: Inside,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Its permissions.
    pub mode: u32,
}

/// A file that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeftOut {
    /// Where it is: inside of the backup's places, or anywhere as text.
    pub path: String,
    /// Why it was left out.
    pub why: String,
}

impl Manifest {
    /// Bytes of all files.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// From its bytes in an archive.
    ///
    /// # Errors
    /// Why it cannot be believed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let malformed = |error: serde_json::Error| format!("its manifest is malformed: {error}");
        let Format { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != FORMAT {
            return Err(format!(
                "it has format {format}, this version reads {FORMAT}: it was written by a newer version"
            ));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.files.len() > FILES_MAX {
            return Err(format!("{} files are more than {FILES_MAX}", self.files.len()));
        }
        let mut seen = BTreeSet::new();
        for file in &self.files {
            let most = if file.path.place() == Place::Config { CONFIG_FILE_MAX } else { FILE_MAX };
            if file.size > most {
                return Err(format!("{} has {} bytes, more than {most}", file.path, file.size));
            }
            // `A` beside `a` is two files here, and a file beside a directory of its name is none.
            if !seen.insert(file.path.to_string()) {
                return Err(format!("{} is there twice", file.path));
            }
        }
        for file in &self.files {
            let (parent, _) = file.path.split();
            if seen.contains(&parent) {
                return Err(format!("{parent} is a file and a directory"));
            }
        }
        if self.total() > TOTAL_MAX {
            return Err(format!("{} bytes in all are more than {TOTAL_MAX}", self.total()));
        }
        Ok(())
    }
}

/// A digest in hexadecimal.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
