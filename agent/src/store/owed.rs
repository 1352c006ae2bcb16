//! New deliveries into the outbox, and its bound: an endpoint that takes nothing must not fill the disk, and
//! floods must not push out what is critical.

use crate::model::trace::TraceContext;
use crate::store::{StoreError, Tables};

/// Deliveries that an endpoint has pending at most, those for critical ones alone among them. A few kilobytes each,
/// on the disk only.
pub const MOST_PENDING: i64 = 125_000;
/// Of the [`MOST_PENDING`] deliveries of an endpoint, how many are critical ones' alone.
pub const RESERVED: i64 = MOST_PENDING / 5;

/// A delivery to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct NewDelivery<'a> {
    /// Id of the event, the same on every attempt.
    pub event: &'a str,
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// The exact bytes to send.
    pub body: &'a [u8],
    /// Now, in ms since the Unix epoch: it is due at once.
    pub at: i64,
    /// Whether it is kept when others have to go.
    pub critical: bool,
    /// On whose account it is sent, if that is traced.
    pub trace: Option<TraceContext>,
}

/// Deliveries that were given up for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Critical ones.
    pub critical: usize,
    /// Others.
    pub others: usize,
}

impl Tables {
    /// Records a delivery, due at once. The same event for the same endpoint is recorded once. [`Self::bound`]
    /// is to follow in the same transaction.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn owe(&self, delivery: NewDelivery<'_>) -> Result<(), StoreError> {
        let NewDelivery { event, endpoint, body, at, critical, trace } = delivery;
        let trace = trace.map(|context| context.to_string());
        self.run(
            "record delivery",
            "INSERT INTO outbox (event, endpoint, body, created, next_attempt, state, critical, trace)
             VALUES (?1, ?2, ?3, ?4, ?4, 'pending', ?5, ?6) ON CONFLICT (event, endpoint) DO NOTHING",
            (event, endpoint, body, at, critical, trace),
        )
        .map(drop)
    }

    /// Gives up what an endpoint has pending beyond [`MOST_PENDING`], the oldest first and critical ones last.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn bound(&self, endpoint: &str) -> Result<Dropped, StoreError> {
        self.bound_to(endpoint, MOST_PENDING, RESERVED)
    }

    fn bound_to(&self, endpoint: &str, most: i64, reserved: i64) -> Result<Dropped, StoreError> {
        let (critical, others) = (self.count_pending(endpoint, true)?, self.count_pending(endpoint, false)?);
        let room = (most - critical.min(most)).min(most - reserved);
        let dropped = Dropped {
            critical: self.give_up(endpoint, true, critical - most)?,
            others: self.give_up(endpoint, false, others - room)?,
        };
        if dropped != Dropped::default() {
            self.trim_settled()?;
        }
        Ok(dropped)
    }

    fn count_pending(&self, endpoint: &str, critical: bool) -> Result<i64, StoreError> {
        let sql = "SELECT count FROM pending WHERE endpoint = ?1 AND critical = ?2";
        let counts = self.rows("count deliveries", sql, (endpoint, critical), |row| row.get(0))?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    /// Makes the oldest pending ones dead letters, this many.
    fn give_up(&self, endpoint: &str, critical: bool, excess: i64) -> Result<usize, StoreError> {
        if excess <= 0 {
            return Ok(0);
        }
        self.run(
            "bound outbox",
            "UPDATE outbox SET state = 'dead', last_error = 'too many deliveries are pending'
             WHERE id IN (SELECT id FROM outbox
                          WHERE endpoint = ?1 AND state = 'pending' AND critical = ?2 ORDER BY id LIMIT ?3)",
            (endpoint, critical, excess),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::attempts::{AttemptRow, Fate};
    use crate::store::outbox::{DeliveryFilter, DeliveryState};
    use crate::store::{Durability, Store};

    /// A small bound, for tests.
    const MOST: i64 = 400;

    fn open(dir: &tempfile::TempDir) -> Store {
        Store::open(&dir.path().join("s.db"), Durability::Power).unwrap().store
    }

    fn fill(store: &mut Store, endpoint: &str, from: i64, count: i64, critical: bool) -> Dropped {
        store
            .write(|tx| {
                for index in from..from + count {
                    let event = format!("{index}");
                    tx.owe(NewDelivery {
                        event: &event,
                        endpoint,
                        body: b"{}",
                        at: 0,
                        critical,
                        trace: None,
                    })?;
                }
                tx.bound_to(endpoint, MOST, MOST / 4)
            })
            .unwrap()
    }

    /// What the table of counts says, and what there is.
    fn counts(store: &Store, endpoint: &str) -> [(i64, i64); 2] {
        [true, false].map(|critical| {
            store.read(|tx| {
                let sql =
                    "SELECT count(*) FROM outbox WHERE endpoint = ?1 AND state = 'pending' AND critical = ?2";
                let there = tx.rows("test", sql, (endpoint, critical), |row| row.get(0)).unwrap();
                (tx.count_pending(endpoint, critical).unwrap(), there[0])
            })
        })
    }

    #[test]
    fn critical_ones_have_a_share_that_no_flood_takes() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(&dir);
        let none = Dropped::default();
        assert_eq!(fill(&mut store, "ops", 0, 40, true), none);
        assert_eq!(fill(&mut store, "ops", 100, 400, false), Dropped { others: 100, ..none });
        assert_eq!(fill(&mut store, "other", 0, 300, false), none, "one endpoint's flood is its own");
        let made_room = Dropped { others: 100, ..none };
        assert_eq!(fill(&mut store, "ops", 1_000, 160, true), made_room);
        let all_others = Dropped { critical: 240, others: 200 };
        assert_eq!(fill(&mut store, "ops", 2_000, 440, true), all_others);
        let rows = store.read(|tx| tx.deliveries(&DeliveryFilter::default(), u32::MAX)).unwrap();
        let of = |state| rows.iter().filter(move |row| row.endpoint == "ops" && row.state == state);
        assert_eq!((of(DeliveryState::Pending).count(), of(DeliveryState::Dead).count()), (400, 640));
        let oldest = of(DeliveryState::Pending).next_back().unwrap();
        assert_eq!(oldest.event, "2040", "the oldest went first");
    }

    #[test]
    fn the_count_of_what_is_pending_is_that_of_the_rows() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(&dir);
        fill(&mut store, "ops", 0, 5, true);
        fill(&mut store, "ops", 3, 7, false);
        assert_eq!(counts(&store, "ops"), [(5, 5), (5, 5)], "the same one is owed once");
        let row = AttemptRow { at: 0, status: None, latency_ms: 0, error: None, answer: Vec::new() };
        store
            .write(|tx| {
                tx.settle(1, Fate::Delivered { attempts: 1 }, &row)?;
                tx.settle(2, Fate::Dead { attempts: 1 }, &row)?;
                tx.settle(6, Fate::Later { attempts: 1, rejected: 0, next_attempt: 5 }, &row)
            })
            .unwrap();
        assert_eq!(counts(&store, "ops"), [(3, 3), (5, 5)]);
        let all = DeliveryFilter::default();
        assert_eq!(store.write(|tx| tx.replay_all(&all, 9)).unwrap(), 10);
        assert_eq!(counts(&store, "ops"), [(5, 5), (5, 5)]);
        store.write(|tx| tx.run("test", "DELETE FROM outbox WHERE critical", ())).unwrap();
        assert_eq!(counts(&store, "ops"), [(0, 0), (5, 5)]);
    }

    #[test]
    fn the_same_is_owed_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(&dir);
        let trace = "00-0190a1b2c3d47e5f8091a2b3c4d5e6f7-00f067aa0ba902b7-01".parse().ok();
        let one = NewDelivery { event: "e", endpoint: "ops", body: b"{}", at: 0, critical: true, trace };
        store.write(|tx| tx.owe(one).and_then(|()| tx.owe(one))).unwrap();
        assert!(trace.is_some() && store.read(|tx| tx.pending("ops", 1)).unwrap()[0].trace == trace);
        assert_eq!(store.read(|tx| tx.deliveries(&DeliveryFilter::default(), 5)).unwrap().len(), 1);
    }
}
