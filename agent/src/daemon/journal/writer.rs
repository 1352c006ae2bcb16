//! The journal thread: takes messages, has the ledger decide what is owed, and writes events, alerts and
//! deliveries in one transaction. A transaction that fails is tried again as it is: nothing is decided twice.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::log::Log;
use super::message::{Acknowledge, Answer, Entry, Message};
use super::{Shared, record};
use crate::alert::{Changes, Ledger, Moment};
use crate::audit;
use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::stream::{Line, Publisher};
use crate::daemon::audit::Audit;
use crate::daemon::privilege::Pace;
use crate::effect::webhook::payload;
use crate::model::alert::{Standing, Told};
use crate::model::chain::chain;
use crate::model::time::Timestamp;
use crate::store::owed::{Dropped, NewDelivery};
use crate::store::{Store, StoreError};
use crate::telemetry::outlet::Outlet;
use crate::telemetry::story::Happened;

/// Notices kept while the disk refuses them.
pub(super) const BACKLOG: usize = 8_192;
/// Most messages in one transaction.
const BATCH: usize = 256;
/// Most messages that are written before others run.
const FEW: usize = 16;
/// Most commits that are written back before others run: an alert that comes meanwhile waits for it.
const SHORT: usize = 64;
/// Between two attempts to write to a disk that refused.
const RETRY: Duration = Duration::from_secs(1);
/// After this long without a commit nobody is expected to wait for one.
const QUIET: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) followers: Publisher,
    pub(super) due: Arc<Notify>,
    pub(super) ledger: Ledger,
    pub(super) backlog: VecDeque<Message>,
    pub(super) batch: Option<Batch>,
    pub(super) shared: Arc<Shared>,
    pub(super) failing: bool,
    pub(super) log: Log,
    pub(super) audit: Option<Audit>,
    /// Taken up since the last attempt to write, and not in the audit log's queue yet.
    pub(super) unaudited: Vec<audit::Entry>,
    pub(super) outlet: Arc<Outlet>,
    /// When the database's log is to be written back, if there is something in it.
    pub(super) tidy: Option<Timestamp>,
    /// How many there are in it.
    pub(super) commits: usize,
}

/// What is decided and not written yet.
#[derive(Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    changes: Changes,
    answers: Vec<(Answer, Vec<Standing>)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.changes.is_empty() && self.answers.is_empty()
    }
}

/// What a transaction gave.
struct Written {
    /// Numbers of the events.
    seqs: Vec<i64>,
    /// What found no room in the outbox, by endpoint.
    dropped: Vec<(String, Dropped)>,
}

fn moment() -> Moment {
    Moment { now: clock::now(), unix_ms: clock::unix_millis(clock::wall()) }
}

impl Writer {
    /// Runs until all senders are gone and all is written, or cannot be.
    pub(super) fn run(&mut self, messages: &Receiver<Message>) {
        let mut pace = Pace::new();
        if let Err(error) = self.store.reserve_log() {
            tracing::warn!("{}", chain(&error));
        }
        loop {
            pace.come_first();
            let next = match self.patience() {
                None => messages.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
                Some(time) => messages.recv_timeout(time),
            };
            match next {
                Ok(message) => self.fetched(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    pace.step_back();
                    return self.finish();
                }
            }
            while self.backlog.len() < BATCH
                && let Ok(message) = messages.try_recv()
            {
                self.fetched(message);
            }
            if self.backlog.len() > FEW {
                pace.step_back();
            }
            self.write();
            if self.commits > SHORT {
                pace.step_back();
            }
            self.tidy_up();
            pace.step_back();
            self.tell_audit();
            self.say_what_waits();
            self.log.wake(clock::now());
        }
    }

    /// Takes what came out of the queue.
    fn fetched(&mut self, message: Message) {
        self.shared.queued.fetch_sub(1, Ordering::Relaxed);
        self.keep(message);
    }

    /// After the journal's own flush: two at once wait for each other in the file system, and an alert is owed by the
    /// journal's.
    fn tell_audit(&mut self) {
        if let Some(audit) = &self.audit {
            self.unaudited.drain(..).for_each(|entry| audit.notice(entry));
        }
    }

    /// For the other threads.
    fn say_what_waits(&self) {
        let waiting = u64::try_from(self.waiting()).unwrap_or(u64::MAX);
        self.shared.waiting.store(waiting, Ordering::Relaxed);
        self.shared.refused.store(self.failing, Ordering::Relaxed);
    }

    /// Notices that are not written yet.
    fn waiting(&self) -> usize {
        let is_notice = |message: &&Message| matches!(message, Message::Notice(_));
        self.backlog.iter().filter(is_notice).count()
            + self.batch.as_ref().map_or(0, |batch| batch.entries.len())
    }

    /// Writes the database's log back when nothing has been committed for a while.
    fn tidy_up(&mut self) {
        if self.tidy.is_none_or(|due| due > clock::now()) {
            return;
        }
        (self.tidy, self.commits) = (None, 0);
        if let Err(error) = self.store.checkpoint() {
            tracing::warn!("{}", chain(&error));
        }
    }

    /// How long to wait for a message; `None`: there is nothing else to do.
    fn patience(&self) -> Option<Duration> {
        if self.failing {
            return Some(RETRY);
        }
        let due = [self.ledger.due(), self.log.due(), self.tidy].into_iter().flatten().min();
        due.map(|due| due.since(clock::now()))
    }

    fn finish(&mut self) {
        self.write();
        self.tell_audit();
        self.log.finish();
        let waiting = self.waiting();
        if waiting > 0 {
            tracing::error!(notices = waiting, "stopping with notices that could not be written");
        }
    }

    pub(super) fn keep(&mut self, message: Message) {
        if let Message::Notice(entry) = &message {
            let mut told = self.shared.told.lock().unwrap_or_else(PoisonError::into_inner);
            *told.entry(entry.notice.kind()).or_default() += 1;
        }
        if let Message::Notice(entry) = &message {
            self.pass_on(entry);
        }
        match message {
            Message::Acknowledge(request) if self.failing => refuse(request),
            Message::Notice(entry) if self.backlog.len() >= BACKLOG => {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                tracing::error!(kind = entry.notice.kind(), notice = %entry.notice, "notice lost: the disk refuses and the backlog is full");
            }
            // The others are few: each takes a command or a signal.
            Message::Notice(_)
            | Message::Endpoints(_)
            | Message::Watched(_)
            | Message::Alive(_)
            | Message::Over { .. }
            | Message::Acknowledge(_) => self.backlog.push_back(message),
        }
    }

    /// Tells those who have queues of their own, and get what happens whatever the disk does.
    fn pass_on(&mut self, entry: &Entry) {
        let Entry { id, unix_ms, notice, at, course } = entry;
        let trace = self.outlet.context(id, notice);
        if self.audit.is_some() {
            let entry = audit::notice::entry(id, *unix_ms, notice);
            self.unaudited.push(match trace {
                None => entry,
                Some(context) => entry.with("trace_id", context.trace),
            });
        }
        let [at_ns, observed_ns] = [clock::wall_at(*at), clock::wall()].map(clock::unix_nanos);
        self.outlet.happened(&Happened { id, notice, at: *at, at_ns, observed_ns, course: *course, trace });
    }

    /// Writes all there is, or finds that the disk refuses.
    pub(super) fn write(&mut self) {
        loop {
            let batch = match self.batch.take() {
                Some(batch) => batch,
                None => self.decide(),
            };
            if batch.is_empty() {
                return;
            }
            match self.commit(&batch) {
                Ok(written) => self.settle(batch, written),
                Err(error) => {
                    self.batch = Some(self.postpone(batch, &error));
                    return;
                }
            }
        }
    }

    /// Lets the ledger decide about the oldest messages and what is due.
    fn decide(&mut self) -> Batch {
        let mut batch = Batch::default();
        let at = moment();
        for message in self.backlog.drain(..self.backlog.len().min(BATCH)) {
            match message {
                Message::Notice(entry) => {
                    self.ledger.note(&entry.id, &entry.notice, entry.unix_ms, at);
                    batch.entries.push(*entry);
                }
                Message::Endpoints(endpoints) => self.ledger.route(endpoints, at),
                Message::Watched(needs) => self.ledger.watch(needs, at),
                Message::Alive(names) => self.ledger.alive(&names, at),
                Message::Over { kind, subject } => self.ledger.over(kind, &subject, at),
                Message::Acknowledge(Acknowledge { name, by, time, answer }) => {
                    let acknowledged = self.ledger.acknowledge(&name, &by, time, at);
                    batch.answers.push((answer, acknowledged));
                }
            }
        }
        if self.ledger.due().is_some_and(|due| due <= at.now) {
            self.ledger.wake(at);
        }
        self.shared.awaits_life.store(self.ledger.awaits_life(), Ordering::Relaxed);
        batch.changes = self.ledger.take();
        batch
    }

    fn commit(&mut self, batch: &Batch) -> Result<Written, StoreError> {
        let Batch { entries, changes: Changes { owed, alerts, bundles }, answers: _ } = batch;
        let at = clock::unix_millis(clock::wall());
        let host = self.ledger.host();
        self.store.write(|tables| {
            let mut seqs = Vec::with_capacity(entries.len());
            for Entry { id, unix_ms, notice, .. } in entries {
                seqs.push(tables.add_event(id, *unix_ms, notice)?);
                tables.note_restart(*unix_ms, notice)?;
            }
            let mut endpoints = BTreeSet::new();
            for one in owed {
                let trace = self.outlet.context(&one.id, &one.notice);
                let told = Told { trace, ..one.told(host) };
                let body = payload::render(self.ledger.format(&one.endpoint), &told).body;
                let (event, endpoint, critical) = (one.id.as_str(), one.endpoint.as_str(), one.critical);
                tables.owe(NewDelivery { event, endpoint, body: &body, at, critical, trace })?;
                endpoints.insert(endpoint);
            }
            let mut dropped = Vec::with_capacity(endpoints.len());
            for endpoint in endpoints {
                dropped.push((endpoint.to_owned(), tables.bound(endpoint)?));
            }
            for (key, standing) in alerts {
                tables.put_alert(key, standing.as_ref())?;
            }
            for ((endpoint, alike), bundle) in bundles {
                tables.put_bundle(endpoint, alike, bundle.as_ref())?;
            }
            Ok(Written { seqs, dropped })
        })
    }

    fn settle(&mut self, batch: Batch, written: Written) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("the journal can be written again");
        }
        let Batch { entries, changes, answers } = batch;
        let now = clock::now();
        self.tidy = Some(now.after(QUIET));
        self.commits += 1;
        for (entry, seq) in entries.into_iter().zip(written.seqs) {
            self.log.take(&entry, now);
            publish(&self.followers, seq, entry);
        }
        for (endpoint, dropped) in written.dropped {
            let count = u64::try_from(dropped.critical + dropped.others).unwrap_or(u64::MAX);
            self.shared.overflown.fetch_add(count, Ordering::Relaxed);
            self.log.overflow(&endpoint, dropped, now);
        }
        if !changes.owed.is_empty() {
            self.due.notify_one();
        }
        for (answer, acknowledged) in answers {
            // Whoever asked may have gone away.
            drop(answer.send(Ok(acknowledged)));
        }
    }

    /// The disk refuses: whoever waits is told so.
    fn postpone(&mut self, mut batch: Batch, error: &StoreError) -> Batch {
        if !std::mem::replace(&mut self.failing, true) {
            let waiting = self.backlog.len() + batch.entries.len();
            tracing::error!(%error, waiting, "cannot write the journal, trying again every second");
        }
        for (answer, _) in batch.answers.drain(..) {
            let failure = Failure::from_error(FailureKind::Partial, error);
            drop(
                answer
                    .send(Err(failure.with_hint("it holds until the daemon ends, unless the disk recovers"))),
            );
        }
        batch
    }
}

fn refuse(request: Acknowledge) {
    let failure = Failure::new(FailureKind::Failed, "the journal cannot be written at present");
    drop(request.answer.send(Err(failure)));
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
