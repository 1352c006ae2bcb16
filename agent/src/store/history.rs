//! The log of what became of profiles: every change of a profile's file by a command, as a transaction that is begun
//! before the file is touched and settled after, and every profile that came into force. Changes nothing itself.

use sha2::{Digest as _, Sha256};

use crate::model::id::{Name, NameError};
use crate::store::{StoreError, Tables};

/// Entries that are kept.
const MOST: i64 = 1_000;
/// Bytes of contents that are kept, whatever the number of entries.
const MOST_BYTES: i64 = 16 << 20;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A new profile was written.
    Create,
    /// One was taken from elsewhere.
    Import,
    /// Its file was changed.
    Edit,
    /// It was made of another one.
    Clone,
    /// Its file was removed.
    Delete,
    /// Its file became what it had been.
    Rollback,
    /// It came into force.
    Activate,
    /// None was in force any more.
    Deactivate,
}

impl Act {
    const WORDS: [(&'static str, Self); 8] = [
        ("create", Self::Create),
        ("import", Self::Import),
        ("edit", Self::Edit),
        ("clone", Self::Clone),
        ("delete", Self::Delete),
        ("rollback", Self::Rollback),
        ("activate", Self::Activate),
        ("deactivate", Self::Deactivate),
    ];

    /// Its word, as stored and shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, act)| *act == self).map_or("", |(word, _)| word)
    }

    fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, act)| *act)
    }

    /// Whether it is about what is in force, and not about a file.
    #[must_use]
    pub const fn is_of_force(self) -> bool {
        matches!(self, Self::Activate | Self::Deactivate)
    }
}

/// How a change of a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody has said yet: whoever began it is at it, or died.
    Begun,
    /// The file has the new content.
    Done,
    /// The file has the old content.
    Undone,
}

impl Outcome {
    const WORDS: [(&'static str, Self); 3] =
        [("begun", Self::Begun), ("done", Self::Done), ("undone", Self::Undone)];

    /// Its word, as stored and shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, outcome)| *outcome == self).map_or("", |(word, _)| word)
    }

    fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, outcome)| *outcome)
    }
}

/// Who brought something about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The user; absent when it was nobody in particular.
    pub uid: Option<u32>,
    /// By what: `command`, `request`, `schedule`, `reload` or `start`.
    pub by: &'static str,
}

/// A change of a file that is to be begun.
#[derive(Clone, Debug)]
pub struct FileChange<'a> {
    /// What is done.
    pub act: Act,
    /// To which profile.
    pub profile: &'a Name,
    /// What the file has now; nothing when there is none.
    pub before: Option<&'a str>,
    /// What it is to have.
    pub after: Option<&'a str>,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Its number; later ones have higher.
    pub id: i64,
    /// When, in ms since the Unix epoch.
    pub at: i64,
    /// The user who did it.
    pub uid: Option<u32>,
    /// By what it was done: see [`Actor::by`].
    pub by: String,
    /// What.
    pub act: Act,
    /// The profile; absent where none came into force.
    pub profile: Option<Name>,
    /// The profile that was in force before.
    pub previous: Option<Name>,
    /// SHA-256 of the file's content before, in hexadecimal; absent when there was none.
    pub before: Option<String>,
    /// SHA-256 of the content after; of an activation, of the profile with its bases merged in.
    pub after: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
}

impl HistoryRow {
    /// How it ended; of what was begun by somebody who died over it, by the hash of what the file has now.
    #[must_use]
    pub fn outcome_by(&self, now: Option<&str>) -> Outcome {
        match self.outcome {
            Outcome::Begun if self.after.as_deref() == now => Outcome::Done,
            Outcome::Begun => Outcome::Undone,
            Outcome::Done | Outcome::Undone => self.outcome,
        }
    }
}

impl Tables {
    /// Notes that a file is about to be changed. Returns the entry's number.
    ///
    /// # Errors
    /// When the tables cannot be written.
    pub fn begin_file_change(
        &self,
        at: i64,
        actor: &Actor,
        change: &FileChange<'_>,
    ) -> Result<i64, StoreError> {
        let FileChange { act, profile, before, after } = change;
        let before = before.map(|text| self.keep_content(text)).transpose()?;
        let after = after.map(|text| self.keep_content(text)).transpose()?;
        self.run(
            "begin profile change",
            "INSERT INTO profile_history (at, uid, cause, act, profile, before, after, outcome)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'begun')",
            (at, actor.uid, actor.by, act.word(), profile.as_str(), before, after),
        )?;
        let id = self.conn.last_insert_rowid();
        self.trim_history()?;
        Ok(id)
    }

    /// Notes how a change ended.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn settle_file_change(&self, id: i64, outcome: Outcome) -> Result<(), StoreError> {
        let sql = "UPDATE profile_history SET outcome = ?2 WHERE id = ?1";
        self.run("settle profile change", sql, (id, outcome.word())).map(drop)
    }

    /// Settles what was begun by somebody who died over it, by what the file has now.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub fn settle_leftovers(&self, profile: &Name, now: Option<&str>) -> Result<(), StoreError> {
        let now = now.map(hash);
        for row in self.history(Some(profile), MOST.unsigned_abs())? {
            if row.outcome == Outcome::Begun {
                self.settle_file_change(row.id, row.outcome_by(now.as_deref()))?;
            }
        }
        Ok(())
    }

    /// Remembers the profile that is active, and in the same transaction that it came into force, if it is another
    /// one than before. `content` is its text.
    ///
    /// # Errors
    /// When the tables cannot be written.
    pub fn note_activation(
        &self,
        at: i64,
        actor: &Actor,
        profile: Option<(&Name, &str)>,
    ) -> Result<(), StoreError> {
        let previous = self.active_profile()?;
        let name = profile.map(|(name, _)| name);
        if previous.as_ref() == name {
            return Ok(());
        }
        self.set_active_profile(name)?;
        let after = profile.map(|(_, content)| self.keep_content(content)).transpose()?;
        let act = if name.is_some() { Act::Activate } else { Act::Deactivate };
        self.run(
            "note activation",
            "INSERT INTO profile_history (at, uid, cause, act, profile, previous, after, outcome)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'done')",
            (
                at,
                actor.uid,
                actor.by,
                act.word(),
                name.map(Name::as_str),
                previous.as_ref().map(Name::as_str),
                after,
            ),
        )?;
        self.trim_history()
    }

    /// Entries, the latest first: of a profile's file and of its coming and going, or of all.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn history(&self, profile: Option<&Name>, limit: u64) -> Result<Vec<HistoryRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        match profile {
            Some(name) => {
                let condition = "(profile = ?1 OR previous = ?1) ORDER BY id DESC LIMIT ?2";
                self.history_where(condition, (name.as_str(), limit))
            }
            None => self.history_where("1 ORDER BY id DESC LIMIT ?1", [limit]),
        }
    }

    /// One entry.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn history_entry(&self, id: i64) -> Result<Option<HistoryRow>, StoreError> {
        Ok(self.history_where("id = ?1", [id])?.into_iter().next())
    }

    /// A content by its hash, while an entry needs it.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn profile_content(&self, hash: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT content FROM profile_contents WHERE hash = ?1";
        Ok(self.rows("read profile content", sql, [hash], |row| row.get(0))?.into_iter().next())
    }

    fn keep_content(&self, content: &str) -> Result<String, StoreError> {
        let hash = hash(content);
        let bytes = i64::try_from(content.len()).unwrap_or(i64::MAX);
        self.run(
            "keep profile content",
            "INSERT INTO profile_contents (hash, bytes, content) VALUES (?1, ?2, ?3) ON CONFLICT (hash) DO NOTHING",
            (&hash, bytes, content),
        )?;
        Ok(hash)
    }

    /// The oldest go, and the contents that only they had.
    fn trim_history(&self) -> Result<(), StoreError> {
        let surplus = "DELETE FROM profile_history WHERE id <= (SELECT max(id) FROM profile_history) - ?1";
        self.run("trim profile history", surplus, [MOST])?;
        loop {
            self.run(
                "trim profile contents",
                "DELETE FROM profile_contents WHERE hash NOT IN (
                     SELECT before FROM profile_history WHERE before IS NOT NULL
                     UNION SELECT after FROM profile_history WHERE after IS NOT NULL)",
                (),
            )?;
            let size = "SELECT coalesce(sum(bytes), 0) FROM profile_contents";
            let bytes: Vec<i64> = self.rows("measure profile contents", size, (), |row| row.get(0))?;
            let oldest = "DELETE FROM profile_history WHERE id = (SELECT min(id) FROM profile_history)
                          AND id < (SELECT max(id) FROM profile_history)";
            if bytes.first().is_none_or(|bytes| *bytes <= MOST_BYTES)
                || self.run("trim profile history", oldest, ())? == 0
            {
                return Ok(());
            }
        }
    }

    fn history_where(
        &self,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        let sql = format!(
            "SELECT id, at, uid, cause, act, profile, previous, before, after, outcome
             FROM profile_history WHERE {condition}"
        );
        let rows = self.rows("read profile history", &sql, values, |row| {
            let words: (String, String) = (row.get(4)?, row.get(9)?);
            let names: (Option<String>, Option<String>) = (row.get(5)?, row.get(6)?);
            let row = HistoryRow {
                id: row.get(0)?,
                at: row.get(1)?,
                uid: row.get(2)?,
                by: row.get(3)?,
                act: Act::Edit,
                profile: None,
                previous: None,
                before: row.get(7)?,
                after: row.get(8)?,
                outcome: Outcome::Begun,
            };
            Ok((row, words, names))
        })?;
        let name = |text: Option<String>| {
            let parse = |text: String| {
                text.parse()
                    .map_err(|error: NameError| self.malformed("profile_history.profile", error.to_string()))
            };
            text.map(parse).transpose()
        };
        rows.into_iter()
            .map(|(row, (act, outcome), (profile, previous))| {
                let malformed = |word: &str| self.malformed("profile_history", word);
                Ok(HistoryRow {
                    act: Act::of(&act).ok_or_else(|| malformed(&act))?,
                    outcome: Outcome::of(&outcome).ok_or_else(|| malformed(&outcome))?,
                    profile: name(profile)?,
                    previous: name(previous)?,
                    ..row
                })
            })
            .collect()
    }
}

/// The hash by which a content is known: SHA-256 in hexadecimal.
#[must_use]
pub fn hash(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().fold(String::with_capacity(64), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Store};

    const ME: Actor = Actor { uid: Some(7), by: "command" };

    fn open(dir: &tempfile::TempDir) -> Store {
        Store::open(&dir.path().join("journal.db"), Durability::Power).unwrap().store
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn change<'a>(profile: &'a Name, before: Option<&'a str>, after: Option<&'a str>) -> FileChange<'a> {
        FileChange { act: Act::Edit, profile, before, after }
    }

    #[test]
    fn changes_and_activations_are_kept_with_their_contents() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, web) = (open(&dir), name("web"));
        let id = store.write(|tx| tx.begin_file_change(5, &ME, &change(&web, None, Some("one")))).unwrap();
        store.write(|tx| tx.settle_file_change(id, Outcome::Done)).unwrap();
        let start = Actor { uid: None, by: "start" };
        store.write(|tx| tx.note_activation(6, &ME, Some((&web, "full")))).unwrap();
        store.write(|tx| tx.note_activation(7, &start, Some((&web, "full")))).unwrap();
        store.write(|tx| tx.note_activation(8, &ME, None)).unwrap();
        drop(store);
        let store = open(&dir);
        let rows = store.read(|tx| tx.history(Some(&web), 10)).unwrap();
        let acts: Vec<_> = rows.iter().map(|row| (row.at, row.act, row.uid, row.outcome)).collect();
        assert_eq!(
            acts,
            [
                (8, Act::Deactivate, Some(7), Outcome::Done),
                (6, Act::Activate, Some(7), Outcome::Done),
                (5, Act::Edit, Some(7), Outcome::Done),
            ],
            "what was in force already is no change"
        );
        assert_eq!((rows[0].profile.as_ref(), rows[0].previous.as_ref()), (None, Some(&web)));
        let content =
            |hash: &Option<String>| store.read(|tx| tx.profile_content(hash.as_ref().unwrap())).unwrap();
        assert_eq!(content(&rows[2].after).as_deref(), Some("one"));
        assert_eq!(content(&rows[1].after).as_deref(), Some("full"));
        assert_eq!(store.read(Tables::active_profile).unwrap(), None);
        assert!(store.read(|tx| tx.history(Some(&name("other")), 10)).unwrap().is_empty());
        // sha256sum of "one".
        let known = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
        assert_eq!(rows[2].after.as_deref(), Some(known));
    }

    #[test]
    fn what_was_left_begun_is_settled_by_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, web) = (open(&dir), name("web"));
        store.write(|tx| tx.begin_file_change(1, &ME, &change(&web, None, Some("one")))).unwrap();
        store.write(|tx| tx.begin_file_change(2, &ME, &change(&web, Some("one"), Some("two")))).unwrap();
        store.write(|tx| tx.settle_leftovers(&web, Some("two"))).unwrap();
        let outcomes: Vec<_> =
            store.read(|tx| tx.history(None, 9)).unwrap().iter().map(|row| row.outcome).collect();
        assert_eq!(outcomes, [Outcome::Done, Outcome::Undone]);
    }

    #[test]
    fn the_log_is_bounded_in_entries_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, web) = (open(&dir), name("web"));
        store
            .write(|tx| {
                for number in 0..MOST + 20 {
                    tx.begin_file_change(number, &ME, &change(&web, None, Some(&number.to_string())))?;
                }
                Ok(())
            })
            .unwrap();
        let rows = store.read(|tx| tx.history(None, u64::MAX)).unwrap();
        assert_eq!((rows.len(), rows[0].at, rows[999].at), (1_000, 1_019, 20));
        assert_eq!(store.read(|tx| tx.profile_content(&hash("19"))).unwrap(), None);
        let mut store = Store::open(&dir.path().join("other.db"), Durability::Power).unwrap().store;
        let large = |number: u8| char::from(b'a' + number).to_string().repeat(1 << 20);
        store
            .write(|tx| {
                for number in 0..20 {
                    let text = large(number);
                    tx.begin_file_change(0, &ME, &change(&web, None, Some(&text)))?;
                }
                Ok(())
            })
            .unwrap();
        let rows = store.read(|tx| tx.history(None, u64::MAX)).unwrap();
        assert_eq!(rows.len(), 16);
        assert_eq!(store.read(|tx| tx.profile_content(&hash(&large(3)))).unwrap(), None);
        assert_eq!(store.read(|tx| tx.profile_content(&hash(&large(4)))).unwrap(), Some(large(4)));
    }
}
