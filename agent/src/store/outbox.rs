//! Deliveries that are owed to webhook endpoints: recorded before the first attempt, kept until they are
//! delivered or given up, so that none is lost silently.

pub use crate::model::delivery::DeliveryState;
use crate::model::trace::TraceContext;
use crate::store::{StoreError, Tables, unsigned};

/// Delivered ones kept for `webhook deliveries`.
pub const MOST_DELIVERED: i64 = 1_000;
/// Dead letters kept, whatever made them such.
pub const MOST_DEAD: i64 = 10_000;

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Row. Rises with each delivery: the order in which an endpoint gets them.
    pub id: i64,
    /// The event's id, the same on every attempt.
    pub event: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// The exact bytes to send; empty in lists.
    pub body: Vec<u8>,
    /// Their number.
    pub bytes: u64,
    /// When it was recorded, in ms since the Unix epoch.
    pub created: i64,
    /// Attempts made by the schedule. Probes of an endpoint that does not answer do not count.
    pub attempts: u32,
    /// How often the receiver rejected it.
    pub rejected: u32,
    /// When to try next, in ms since the Unix epoch.
    pub next_attempt: i64,
    /// What became of it.
    pub state: DeliveryState,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// On whose account it is sent, if that is traced.
    pub trace: Option<TraceContext>,
}

/// Which deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this endpoint only.
    pub endpoint: Option<String>,
    /// In this state only.
    pub state: Option<DeliveryState>,
    /// Not recorded before this, in ms since the Unix epoch.
    pub since: Option<i64>,
}

/// How many deliveries an endpoint has in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryCount {
    /// The endpoint's name.
    pub endpoint: String,
    /// The state.
    pub state: DeliveryState,
    /// How many.
    pub count: u64,
}

/// Columns of a delivery without its body.
const LISTED: &str = "id, event, endpoint, X'', length(body), created, attempts, rejected, next_attempt, state, \
                      last_error, trace";
/// With it.
const WHOLE: &str = "id, event, endpoint, body, length(body), created, attempts, rejected, next_attempt, state, last_error, trace";

impl DeliveryFilter {
    /// The condition, with only what is asked for in it, so that an index is used where there is one. The values are
    /// 1 to 3 in any case.
    fn condition(&self) -> String {
        let mut condition = "1".to_owned();
        for (asked, part) in [
            (self.endpoint.is_some(), " AND endpoint = ?1"),
            (self.state.is_some(), " AND state = ?2"),
            (self.since.is_some(), " AND created >= ?3"),
        ] {
            if asked {
                condition.push_str(part);
            }
        }
        condition
    }

    /// Its values and a fourth one.
    fn values<T>(&self, fourth: T) -> (&Option<String>, Option<&'static str>, Option<i64>, T) {
        (&self.endpoint, self.state.map(DeliveryState::as_str), self.since, fourth)
    }
}

impl Tables {
    /// Records a delivery, due at once.
    #[cfg(test)]
    pub(crate) fn enqueue(
        &self,
        event: &str,
        endpoint: &str,
        body: &[u8],
        at: i64,
    ) -> Result<(), StoreError> {
        self.owe(crate::store::owed::NewDelivery { event, endpoint, body, at, critical: false, trace: None })
    }

    /// What is owed to an endpoint, in the order in which it gets it, due or not.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn pending(&self, endpoint: &str, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let condition = "endpoint = ?1 AND state = 'pending' ORDER BY id LIMIT ?2";
        self.deliveries_where(WHOLE, condition, (endpoint, limit))
    }

    /// The newest deliveries that pass the filter, newest first, without their bodies.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn deliveries(&self, filter: &DeliveryFilter, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let condition = format!("{} ORDER BY id DESC LIMIT ?4", filter.condition());
        self.deliveries_where(LISTED, &condition, filter.values(limit))
    }

    /// One delivery.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn delivery(&self, id: i64) -> Result<Option<Delivery>, StoreError> {
        Ok(self.deliveries_where(WHOLE, "id = ?1", [id])?.into_iter().next())
    }

    /// How many deliveries there are of each kind.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn delivery_counts(&self) -> Result<Vec<DeliveryCount>, StoreError> {
        let sql = "SELECT endpoint, state, count(*) FROM outbox GROUP BY endpoint, state";
        self.rows("count deliveries", sql, (), |row| {
            let state = state(row, 1)?;
            Ok(DeliveryCount { endpoint: row.get(0)?, state, count: unsigned(row, 2)? })
        })
    }

    /// Since when the oldest delivery waits that is pending, by endpoint, in ms since 1970.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn oldest_pending(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let sql = "SELECT endpoint, min(created) FROM outbox WHERE state = 'pending' GROUP BY endpoint";
        self.rows("find the oldest delivery", sql, (), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// How many deliveries pass the filter.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn count_deliveries(&self, filter: &DeliveryFilter) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM outbox WHERE {} AND ?4", filter.condition());
        let counted = self.rows("count deliveries", &sql, filter.values(true), |row| unsigned(row, 0))?;
        Ok(counted.into_iter().next().unwrap_or(0))
    }

    /// Makes a delivery due again, as if it had never been tried. Returns whether there is such a one.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn replay(&self, id: i64, now: i64) -> Result<bool, StoreError> {
        Ok(self.owe_again("id = ?1", (id, None::<i64>, None::<i64>, now))? > 0)
    }

    /// The same for all that pass the filter. Returns their number.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn replay_all(&self, filter: &DeliveryFilter, now: i64) -> Result<u64, StoreError> {
        let count = self.owe_again(&filter.condition(), filter.values(now))?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    fn owe_again(&self, condition: &str, values: impl rusqlite::Params) -> Result<usize, StoreError> {
        let sql = format!(
            "UPDATE outbox SET state = 'pending', attempts = 0, rejected = 0, next_attempt = ?4 WHERE {condition}"
        );
        self.run("replay deliveries", &sql, values)
    }

    /// Drops the oldest of what is settled, beyond [`MOST_DELIVERED`] and [`MOST_DEAD`], with their attempts.
    ///
    /// # Errors
    /// When the tables cannot be written.
    pub fn trim_settled(&self) -> Result<(), StoreError> {
        for (state, most) in [(DeliveryState::Delivered, MOST_DELIVERED), (DeliveryState::Dead, MOST_DEAD)] {
            self.run(
                "trim outbox",
                "DELETE FROM outbox WHERE state = ?1 AND id <= (SELECT id FROM outbox WHERE state = ?1
                                                               ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                (state.as_str(), most),
            )?;
        }
        Ok(())
    }

    fn deliveries_where(
        &self,
        columns: &str,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<Delivery>, StoreError> {
        let sql = format!("SELECT {columns} FROM outbox WHERE {condition}");
        self.rows("read outbox", &sql, values, |row| {
            Ok(Delivery {
                id: row.get(0)?,
                event: row.get(1)?,
                endpoint: row.get(2)?,
                body: row.get(3)?,
                bytes: unsigned(row, 4)?,
                created: row.get(5)?,
                attempts: row.get(6)?,
                rejected: row.get(7)?,
                next_attempt: row.get(8)?,
                state: state(row, 9)?,
                last_error: row.get(10)?,
                trace: row.get_ref(11)?.as_str_or_null()?.and_then(|text| text.parse().ok()),
            })
        })
    }
}

fn state(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<DeliveryState> {
    // The table's CHECK allows no other word.
    Ok(DeliveryState::of(row.get_ref(index)?.as_str()?).unwrap_or(DeliveryState::Pending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::attempts::{AttemptRow, Fate};
    use crate::store::{Durability, Store};

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::open(&dir.path().join("s.db"), Durability::Power).unwrap().store
    }

    fn attempt(at: i64, error: Option<&str>) -> AttemptRow {
        AttemptRow {
            at,
            status: Some(503),
            latency_ms: 7,
            error: error.map(str::to_owned),
            answer: b"no".to_vec(),
        }
    }

    #[test]
    fn a_delivery_is_retried_then_settled_with_its_history() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(&dir);
        for event in ["e1", "e1", "e2"] {
            store.write(|tx| tx.enqueue(event, "ops", b"\x00body", 10)).unwrap();
        }
        store.write(|tx| tx.enqueue("e1", "other", b"", 10)).unwrap();
        let owed = store.read(|tx| tx.pending("ops", 5)).unwrap();
        assert_eq!(owed.iter().map(|one| one.event.as_str()).collect::<Vec<_>>(), ["e1", "e2"]);
        let first = owed[0].id;
        let oldest = store.read(Tables::oldest_pending).unwrap();
        assert_eq!(oldest, [("ops".to_owned(), 10), ("other".to_owned(), 10)]);
        assert_eq!((owed[0].body.as_slice(), owed[0].bytes, owed[0].attempts), (&b"\x00body"[..], 5, 0));
        let later = Fate::Later { attempts: 1, rejected: 1, next_attempt: 60 };
        store.write(|tx| tx.settle(first, later, &attempt(11, Some("503")))).unwrap();
        let head = store.read(|tx| tx.pending("ops", 1)).unwrap().remove(0);
        assert_eq!((head.attempts, head.rejected, head.next_attempt), (1, 1, 60));
        assert_eq!(head.last_error.as_deref(), Some("503"));
        store.write(|tx| tx.settle(first, Fate::Delivered { attempts: 2 }, &attempt(60, None))).unwrap();
        let settled = store.read(|tx| tx.delivery(first)).unwrap().unwrap();
        assert_eq!(
            (settled.state, settled.attempts, settled.last_error),
            (DeliveryState::Delivered, 2, None)
        );
        let history = store.read(|tx| tx.attempts(first)).unwrap();
        assert_eq!(history, [attempt(11, Some("503")), attempt(60, None)]);
    }

    #[test]
    fn dead_letters_are_listed_and_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(&dir);
        store
            .write(|tx| {
                for (event, at) in [("a", 1), ("b", 2), ("c", 3)] {
                    tx.enqueue(event, "ops", event.as_bytes(), at)?;
                }
                for owed in tx.pending("ops", 2)? {
                    tx.settle(owed.id, Fate::Dead { attempts: 10 }, &attempt(9, Some("no")))?;
                }
                Ok(())
            })
            .unwrap();
        let filter = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
        let dead = store.read(|tx| tx.deliveries(&filter, 10)).unwrap();
        assert_eq!(
            dead.iter().map(|one| (one.event.as_str(), one.body.len())).collect::<Vec<_>>(),
            [("b", 0), ("a", 0)]
        );
        let since = DeliveryFilter { since: Some(2), ..filter.clone() };
        assert_eq!(store.read(|tx| tx.count_deliveries(&since)).unwrap(), 1);
        assert_eq!(store.write(|tx| tx.replay_all(&since, 50)).unwrap(), 1);
        assert!(store.write(|tx| tx.replay(dead[1].id, 60)).unwrap());
        assert!(!store.write(|tx| tx.replay(99, 60)).unwrap());
        let owed = store.read(|tx| tx.pending("ops", 10)).unwrap();
        let owed: Vec<_> =
            owed.iter().map(|one| (one.event.as_str(), one.attempts, one.next_attempt)).collect();
        assert_eq!(owed, [("a", 0, 60), ("b", 0, 50), ("c", 0, 3)], "in their old order");
        assert_eq!(store.read(|tx| tx.attempts(dead[0].id)).unwrap().len(), 1, "the history stays");
    }

    #[test]
    fn what_is_settled_is_bounded_by_kind_and_takes_its_attempts_along() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(&dir);
        store
            .write(|tx| {
                tx.enqueue("dead", "ops", b"", 0)?;
                tx.settle(1, Fate::Dead { attempts: 1 }, &attempt(0, Some("no")))?;
                for index in 0..MOST_DELIVERED + 5 {
                    tx.enqueue(&index.to_string(), "ops", b"", 0)?;
                    tx.settle(index + 2, Fate::Delivered { attempts: 1 }, &attempt(0, None))?;
                }
                tx.trim_settled()
            })
            .unwrap();
        let counts = store.read(Tables::delivery_counts).unwrap();
        let count = |state, count| DeliveryCount { endpoint: "ops".to_owned(), state, count };
        let most = u64::try_from(MOST_DELIVERED).unwrap();
        assert_eq!(counts, [count(DeliveryState::Dead, 1), count(DeliveryState::Delivered, most)]);
        assert_eq!(store.read(|tx| tx.attempts(2)).unwrap(), []);
    }
}
