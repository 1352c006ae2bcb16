//! Brings what the outbox owes to the endpoints: one task for each of them, so that one that is dead delays no
//! other, and one thread that waits for the disk for all of them. What was pending when an agent died is due again
//! at the next start.

mod gauge;
mod ledger;
mod settling;
mod steps;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::control::failure::Failure;
use crate::daemon::journal::Journal;
use crate::effect::fail_point::FailPoints;
use crate::effect::webhook::deliver::client::{Attempt, Poster};
use crate::effect::webhook::payload;
use crate::model::alert::Told;
use crate::model::endpoint::Endpoint;
use crate::model::id::Name;
use crate::model::notice::Notice;
use crate::store::outbox::{DeliveryCount, DeliveryState};
use crate::store::{Store, Tables};

pub use gauge::Gauge;
pub use ledger::{Ledger, LedgerError};
use worker::{Bells, Order, Worker};

/// After the deadline of a stop, for writing down what was delivered.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// For a test event: less than the control socket gives a request.
const TEST_WITHIN: Duration = Duration::from_secs(25);

/// The tasks that deliver.
pub struct Dispatcher {
    ledger: Ledger,
    journal: Option<Journal>,
    host: String,
    fail: FailPoints,
    inner: Mutex<Inner>,
    bell: JoinHandle<()>,
    /// One for every task, rung when something was added to the outbox.
    rings: Arc<Mutex<Vec<Arc<Notify>>>>,
}

#[derive(Default)]
struct Inner {
    endpoints: Vec<Endpoint>,
    running: BTreeMap<Name, Running>,
    /// What endpoints did since the start of the agent, also of those whose configuration has changed since.
    gauges: BTreeMap<Name, Arc<Mutex<Gauge>>>,
}

/// A task and the ways to it.
struct Running {
    endpoint: Endpoint,
    orders: watch::Sender<Order>,
    bells: Bells,
    task: JoinHandle<()>,
}

impl Dispatcher {
    /// Starts a task for each enabled endpoint. `due` is rung when something was added to the outbox. Must be called
    /// within a runtime.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        store: Store,
        endpoints: Vec<Endpoint>,
        due: Arc<Notify>,
        journal: Option<Journal>,
        host: String,
    ) -> std::io::Result<Self> {
        let rings: Arc<Mutex<Vec<Arc<Notify>>>> = Arc::default();
        let all = Arc::clone(&rings);
        let bell = tokio::spawn(async move {
            loop {
                due.notified().await;
                lock(&all).iter().for_each(|ring| ring.notify_one());
            }
        });
        let dispatcher = Self {
            ledger: Ledger::start(store)?,
            journal,
            host,
            fail: FailPoints::from_environment(),
            inner: Mutex::default(),
            bell,
            rings,
        };
        dispatcher.replace(endpoints);
        Ok(dispatcher)
    }

    /// Takes over other endpoints as a whole: what is owed from now on, which the journal decides, and who delivers
    /// it. Either both, or neither.
    ///
    /// # Errors
    /// When the journal is full.
    pub fn route(&self, endpoints: Vec<Endpoint>) -> Result<(), Failure> {
        // First: only this can fail. What becomes owed before there is a task for it is found when that one starts.
        self.journal.as_ref().map_or(Ok(()), |journal| journal.route(endpoints.clone()))?;
        self.replace(endpoints);
        Ok(())
    }

    /// Goes on with these endpoints. One that has changed gets a new task, which waits for the end of the attempt
    /// that is under way; one that is not there any more keeps what is owed to it, in case it comes back.
    fn replace(&self, endpoints: Vec<Endpoint>) {
        let mut inner = lock(&self.inner);
        let mut before = std::mem::take(&mut inner.running);
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.enabled) {
            let name = endpoint.name.clone();
            let running = match before.remove(&name) {
                Some(running) if running.endpoint == *endpoint => running,
                changed => self.spawn(&mut inner, endpoint.clone(), changed),
            };
            inner.running.insert(name, running);
        }
        for running in before.values() {
            running.orders.send_replace(Order::Finish);
        }
        self.tell_orphans(&endpoints);
        inner.endpoints = endpoints;
        // Whoever replaces endpoints may have enabled one.
        inner.running.values().for_each(|running| running.bells.again.notify_one());
        *lock(&self.rings) = inner.running.values().map(|running| Arc::clone(&running.bells.more)).collect();
    }

    /// Logs what is owed to endpoints that are not there.
    fn tell_orphans(&self, endpoints: &[Endpoint]) {
        let ledger = self.ledger.clone();
        let names: Vec<String> = endpoints.iter().map(|endpoint| endpoint.name.to_string()).collect();
        tokio::spawn(async move {
            match ledger.run(|store| store.read(Tables::delivery_counts)).await {
                Ok(counts) => {
                    let owed = counts.iter().filter(|count| count.state == DeliveryState::Pending);
                    for DeliveryCount { endpoint, count, .. } in
                        owed.filter(|one| !names.contains(&one.endpoint))
                    {
                        tracing::warn!(
                            endpoint,
                            "{count} deliveries are owed to an endpoint that is not configured"
                        );
                    }
                }
                Err(error) => tracing::warn!(%error, "webhook outbox"),
            }
        });
    }

    fn spawn(&self, inner: &mut Inner, endpoint: Endpoint, before: Option<Running>) -> Running {
        let (orders, order) = watch::channel(Order::Work);
        let bells = Bells::default();
        let gauge = Arc::clone(inner.gauges.entry(endpoint.name.clone()).or_default());
        let worker = Worker::new(
            Poster::new(endpoint.clone()),
            self.ledger.clone(),
            gauge,
            order,
            bells.clone(),
            self.journal.clone(),
            self.fail.clone(),
        );
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                before.orders.send_replace(Order::Finish);
                ended(before.task, &before.endpoint.name).await;
            }
            worker.run().await;
        });
        Running { endpoint, orders, bells, task }
    }

    /// Looks at the queues again, because a delivery was replayed or an endpoint enabled.
    pub fn look_again(&self) {
        lock(&self.inner).running.values().for_each(|running| running.bells.again.notify_one());
    }

    /// Delivers what is due within `patience`, writes down what was delivered, and ends. What is left is due at the
    /// next start.
    pub async fn stop(&self, patience: Duration) {
        let running = std::mem::take(&mut lock(&self.inner).running);
        running.values().for_each(|running| {
            running.orders.send_replace(Order::Drain);
        });
        let (orders, tasks): (Vec<_>, Vec<_>) =
            running.into_iter().map(|(name, running)| (running.orders, (name, running.task))).unzip();
        let mut all = std::pin::pin!(async {
            for (name, task) in tasks {
                ended(task, &name).await;
            }
        });
        if tokio::time::timeout(patience, &mut all).await.is_err() {
            orders.iter().for_each(|orders| {
                orders.send_replace(Order::Abort);
            });
            if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
                tracing::warn!(
                    "some deliveries that arrived may be sent once more: the disk is too slow to note them"
                );
            }
        }
        self.bell.abort();
    }

    /// Where questions on the outbox are asked.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The endpoints, as configured.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        lock(&self.inner).endpoints.clone()
    }

    /// What each endpoint did since the start of the agent.
    #[must_use]
    pub fn gauges(&self) -> BTreeMap<Name, Gauge> {
        let inner = lock(&self.inner);
        inner.gauges.iter().map(|(name, gauge)| (name.clone(), lock(gauge).clone())).collect()
    }

    /// Sends a test event to an endpoint, past its queue; `None` when there is no such endpoint.
    pub async fn test(&self, name: &Name, detail: &str) -> Option<(String, Attempt)> {
        let endpoint = self.endpoints().into_iter().find(|endpoint| endpoint.name == *name)?;
        Some(test(endpoint, detail, &self.host).await)
    }
}

/// Sends a test event to an endpoint and returns its id and what came of it. Somebody waits for it, so it takes at
/// most [`TEST_WITHIN`].
pub async fn test(endpoint: Endpoint, detail: &str, host: &str) -> (String, Attempt) {
    let endpoint = Endpoint { timeout: endpoint.timeout.min(TEST_WITHIN), ..endpoint };
    let id = format!("evt_{}", uuid::Uuid::now_v7().simple());
    let notice = Notice::Test { detail: detail.to_owned() };
    let unix_ms = clock::unix_millis(clock::wall());
    let told = Told { id: &id, notice: &notice, unix_ms, host, alert: None, alike: 1, trace: None };
    let body = payload::render(endpoint.format, &told).body;
    let attempt = Poster::new(endpoint).post(&id, body, None).await;
    (id, attempt)
}

async fn ended(task: JoinHandle<()>, name: &Name) {
    if let Err(error) = task.await {
        tracing::error!(endpoint = %name, %error, "the task of an endpoint broke off");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
