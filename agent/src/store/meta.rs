//! Single values, such as the active profile.

use crate::model::id::{Name, NameError};
use crate::store::{StoreError, Tables};

const PROFILE: &str = "active_profile";
const SCHEDULE: &str = "schedule";
const BACKUP: &str = "backup_turn";

impl Tables {
    /// A value by its key.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        let rows =
            self.rows("read meta", "SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))?;
        Ok(rows.into_iter().next())
    }

    /// Sets or removes a value.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn set_meta(&self, key: &str, value: Option<&str>) -> Result<(), StoreError> {
        match value {
            Some(value) => self.run(
                "write meta",
                "INSERT INTO meta (key, value) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, value),
            ),
            None => self.run("delete meta", "DELETE FROM meta WHERE key = ?1", [key]),
        }
        .map(drop)
    }

    /// The profile that is active.
    ///
    /// # Errors
    /// When the table cannot be read, or holds no name.
    pub fn active_profile(&self) -> Result<Option<Name>, StoreError> {
        self.meta(PROFILE)?
            .map(|text| {
                text.parse()
                    .map_err(|error: NameError| self.malformed("meta.active_profile", error.to_string()))
            })
            .transpose()
    }

    /// The profile whose schedule is in force, and since when, in ms since the Unix epoch.
    ///
    /// # Errors
    /// When the table cannot be read, or holds something else.
    pub fn schedule(&self) -> Result<Option<(Name, i64)>, StoreError> {
        let Some(text) = self.meta(SCHEDULE)? else { return Ok(None) };
        let parsed =
            text.split_once(' ').and_then(|(name, since)| Some((name.parse().ok()?, since.parse().ok()?)));
        let malformed = || self.malformed("meta.schedule", format!("{text:?} is no name and time"));
        parsed.map(Some).ok_or_else(malformed)
    }

    /// Remembers the profile whose schedule is in force, and since when.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn set_schedule(&self, schedule: Option<(&Name, i64)>) -> Result<(), StoreError> {
        let text = schedule.map(|(name, since)| format!("{name} {since}"));
        self.set_meta(SCHEDULE, text.as_deref())
    }

    /// The schedule of backups, and up to when its turns are taken, in ms since the Unix epoch.
    ///
    /// # Errors
    /// When the table cannot be read, or holds something else.
    pub fn backup_turn(&self) -> Result<Option<(String, i64)>, StoreError> {
        let Some(text) = self.meta(BACKUP)? else { return Ok(None) };
        let parsed =
            text.split_once(' ').and_then(|(at, schedule)| Some((schedule.to_owned(), at.parse().ok()?)));
        let malformed = || self.malformed("meta.backup_turn", format!("{text:?} is no time and schedule"));
        parsed.map(Some).ok_or_else(malformed)
    }

    /// Remembers up to when the turns of a schedule of backups are taken.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn set_backup_turn(&self, turn: Option<(&str, i64)>) -> Result<(), StoreError> {
        let text = turn.map(|(schedule, at)| format!("{at} {schedule}"));
        self.set_meta(BACKUP, text.as_deref())
    }

    /// Remembers the profile that is active.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn set_active_profile(&self, profile: Option<&Name>) -> Result<(), StoreError> {
        self.set_meta(PROFILE, profile.map(Name::as_str))
    }
}
