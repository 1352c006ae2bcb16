//! The thread of one destination: reads the log from the cursor on, sends, and moves the cursor.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::bell::{Bell, Health};
use super::cursor::Cursor;
use super::{Parcel, Wire};
use crate::audit::chain;
use crate::audit::files::{Lines, Place};

/// Most records that are sent before the cursor moves.
const BATCH: usize = 256;
/// And most bytes of them.
const BATCH_BYTES: usize = 512 * 1024;
/// First and longest pause after a failure; it doubles in between.
const PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// See the module.
pub(super) struct Pump {
    place: Place,
    wire: Box<dyn Wire + Send>,
    bell: Arc<Bell>,
    health: Arc<Health>,
    cursor: Option<Cursor>,
    /// Where the line after the cursor begins: device, inode and offset of the file.
    spot: Option<(u64, u64, u64)>,
}

impl Pump {
    pub(super) fn new(
        place: Place,
        wire: Box<dyn Wire + Send>,
        bell: Arc<Bell>,
        health: Arc<Health>,
    ) -> Self {
        Self { place, wire, bell, health, cursor: None, spot: None }
    }

    /// Runs until the bell says stop and all is sent, or cannot be.
    pub(super) fn run(mut self) {
        let mut pause = *PAUSES.start();
        loop {
            let seen = self.bell.rung();
            match self.round() {
                Ok(sent) => {
                    pause = *PAUSES.start();
                    if self.health.set(None) {
                        tracing::info!(destination = %self.health.name, "the audit log is shipped again");
                    }
                    if !sent && self.bell.is_over() {
                        break;
                    }
                    if !sent {
                        self.bell.wait(seen);
                    }
                }
                Err(error) => {
                    if self.health.set(Some(error.to_string())) {
                        tracing::error!(destination = %self.health.name, %error, "the audit log is not shipped, trying again");
                    }
                    if self.bell.is_over() {
                        break;
                    }
                    self.bell.rest(pause);
                    pause = (pause * 2).min(*PAUSES.end());
                }
            }
        }
        self.bell.end();
    }

    /// Sends what comes next, and says whether there was anything.
    fn round(&mut self) -> io::Result<bool> {
        let name = self.health.name.to_string();
        let cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => Cursor::read(&self.place, &name)?,
        };
        let taken = self.take(&cursor);
        self.cursor = Some(cursor.clone());
        let (parcels, spot) = taken?;
        let Some(last) = parcels.last() else { return Ok(false) };
        let next = Cursor { seq: last.record.body.seq, hash: last.record.hash.clone() };
        self.check(&cursor, &parcels);
        self.wire.send(&parcels)?;
        next.write(&self.place, &name)?;
        (self.cursor, self.spot) = (Some(next), Some(spot));
        Ok(true)
    }

    /// What comes after the cursor, and where that ends.
    fn take(&self, cursor: &Cursor) -> io::Result<(Vec<Parcel>, (u64, u64, u64))> {
        let mut spot = (0, 0, 0);
        for path in self.candidates(cursor)? {
            let file = match File::open(&path) {
                Ok(file) => file,
                // Closed or removed in this moment: the next round finds it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let meta = file.metadata()?;
            let from = match self.spot {
                Some((device, inode, offset)) if (device, inode) == (meta.dev(), meta.ino()) => offset,
                Some(_) | None => 0,
            };
            let mut lines = Lines::new(file, from, meta.len())?;
            let (mut parcels, mut bytes) = (Vec::new(), 0);
            let mut offset = from;
            while parcels.len() < BATCH && bytes < BATCH_BYTES {
                let Some(line) = lines.read()?.filter(|line| line.complete) else { break };
                match chain::open(line.bytes) {
                    Ok(record) if record.body.seq > cursor.seq => {
                        bytes += line.bytes.len();
                        parcels.push(Parcel { line: line.bytes.to_vec(), record });
                    }
                    Ok(_) => {}
                    Err(fault) => {
                        tracing::error!(path = %path.display(), %fault, "a line of the audit log is not shipped");
                    }
                }
                offset = lines.offset;
            }
            spot = (meta.dev(), meta.ino(), offset);
            if !parcels.is_empty() {
                return Ok((parcels, spot));
            }
        }
        Ok((Vec::new(), spot))
    }

    /// Files that may hold records after the cursor.
    fn candidates(&self, cursor: &Cursor) -> io::Result<Vec<PathBuf>> {
        let closed = self.place.list_closed()?.into_iter();
        let later = closed.filter(|(last, _)| *last > cursor.seq).map(|(_, path)| path);
        Ok(later.chain([self.place.current()]).collect())
    }

    /// Says when records are gone that were never sent, or the log is another one than before.
    fn check(&self, cursor: &Cursor, parcels: &[Parcel]) {
        let Some(first) = parcels.first() else { return };
        if let Err(fault) = chain::follows(&first.record, cursor.seq, &cursor.hash)
            && cursor.seq > 0
        {
            tracing::error!(destination = %self.health.name, after = cursor.seq, %fault, "what is shipped does not follow what was");
        }
    }
}
