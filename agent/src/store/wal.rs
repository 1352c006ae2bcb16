//! When the write-ahead log goes back into the database: not on the way of whoever waits for a commit.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use rustix::fs::fstatvfs;

use crate::store::{Store, StoreError};

/// Pages of the log after which SQLite checkpoints within a commit after all: 16 MiB, in which nobody had a quiet moment.
pub(super) const PAGES_MAX: u32 = 4_096;
/// The same by SQLite's own default, which does where a checkpoint does not wait for the disk.
pub(super) const PAGES_DEFAULT: u32 = 1_000;

/// What the log is given in advance: some forty alerts with no quiet moment between them.
const RESERVED: u64 = 4 << 20;
/// What has to be free for that.
const ROOM: u64 = 16 * RESERVED;
/// Of zeros that are written in one go.
const CHUNK: usize = 64 << 10;

impl Store {
    /// Has this connection's commits outlive the death of the agent only, until another one's is flushed or the log is
    /// written back: for what may be done again, such as an attempt to deliver.
    ///
    /// # Errors
    /// When the database is gone.
    pub fn commit_without_flush(&self) -> Result<(), StoreError> {
        let set = self.tables.conn.pragma_update(None, "synchronous", "NORMAL");
        set.map_err(self.tables.error("set synchronous"))
    }

    /// Writes the log back into the database, as far as no reader needs it, and flushes both: for a moment in which nobody
    /// waits. The next commit then writes over the beginning of the log, for which the disk has a place already.
    ///
    /// # Errors
    /// When the disk refuses it. Nothing is lost by that.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let conn = &self.tables.conn;
        conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_row| Ok(()))
            .map_err(self.tables.error("write the log back"))
    }

    /// Gives the log its place on the disk before it is needed: a commit that makes the file longer waits for the file
    /// system's own journal, too. Zeros are no frames of a log, and what is there already is left alone. Does nothing on a
    /// disk with little room, which others need more.
    ///
    /// # Errors
    /// When the disk refuses it; the file is then as it was.
    pub fn reserve_log(&mut self) -> Result<(), StoreError> {
        let mut path = self.tables.path.clone().into_os_string();
        path.push("-wal");
        let path = PathBuf::from(path);
        let failed = |source| StoreError::io("reserve", &path, source);
        // Within a transaction nobody else makes the file longer.
        self.write(|_tables| {
            let mut file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
            let room = fstatvfs(&file).map_err(|error| failed(error.into()))?;
            let before = file.metadata().map_err(failed)?.len();
            if room.f_bavail.saturating_mul(room.f_frsize) < ROOM {
                return Ok(());
            }
            lengthen(&mut file, before).map_err(|error| match file.set_len(before) {
                Ok(()) => failed(error),
                Err(worse) => failed(worse),
            })
        })
    }
}

fn lengthen(file: &mut File, mut length: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK];
    while length < RESERVED {
        file.write_all(&zeros)?;
        length += CHUNK as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;

    #[test]
    fn after_a_checkpoint_the_log_is_used_from_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        let mut store = Store::open(&path, Durability::Power).unwrap().store;
        let mut long = path.into_os_string();
        long.push("-wal");
        let write = |store: &mut Store, times: usize| {
            for time in 0..times {
                store.write(|tables| tables.set_meta("key", Some(&time.to_string()))).unwrap();
            }
            std::fs::metadata(&long).unwrap().len()
        };
        store.reserve_log().unwrap();
        let reserved = std::fs::metadata(&long).unwrap().len();
        assert!((RESERVED..RESERVED + CHUNK as u64).contains(&reserved), "{reserved}");
        assert_eq!(write(&mut store, 500), reserved, "what was reserved is used");
        // As after SIGKILL: what follows the end of the log is none of it.
        let copy = directory.path().join("copy.db");
        std::fs::copy(store.path(), &copy).unwrap();
        std::fs::copy(&long, directory.path().join("copy.db-wal")).unwrap();
        let copy = Store::open(&copy, Durability::Power).unwrap().store;
        assert_eq!(copy.read(|tables| tables.meta("key")).unwrap().as_deref(), Some("499"));
        let before = write(&mut store, 2_000);
        assert!(before > 1_000 * 4_096, "SQLite has not checkpointed: {before}");
        store.checkpoint().unwrap();
        assert_eq!(write(&mut store, 100), before);
        assert_eq!(store.read(|tables| tables.meta("key")).unwrap().as_deref(), Some("99"));
    }
}
