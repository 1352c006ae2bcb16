//! What became of critical processes, so that a new agent goes on counting where the last one ended.

use crate::model::event::Status;
use crate::model::id::{Name, NameError};
use crate::model::notice::Notice;
use crate::store::{StoreError, Tables};

/// Rows that are kept of one critical process: more than restarts within any window, and a death for each.
const MOST: i64 = 256;

/// Something that became of a critical process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRow {
    /// The critical process.
    pub name: Name,
    /// When, in ms since the Unix epoch.
    pub at: i64,
    /// What.
    pub what: Became,
}

/// See [`RestartRow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// Its last instance died, this way.
    Down(Option<Status>),
    /// It was restarted.
    Restarted,
    /// A restart failed.
    Failed,
    /// It was left alone, because it was stopped on purpose.
    Declined,
    /// It was given up.
    GivenUp,
    /// Somebody restarted it by hand: what was before does not count.
    ByHand,
}

const WORDS: [(&str, Became); 5] = [
    ("restarted", Became::Restarted),
    ("failed", Became::Failed),
    ("declined", Became::Declined),
    ("given_up", Became::GivenUp),
    ("by_hand", Became::ByHand),
];
const DOWN: &str = "down";

impl Tables {
    /// Keeps what a notice tells of restarts. Others are passed over.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn note_restart(&self, at: i64, notice: &Notice) -> Result<(), StoreError> {
        let mut status = None;
        let (name, what) = if let Notice::CriticalProcessDown { name, exit, remaining: 0, .. } = notice {
            status = exit.status.map(|status| self.to_json("restarts.status", &status)).transpose()?;
            (name, DOWN)
        } else if let Notice::CriticalProcessRestart { name, result, attempt, .. } = notice {
            (name, if *attempt == 0 { "by_hand" } else { result.as_str() })
        } else {
            return Ok(());
        };
        self.run(
            "note restart",
            "INSERT INTO restarts (name, at, what, status) VALUES (?1, ?2, ?3, ?4)",
            (name.as_str(), at, what, status),
        )?;
        self.run(
            "trim restarts",
            "DELETE FROM restarts WHERE name = ?1 AND seq <= (
                 SELECT seq FROM restarts WHERE name = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
            (name.as_str(), MOST),
        )
        .map(drop)
    }

    /// What became of critical processes since a moment in ms since the Unix epoch, oldest first.
    ///
    /// # Errors
    /// When the table cannot be read, or a row is malformed.
    pub fn restarts(&self, since: i64) -> Result<Vec<RestartRow>, StoreError> {
        let rows: Vec<(String, i64, String, Option<String>)> = self.rows(
            "read restarts",
            "SELECT name, at, what, status FROM restarts WHERE at >= ?1 ORDER BY seq",
            [since],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let row = |(name, at, word, status): (String, i64, String, Option<String>)| {
            let name = name
                .parse()
                .map_err(|error: NameError| self.malformed("restarts.name", error.to_string()))?;
            let known = WORDS.iter().find(|(one, _)| *one == word).map(|(_, what)| *what);
            let what = match known {
                Some(what) => what,
                None if word == DOWN => {
                    Became::Down(status.map(|text| self.json("restarts.status", &text)).transpose()?)
                }
                None => return Err(self.malformed("restarts.what", word)),
            };
            Ok(RestartRow { name, at, what })
        };
        rows.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::process;
    use crate::model::critical::RestartResult;
    use crate::model::event::Event;
    use crate::store::{Durability, Store};

    #[test]
    fn what_became_of_them_is_kept_apart_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("s.db"), Durability::Power).unwrap().store;
        let web: Name = "web".parse().unwrap();
        let status = Status::Signal { number: 9, core: false };
        let Event::Exit(exit) = process(7, "web").exit(5, status) else { panic!("an exit") };
        let down = |remaining| Notice::CriticalProcessDown {
            name: web.clone(),
            exit,
            remaining,
            wanted: 1,
            flapping: None,
            group: None,
            circumstances: None,
        };
        let restart = |result, attempt| Notice::CriticalProcessRestart {
            name: web.clone(),
            result,
            by: String::new(),
            attempt,
            detail: String::new(),
        };
        let told = [
            down(1),
            Notice::Test { detail: String::new() },
            down(0),
            restart(RestartResult::Restarted, 1),
            restart(RestartResult::GivenUp, 5),
            restart(RestartResult::Restarted, 0),
        ];
        store
            .write(|tables| told.iter().zip(0..).try_for_each(|(notice, at)| tables.note_restart(at, notice)))
            .unwrap();
        let rows = store.read(|tables| tables.restarts(3)).unwrap();
        assert_eq!(
            rows.iter().map(|row| (row.at, row.what)).collect::<Vec<_>>(),
            [(3, Became::Restarted), (4, Became::GivenUp), (5, Became::ByHand)]
        );
        let all = store.read(|tables| tables.restarts(0)).unwrap();
        assert_eq!(all.first().map(|row| row.what), Some(Became::Down(Some(status))));
        store
            .write(|tables| {
                (10..1_000).try_for_each(|at| tables.note_restart(at, &restart(RestartResult::Failed, 1)))
            })
            .unwrap();
        let rows = store.read(|tables| tables.restarts(0)).unwrap();
        assert_eq!(i64::try_from(rows.len()).unwrap(), MOST);
        assert_eq!(rows.last().map(|row| row.at), Some(999));
    }
}
