//! Whether the log is whole: every line a record, every record following the one before.
//!
//! Files that rotation has removed are vouched for by a later record. What a chain alone cannot tell is that its end
//! was cut off; how far destinations have got tells it where records are shipped.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::chain::{self, Fault, GENESIS};
use super::files::{Line, Place, Snapshot};
use super::log::PRUNED;
use super::record::Record;
use super::ship::Cursor;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Verified {
    /// Whether nothing is wrong.
    pub intact: bool,
    /// Records that were checked and are good.
    pub records: u64,
    /// Files that were read, the one with the bad record included.
    pub files: usize,
    /// Number of the first record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Number of the last good record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Its hash, to be compared with a copy elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The first bad record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad: Option<Bad>,
}

/// A bad record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bad {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 where it is the file as a whole.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// Checks the whole log.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(place: &Place) -> io::Result<Verified> {
    let snapshot = Snapshot::take(place)?;
    let (files, _) = snapshot.size();
    let mut check = Check::default();
    let mut bad = None;
    snapshot.each(|path, number, line| match check.take(line) {
        Ok(()) => true,
        Err(fault) => {
            bad = Some(Bad { file: path.display().to_string(), line: number, why: fault.to_string() });
            false
        }
    })?;
    let bad = match bad {
        Some(bad) => Some(bad),
        None => check.unvouched(place.dir()).or(overtaken(place, &check)?),
    };
    Ok(Verified {
        intact: bad.is_none(),
        records: check.records,
        files,
        first: check.first,
        last: check.last.as_ref().map(|(seq, _)| *seq),
        head: check.last.map(|(_, hash)| hash),
        bad,
    })
}

/// Checks one line after the other.
#[derive(Debug, Default)]
struct Check {
    records: u64,
    first: Option<u64>,
    last: Option<(u64, String)>,
    /// The record before the first one, which nothing has vouched for yet.
    anchor: Option<(u64, String)>,
}

impl Check {
    fn take(&mut self, line: &Line<'_>) -> Result<(), Fault> {
        let record = chain::open(line.bytes);
        if !line.complete {
            return Err(Fault::Torn);
        }
        let record = record?;
        match &self.last {
            Some((seq, hash)) => chain::follows(&record, *seq, hash)?,
            None if record.body.seq == 1 => chain::follows(&record, 0, GENESIS)?,
            None => self.anchor = Some((record.body.seq.saturating_sub(1), record.body.prev.clone())),
        }
        self.vouch(&record);
        self.records += 1;
        self.first.get_or_insert(record.body.seq);
        self.last = Some((record.body.seq, record.hash));
        Ok(())
    }

    /// A record about removed files says how they ended.
    fn vouch(&mut self, record: &Record) {
        let says = |name: &str, value: &str| record.body.facts.get(name).is_some_and(|fact| fact == value);
        if record.body.kind == PRUNED
            && let Some((seq, hash)) = &self.anchor
            && says("through", &seq.to_string())
            && says("hash", hash)
        {
            self.anchor = None;
        }
    }

    fn unvouched(&self, dir: &Path) -> Option<Bad> {
        let (seq, _) = self.anchor.as_ref()?;
        let why =
            format!("records up to number {seq} are missing, and none says that they were removed in order");
        Some(Bad { file: dir.display().to_string(), line: 0, why })
    }
}

/// A destination that has got further than the log goes, or has seen another record at its end, tells that the log
/// was cut.
fn overtaken(place: &Place, check: &Check) -> io::Result<Option<Bad>> {
    let end = check.last.as_ref().map_or(0, |(seq, _)| *seq);
    for (destination, cursor) in Cursor::all(place)? {
        let other = check.last.as_ref().is_some_and(|(seq, hash)| *seq == cursor.seq && *hash != cursor.hash);
        if cursor.seq > end || other {
            let why = format!(
                "{destination} was sent records up to number {}, and the log ends at number {end}: \
                 its end was cut off or replaced",
                cursor.seq
            );
            return Ok(Some(Bad { file: place.current().display().to_string(), line: 0, why }));
        }
    }
    Ok(None)
}
