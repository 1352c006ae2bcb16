//! Alerts that stand, and alike events that wait to be told together: who has been told of what, so that nobody
//! is told twice.

use crate::model::alert::{Bundle, Standing};
use crate::model::id::Name;
use crate::store::{StoreError, Tables};

/// Rows that could be read, and how many could not, as those of another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable<T> {
    /// Rows.
    pub rows: Vec<T>,
    /// Unreadable ones.
    pub unreadable: usize,
}

impl<T> Readable<T> {
    fn new(rows: Vec<Option<T>>) -> Self {
        let all = rows.len();
        let rows: Vec<T> = rows.into_iter().flatten().collect();
        Self { unreadable: all - rows.len(), rows }
    }
}

impl Tables {
    /// Writes an alert as it is now, or forgets it.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn put_alert(&self, key: &str, standing: Option<&Standing>) -> Result<(), StoreError> {
        match standing {
            Some(standing) => self.run(
                "write alert",
                "INSERT OR REPLACE INTO alerts (key, standing) VALUES (?1, ?2)",
                (key, self.to_json("alerts.standing", standing)?),
            ),
            None => self.run("forget alert", "DELETE FROM alerts WHERE key = ?1", [key]),
        }
        .map(drop)
    }

    /// All alerts on record, by key.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn alerts(&self) -> Result<Readable<Standing>, StoreError> {
        let rows: Vec<String> =
            self.rows("read alerts", "SELECT standing FROM alerts ORDER BY key", (), |row| row.get(0))?;
        Ok(Readable::new(rows.iter().map(|text| self.json("alerts.standing", text).ok()).collect()))
    }

    /// Writes a bundle as it is now, or forgets it. `alike` is what its events have in common.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn put_bundle(
        &self,
        endpoint: &Name,
        alike: &str,
        bundle: Option<&Bundle>,
    ) -> Result<(), StoreError> {
        match bundle {
            Some(bundle) => self.run(
                "write bundle",
                "INSERT OR REPLACE INTO bundles (endpoint, alike, bundle) VALUES (?1, ?2, ?3)",
                (endpoint.as_str(), alike, self.to_json("bundles.bundle", bundle)?),
            ),
            None => self.run(
                "forget bundle",
                "DELETE FROM bundles WHERE endpoint = ?1 AND alike = ?2",
                (endpoint.as_str(), alike),
            ),
        }
        .map(drop)
    }

    /// All bundles, by endpoint.
    ///
    /// # Errors
    /// When the table cannot be read.
    #[expect(clippy::type_complexity, reason = "a key and its value")]
    pub fn bundles(&self) -> Result<Readable<((Name, String), Bundle)>, StoreError> {
        let rows: Vec<(String, String, String)> = self.rows(
            "read bundles",
            "SELECT endpoint, alike, bundle FROM bundles ORDER BY endpoint, alike",
            (),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let rows = rows.into_iter().map(|(endpoint, alike, bundle)| {
            Some(((endpoint.parse().ok()?, alike), self.json("bundles.bundle", &bundle).ok()?))
        });
        Ok(Readable::new(rows.collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::alert::{Acknowledgement, Alert, AlertState, First};
    use crate::model::notice::Notice;
    use crate::store::{Durability, Store};

    #[test]
    fn alerts_and_bundles_are_kept_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("j.db"), Durability::Power).unwrap().store;
        let ops: Name = "ops".parse().unwrap();
        let notice = Notice::Test { detail: "x".to_owned() };
        let standing = Standing {
            alert: Alert {
                key: "k".into(),
                state: AlertState::Acknowledged,
                since: 1,
                until: None,
                events: 3,
            },
            kind: "test".into(),
            subject: "nginx".into(),
            grave: true,
            event: "e1".into(),
            notice: notice.clone(),
            at: 2,
            serial: 4,
            relapses: 1,
            calm_since: Some(5),
            held_back_by: Some(ops.clone()),
            acknowledged: Some(Acknowledgement {
                uid: 3,
                at: 4,
                until: Some(5),
                comment: Some("on it".into()),
            }),
            told: BTreeMap::from([(ops.clone(), 9)]),
        };
        let first = Some(First { event: "e1".into(), notice, at: 2 });
        let bundle = Bundle { first, count: 7, since: 8 };
        store
            .write(|tx| {
                tx.put_alert("k", Some(&standing))?;
                tx.put_bundle(&ops, "test:", Some(&bundle))?;
                tx.run("test", "INSERT INTO alerts VALUES ('old', '{}')", ()).map(drop)
            })
            .unwrap();
        let found = store.read(Tables::alerts).unwrap();
        assert_eq!(found, Readable { rows: vec![standing], unreadable: 1 });
        let found = store.read(Tables::bundles).unwrap();
        assert_eq!(found.rows, [((ops.clone(), "test:".to_owned()), bundle)]);
        store
            .write(|tx| {
                tx.put_alert("k", None)?;
                tx.put_bundle(&ops, "test:", None)
            })
            .unwrap();
        assert_eq!(store.read(Tables::alerts).unwrap().rows, []);
        assert_eq!(store.read(Tables::bundles).unwrap().rows, []);
    }
}
