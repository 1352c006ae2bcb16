//! What is remembered of each webhook endpoint: how it answered last, and whether it was disabled because it wants
//! nothing any more. What an endpoint is, is the configuration's business.

use crate::store::{StoreError, Tables};

/// What is remembered of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointRow {
    /// Its name.
    pub name: String,
    /// Failed attempts in a row.
    pub failures: u32,
    /// Until when it is left alone, in ms since the Unix epoch.
    pub not_before: Option<i64>,
    /// Why nothing is sent to it, when it said that it wants nothing any more.
    pub disabled: Option<String>,
    /// Since when, in ms since the Unix epoch.
    pub disabled_at: Option<i64>,
}

impl Tables {
    /// Everything that is remembered of endpoints, by name.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn endpoint_rows(&self) -> Result<Vec<EndpointRow>, StoreError> {
        self.endpoints_where("1 ORDER BY name", ())
    }

    /// What is remembered of an endpoint; of a new one, that it has not failed yet.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn endpoint_row(&self, name: &str) -> Result<EndpointRow, StoreError> {
        let known = self.endpoints_where("name = ?1", [name])?.into_iter().next();
        Ok(known.unwrap_or_else(|| EndpointRow { name: name.to_owned(), ..EndpointRow::default() }))
    }

    /// Remembers how an endpoint answered.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn remember_failures(
        &self,
        name: &str,
        failures: u32,
        not_before: Option<i64>,
    ) -> Result<(), StoreError> {
        self.run(
            "remember endpoint",
            "INSERT INTO endpoints (name, failures, not_before) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET failures = excluded.failures, not_before = excluded.not_before",
            (name, failures, not_before),
        )
        .map(drop)
    }

    /// Takes back waits for an endpoint that end after `now` by `by` ms: the clock by which they are on record was set
    /// back so far.
    ///
    /// # Errors
    /// When the tables cannot be written.
    pub fn set_back(&self, name: &str, by: i64, now: i64) -> Result<(), StoreError> {
        self.run(
            "set waits back",
            "UPDATE outbox SET next_attempt = next_attempt - ?2
             WHERE endpoint = ?1 AND state = 'pending' AND next_attempt > ?3",
            (name, by, now),
        )?;
        self.run(
            "set waits back",
            "UPDATE endpoints SET not_before = not_before - ?2 WHERE name = ?1 AND not_before > ?3",
            (name, by, now),
        )
        .map(drop)
    }

    /// Sends nothing to an endpoint from now on. What is owed to it stays so.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn disable_endpoint(&self, name: &str, why: &str, now: i64) -> Result<(), StoreError> {
        self.run(
            "disable endpoint",
            "INSERT INTO endpoints (name, disabled, disabled_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET disabled = excluded.disabled, disabled_at = excluded.disabled_at",
            (name, why, now),
        )
        .map(drop)
    }

    /// Forgets what is remembered of an endpoint: it is sent to again, at once. Returns whether it was disabled.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn enable_endpoint(&self, name: &str) -> Result<bool, StoreError> {
        let was = self.endpoint_row(name)?.disabled.is_some();
        self.run("enable endpoint", "DELETE FROM endpoints WHERE name = ?1", [name])?;
        Ok(was)
    }

    fn endpoints_where(
        &self,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        let sql = format!(
            "SELECT name, failures, not_before, disabled, disabled_at FROM endpoints WHERE {condition}"
        );
        self.rows("read endpoints", &sql, values, |row| {
            Ok(EndpointRow {
                name: row.get(0)?,
                failures: row.get(1)?,
                not_before: row.get(2)?,
                disabled: row.get(3)?,
                disabled_at: row.get(4)?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Store};

    #[test]
    fn a_disabled_endpoint_stays_so_until_it_is_enabled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let mut store = Store::open(&path, Durability::Power).unwrap().store;
        assert_eq!(store.read(|tx| tx.endpoint_row("ops")).unwrap().failures, 0);
        store
            .write(|tx| {
                tx.remember_failures("ops", 3, Some(77))?;
                tx.disable_endpoint("ops", "410 Gone", 5)?;
                tx.remember_failures("ops", 4, None)
            })
            .unwrap();
        drop(store);
        let mut store = Store::open(&path, Durability::Power).unwrap().store;
        let row = EndpointRow {
            name: "ops".to_owned(),
            failures: 4,
            not_before: None,
            disabled: Some("410 Gone".to_owned()),
            disabled_at: Some(5),
        };
        assert_eq!(store.read(Tables::endpoint_rows).unwrap(), [row]);
        assert!(store.write(|tx| tx.enable_endpoint("ops")).unwrap());
        assert!(!store.write(|tx| tx.enable_endpoint("ops")).unwrap());
        assert_eq!(store.read(Tables::endpoint_rows).unwrap(), []);
    }

    #[test]
    fn waits_go_back_with_the_clock_and_what_is_due_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Power).unwrap().store;
        store
            .write(|tx| {
                for (event, endpoint, at) in [("a", "ops", 9_000), ("b", "ops", 100), ("c", "other", 9_000)] {
                    tx.enqueue(event, endpoint, b"{}", at)?;
                }
                tx.remember_failures("ops", 1, Some(8_500))?;
                tx.remember_failures("other", 1, Some(8_500))?;
                tx.set_back("ops", 8_000, 1_000)
            })
            .unwrap();
        let due = |name: &str| {
            let owed = store.read(|tx| tx.pending(name, 9)).unwrap();
            let mut due: Vec<i64> = owed.iter().map(|one| one.next_attempt).collect();
            due.sort_unstable();
            (due, store.read(|tx| tx.endpoint_row(name)).unwrap().not_before)
        };
        assert_eq!(due("ops"), (vec![100, 1_000], Some(500)));
        assert_eq!(due("other"), (vec![9_000], Some(8_500)));
    }
}
