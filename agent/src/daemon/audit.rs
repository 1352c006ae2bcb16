//! The audit log of a running daemon: a thread of its own writes records and waits for the disk, so that nobody else
//! does. What cannot be written is counted, told in the status, and recorded as a gap once the disk has room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::audit::log::GAP;
use crate::audit::ship::{Bell, Report, Shipping};
use crate::audit::{Actor, Entry, Log, Outcome, notice};
use crate::clock;
use crate::model::chain::chain;
use crate::model::notice::Notice;
use crate::model::plural::counted;
use crate::model::trace::TraceId;

/// Records on their way to the thread.
const QUEUE: usize = 4_096;
/// Most records in one flush.
const BATCH: usize = 256;
/// How long an answer is held back for its record. A disk that hangs must not keep commands from being answered.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the threads know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// Records that could not be written since the start.
    failed: AtomicU64,
    /// Records that were written since the start.
    written: AtomicU64,
    /// Those that no record tells of yet.
    owed: AtomicU64,
}

impl Shared {
    fn lose(&self, records: u64) {
        self.failed.fetch_add(records, Ordering::Relaxed);
        self.owed.fetch_add(records, Ordering::Relaxed);
    }
}

struct Order {
    entry: Entry,
    written: Option<oneshot::Sender<()>>,
}

/// The other threads' end.
#[derive(Clone)]
pub struct Audit {
    /// In boxes, since the queue has the memory for all of its places from the start.
    queue: SyncSender<Box<Order>>,
    shared: Arc<Shared>,
    shipping: Report,
}

impl Audit {
    /// Records an event, with its trace if it has one. Never waits.
    pub fn notice(&self, id: &str, unix_ms: i64, notice: &Notice, trace: Option<TraceId>) {
        let entry = notice::entry(id, unix_ms, notice);
        let entry = match trace {
            None => entry,
            Some(trace) => entry.with("trace_id", trace),
        };
        self.send(Order { entry, written: None });
    }

    /// Records what the daemon does itself. Never waits.
    pub fn tell(&self, kind: &'static str, detail: impl Into<String>) {
        let entry = Entry::new(now(), kind, Actor::Daemon, "daemon").ended(Outcome::Success, detail);
        self.send(Order { entry, written: None });
    }

    /// Records, and waits until that is on the disk, if it does not take too long.
    pub async fn record(&self, entry: Entry) {
        let (written, done) = oneshot::channel();
        self.send(Order { entry, written: Some(written) });
        // A record that is not written has been counted and logged.
        drop(tokio::time::timeout(PATIENCE, done).await);
    }

    /// Records that could not be written since the start.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Records that were written since the start.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// What is in the way; empty when all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let failed = Some(self.failed()).filter(|failed| *failed > 0);
        let lost =
            failed.map(|failed| format!("{} could not be written", counted(failed, "record", "records")));
        lost.into_iter().chain(self.shipping.problems()).collect()
    }

    fn send(&self, order: Order) {
        let sent = self.queue.try_send(Box::new(order));
        if let Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) = sent {
            self.shared.lose(1);
            let Entry { kind, subject, detail, .. } = order.entry;
            tracing::error!(kind, subject, detail, "not in the audit log: too many records are waiting");
        }
    }
}

/// The threads.
#[derive(Debug)]
pub struct Running {
    writer: JoinHandle<()>,
    shipping: Shipping,
}

impl Running {
    /// Waits until all is written, which it is once every [`Audit`] is dropped; what is to be shipped gets `grace`.
    pub fn join(self, grace: Duration) {
        if self.writer.join().is_err() {
            tracing::error!(thread = "audit", "a thread panicked");
        }
        self.shipping.stop(grace);
    }
}

/// Starts the threads.
///
/// # Errors
/// When no thread can be started.
pub fn start(log: Log, shipping: Shipping) -> std::io::Result<(Audit, Running)> {
    let (queue, orders) = sync_channel(QUEUE);
    let shared = Arc::new(Shared::default());
    let audit = Audit { queue, shared: Arc::clone(&shared), shipping: shipping.report() };
    let mut writer = Writer { log, shared, bell: shipping.bell(), failing: false };
    let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&orders))?;
    Ok((audit, Running { writer, shipping }))
}

struct Writer {
    log: Log,
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    failing: bool,
}

impl Writer {
    fn run(&mut self, orders: &Receiver<Box<Order>>) {
        while let Ok(order) = orders.recv() {
            let mut batch = vec![*order];
            batch.extend(orders.try_iter().take(BATCH - 1).map(|order| *order));
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Vec<Order>) {
        let owed = self.shared.owed.load(Ordering::Relaxed);
        let (mut entries, mut waiting) = (Vec::with_capacity(batch.len() + 1), Vec::new());
        if owed > 0 {
            let detail =
                format!("{} before this one could not be written", counted(owed, "record", "records"));
            let entry = Entry::new(now(), GAP, Actor::Daemon, "audit log").ended(Outcome::Failure, detail);
            entries.push(entry.with("missing", owed));
        }
        let records = batch.len() as u64;
        for Order { entry, written } in batch {
            entries.push(entry);
            waiting.extend(written);
        }
        match self.log.append(&entries) {
            Ok(_seq) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(missing = owed, "the audit log can be written again");
                }
                self.shared.written.fetch_add(entries.len() as u64, Ordering::Relaxed);
                self.shared.owed.fetch_sub(owed, Ordering::Relaxed);
                self.bell.ring();
            }
            Err(error) => {
                self.shared.lose(records);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!("the audit log cannot be written: {}", chain(&error));
                }
                for Entry { kind, actor, subject, detail, .. } in entries.iter().filter(|one| one.kind != GAP)
                {
                    tracing::warn!(kind, %actor, subject, detail, "not in the audit log");
                }
            }
        }
        for written in waiting {
            if written.send(()).is_err() {
                tracing::debug!("whoever asked has not waited for the record");
            }
        }
    }
}

/// Now, as records have it.
pub(super) fn now() -> i64 {
    clock::unix_millis(clock::wall())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::files::Place;
    use crate::audit::query::{Filter, search, stats};
    use crate::audit::verify::verify;
    use crate::model::audit::Rotation;

    #[test]
    fn what_could_not_be_written_is_counted_and_told_when_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path().join("log"));
        // A file where the directory should be refuses as a full disk does.
        std::fs::write(place.dir(), "").unwrap();
        let log = Log::new(place.clone(), Rotation::DEFAULT);
        let (audit, running) = start(log, Shipping::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = |subject: &str| audit.record(Entry::new(1, "request.release", Actor::uid(0), subject));
        runtime.block_on(ask("a"));
        runtime.block_on(ask("b"));
        assert_eq!(audit.failed(), 2);
        assert_eq!(audit.problems(), ["2 records could not be written"]);
        std::fs::remove_file(place.dir()).unwrap();
        runtime.block_on(ask("c"));
        runtime.block_on(ask("d"));
        assert_eq!(audit.failed(), 2, "it stays told");
        assert_eq!(audit.written(), 3, "the gap is a record");
        drop(audit);
        running.join(Duration::ZERO);
        let found = search(&place, &Filter::default(), 10).unwrap();
        let kinds: Vec<_> = found.records.iter().map(|record| record.body.kind.as_str()).collect();
        assert_eq!(kinds, [GAP, "request.release", "request.release"]);
        assert_eq!(stats(&place).unwrap().missing, 2);
        assert!(verify(&place).unwrap().intact);
    }
}
