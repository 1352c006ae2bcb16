//! Records on their way to a receiver of OTLP: a bounded queue in memory, which nobody who adds to it waits for, and one
//! request at a time. What finds no room, is refused, or is given up is counted. While nothing is added, nothing here
//! wakes up.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::otlp::{self, Origin};
use super::post::{PostError, Poster};
use crate::clock;
use crate::model::chain::chain;
use crate::model::telemetry::{Access, Signal};
use crate::model::time::Timestamp;

/// Most records that wait, and most bytes of them.
const QUEUE: usize = 4_096;
const QUEUE_BYTES: usize = 2 << 20;
/// Most records in a request, and most bytes of them.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 512 << 10;
/// Attempts at one request. With the pauses between them they take four minutes.
const ATTEMPTS: u32 = 9;

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// For more records, once there is one.
    gather: Duration,
    /// After the first failure of a request; twice as long after each further one.
    pause: Duration,
    /// But no longer than this.
    pause_max: Duration,
}

const PACE: Pace = Pace {
    gather: Duration::from_secs(1),
    pause: Duration::from_secs(1),
    pause_max: Duration::from_secs(60),
};

/// What became of records since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Taken by the receiver.
    pub sent: u64,
    /// Lost because too many were waiting.
    pub no_room: u64,
    /// Lost because the receiver refused a request, and it is of no use to repeat it.
    pub refused: u64,
    /// Lost because all attempts at a request failed, or nobody is to receive them any more.
    pub given_up: u64,
    /// Lost because the receiver took a request and rejected them.
    pub rejected: u64,
    /// Requests that failed since one succeeded.
    pub failed_in_a_row: u64,
    /// When one succeeded last.
    pub last_ok: Option<Timestamp>,
    /// Why the last one failed, or some of it was rejected; absent when all was well.
    pub trouble: Option<String>,
}

impl Fate {
    /// What was lost, by where.
    #[must_use]
    pub const fn lost(&self) -> [(&'static str, u64); 4] {
        [
            ("queue", self.no_room),
            ("refused", self.refused),
            ("given_up", self.given_up),
            ("rejected", self.rejected),
        ]
    }
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    signal: Signal,
    pace: Pace,
    state: Mutex<State>,
    /// Rung for each record, and at the end.
    some: Notify,
    /// Rung when there are enough for a request, and at the end.
    enough: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    ends: bool,
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    batch: Option<Batch>,
    fate: Fate,
}

/// A request that has not been taken yet.
#[derive(Clone, Debug)]
struct Batch {
    body: Bytes,
    records: u64,
    attempts: u32,
}

/// What there is to do.
enum Next {
    Post(Batch),
    /// Wait for a record.
    Some,
    /// Wait for more of them, but not for long.
    More,
    End,
}

impl Lane {
    /// For a signal; closed.
    #[must_use]
    pub fn new(signal: Signal) -> Self {
        Self::with(signal, PACE)
    }

    fn with(signal: Signal, pace: Pace) -> Self {
        let (some, enough) = Default::default();
        Self { signal, pace, state: Mutex::default(), some, enough }
    }

    /// Which signal it is of.
    #[must_use]
    pub const fn signal(&self) -> Signal {
        self.signal
    }

    /// Whether there is a receiver.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// There is a receiver from now on, or none any more: then what waits is given up.
    pub fn open(&self, open: bool) {
        let mut state = self.lock();
        (state.is_open, state.ends) = (open, false);
        if !open {
            let waiting = state.queue.len() as u64 + state.batch.take().map_or(0, |batch| batch.records);
            state.fate.given_up += waiting;
            (state.queue, state.bytes) = (VecDeque::new(), 0);
        }
    }

    /// Adds a record. Never waits: without a receiver it is not even made, and where there is no room it is counted.
    pub fn add(&self, record: impl FnOnce() -> Vec<u8>) {
        if !self.is_open() {
            return;
        }
        let record = record();
        let mut state = self.lock();
        if state.queue.len() >= QUEUE || state.bytes + record.len() > QUEUE_BYTES {
            state.fate.no_room += 1;
            return;
        }
        state.bytes += record.len();
        state.queue.push_back(record);
        let enough = state.is_enough();
        drop(state);
        self.some.notify_one();
        if enough {
            self.enough.notify_one();
        }
    }

    /// What became of records so far.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.lock().fate.clone()
    }

    /// Records that wait, those of the present request with them.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let state = self.lock();
        state.queue.len() as u64 + state.batch.as_ref().map_or(0, |batch| batch.records)
    }

    /// [`Self::run`] ends once all is sent, or an attempt failed.
    pub fn end(&self) {
        self.lock().ends = true;
        self.some.notify_one();
        self.enough.notify_one();
    }

    /// Sends until it is told to end. Whoever drops it loses nothing: another one goes on with the same request.
    pub async fn run(&self, url: String, access: Access, origin: Origin) {
        let mut poster = Poster::new(access);
        loop {
            let batch = match self.next(&origin, false) {
                Next::Post(batch) => batch,
                Next::Some => {
                    self.some.notified().await;
                    continue;
                }
                Next::More => {
                    // That the time passed is what it is for.
                    drop(tokio::time::timeout(self.pace.gather, self.enough.notified()).await);
                    match self.next(&origin, true) {
                        Next::Post(batch) => batch,
                        Next::Some | Next::More => continue,
                        Next::End => return,
                    }
                }
                Next::End => return,
            };
            let result = poster.post(&url, batch.body).await;
            if let Some(pause) = self.settle(result, &url) {
                if self.lock().ends {
                    return;
                }
                let ended = async {
                    while !self.lock().ends {
                        self.some.notified().await;
                    }
                };
                // Either is a reason to go on.
                drop(tokio::time::timeout(pause, ended).await);
            }
        }
    }

    /// What to do; `gathered`: not to wait for more records.
    fn next(&self, origin: &Origin, gathered: bool) -> Next {
        let mut state = self.lock();
        if let Some(batch) = &state.batch {
            return Next::Post(batch.clone());
        }
        if state.queue.is_empty() {
            return if state.ends { Next::End } else { Next::Some };
        }
        if !gathered && !state.ends && !state.is_enough() {
            return Next::More;
        }
        let batch = state.gather(origin);
        state.batch = Some(batch.clone());
        Next::Post(batch)
    }

    /// Draws the consequences of an attempt; how long to leave the receiver alone, if at all.
    fn settle(&self, result: Result<Vec<u8>, PostError>, url: &str) -> Option<Duration> {
        let signal = self.signal.as_str();
        let mut state = self.lock();
        let Some(mut batch) = state.batch.take() else {
            // Closed meanwhile: it has been counted.
            return None;
        };
        let error = match result {
            Ok(answer) => {
                let (rejected, why) = otlp::rejected(&answer);
                let rejected = rejected.min(batch.records);
                let fate = &mut state.fate;
                if fate.failed_in_a_row > 0 {
                    tracing::info!(url, "{signal} are sent again");
                }
                fate.sent += batch.records - rejected;
                fate.rejected += rejected;
                (fate.failed_in_a_row, fate.last_ok) = (0, Some(clock::now()));
                fate.trouble = (rejected > 0).then(|| format!("{rejected} records were rejected: {why}"));
                return None;
            }
            Err(error) => error,
        };
        let why = chain(&error);
        // A receiver that is down is one line, however long it is.
        if state.fate.failed_in_a_row == 0 {
            tracing::warn!(url, "{signal} cannot be sent: {why}");
        }
        state.fate.failed_in_a_row += 1;
        state.fate.trouble = Some(why);
        batch.attempts += 1;
        let pause = self.pause(batch.attempts).max(error.asked());
        if !error.may_pass() {
            state.fate.refused += batch.records;
        } else if batch.attempts >= ATTEMPTS {
            state.fate.given_up += batch.records;
        } else {
            state.batch = Some(batch);
        }
        Some(pause)
    }

    /// After so many failures: a random part of the upper half, so that not all hosts come back at once.
    fn pause(&self, attempts: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.pace.pause.saturating_mul(doubled).min(self.pace.pause_max);
        let part = u32::try_from(clock::now().as_nanos() % 1_000).unwrap_or(0);
        whole / 2 + whole / 2 * part / 1_000
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_enough(&self) -> bool {
        self.queue.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    fn gather(&mut self, origin: &Origin) -> Batch {
        let (mut count, mut bytes) = (0, 0);
        for record in self.queue.iter().take(BATCH) {
            if count > 0 && bytes + record.len() > BATCH_BYTES {
                break;
            }
            (count, bytes) = (count + 1, bytes + record.len());
        }
        self.bytes -= bytes;
        let records: Vec<Vec<u8>> = self.queue.drain(..count).collect();
        let body = otlp::batch(origin, records.iter().map(Vec::as_slice));
        Batch { body: body.into(), records: count as u64, attempts: 0 }
    }
}

#[cfg(test)]
mod tests;
