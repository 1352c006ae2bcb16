//! New deliveries into the outbox, and its bound: an endpoint that takes nothing must not fill the disk, and
//! floods must not push out what is critical.

use crate::store::{StoreError, Tables};

/// Deliveries that an endpoint has pending at most. A few kilobytes each.
pub const MOST_PENDING: i64 = 4_000;
/// Of those that were given up, how many are kept for an endpoint.
const MOST_DEAD: i64 = 1_000;
/// Of the [`MOST_PENDING`] deliveries of an endpoint, how many are critical ones' alone.
pub const RESERVED: i64 = MOST_PENDING / 4;

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
        let NewDelivery { event, endpoint, body, at, critical } = delivery;
        self.run(
            "record delivery",
            "INSERT INTO outbox (event, endpoint, body, created, next_attempt, state, critical)
             VALUES (?1, ?2, ?3, ?4, ?4, 'pending', ?5) ON CONFLICT (event, endpoint) DO NOTHING",
            (event, endpoint, body, at, critical),
        )
        .map(drop)
    }

    /// Gives up what an endpoint has pending beyond [`MOST_PENDING`], the oldest first and critical ones last.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn bound(&self, endpoint: &str) -> Result<Dropped, StoreError> {
        let pending = "SELECT count(*) FROM outbox WHERE endpoint = ?1 AND state = 'pending' AND critical";
        let critical: Vec<i64> = self.rows("count deliveries", pending, [endpoint], |row| row.get(0))?;
        let critical = critical.first().copied().unwrap_or(0).min(MOST_PENDING);
        let room = (MOST_PENDING - critical).min(MOST_PENDING - RESERVED);
        let give_up = |critical: bool, keep: i64| {
            self.run(
                "bound outbox",
                "UPDATE outbox SET state = 'dead', last_error = 'too many deliveries are pending'
                 WHERE id IN (SELECT id FROM outbox
                              WHERE state = 'pending' AND endpoint = ?1 AND critical = ?2
                              ORDER BY id DESC LIMIT -1 OFFSET ?3)",
                (endpoint, critical, keep),
            )
        };
        let dropped = Dropped { critical: give_up(true, MOST_PENDING)?, others: give_up(false, room)? };
        if dropped != Dropped::default() {
            self.run(
                "trim outbox",
                "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE endpoint = ?1 AND state = 'dead'
                                                 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
                (endpoint, MOST_DEAD),
            )?;
        }
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::outbox::{DeliveryFilter, DeliveryState};
    use crate::store::{Durability, Store};

    fn fill(store: &mut Store, endpoint: &str, from: i64, count: i64, critical: bool) -> Dropped {
        store
            .write(|tx| {
                for index in from..from + count {
                    let event = format!("{index}");
                    tx.owe(NewDelivery { event: &event, endpoint, body: b"{}", at: 0, critical })?;
                }
                tx.bound(endpoint)
            })
            .unwrap()
    }

    #[test]
    fn critical_ones_have_a_share_that_no_flood_takes() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Power).unwrap().store;
        let none = Dropped::default();
        assert_eq!(fill(&mut store, "ops", 0, 400, true), none);
        assert_eq!(fill(&mut store, "ops", 1_000, 4_000, false), Dropped { others: 1_000, ..none });
        assert_eq!(fill(&mut store, "other", 0, 3_000, false), none, "one endpoint's flood is its own");
        let made_room = Dropped { others: 1_000, ..none };
        assert_eq!(fill(&mut store, "ops", 10_000, 1_600, true), made_room);
        let all_others = Dropped { critical: 2_400, others: 2_000 };
        assert_eq!(fill(&mut store, "ops", 20_000, 4_400, true), all_others);
        let rows = store.read(|tx| tx.deliveries(&DeliveryFilter::default(), u32::MAX)).unwrap();
        let count = |state| rows.iter().filter(|row| row.endpoint == "ops" && row.state == state).count();
        assert_eq!(count(DeliveryState::Pending), 4_000);
        assert_eq!(count(DeliveryState::Dead), 1_000, "what is kept of those is bounded, too");
    }

    #[test]
    fn the_same_is_owed_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Power).unwrap().store;
        let one = NewDelivery { event: "e", endpoint: "ops", body: b"{}", at: 0, critical: true };
        store.write(|tx| tx.owe(one).and_then(|()| tx.owe(one))).unwrap();
        assert_eq!(store.read(|tx| tx.deliveries(&DeliveryFilter::default(), 5)).unwrap().len(), 1);
    }
}
