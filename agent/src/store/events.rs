//! The history of notices, bounded.

use serde::{Deserialize, Serialize};

use crate::model::notice::{Notice, Severity};
use crate::store::{StoreError, Tables};

/// Rows that are kept; the oldest go first.
pub const MOST_EVENTS: i64 = 10_000;

/// A notice that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Rises by one with each event.
    pub seq: i64,
    /// UUID version 7.
    pub id: String,
    /// When, in ms since the Unix epoch.
    pub at: i64,
    /// How bad.
    pub severity: Severity,
    /// What.
    pub notice: Notice,
}

/// Which events to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Not older than this, in ms since the Unix epoch.
    pub since: Option<i64>,
    /// Of this type only.
    pub kind: Option<String>,
    /// After this one.
    pub after: Option<i64>,
}

impl Tables {
    /// Records a notice and drops the oldest beyond [`MOST_EVENTS`]. Returns its number.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn add_event(&self, id: &str, at: i64, notice: &Notice) -> Result<i64, StoreError> {
        let json = self.to_json("events.notice", notice)?;
        let severity = self.to_json("events.severity", &notice.severity())?;
        let seq = self
            .rows(
                "record event",
                "INSERT INTO events (id, at, kind, severity, notice) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING seq",
                (id, at, notice.kind(), severity, json),
                |row| row.get(0),
            )?
            .into_iter()
            .next()
            .unwrap_or(0);
        self.run("trim events", "DELETE FROM events WHERE seq <= ?1", [seq - MOST_EVENTS])?;
        Ok(seq)
    }

    /// The newest `limit` events that pass the filter, oldest first.
    ///
    /// # Errors
    /// When the table cannot be read, or a row is malformed.
    pub fn events(&self, filter: &EventFilter, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows: Vec<(i64, String, i64, String, String)> = self.rows(
            "read events",
            "SELECT seq, id, at, severity, notice FROM events
             WHERE at >= ?1 AND (?2 IS NULL OR kind = ?2) AND seq > ?3 ORDER BY seq DESC LIMIT ?4",
            (filter.since.unwrap_or(i64::MIN), &filter.kind, filter.after.unwrap_or(0), limit),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )?;
        rows.into_iter()
            .rev()
            .map(|(seq, id, at, severity, notice)| {
                Ok(EventRow {
                    seq,
                    id,
                    at,
                    severity: self.json("events.severity", &severity)?,
                    notice: self.json("events.notice", &notice)?,
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
    fn the_history_is_bounded_and_filtered() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Power).unwrap().store;
        let test = Notice::Test { detail: "x".to_owned() };
        let profile = Notice::ProfileActivated { profile: None };
        store
            .write(|tx| {
                for index in 0..MOST_EVENTS + 5 {
                    let notice = if index % 2 == 0 { &test } else { &profile };
                    tx.add_event(&index.to_string(), index, notice)?;
                }
                Ok(())
            })
            .unwrap();
        let all = store.read(|tx| tx.events(&EventFilter::default(), u32::MAX)).unwrap();
        assert_eq!(i64::try_from(all.len()).unwrap(), MOST_EVENTS);
        assert_eq!((all[0].at, all[0].notice.kind()), (5, "profile_activated"));
        let filter = EventFilter { since: Some(10_001), kind: Some("test".into()), after: None };
        let some = store.read(|tx| tx.events(&filter, 10)).unwrap();
        assert_eq!(some.iter().map(|row| row.at).collect::<Vec<_>>(), [10_002, 10_004]);
        let after = EventFilter { after: Some(all[all.len() - 2].seq), ..EventFilter::default() };
        assert_eq!(store.read(|tx| tx.events(&after, 10)).unwrap().len(), 1);
    }
}
