//! What the agent is about to change in the kernel, or has changed, with the exact prior values.

mod row;

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use self::row::{COLUMNS, Raw};
use crate::model::id::{Name, ProcKey};
use crate::model::process::printable;
use crate::model::reason::Reason;
pub use crate::store::kind::Kind;
use crate::store::{StoreError, Tables};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentState {
    /// Recorded; the kernel may or may not have it yet.
    Planned,
    /// Read back from the kernel.
    Applied,
}

/// A change to record before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIntent {
    /// The group; none for what all groups share.
    pub group: Option<Name>,
    /// Which of the group's places it belongs to: empty, or a process's key.
    pub place: String,
    /// What is changed.
    pub kind: Kind,
    /// Of which file or cgroup.
    pub path: PathBuf,
    /// The inode of a cgroup's file, 0 where none is known: a later cgroup of the same path has none of our values.
    pub inode: u64,
    /// Which part of it.
    pub item: String,
    /// Of which process.
    pub process: Option<ProcKey>,
    /// Of which thread: its id and start.
    pub thread: Option<ProcKey>,
    /// The value before.
    pub prior: Vec<u8>,
    /// The value to be.
    pub new: Vec<u8>,
}

/// A recorded change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Row.
    pub id: i64,
    /// The boot during which it was recorded.
    pub boot: String,
    /// The change. Its prior value is the one of the first record: later ones do not replace it.
    pub change: NewIntent,
    /// Why, as JSON.
    pub reason: String,
    /// What was in the kernel when the limit was changed to `new`: it may still be there.
    pub superseded: Option<Vec<u8>>,
    /// How far it has come.
    pub state: IntentState,
    /// When it was recorded, in ms since the Unix epoch.
    pub created: i64,
}

/// What recording a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The row.
    pub id: i64,
    /// Whether it was not there before.
    pub fresh: bool,
}

impl Tables {
    /// Records changes. One that is recorded already keeps its prior value where what is in the kernel now is
    /// our own doing; a value that somebody else has set since is the one to go back to. A record of a file that is
    /// gone, as the path has another inode by now, gives way. A file that is as wanted is recorded only where another place
    /// of the group has recorded it.
    ///
    /// # Errors
    /// When another group has recorded a change of the same thing, or the table cannot be written.
    pub fn plan_intents(
        &self,
        boot: &str,
        now: i64,
        reason: &Reason,
        changes: &[NewIntent],
    ) -> Result<Vec<Recorded>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let reason = self.to_json("intents.reason", reason)?;
        let mut recorded = Vec::with_capacity(changes.len());
        for change in changes {
            let stays = change.kind == Kind::File && change.prior == change.new;
            if !stays || self.is_of_another_place(change)? {
                recorded.push(self.plan_intent(boot, now, &reason, change)?);
            }
        }
        Ok(recorded)
    }

    fn plan_intent(
        &self,
        boot: &str,
        now: i64,
        reason: &str,
        change: &NewIntent,
    ) -> Result<Recorded, StoreError> {
        if let Some(recorded) = self.insert_intent(boot, now, reason, change, None)? {
            return Ok(recorded);
        }
        // A number that nobody knows yet: whoever undoes the old one meanwhile must not delete this one by it.
        let free = self.rows("record intent", "SELECT max(id) + 1 FROM intents", (), |row| row.get(0))?;
        self.run(
            "delete intent",
            "DELETE FROM intents
             WHERE kind = ?1 AND path = ?2 AND item = ?3 AND inode NOT IN (0, ?4) AND ?4 <> 0",
            (
                change.kind.text(),
                change.path.as_os_str().as_bytes(),
                &change.item,
                change.inode.cast_signed(),
            ),
        )?;
        match self.insert_intent(boot, now, reason, change, free.first().copied())? {
            Some(recorded) => Ok(recorded),
            None => Err(self.taken(change)?),
        }
    }

    /// `None` when the record of it that is there is not the group's to change.
    fn insert_intent(
        &self,
        boot: &str,
        now: i64,
        reason: &str,
        change: &NewIntent,
        id: Option<i64>,
    ) -> Result<Option<Recorded>, StoreError> {
        let found = self.rows(
            "record intent",
            "INSERT INTO intents (boot, grp, place, reason, kind, path, item, pid, start, tid, tid_start,
                                  prior, new, state, created, inode, id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'planned', ?14, ?15, ?16)
             ON CONFLICT DO UPDATE
                 SET prior = CASE
                         WHEN kind = 'membership' THEN excluded.prior
                         WHEN kind NOT IN ('created_dir', 'enabled_controller',
                                           'unit_property', 'transient_unit')
                              AND excluded.prior NOT IN (prior, new, ifnull(superseded, new))
                         THEN excluded.prior
                         ELSE prior
                     END,
                     superseded = CASE
                         WHEN kind NOT IN ('membership', 'created_dir', 'enabled_controller',
                                           'unit_property', 'transient_unit')
                         THEN excluded.prior
                         ELSE new
                     END,
                     new = excluded.new, reason = excluded.reason, state = 'planned', inode = excluded.inode,
                     place = excluded.place
                 WHERE boot = excluded.boot AND grp IS excluded.grp
                       AND (inode = excluded.inode OR 0 IN (inode, excluded.inode))
             RETURNING id, superseded IS NULL",
            (
                boot,
                change.group.as_ref().map(Name::as_str),
                &change.place,
                reason,
                change.kind.text(),
                change.path.as_os_str().as_bytes(),
                &change.item,
                change.process.map_or(0, |key| key.pid),
                change.process.map_or(0, |key| key.start.cast_signed()),
                change.thread.map_or(0, |key| key.pid),
                change.thread.map_or(0, |key| key.start.cast_signed()),
                &change.prior,
                &change.new,
                now,
                change.inode.cast_signed(),
                id,
            ),
            |row| Ok(Recorded { id: row.get(0)?, fresh: row.get(1)? }),
        )?;
        Ok(found.first().copied())
    }

    /// Whether a value that is as wanted already has to be recorded: where it is ours, whoever asked for it first would
    /// take it away in the end. False for a value that nobody has recorded, which is not ours.
    fn is_of_another_place(&self, change: &NewIntent) -> Result<bool, StoreError> {
        let holders = self.rows(
            "find intent",
            "SELECT grp, place FROM intents
             WHERE kind = ?1 AND path = ?2 AND item = ?3 AND (inode = ?4 OR 0 IN (inode, ?4))",
            (
                change.kind.text(),
                change.path.as_os_str().as_bytes(),
                &change.item,
                change.inode.cast_signed(),
            ),
            |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, String>(1)?)),
        )?;
        match holders.into_iter().next() {
            None => Ok(false),
            Some((group, place)) if group.as_deref() == change.group.as_ref().map(Name::as_str) => {
                Ok(place != change.place)
            }
            Some((group, _)) => Err(taken(change, group)),
        }
    }

    fn taken(&self, change: &NewIntent) -> Result<StoreError, StoreError> {
        let group = self.rows(
            "find intent",
            "SELECT grp FROM intents WHERE kind = ?1 AND path = ?2 AND item = ?3 AND tid = ?4",
            (
                change.kind.text(),
                change.path.as_os_str().as_bytes(),
                &change.item,
                change.thread.map_or(0, |key| key.pid),
            ),
            |row| row.get::<_, Option<String>>(0),
        )?;
        Ok(taken(change, group.into_iter().next().flatten()))
    }

    /// Marks changes as read back from the kernel; nothing of ours is superseded then.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn mark_applied(&self, ids: &[i64]) -> Result<(), StoreError> {
        for id in ids {
            self.run(
                "mark intent",
                "UPDATE intents SET state = 'applied', superseded = NULL WHERE id = ?1",
                [id],
            )?;
        }
        Ok(())
    }

    /// Marks changes as no longer known to be in force: they are about to be undone.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn mark_planned(&self, ids: &[i64]) -> Result<(), StoreError> {
        for id in ids {
            self.run("mark intent", "UPDATE intents SET state = 'planned' WHERE id = ?1", [id])?;
        }
        Ok(())
    }

    /// Takes back a change of a change: the value before it is ours again.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn revert_intent(&self, id: i64) -> Result<(), StoreError> {
        self.run(
            "revert intent",
            "UPDATE intents SET new = superseded, superseded = NULL, state = 'applied'
             WHERE id = ?1 AND superseded IS NOT NULL",
            [id],
        )
        .map(drop)
    }

    /// Deletes rows whose change is undone.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn delete_intents(&self, ids: &[i64]) -> Result<(), StoreError> {
        for id in ids {
            self.run("delete intent", "DELETE FROM intents WHERE id = ?1", [id])?;
        }
        Ok(())
    }

    /// Deletes what an earlier boot recorded: the kernel has forgotten it, too.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn forget_other_boots(&self, boot: &str) -> Result<usize, StoreError> {
        self.run("delete intents", "DELETE FROM intents WHERE boot <> ?1", [boot])
    }

    /// All changes in the order in which they were recorded.
    ///
    /// # Errors
    /// When the table cannot be read, or a row is malformed.
    pub fn intents(&self) -> Result<Vec<Intent>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM intents ORDER BY id");
        self.rows("read intents", &sql, (), Raw::read)?.into_iter().map(|raw| self.intent(raw)).collect()
    }

    /// The changes of a group.
    ///
    /// # Errors
    /// As [`Self::intents`].
    pub fn intents_of(&self, group: &Name) -> Result<Vec<Intent>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM intents WHERE grp = ?1 ORDER BY id");
        self.rows("read intents", &sql, [group.as_str()], Raw::read)?
            .into_iter()
            .map(|raw| self.intent(raw))
            .collect()
    }

    /// The changes that no group owns alone: our subtrees' roots, and controllers enabled for them.
    ///
    /// # Errors
    /// As [`Self::intents`].
    pub fn shared_intents(&self) -> Result<Vec<Intent>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM intents WHERE grp IS NULL ORDER BY id");
        self.rows("read intents", &sql, (), Raw::read)?.into_iter().map(|raw| self.intent(raw)).collect()
    }

    /// Takes over rows of a damaged database; returns how many.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub(crate) fn adopt_intents(&self, rows: &[Intent]) -> Result<usize, StoreError> {
        for row in rows {
            self.plan_intent(&row.boot, row.created, &row.reason, &row.change)?;
        }
        Ok(rows.len())
    }
}

/// That a change is refused, since this group has made it.
fn taken(change: &NewIntent, group: Option<String>) -> StoreError {
    let what = match (change.kind, change.thread) {
        (_, Some(thread)) => format!("thread {}", thread.pid),
        (Kind::UnitProperty | Kind::TransientUnit, None) => format!("unit {}", change.item),
        (
            Kind::File | Kind::Attribute(_) | Kind::Membership | Kind::CreatedDir | Kind::EnabledController,
            None,
        ) => printable(change.path.as_os_str().as_bytes()).to_string(),
    };
    StoreError::Taken { what, group: group.unwrap_or_else(|| "of an earlier boot".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::store::{Durability, Store};

    fn change(group: &str, prior: &str, new: &str) -> NewIntent {
        NewIntent {
            group: group.parse().ok(),
            place: String::new(),
            kind: Kind::File,
            path: PathBuf::from(OsString::from_vec(b"/cg/\xff/cpu.max".to_vec())),
            inode: 7,
            item: String::new(),
            process: None,
            thread: None,
            prior: prior.into(),
            new: new.into(),
        }
    }

    fn plan(store: &mut Store, change: NewIntent) -> Result<Vec<Recorded>, StoreError> {
        store.write(|tx| tx.plan_intents("boot", 1, &Reason::Stopping, &[change]))
    }

    #[test]
    fn the_first_prior_value_is_the_one_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Process).unwrap().store;
        let first = plan(&mut store, change("a", "max", "10")).unwrap();
        let again = plan(&mut store, change("a", "10", "20")).unwrap();
        assert!(first[0].fresh && !again[0].fresh && first[0].id == again[0].id);
        let row = store.read(|tx| tx.intents_of(&"a".parse().unwrap())).unwrap().remove(0);
        assert_eq!((row.change.prior.as_slice(), row.change.new.as_slice()), (&b"max"[..], &b"20"[..]));
        assert_eq!(row.superseded.as_deref(), Some(&b"10"[..]));
        assert_eq!(row.change.path, change("a", "", "").path);
        store.write(|tx| tx.revert_intent(row.id)).unwrap();
        let row = store.read(Tables::intents).unwrap().remove(0);
        assert_eq!((row.change.new.as_slice(), row.superseded), (&b"10"[..], None));
        store.write(|tx| tx.mark_applied(&[row.id])).unwrap();
        assert_eq!(store.read(Tables::intents).unwrap()[0].state, IntentState::Applied);
    }

    #[test]
    fn one_thing_belongs_to_one_group() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Process).unwrap().store;
        plan(&mut store, change("a", "max", "10")).unwrap();
        let error = plan(&mut store, change("b", "10", "20")).unwrap_err();
        assert_eq!(error.to_string(), "/cg/\\xff/cpu.max is limited by group a already");
        assert_eq!(store.read(Tables::intents).unwrap().len(), 1);
    }

    #[test]
    fn what_is_recorded_of_a_file_that_is_gone_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Process).unwrap().store;
        let first = plan(&mut store, change("a", "max", "10")).unwrap();
        for (group, inode) in [("b", 8), ("b", 9), ("a", 10)] {
            let again = NewIntent { inode, ..change(group, "5", "20") };
            let recorded = plan(&mut store, again.clone()).unwrap();
            assert!(recorded[0].fresh && recorded[0].id > first[0].id, "{recorded:?} {first:?}");
            let row = store.read(Tables::intents).unwrap().remove(0);
            assert_eq!((row.change, row.superseded), (again, None));
        }
        // What nobody knows the inode of is the file that has the path.
        let unknown = NewIntent { inode: 0, ..change("b", "20", "30") };
        assert!(plan(&mut store, unknown).unwrap_err().to_string().contains("limited by group a"));
        let unknown = NewIntent { inode: 0, ..change("a", "20", "30") };
        assert!(!plan(&mut store, unknown).unwrap()[0].fresh);
        assert_eq!(store.read(Tables::intents).unwrap()[0].change.prior, b"5");
    }

    #[test]
    fn rows_of_another_boot_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Process).unwrap().store;
        plan(&mut store, change("a", "max", "10")).unwrap();
        assert_eq!(store.write(|tx| tx.forget_other_boots("boot")).unwrap(), 0);
        assert_eq!(store.write(|tx| tx.forget_other_boots("next")).unwrap(), 1);
        assert_eq!(store.read(Tables::intents).unwrap(), []);
    }
}
