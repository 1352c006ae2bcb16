//! Single values, such as the active profile.

use crate::model::id::{Name, NameError};
use crate::store::{StoreError, Tables};

const PROFILE: &str = "active_profile";

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

    /// Remembers the profile that is active.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn set_active_profile(&self, profile: Option<&Name>) -> Result<(), StoreError> {
        self.set_meta(PROFILE, profile.map(Name::as_str))
    }
}
