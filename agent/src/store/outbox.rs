//! Deliveries that are owed to webhook endpoints: recorded before the first attempt, kept until they are
//! delivered or given up, so that none is lost silently.

use crate::store::{StoreError, Tables};

/// Pending deliveries kept per endpoint; beyond it the oldest are given up, with that as their error.
pub const MOST_PENDING: i64 = 1_000;
/// Delivered and dead ones kept for `webhook deliveries`.
pub const MOST_SETTLED: i64 = 1_000;

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be tried.
    Pending,
    /// Accepted by the endpoint.
    Delivered,
    /// Given up.
    Dead,
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Row.
    pub id: i64,
    /// The event's id, the same on every attempt.
    pub event: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// The exact bytes to send.
    pub body: Vec<u8>,
    /// When it was recorded, in ms since the Unix epoch.
    pub created: i64,
    /// Attempts made.
    pub attempts: u32,
    /// When to try next, in ms since the Unix epoch.
    pub next_attempt: i64,
    /// What became of it.
    pub state: DeliveryState,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl Tables {
    /// Records a delivery, due at once. The same event for the same endpoint is recorded once.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn enqueue(&self, event: &str, endpoint: &str, body: &[u8], now: i64) -> Result<(), StoreError> {
        self.run(
            "record delivery",
            "INSERT INTO outbox (event, endpoint, body, created, next_attempt, state)
             VALUES (?1, ?2, ?3, ?4, ?4, 'pending') ON CONFLICT (event, endpoint) DO NOTHING",
            (event, endpoint, body, now),
        )?;
        self.run(
            "bound outbox",
            "UPDATE outbox SET state = 'dead', last_error = 'too many deliveries are pending'
             WHERE id IN (SELECT id FROM outbox WHERE state = 'pending' AND endpoint = ?1
                          ORDER BY id DESC LIMIT -1 OFFSET ?2)",
            (endpoint, MOST_PENDING),
        )?;
        Ok(())
    }

    /// Deliveries that are due, oldest first.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn due(&self, now: i64, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        self.deliveries_where("state = 'pending' AND next_attempt <= ?1 ORDER BY id LIMIT ?2", (now, limit))
    }

    /// When the next pending delivery is due.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn next_due(&self) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT min(next_attempt) FROM outbox WHERE state = 'pending'";
        Ok(self.rows("read outbox", sql, (), |row| row.get(0))?.into_iter().next().flatten())
    }

    /// The newest deliveries, newest first.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn deliveries(&self, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        self.deliveries_where("1 ORDER BY id DESC LIMIT ?1", [limit])
    }

    /// An endpoint accepted it.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn delivered(&self, id: i64) -> Result<(), StoreError> {
        self.run(
            "settle delivery",
            "UPDATE outbox SET state = 'delivered', attempts = attempts + 1, last_error = NULL WHERE id = ?1",
            [id],
        )?;
        self.trim_settled()
    }

    /// An attempt failed; the next one is at `next`, or there is none.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn attempt_failed(&self, id: i64, error: &str, next: Option<i64>) -> Result<(), StoreError> {
        self.run(
            "settle delivery",
            "UPDATE outbox SET attempts = attempts + 1, last_error = ?2,
                 next_attempt = coalesce(?3, next_attempt),
                 state = CASE WHEN ?3 IS NULL THEN 'dead' ELSE 'pending' END WHERE id = ?1",
            (id, error, next),
        )?;
        self.trim_settled()
    }

    fn trim_settled(&self) -> Result<(), StoreError> {
        self.run(
            "trim outbox",
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state <> 'pending'
                                             ORDER BY id DESC LIMIT -1 OFFSET ?1)",
            [MOST_SETTLED],
        )
        .map(drop)
    }

    fn deliveries_where(
        &self,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<Delivery>, StoreError> {
        let sql = format!(
            "SELECT id, event, endpoint, body, created, attempts, next_attempt, state, last_error
             FROM outbox WHERE {condition}"
        );
        self.rows("read outbox", &sql, values, |row| {
            Ok(Delivery {
                id: row.get(0)?,
                event: row.get(1)?,
                endpoint: row.get(2)?,
                body: row.get(3)?,
                created: row.get(4)?,
                attempts: row.get(5)?,
                next_attempt: row.get(6)?,
                state: match row.get_ref(7)?.as_str()? {
                    "delivered" => DeliveryState::Delivered,
                    "dead" => DeliveryState::Dead,
                    // The table's CHECK allows one more.
                    _ => DeliveryState::Pending,
                },
                last_error: row.get(8)?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Store};

    #[test]
    fn a_delivery_is_retried_then_settled() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Power).unwrap().store;
        for _ in 0..2 {
            store.write(|tx| tx.enqueue("e1", "ops", b"\x00body", 10)).unwrap();
        }
        assert_eq!(store.read(|tx| tx.due(9, 5)).unwrap(), []);
        let due = store.read(|tx| tx.due(10, 5)).unwrap();
        assert_eq!((due.len(), due[0].body.as_slice(), due[0].attempts), (1, &b"\x00body"[..], 0));
        store.write(|tx| tx.attempt_failed(due[0].id, "503", Some(60))).unwrap();
        assert_eq!(store.read(Tables::next_due).unwrap(), Some(60));
        store.write(|tx| tx.delivered(due[0].id)).unwrap();
        assert_eq!(store.read(Tables::next_due).unwrap(), None);
        let all = store.read(|tx| tx.deliveries(5)).unwrap();
        assert_eq!((all[0].state, all[0].attempts), (DeliveryState::Delivered, 2));
    }

    #[test]
    fn giving_up_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Power).unwrap().store;
        store
            .write(|tx| {
                for index in 0..=MOST_PENDING {
                    tx.enqueue(&index.to_string(), "ops", b"", 0)?;
                }
                Ok(())
            })
            .unwrap();
        let all = store.read(|tx| tx.deliveries(u32::MAX)).unwrap();
        let dead: Vec<_> = all.iter().filter(|one| one.state == DeliveryState::Dead).collect();
        assert_eq!(dead.len(), 1);
        assert_eq!((dead[0].event.as_str(), dead[0].last_error.is_some()), ("0", true));
        store.write(|tx| tx.attempt_failed(all[0].id, "gone", None)).unwrap();
        let last = store.read(|tx| tx.deliveries(1)).unwrap().remove(0);
        assert_eq!((last.state, last.last_error.as_deref()), (DeliveryState::Dead, Some("gone")));
    }
}
