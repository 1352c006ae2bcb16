//! Makes notices durable and public: one thread writes events and outbox rows in one transaction, then
//! tells followers and the webhook task. The engine thread never waits on the disk for it.
//!
//! A notice that cannot be written is kept in memory, tried again every second, and said so: it is not
//! dropped while there is room, and what is dropped is counted and logged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock;
use crate::control::proto::EventRecord;
use crate::control::stream::{Line, Publisher};
use crate::effect::webhook::payload;
use crate::model::notice::{Notice, Severity};
use crate::model::time::Timestamp;
use crate::store::{Store, StoreError};

/// Notices on their way from the engine thread.
const QUEUE: usize = 4_096;
/// Notices kept while the disk refuses them.
const BACKLOG: usize = 8_192;
/// Most notices in one transaction.
const BATCH: usize = 256;
/// Notices that are logged at most in one [`LOG_WINDOW`]; all of them are in the event stream. Processes that
/// come and go under a rule would fill the log otherwise.
const LOG_MOST: u32 = 50;
/// See [`LOG_MOST`].
const LOG_WINDOW: Duration = Duration::from_secs(10);
/// Between two attempts to write to a disk that refused.
const RETRY: Duration = Duration::from_secs(1);

struct Entry {
    id: String,
    unix_ms: i64,
    notice: Notice,
}

impl Entry {
    /// Version 7 ids sort by time; the same id names the event in the stream and in every delivery.
    fn new(at: Timestamp, notice: Notice) -> Self {
        let id = format!("evt_{}", uuid::Uuid::now_v7().simple());
        Self { id, unix_ms: clock::unix_millis(clock::wall_at(at)), notice }
    }
}

/// The engine thread's end.
#[derive(Clone)]
pub struct Journal {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Journal {
    /// Hands over a notice. Never waits: when the queue is full, which takes a disk that hangs for
    /// thousands of notices, the notice is logged whole and counted as lost.
    pub fn tell(&self, at: Timestamp, notice: Notice) {
        match self.queue.try_send(Entry::new(at, notice)) {
            Ok(()) => {}
            Err(TrySendError::Full(entry) | TrySendError::Disconnected(entry)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                tracing::error!(kind = entry.notice.kind(), notice = %entry.notice, "notice lost: the journal is full");
            }
        }
    }

    /// Notices that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Which notices go to which endpoint.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The endpoint's name, under which its deliveries are kept.
    pub endpoint: String,
    /// Kinds that it receives.
    pub kinds: Vec<String>,
}

/// What the journal thread works with.
pub struct Parts {
    /// Its own connection, in the mode that survives a power loss.
    pub store: Store,
    /// Followers of the event stream.
    pub followers: Publisher,
    /// Rung when deliveries are due.
    pub due: Arc<Notify>,
    /// The endpoint, where one is configured.
    pub routing: Option<Routing>,
    /// This host's name, for receivers.
    pub host: String,
}

/// Starts the thread. It ends when every [`Journal`] is dropped and all is written.
///
/// # Errors
/// When no thread can be started.
pub fn start(parts: Parts) -> std::io::Result<(Journal, JoinHandle<()>)> {
    let (queue, entries) = sync_channel(QUEUE);
    let lost = Arc::new(AtomicU64::new(0));
    let mut writer = Writer {
        parts,
        backlog: VecDeque::new(),
        lost: Arc::clone(&lost),
        failing: false,
        log: Log::default(),
    };
    let thread =
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(&entries))?;
    Ok((Journal { queue, lost }, thread))
}

struct Writer {
    parts: Parts,
    backlog: VecDeque<Entry>,
    lost: Arc<AtomicU64>,
    failing: bool,
    log: Log,
}

/// What of the notices goes to the log.
#[derive(Default)]
struct Log {
    since: Timestamp,
    written: u32,
    kept_back: u64,
}

impl Log {
    /// Logs a notice, at `now`; the critical always.
    fn take(&mut self, entry: &Entry, now: Timestamp) {
        if now.since(self.since) >= LOG_WINDOW {
            if self.kept_back > 0 {
                tracing::info!(
                    notices = self.kept_back,
                    "more notices than are logged; all are in the events"
                );
            }
            *self = Self { since: now, ..Self::default() };
        }
        if self.written >= LOG_MOST && entry.notice.severity() != Severity::Critical {
            self.kept_back += 1;
            return;
        }
        self.written = self.written.saturating_add(1);
        tracing::info!(kind = entry.notice.kind(), id = entry.id, "{}", entry.notice);
    }
}

impl Writer {
    fn run(&mut self, entries: &Receiver<Entry>) {
        loop {
            let next = if self.backlog.is_empty() {
                entries.recv().map_err(|_closed| RecvTimeoutError::Disconnected)
            } else {
                entries.recv_timeout(RETRY)
            };
            match next {
                Ok(entry) => self.keep(entry),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write();
                    if !self.backlog.is_empty() {
                        tracing::error!(
                            notices = self.backlog.len(),
                            "stopping with notices that could not be written"
                        );
                    }
                    return;
                }
            }
            while self.backlog.len() < BATCH
                && let Ok(entry) = entries.try_recv()
            {
                self.keep(entry);
            }
            self.write();
        }
    }

    fn keep(&mut self, entry: Entry) {
        if self.backlog.len() >= BACKLOG {
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(kind = entry.notice.kind(), notice = %entry.notice, "notice lost: the disk refuses and the backlog is full");
            return;
        }
        self.backlog.push_back(entry);
    }

    fn write(&mut self) {
        while !self.backlog.is_empty() {
            match self.commit() {
                Ok(seqs) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("the journal can be written again");
                    }
                    let now = clock::now();
                    for (entry, seq) in self.backlog.drain(..seqs.len()).zip(seqs) {
                        self.log.take(&entry, now);
                        publish(&self.parts.followers, seq, entry);
                    }
                    self.parts.due.notify_one();
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(%error, waiting = self.backlog.len(), "cannot write the journal, trying again every second");
                    }
                    return;
                }
            }
        }
    }

    /// Writes the oldest of the backlog in one transaction and returns their numbers.
    fn commit(&mut self) -> Result<Vec<i64>, StoreError> {
        let Parts { store, routing, host, .. } = &mut self.parts;
        let batch = self.backlog.iter().take(BATCH);
        store.write(|tables| {
            let mut seqs = Vec::with_capacity(BATCH);
            for Entry { id, unix_ms, notice } in batch {
                seqs.push(tables.add_event(id, *unix_ms, notice)?);
                if let Some(Routing { endpoint, kinds }) = routing
                    && kinds.iter().any(|kind| kind == notice.kind())
                {
                    tables.enqueue(id, endpoint, &payload::standard(notice, *unix_ms, host), *unix_ms)?;
                }
            }
            Ok(seqs)
        })
    }
}

fn publish(followers: &Publisher, seq: i64, entry: Entry) {
    if !followers.has_readers() {
        return;
    }
    let kind = entry.notice.kind();
    let record = record(seq, entry.unix_ms, entry.notice);
    match serde_json::to_vec(&record) {
        Ok(json) => followers.publish(Line { kind, json: json.into() }),
        Err(error) => tracing::error!(%error, "an event cannot be written as JSON"),
    }
}

/// A stored event as the control socket tells it.
#[must_use]
pub fn record(seq: i64, unix_ms: i64, notice: Notice) -> EventRecord {
    let at = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    EventRecord::new(u64::try_from(seq).unwrap_or(0), at, notice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;
    use crate::store::events::EventFilter;

    fn test(detail: &str) -> Notice {
        Notice::Test { detail: detail.to_owned() }
    }

    #[test]
    fn what_is_told_is_kept_and_what_is_routed_is_owed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let open = || Store::open(&path, Durability::Power).unwrap().store;
        let (journal, thread) = start(Parts {
            store: open(),
            followers: Publisher::new(8),
            due: Arc::new(Notify::new()),
            routing: Some(Routing { endpoint: "a".to_owned(), kinds: vec!["test".to_owned()] }),
            host: "host-1".to_owned(),
        })
        .unwrap();
        journal.tell(clock::now(), Notice::ProfileActivated { profile: None });
        journal.tell(clock::now(), test("x"));
        drop(journal);
        thread.join().unwrap();

        let store = open();
        let events = store.read(|tables| tables.events(&EventFilter::default(), 10)).unwrap();
        assert_eq!(
            events.iter().map(|row| row.notice.kind()).collect::<Vec<_>>(),
            ["profile_activated", "test"]
        );
        let owed = store.read(|tables| tables.due(i64::MAX, 10)).unwrap();
        assert_eq!(
            owed.iter().map(|row| &row.event).collect::<Vec<_>>(),
            [&events[1].id],
            "the event's own id"
        );
    }

    #[test]
    fn a_flood_is_kept_back_from_the_log() {
        let now = clock::now();
        let mut log = Log::default();
        for _ in 0..LOG_MOST + 7 {
            log.take(&Entry::new(now, test("x")), now);
        }
        assert_eq!((log.written, log.kept_back), (LOG_MOST, 7));
        log.take(&Entry::new(now, test("x")), now.after(LOG_WINDOW));
        assert_eq!((log.written, log.kept_back), (1, 0));
    }
}
