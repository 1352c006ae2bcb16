//! Looking a database over, and copying it, without changing it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use crate::model::plural::counted;
use crate::store::{Durability, Store, StoreError, Tables, schema};

/// Most problems that are told of one database.
const PROBLEMS: usize = 20;

/// What was found in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Its schema.
    pub schema: i64,
    /// The schema of this version.
    pub known: i64,
    /// Damage: what SQLite finds, and tables that are not ours.
    pub damage: Vec<String>,
    /// Rows that belong to nothing.
    pub orphans: Vec<String>,
}

impl Inspection {
    /// Whether a later version of this program wrote it.
    #[must_use]
    pub const fn is_newer(&self) -> bool {
        self.schema > self.known
    }

    /// Whether it has to be migrated before it is used.
    #[must_use]
    pub const fn is_older(&self) -> bool {
        self.schema < self.known
    }
}

/// Looks a database over that nobody has locked.
///
/// # Errors
/// When it cannot be opened, or somebody has it locked.
pub fn inspect(path: &Path, durability: Durability) -> Result<Inspection, StoreError> {
    open(path)?.inspect(durability)
}

/// Copies a database that nobody has locked to a file that does not exist, mode 0600, as of one moment.
///
/// # Errors
/// When it is damaged or locked, or the copy cannot be written.
pub fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    open(from)?.copy_to(to)
}

fn open(path: &Path) -> Result<Tables, StoreError> {
    let sql = |operation| move |source| StoreError::Sql { operation, path: path.to_owned(), source };
    // A log that was not written back is part of the database, and reading it takes more than reading.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(sql("open database"))?;
    conn.busy_timeout(Duration::from_secs(5)).map_err(sql("set busy_timeout"))?;
    Ok(Tables { conn, path: path.to_owned() })
}

impl Store {
    /// Looks it over.
    ///
    /// # Errors
    /// As [`inspect`].
    pub fn inspect(&self) -> Result<Inspection, StoreError> {
        self.tables.inspect(self.durability)
    }

    /// Copies it, as [`copy`] does.
    ///
    /// # Errors
    /// As [`copy`].
    pub fn copy_to(&self, to: &Path) -> Result<(), StoreError> {
        self.tables.copy_to(to)
    }

    /// Forgets what was done to the kernel, and keeps what operators want. For a copy that is to be used later or
    /// elsewhere, where undoing it would do harm.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn forget_changes(&mut self) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.run("delete intents", "DELETE FROM intents", ())?;
            tx.run("delete groups", "DELETE FROM groups", ()).map(drop)
        })
    }
}

impl Tables {
    fn inspect(&self, durability: Durability) -> Result<Inspection, StoreError> {
        let (_, known) = schema::of(durability);
        let mut found = Inspection { schema: 0, known, damage: Vec::new(), orphans: Vec::new() };
        match self.look(durability, &mut found) {
            Err(error) if error.is_corrupt() => found.damage.push(crate::model::chain::chain(&error)),
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        Ok(found)
    }

    fn look(&self, durability: Durability, found: &mut Inspection) -> Result<(), StoreError> {
        found.schema = self
            .conn
            .query_row("PRAGMA user_version", (), |row| row.get(0))
            .map_err(self.error("read user_version"))?;
        if found.is_newer() {
            return Ok(());
        }
        let sql = format!("PRAGMA integrity_check({PROBLEMS})");
        let told = self.rows("check database", &sql, (), |row| row.get::<_, String>(0))?;
        found.damage.extend(told.into_iter().filter(|line| line != "ok"));
        if !found.damage.is_empty() {
            return Ok(());
        }
        let (ours, theirs) =
            (objects_of(durability, found.schema, &self.path)?, objects(&self.conn, &self.path)?);
        let differ = theirs.iter().filter(|one| !ours.contains(one)).map(|one| format!("{one} is not ours"));
        let lack = ours.iter().filter(|one| !theirs.contains(one)).map(|one| format!("{one} is not there"));
        found.damage.extend(differ.chain(lack).take(PROBLEMS));
        if found.damage.is_empty() && !found.is_older() {
            self.orphans(durability, found)?;
        }
        Ok(())
    }

    fn orphans(&self, durability: Durability, found: &mut Inspection) -> Result<(), StoreError> {
        let ((one, many), sql) = match durability {
            Durability::Process => (
                ("group without any change to undo", "groups without any change to undo"),
                "SELECT count(*) FROM groups WHERE name NOT IN (SELECT grp FROM intents WHERE grp IS NOT NULL)",
            ),
            Durability::Power => (
                ("attempt at a delivery that is gone", "attempts at deliveries that are gone"),
                "SELECT count(*) FROM attempts WHERE delivery NOT IN (SELECT id FROM outbox)",
            ),
        };
        let count = self.rows("look for orphans", sql, (), |row| row.get::<_, i64>(0))?;
        found
            .orphans
            .extend(count.into_iter().filter(|count| *count > 0).map(|count| counted(count, one, many)));
        Ok(())
    }

    fn copy_to(&self, to: &Path) -> Result<(), StoreError> {
        copy_into(&self.conn, &self.path, to)
    }
}

/// Copies the database at `path` that `conn` has open.
pub(super) fn copy_into(conn: &Connection, path: &Path, to: &Path) -> Result<(), StoreError> {
    // SQLite takes an empty file as it is, and would make one that others can read.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|source| StoreError::io("create", to, source))?;
    let text = to.to_str().ok_or_else(|| {
        StoreError::io("write", to, std::io::Error::new(std::io::ErrorKind::InvalidInput, "not UTF-8"))
    })?;
    let copied = conn.execute("VACUUM INTO ?1", [text]);
    copied.map(drop).map_err(|source| StoreError::Sql {
        operation: "copy database",
        path: path.to_owned(),
        source,
    })
}

/// Tables, indexes and triggers with their definitions, which are executed when rows are written: a database that came
/// from elsewhere must have exactly ours.
fn objects(conn: &Connection, path: &Path) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT type || ' ' || name || ': ' || sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY 1";
    let mut statement = conn.prepare(sql).map_err(failed(path))?;
    let rows = statement.query_map((), |row| row.get(0)).map_err(failed(path))?;
    rows.collect::<Result<_, _>>().map_err(failed(path))
}

fn objects_of(durability: Durability, version: i64, path: &Path) -> Result<Vec<String>, StoreError> {
    let mut conn = Connection::open_in_memory().map_err(failed(path))?;
    let (migrations, _) = schema::of(durability);
    let version = usize::try_from(version).unwrap_or(0);
    migrations
        .to_version(&mut conn, version)
        .map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
    objects(&conn, path)
}

fn failed(path: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError {
    let path: PathBuf = path.to_owned();
    move |source| StoreError::Sql { operation: "read schema", path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_database_is_sound_and_its_copy_too() {
        let dir = tempfile::tempdir().unwrap();
        for durability in [Durability::Process, Durability::Power] {
            let path = dir.path().join(format!("{durability:?}.db"));
            let store = Store::open(&path, durability).unwrap().store;
            let found = store.inspect().unwrap();
            assert_eq!(
                (&found.damage, &found.orphans, found.schema),
                (&Vec::new(), &Vec::new(), found.known)
            );
            let to = dir.path().join(format!("{durability:?}.copy"));
            store.copy_to(&to).unwrap();
            assert_eq!(inspect(&to, durability).unwrap(), found);
            assert!(store.copy_to(&to).is_err(), "nothing is replaced");
        }
    }

    #[test]
    fn a_locked_database_is_copied_by_whoever_locked_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut store = Store::open(&path, Durability::Process).unwrap().store;
        store.keep_locks().unwrap();
        store
            .write(|tx| tx.run("test", "INSERT INTO groups VALUES ('a', '', '', '', '', '', NULL, 0)", ()))
            .unwrap();
        store.copy_to(&dir.path().join("copy")).unwrap();
        let found = inspect(&dir.path().join("copy"), Durability::Process).unwrap();
        assert_eq!(found.orphans, ["1 group without any change to undo"]);
        let mut copy = Store::open(&dir.path().join("copy"), Durability::Process).unwrap().store;
        copy.forget_changes().unwrap();
        assert!(copy.inspect().unwrap().orphans.is_empty());
    }

    #[test]
    fn what_is_not_ours_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let store = Store::open(&path, Durability::Power).unwrap().store;
        let sql = "CREATE TRIGGER evil AFTER INSERT ON events BEGIN DELETE FROM outbox; END";
        store.tables.conn.execute(sql, ()).unwrap();
        store.tables.conn.execute("DROP TABLE bundles", ()).unwrap();
        drop(store);
        let found = inspect(&path, Durability::Power).unwrap();
        assert_eq!(found.damage.len(), 2, "{found:?}");
        assert!(found.damage[0].contains("evil") && found.damage[1].contains("bundles"), "{found:?}");
        std::fs::write(&path, "no database at all, but long enough to be looked at ".repeat(50)).unwrap();
        assert!(!inspect(&path, Durability::Power).unwrap().damage.is_empty());
        assert!(inspect(&dir.path().join("gone"), Durability::Power).is_err());
    }

    #[test]
    fn an_older_one_is_copied_before_it_is_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut conn = Connection::open(&path).unwrap();
        schema::of(Durability::Process).0.to_version(&mut conn, 1).unwrap();
        drop(conn);
        let before = inspect(&path, Durability::Process).unwrap();
        assert!(before.is_older() && before.damage.is_empty(), "{before:?}");
        drop(Store::open(&path, Durability::Process).unwrap());
        assert!(!inspect(&path, Durability::Process).unwrap().is_older());
        let kept = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let kept: Vec<_> = kept.filter(|path| path.to_string_lossy().contains(".schema-1-")).collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(inspect(&kept[0], Durability::Process).unwrap().schema, 1);
    }
}
