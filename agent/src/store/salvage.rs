//! What can be saved of a damaged database.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::clock;
use crate::store::intents::Intent;
use crate::store::{StoreError, Tables};

/// The intents that still read: damage elsewhere in the file must not keep limits in force for good.
pub(crate) fn readable_intents(path: &Path) -> Vec<Intent> {
    let Ok(conn) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
        return Vec::new();
    };
    Tables { conn, path: path.to_owned() }.intents().unwrap_or_default()
}

/// Renames the database and its write-ahead log to `<name>.corrupt-<unix ms>`, for a person to look at.
pub(crate) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let stamp = clock::unix_millis(clock::wall());
    let named = |suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = named(&format!(".corrupt-{stamp}"));
    std::fs::rename(path, &aside).map_err(|source| StoreError::io("set aside", path, source))?;
    for suffix in ["-wal", "-shm"] {
        let companion = named(suffix);
        match std::fs::rename(&companion, named(&format!(".corrupt-{stamp}{suffix}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("set aside", &companion, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom, Write as _};

    use super::*;
    use crate::model::reason::Reason;
    use crate::store::{Durability, Kind, NewIntent, Store};

    fn change() -> NewIntent {
        NewIntent {
            group: "a".parse().ok(),
            place: String::new(),
            kind: Kind::File,
            path: "/cg/x/cpu.max".into(),
            inode: 0,
            item: String::new(),
            process: None,
            thread: None,
            prior: b"max 100000".to_vec(),
            new: b"1000 100000".to_vec(),
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        std::fs::write(&path, "not a database, but long enough to be looked at ".repeat(50)).unwrap();
        let opened = Store::open(&path, Durability::Process).unwrap();
        let (aside, carried) = opened.set_aside.unwrap();
        assert_eq!(carried, 0);
        assert!(aside.exists() && aside.to_string_lossy().contains("state.db.corrupt-"));
        assert_eq!(opened.store.read(Tables::intents).unwrap(), []);
    }

    #[test]
    fn intents_outlive_damage_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut store = Store::open(&path, Durability::Process).unwrap().store;
        store.write(|tx| tx.plan_intents("b", 1, &Reason::Stopping, &[change()])).unwrap();
        let sql = "INSERT INTO groups VALUES (?1, ?2, '', '', '', '', NULL, 0)";
        let text = "x".repeat(500);
        store.write(|tx| (0..2_000).try_for_each(|i| tx.run("test", sql, (i, &text)).map(drop))).unwrap();
        drop(store);
        let length = std::fs::metadata(&path).unwrap().len();
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(length / 8192 * 4096)).unwrap();
        file.write_all(&[0xa5; 65_536]).unwrap();
        drop(file);
        let opened = Store::open(&path, Durability::Process).unwrap();
        assert_eq!(opened.set_aside.unwrap().1, 1);
        assert_eq!(opened.store.read(Tables::intents).unwrap()[0].change, change());
    }
}
