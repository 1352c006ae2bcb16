//! Makes notices durable and public: one thread writes events, alerts and outbox rows in one transaction, then
//! tells followers and the webhook task. The engine thread never waits on the disk for it.
//!
//! A notice that cannot be written is kept in memory, tried again every second, and said so: it is not
//! dropped while there is room, and what is dropped is counted and logged.

mod log;
mod message;
mod writer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::alert::{Ledger, Moment, Saved};
use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::EventRecord;
use crate::control::stream::Publisher;
use crate::daemon::audit::Audit;
use crate::daemon::journal::log::Log;
use crate::daemon::journal::message::{Acknowledge, Entry, Message};
use crate::daemon::journal::writer::Writer;
use crate::model::alert::{Acknowledgement, Standing};
use crate::model::endpoint::Endpoint;
use crate::model::id::Name;
use crate::model::notice::Notice;
use crate::model::rule::Profile;
use crate::model::time::Timestamp;
use crate::model::trace::Course;
use crate::store::{Store, StoreError};
use crate::telemetry::outlet::Outlet;

/// Messages on their way to the journal thread.
const QUEUE: usize = 4_096;

/// What the threads know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// Notices that found no room.
    lost: AtomicU64,
    /// Deliveries that found none.
    overflown: AtomicU64,
    /// Messages in the queue.
    queued: AtomicU64,
    /// Notices that came out of it, by type. For the journal thread and whoever reads metrics.
    told: Mutex<BTreeMap<&'static str, u64>>,
    /// See [`Journal::refused`].
    refused: AtomicBool,
    /// Notices that wait for the disk.
    waiting: AtomicU64,
    /// See [`Journal::has_endpoints`].
    endpoints: AtomicBool,
    /// See [`Journal::awaits_life`].
    awaits_life: AtomicBool,
}

/// The other threads' end.
#[derive(Clone)]
pub struct Journal {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    outlet: Arc<Outlet>,
}

impl Journal {
    /// Hands over a notice. Never waits: when the queue is full, which takes a disk that hangs for
    /// thousands of notices, the notice is logged whole and counted as lost.
    pub fn tell(&self, at: Timestamp, notice: Notice) {
        self.tell_of(at, notice, None);
    }

    /// The same with how the action went that it tells of.
    pub fn tell_of(&self, at: Timestamp, notice: Notice, course: Option<Course>) {
        let sent = self.put(Message::Notice(Box::new(Entry { course, ..Entry::new(at, notice) })));
        if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) = sent
            && let Message::Notice(entry) = message
        {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(kind = entry.notice.kind(), notice = %entry.notice, "notice lost: the journal is full");
        }
    }

    /// What others are told by OTLP.
    #[must_use]
    pub fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Notices that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Notices since the start, by type.
    #[must_use]
    pub fn told(&self) -> BTreeMap<&'static str, u64> {
        self.shared.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is in the queue, and what waits for the disk.
    #[must_use]
    pub fn on_their_way(&self) -> u64 {
        self.shared.queued.load(Ordering::Relaxed) + self.shared.waiting.load(Ordering::Relaxed)
    }

    /// While the disk refuses what is to be written: how many notices wait for it in memory.
    #[must_use]
    pub fn refused(&self) -> Option<u64> {
        let refused = self.shared.refused.load(Ordering::Relaxed);
        refused.then(|| self.shared.waiting.load(Ordering::Relaxed))
    }

    /// Whether there is anybody to deliver to.
    #[must_use]
    pub fn has_endpoints(&self) -> bool {
        self.shared.endpoints.load(Ordering::Relaxed)
    }

    /// Deliveries that were given up since the start because too many were pending for their endpoint.
    #[must_use]
    pub fn overflown(&self) -> u64 {
        self.shared.overflown.load(Ordering::Relaxed)
    }

    /// Replaces the endpoints. What is owed to one of the same name stays owed.
    ///
    /// # Errors
    /// When the journal is full.
    pub fn route(&self, endpoints: Vec<Endpoint>) -> Result<(), Failure> {
        let some = !endpoints.is_empty();
        self.send(Message::Endpoints(endpoints))?;
        self.shared.endpoints.store(some, Ordering::Relaxed);
        Ok(())
    }

    /// A profile came into force, or none is any more: its critical processes can alert, and what they need holds
    /// their alerts back. Alerts of others are over.
    ///
    /// # Errors
    /// When the journal is full.
    pub fn watch(&self, profile: Option<&Profile>) -> Result<(), Failure> {
        let critical = profile.into_iter().flat_map(|profile| &profile.critical);
        let needs = critical.map(|critical| (critical.name.clone(), critical.dependencies.clone()));
        self.send(Message::Watched(needs.collect()))
    }

    /// Whether an earlier agent told that a critical process is down or missing, so that [`Self::alive`] is of
    /// use.
    #[must_use]
    pub fn awaits_life(&self) -> bool {
        self.shared.awaits_life.load(Ordering::Relaxed)
    }

    /// These critical processes live.
    ///
    /// # Errors
    /// When the journal is full.
    pub fn alive(&self, names: Vec<Name>) -> Result<(), Failure> {
        self.send(Message::Alive(names))
    }

    /// An alert of this type about this subject is over, which no event tells. Nothing happens if none stands.
    ///
    /// # Errors
    /// When the journal is full.
    pub fn over(&self, kind: &'static str, subject: &str) -> Result<(), Failure> {
        self.send(Message::Over { kind, subject: subject.to_owned() })
    }

    /// Somebody looks after the alerts of a critical process, for this time or until they end. Returns them, once
    /// that is on the disk; none stands if there are none.
    ///
    /// # Errors
    /// When the journal is full or cannot be written.
    pub async fn acknowledge(
        &self,
        name: Name,
        by: Acknowledgement,
        time: Option<Duration>,
    ) -> Result<Vec<Standing>, Failure> {
        let (answer, acknowledged) = oneshot::channel();
        self.send(Message::Acknowledge(Acknowledge { name, by, time, answer }))?;
        acknowledged.await.map_err(|_closed| Failure::new(FailureKind::Failed, "the daemon is stopping"))?
    }

    fn put(&self, message: Message) -> Result<(), TrySendError<Message>> {
        // Before the other end can take it out again.
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        self.queue.try_send(message).inspect_err(|_refused| {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
        })
    }

    fn send(&self, message: Message) -> Result<(), Failure> {
        self.put(message).map_err(|_full| {
            Failure::new(FailureKind::Failed, "the journal is full").with_hint("try again in a moment")
        })
    }
}

/// What the journal thread works with.
pub struct Parts {
    /// Its own connection, in the mode that survives a power loss.
    pub store: Store,
    /// Followers of the event stream.
    pub followers: Publisher,
    /// Rung when deliveries are due.
    pub due: Arc<Notify>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// This host's name, for receivers.
    pub host: String,
    /// Where every event is recorded.
    pub audit: Option<Audit>,
    /// And told by OTLP.
    pub outlet: Arc<Outlet>,
}

/// Starts the thread. It ends when every [`Journal`] is dropped and all is written.
///
/// # Errors
/// When no thread can be started.
pub fn start(parts: Parts) -> std::io::Result<(Journal, JoinHandle<()>)> {
    let (queue, messages) = sync_channel(QUEUE);
    let (shared, outlet) = (Arc::new(Shared::default()), Arc::clone(&parts.outlet));
    let mut writer = writer(parts, Arc::clone(&shared));
    let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        writer.run(&messages);
    })?;
    Ok((Journal { queue, shared, outlet }, thread))
}

fn writer(parts: Parts, shared: Arc<Shared>) -> Writer {
    let Parts { store, followers, due, endpoints, host, audit, outlet } = parts;
    let saved = saved(&store).unwrap_or_else(|error| {
        tracing::error!(%error, "alerts that stood cannot be read; they may be told again");
        Saved::default()
    });
    let at = Moment { now: clock::now(), unix_ms: clock::unix_millis(clock::wall()) };
    shared.endpoints.store(!endpoints.is_empty(), Ordering::Relaxed);
    let ledger = Ledger::new(host, endpoints, saved, at);
    let (backlog, log) = (VecDeque::new(), Log::default());
    shared.awaits_life.store(ledger.awaits_life(), Ordering::Relaxed);
    Writer {
        store,
        followers,
        due,
        ledger,
        backlog,
        batch: None,
        shared,
        failing: false,
        log,
        audit,
        outlet,
        unaudited: Vec::new(),
        tidy: None,
        commits: 0,
    }
}

fn saved(store: &Store) -> Result<Saved, StoreError> {
    let (alerts, bundles) = store.read(|tables| Ok((tables.alerts()?, tables.bundles()?)))?;
    let unreadable = alerts.unreadable + bundles.unreadable;
    if unreadable > 0 {
        tracing::error!(unreadable, "alerts that stood cannot be read; they may be told again");
    }
    Ok(Saved { alerts: alerts.rows, bundles: bundles.rows })
}

/// A stored event as the control socket tells it.
#[must_use]
pub fn record(seq: i64, unix_ms: i64, notice: Notice) -> EventRecord {
    let at = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    EventRecord::new(u64::try_from(seq).unwrap_or(0), at, notice)
}
