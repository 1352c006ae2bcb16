//! State that survives the agent: SQLite with migrations.
//!
//! Holds what the agent did to the kernel and has to undo, what operators want limited, what it told, and what it
//! still has to tell.
//! Never acts on any of it.

mod attributes;
pub mod attempts;
pub mod alerts;
pub mod block;
pub mod check;
pub mod endpoints;
pub mod error;
pub mod events;
pub mod groups;
pub mod history;
pub mod intents;
mod kind;
pub mod meta;
pub mod outbox;
pub mod owed;
pub mod restarts;
mod salvage;
mod schema;
mod wal;
pub mod wishes;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

pub use crate::store::attributes::AttributeRecord;
pub use crate::store::error::StoreError;
pub use crate::store::groups::GroupRow;
pub use crate::store::intents::{Intent, IntentState, Kind, NewIntent, Recorded};
pub use crate::store::wishes::Wish;

/// What a commit outlives, and with it which of the two databases it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the agent, but not a power cut: intents and groups, because what they restore does not
    /// outlive a power cut either. Never waits for the disk (`synchronous=OFF`), nor for other writers: only
    /// the agent that holds the lock has it open.
    Process,
    /// A power cut (`synchronous=FULL`): events, the outbox, the active profile.
    Power,
}

/// The schema that this version writes.
#[must_use]
pub fn known_schema(durability: Durability) -> i64 {
    schema::of(durability).1
}

/// An open database.
#[derive(Debug)]
pub struct Store {
    tables: Tables,
    durability: Durability,
    /// Whose turn it is to write, among the connections of this process: SQLite alone has those that have to wait look
    /// again after whole milliseconds.
    turn: Arc<Mutex<()>>,
}

/// What opening found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Where a damaged database was set aside, and how many of its intents could still be read and were
    /// carried over. What they do not cover is found by name in our own cgroups (`release --all`).
    pub set_aside: Option<(PathBuf, usize)>,
}

impl Store {
    /// Opens or creates the database, mode 0600, and brings its schema up to date. A damaged one is renamed
    /// to `<name>.corrupt-<unix ms>` and replaced.
    ///
    /// # Errors
    /// When it cannot be opened, or a newer version wrote it.
    pub fn open(path: &Path, durability: Durability) -> Result<Opened, StoreError> {
        match Self::open_sound(path, durability) {
            Ok(store) => Ok(Opened { store, set_aside: None }),
            Err(error) if error.is_corrupt() => {
                let rows = match durability {
                    Durability::Process => salvage::readable_intents(path),
                    Durability::Power => Vec::new(),
                };
                let aside = salvage::set_aside(path)?;
                let mut store = Self::open_sound(path, durability)?;
                let carried = store.write(|tx| tx.adopt_intents(&rows))?;
                Ok(Opened { store, set_aside: Some((aside, carried)) })
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps the locks that each transaction would take and give back, so that the next one is cheaper. For
    /// the one connection of an agent that holds the lock of its directories.
    ///
    /// # Errors
    /// When the database is gone.
    pub fn keep_locks(&self) -> Result<(), StoreError> {
        let set = self.tables.conn.pragma_update(None, "locking_mode", "EXCLUSIVE");
        set.map_err(self.tables.error("set locking_mode"))
    }

    /// Another connection to the same database.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn again(&self) -> Result<Self, StoreError> {
        let other = Self::open_sound(&self.tables.path, self.durability)?;
        Ok(Self { turn: Arc::clone(&self.turn), ..other })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.tables.path
    }

    /// Runs a transaction (BEGIN IMMEDIATE): all of it is kept, or nothing.
    ///
    /// # Errors
    /// Those of `work`, and of beginning and committing.
    pub fn write<T>(&mut self, work: impl FnOnce(&Tables) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let tx = &self.tables;
        tx.run("begin", "BEGIN IMMEDIATE", ())?;
        let result = work(tx).and_then(|value| tx.run("commit", "COMMIT", ()).map(|_| value));
        if result.is_err() && !tx.conn.is_autocommit() {
            tx.run("roll back", "ROLLBACK", ())?;
        }
        result
    }

    /// Reads without a transaction: each statement sees a state of its own.
    pub fn read<T>(&self, work: impl FnOnce(&Tables) -> T) -> T {
        work(&self.tables)
    }

    /// Makes the disk full, as far as this connection can tell: SQLite then reports SQLITE_FULL.
    #[cfg(test)]
    pub(crate) fn fill_disk(&self) {
        let conn = &self.tables.conn;
        let pages: i64 = conn.query_row("PRAGMA page_count", (), |row| row.get(0)).unwrap();
        let free: i64 = conn.query_row("PRAGMA freelist_count", (), |row| row.get(0)).unwrap();
        assert_eq!(free, 0);
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), (), |_| Ok(())).unwrap();
    }

    /// Makes every write fail.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self) {
        self.tables.conn.pragma_update(None, "query_only", true).unwrap();
    }

    /// Ends what [`Self::fill_disk`] began.
    #[cfg(test)]
    pub(crate) fn empty_disk(&self) {
        self.tables.conn.query_row("PRAGMA max_page_count = 4294967294", (), |_| Ok(())).unwrap();
    }

    fn open_sound(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| StoreError::io("open", path, source))?;
        let sql = |operation| move |source| StoreError::Sql { operation, path: path.to_owned(), source };
        let connect = || -> Result<Connection, StoreError> {
            let conn = Connection::open(path).map_err(sql("open database"))?;
            conn.busy_timeout(Duration::from_secs(5)).map_err(sql("set busy_timeout"))?;
            conn.set_prepared_statement_cache_capacity(64);
            Ok(conn)
        };
        let mut conn = connect()?;
        let version =
            |conn: &Connection| conn.query_row("PRAGMA user_version", (), |row| row.get::<_, i64>(0));
        let found = match version(&conn) {
            // The index of the log is a file of its own, for which a full disk has no room. Kept in memory, which takes
            // the database for this connection alone, what has to be undone can be read all the same. A connection that
            // has begun with the file does not change its mind.
            Err(error) if durability == Durability::Process && is_io(&error) => {
                conn = connect()?;
                conn.pragma_update(None, "locking_mode", "EXCLUSIVE")
                    .and_then(|()| version(&conn))
                    .map_err(|_no_better| sql("read user_version")(error))?
            }
            other => other.map_err(sql("read user_version"))?,
        };
        let (migrations, known) = schema::of(durability);
        if found > known {
            return Err(StoreError::Newer { path: path.to_owned(), found, known });
        }
        // Only a new database takes the page size. Rows about limits are a few hundred bytes: small pages make small
        // commits, on the path from an exec to its limit. An alert is many rows in many tables, and each page that is
        // written takes two system calls.
        let (synchronous, page_size, checkpoint) = match durability {
            Durability::Process => ("OFF", 1024, wal::PAGES_DEFAULT),
            Durability::Power => ("FULL", 4096, wal::PAGES_MAX),
        };
        conn.pragma_update(None, "page_size", page_size).map_err(sql("set page_size"))?;
        conn.pragma_update(None, "cache_size", -256).map_err(sql("set cache_size"))?;
        conn.pragma_update(None, "journal_mode", "WAL").map_err(sql("set journal_mode"))?;
        conn.pragma_update(None, "synchronous", synchronous).map_err(sql("set synchronous"))?;
        conn.pragma_update(None, "wal_autocheckpoint", checkpoint).map_err(sql("set wal_autocheckpoint"))?;
        let sound: String =
            conn.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(sql("check database"))?;
        if sound != "ok" {
            return Err(StoreError::Malformed { path: path.to_owned(), what: "database", value: sound });
        }
        if found > 0 && found < known {
            keep_before_migration(&conn, path, found)?;
        }
        if found < known
            && let Err(source) = migrations.to_latest(&mut conn)
        {
            // Another process may have migrated it at the same moment.
            let now: i64 = conn
                .query_row("PRAGMA user_version", (), |row| row.get(0))
                .map_err(sql("read user_version"))?;
            if now != known {
                return Err(StoreError::Migrate { path: path.to_owned(), source });
            }
        }
        let tables = Tables { conn, path: path.to_owned() };
        Ok(Self { tables, durability, turn: Arc::default() })
    }
}

fn is_io(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DiskFull, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(CannotOpen | DiskFull | SystemIoFailure))
}

/// Keeps what an older version wrote, as `<name>.schema-<its schema>-<unix ms>`, for whoever has to go back to it.
fn keep_before_migration(conn: &Connection, path: &Path, found: i64) -> Result<(), StoreError> {
    let stamp = crate::clock::unix_millis(crate::clock::wall());
    let mut kept = path.as_os_str().to_owned();
    kept.push(format!(".schema-{found}-{stamp}"));
    check::copy_into(conn, path, Path::new(&kept))
}

/// The tables' functions, within a transaction or for single reads.
#[derive(Debug)]
pub struct Tables {
    conn: Connection,
    path: PathBuf,
}

impl Tables {
    fn run(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<usize, StoreError> {
        self.conn
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(values))
            .map_err(self.error(operation))
    }

    fn rows<T>(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl rusqlite::Params,
        each: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.conn
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(values, |row| each(row))?.collect())
            .map_err(self.error(operation))
    }

    fn error(&self, operation: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
        let path = self.path.clone();
        move |source| StoreError::Sql { operation, path, source }
    }

    fn malformed(&self, what: &'static str, value: impl Into<String>) -> StoreError {
        StoreError::Malformed { path: self.path.clone(), what, value: value.into() }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, what: &'static str, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| self.malformed(what, format!("{error}: {text}")))
    }

    fn to_json(&self, what: &'static str, value: &impl serde::Serialize) -> Result<String, StoreError> {
        serde_json::to_string(value).map_err(|error| self.malformed(what, error.to_string()))
    }
}

/// A number of a column that holds none below zero.
fn unsigned(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(|value| u64::try_from(value).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn open(path: &Path) -> Result<Opened, StoreError> {
        Store::open(path, Durability::Process)
    }

    #[test]
    fn a_new_database_is_private_and_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let opened = open(&path).unwrap();
        assert!(opened.set_aside.is_none());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let mode: String =
            opened.store.tables.conn.query_row("PRAGMA journal_mode", (), |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        let level = |store: &Store| -> i64 {
            store.tables.conn.query_row("PRAGMA synchronous", (), |row| row.get(0)).unwrap()
        };
        assert_eq!(level(&opened.store), 0, "never waits for the disk");
        let journal = Store::open(&dir.path().join("journal.db"), Durability::Power).unwrap().store;
        assert_eq!(level(&journal.again().unwrap()), 2, "survives a power cut");
        for durability in [Durability::Process, Durability::Power] {
            schema::of(durability).0.validate().unwrap();
        }
    }

    #[test]
    fn a_database_that_somebody_else_has_is_busy_and_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let (mut first, second) = (open(&path).unwrap().store, open(&path).unwrap().store);
        second.tables.conn.busy_timeout(Duration::ZERO).unwrap();
        let error = first.write(|_| second.tables.run("begin", "BEGIN IMMEDIATE", ())).unwrap_err();
        assert!(error.is_busy() && !error.is_corrupt() && !error.is_full(), "{error:?}");
    }

    #[test]
    fn what_is_committed_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut store = open(&path).unwrap().store;
        let group = "a".parse().unwrap();
        store
            .write(|tx| tx.run("test", "INSERT INTO groups VALUES ('a', '', '', '', '', '', NULL, 0)", ()))
            .unwrap();
        // As after a SIGKILL: what is in the files now, with the connection still open and not checkpointed.
        let copy = dir.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(dir.path().join("state.db-wal"), dir.path().join("copy.db-wal")).unwrap();
        let mut again = open(&copy).unwrap().store;
        assert_eq!(
            again.write(|tx| tx.rows("test", "SELECT 1 FROM groups", (), |_| Ok(()))).unwrap().len(),
            1
        );
        again.write(|tx| tx.delete_group(&group)).unwrap();
    }

    #[test]
    fn a_newer_schema_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        open(&path).unwrap().store.tables.conn.pragma_update(None, "user_version", 99).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, known: 4, .. }), "{error}");
        let conn = Connection::open(&path).unwrap();
        assert_eq!(conn.query_row("PRAGMA user_version", (), |r| r.get::<_, i64>(0)).unwrap(), 99);
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("journal.db"), Durability::Power).unwrap().store;
        let failed = store.write(|tx| {
            tx.set_meta("a", Some("1"))?;
            Err::<(), _>(tx.malformed("test", "x"))
        });
        assert!(failed.is_err());
        assert_eq!(store.read(|tx| tx.meta("a")).unwrap(), None);
        store.write(|tx| tx.set_meta("a", Some("2"))).unwrap();
        assert_eq!(store.read(|tx| tx.meta("a")).unwrap().as_deref(), Some("2"));
    }

    #[test]
    fn a_full_disk_is_an_error_that_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("journal.db"), Durability::Power).unwrap().store;
        store.fill_disk();
        let big = "x".repeat(1 << 20);
        let error = store.write(|tx| tx.set_meta("big", Some(&big))).unwrap_err();
        let StoreError::Sql { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
        assert_eq!(store.read(|tx| tx.meta("big")).unwrap(), None);
        assert!(store.tables.conn.is_autocommit());
    }
}
