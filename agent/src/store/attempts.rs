//! What came of each attempt at a delivery.

use crate::store::{StoreError, Tables, unsigned};

/// Attempts kept per delivery; the oldest go first.
const MOST_ATTEMPTS: u32 = 64;

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Accepted.
    Delivered {
        /// Attempts made by the schedule.
        attempts: u32,
    },
    /// To be tried again.
    Later {
        /// Attempts made by the schedule.
        attempts: u32,
        /// How often the receiver rejected it.
        rejected: u32,
        /// When, in ms since the Unix epoch.
        next_attempt: i64,
    },
    /// Given up.
    Dead {
        /// Attempts made by the schedule.
        attempts: u32,
    },
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// When it ended, in ms since the Unix epoch.
    pub at: i64,
    /// The answer's status; none when there was no answer.
    pub status: Option<u16>,
    /// How long it took, in ms.
    pub latency_ms: u64,
    /// What went wrong; none when it was accepted.
    pub error: Option<String>,
    /// The first bytes of the answer's body.
    pub answer: Vec<u8>,
}

impl Tables {
    /// Records an attempt and what follows from it.
    ///
    /// # Errors
    /// When the tables cannot be written.
    pub fn settle(&self, delivery: i64, fate: Fate, attempt: &AttemptRow) -> Result<(), StoreError> {
        let AttemptRow { at, status, latency_ms, error, answer } = attempt;
        let latency_ms = i64::try_from(*latency_ms).unwrap_or(i64::MAX);
        self.run(
            "record attempt",
            "INSERT INTO attempts (delivery, at, status, latency_ms, error, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (delivery, at, status, latency_ms, error, answer),
        )?;
        let (state, attempts, rejected, next_attempt) = match fate {
            Fate::Delivered { attempts } => ("delivered", attempts, None, None),
            Fate::Dead { attempts } => ("dead", attempts, None, None),
            Fate::Later { attempts, rejected, next_attempt } => {
                self.run(
                    "trim attempts",
                    "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE delivery = ?1
                                                       ORDER BY id DESC LIMIT -1 OFFSET ?2)",
                    (delivery, MOST_ATTEMPTS),
                )?;
                ("pending", attempts, Some(rejected), Some(next_attempt))
            }
        };
        self.run(
            "settle delivery",
            "UPDATE outbox SET state = ?2, attempts = ?3, rejected = coalesce(?4, rejected),
                 next_attempt = coalesce(?5, next_attempt), last_error = ?6 WHERE id = ?1",
            (delivery, state, attempts, rejected, next_attempt, error),
        )?;
        Ok(())
    }

    /// The attempts at a delivery, oldest first.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn attempts(&self, delivery: i64) -> Result<Vec<AttemptRow>, StoreError> {
        let sql =
            "SELECT at, status, latency_ms, error, answer FROM attempts WHERE delivery = ?1 ORDER BY id";
        self.rows("read attempts", sql, [delivery], |row| {
            Ok(AttemptRow {
                at: row.get(0)?,
                status: row.get(1)?,
                latency_ms: unsigned(row, 2)?,
                error: row.get(3)?,
                answer: row.get(4)?,
            })
        })
    }
}
