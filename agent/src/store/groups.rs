//! The groups in force, so that `status` works without the daemon.

use crate::model::id::{Name, NameError};
use crate::model::limits::{Limits, Scope};
use crate::model::reason::Reason;
use crate::store::{StoreError, Tables};

/// A group in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// Its name.
    pub name: Name,
    /// Its limits.
    pub limits: Limits,
    /// Shared or each.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// The rung, in words.
    pub how: String,
    /// Where its limits are: JSON of the executor.
    pub places: String,
    /// When it ends by itself, in ms since the Unix epoch.
    pub until: Option<i64>,
    /// When it was last changed, in ms since the Unix epoch.
    pub changed: i64,
}

impl Tables {
    /// Inserts or replaces a group; `until` of an existing one is kept when it is not given.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn put_group(&self, group: &GroupRow) -> Result<(), StoreError> {
        self.run(
            "write group",
            "INSERT INTO groups (name, limits, scope, reason, how, places, until, changed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (name) DO UPDATE SET limits = excluded.limits, scope = excluded.scope,
                 reason = excluded.reason, how = excluded.how, places = excluded.places,
                 until = coalesce(excluded.until, until), changed = excluded.changed",
            (
                group.name.as_str(),
                self.to_json("groups.limits", &group.limits)?,
                self.to_json("groups.scope", &group.scope)?,
                self.to_json("groups.reason", &group.reason)?,
                &group.how,
                &group.places,
                group.until,
                group.changed,
            ),
        )
        .map(drop)
    }

    /// Sets when a group ends by itself. A group that is not there is left so.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn set_group_until(&self, name: &Name, until: Option<i64>) -> Result<(), StoreError> {
        self.run("write group", "UPDATE groups SET until = ?2 WHERE name = ?1", (name.as_str(), until))
            .map(drop)
    }

    /// Removes a group.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn delete_group(&self, name: &Name) -> Result<(), StoreError> {
        self.run("delete group", "DELETE FROM groups WHERE name = ?1", [name.as_str()]).map(drop)
    }

    /// All groups, by name.
    ///
    /// # Errors
    /// When the table cannot be read, or a row is malformed.
    pub fn groups(&self) -> Result<Vec<GroupRow>, StoreError> {
        type Raw = (String, String, String, String, String, String, Option<i64>, i64);
        let rows: Vec<Raw> = self.rows(
            "read groups",
            "SELECT name, limits, scope, reason, how, places, until, changed FROM groups ORDER BY name",
            (),
            |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                    row.get(7)?,
                ))
            },
        )?;
        rows.into_iter()
            .map(|(name, limits, scope, reason, how, places, until, changed)| {
                Ok(GroupRow {
                    name: name
                        .parse()
                        .map_err(|error: NameError| self.malformed("groups.name", error.to_string()))?,
                    limits: self.json("groups.limits", &limits)?,
                    scope: self.json("groups.scope", &scope)?,
                    reason: self.json("groups.reason", &reason)?,
                    how,
                    places,
                    until,
                    changed,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Store};

    #[test]
    fn groups_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Process).unwrap().store;
        let mut row = GroupRow {
            name: "backups".parse().unwrap(),
            limits: Limits { cpu: "30%".parse().ok(), ..Limits::default() },
            scope: Scope::Process,
            reason: Reason::Stopping,
            how: "in place".to_owned(),
            places: "[]".to_owned(),
            until: None,
            changed: 5,
        };
        store.write(|tx| tx.put_group(&row)).unwrap();
        store.write(|tx| tx.set_group_until(&row.name, Some(9))).unwrap();
        store.write(|tx| tx.put_group(&row)).unwrap();
        row.until = Some(9);
        assert_eq!(store.read(Tables::groups).unwrap(), [row.clone()]);
        store.write(|tx| tx.delete_group(&row.name)).unwrap();
        assert_eq!(store.read(Tables::groups).unwrap(), []);
    }
}
