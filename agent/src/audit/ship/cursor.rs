//! How far a destination has got, kept in a file beside the log.

use std::io;

use serde::{Deserialize, Serialize};

use crate::audit::chain::GENESIS;
use crate::audit::files::Place;

const PREFIX: &str = "audit-ship-";
const SUFFIX: &str = ".json";

/// The last record that a destination has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Its number; 0 for none yet.
    pub seq: u64,
    /// Its hash, so that a log that was replaced is noticed.
    pub hash: String,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned() }
    }
}

impl Cursor {
    /// That of a destination; the beginning where it has none yet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(place: &Place, destination: &str) -> io::Result<Self> {
        match std::fs::read(place.cursor(destination)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Keeps it, durable.
    ///
    /// # Errors
    /// When it cannot be written; the former one stays.
    pub(super) fn write(&self, place: &Place, destination: &str) -> io::Result<()> {
        place.write_private(&place.cursor(destination), &serde_json::to_vec(self)?)
    }

    /// Those of all destinations that ever had one, by name.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn all(place: &Place) -> io::Result<Vec<(String, Self)>> {
        let entries = match std::fs::read_dir(place.dir()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
            if let Some(name) = name {
                found.push((name.to_owned(), Self::read(place, name)?));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }
}
