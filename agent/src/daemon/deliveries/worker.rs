//! One endpoint's task: attempts what is first in line when it may, and has what came of it written down. Never
//! sends a later delivery before an earlier one, and never takes more into memory than a handful.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::gauge::Gauge;
use super::ledger::{Ledger, LedgerError};
use super::lock;
use super::settling::{Settled, write_down};
use super::steps::Steps;
use crate::clock;
use crate::daemon::journal::Journal;
use crate::effect::fail_point::{FailPoints, Point};
use crate::effect::webhook::deliver::breaker::Breaker;
use crate::effect::webhook::deliver::client::{Attempt, Poster};
use crate::effect::webhook::deliver::judge::Verdict;
use crate::effect::webhook::deliver::limiter::Limiter;
use crate::effect::webhook::deliver::schedule::{LONGEST, MOST_REJECTED, wait_after};
use crate::model::notice::Notice;
use crate::model::time::{Timestamp, millis};
use crate::model::trace::TraceContext;
use crate::store::attempts::{AttemptRow, Fate};
use crate::store::endpoints::EndpointRow;
use crate::store::outbox::Delivery;
use crate::telemetry::outlet::Delivered;

/// Deliveries taken from the outbox at a time.
const BATCH: u32 = 32;
/// What was delivered is written down after this, or when there are [`BATCH`] of them: each commit waits for the
/// disk. Whoever dies in between delivers those again, under the same ids.
const SETTLE_WITHIN: Duration = Duration::from_millis(100);
/// Before the outbox is asked again after it could not be.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// Longest sleep: the wall clock may be set, and deliveries may be given up for want of room.
const NAP: Duration = Duration::from_secs(60);

/// What a task shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Deliver.
    Work,
    /// Deliver what is due, then end.
    Drain,
    /// End after the attempt that is under way.
    Finish,
    /// End at once.
    Abort,
}

/// What a task is rung with.
#[derive(Clone, Debug, Default)]
pub(super) struct Bells {
    /// Something was added to the outbox, behind all that is owed.
    pub(super) more: Arc<Notify>,
    /// What is owed has changed, or may be sent again.
    pub(super) again: Arc<Notify>,
}

/// What to do next.
enum Next {
    /// Look at the outbox again.
    Look,
    /// Nothing more.
    End,
}

/// See the module.
pub(super) struct Worker {
    poster: Poster,
    name: String,
    ledger: Ledger,
    gauge: Arc<Mutex<Gauge>>,
    orders: watch::Receiver<Order>,
    bells: Bells,
    journal: Option<Journal>,
    fail: FailPoints,
    limiter: Limiter,
    breaker: Breaker,
    steps: Steps,
    /// Attempts that are not written down yet, and since when.
    unsettled: Vec<Settled>,
    since: Timestamp,
}

impl Worker {
    pub(super) fn new(
        poster: Poster,
        ledger: Ledger,
        gauge: Arc<Mutex<Gauge>>,
        orders: watch::Receiver<Order>,
        bells: Bells,
        journal: Option<Journal>,
        fail: FailPoints,
    ) -> Self {
        Self {
            name: poster.endpoint().name.to_string(),
            limiter: Limiter::new(poster.endpoint().rate),
            poster,
            ledger,
            gauge,
            orders,
            bells,
            journal,
            fail,
            breaker: Breaker::default(),
            steps: Steps::begin(),
            unsettled: Vec::new(),
            since: Timestamp::ZERO,
        }
    }

    /// Delivers until it is told to end.
    pub(super) async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(Next::Look) => {}
                Ok(Next::End) | Err(LedgerError::Closed) => return,
                Err(LedgerError::Store(error)) => {
                    tracing::error!(endpoint = self.name, %error, "webhook outbox");
                    if self.order() != Order::Work {
                        return;
                    }
                    self.rest(STORE_RETRY).await;
                }
            }
        }
    }

    fn order(&self) -> Order {
        // Whoever gave orders is gone: the agent ends.
        if self.orders.has_changed().is_err() { Order::Abort } else { *self.orders.borrow() }
    }

    /// Takes what is first in line and delivers as much of it as may be delivered now.
    async fn turn(&mut self) -> Result<Next, LedgerError> {
        // What the disk refused before: nothing is taken again that was delivered already.
        self.settle().await?;
        if matches!(self.order(), Order::Finish | Order::Abort) {
            return Ok(Next::End);
        }
        let name = self.name.clone();
        let set_back = self.steps.look();
        let (known, owed) = self
            .ledger
            .run(move |store| {
                if let Some((by, now)) = set_back {
                    store.write(|tables| tables.set_back(&name, by, now))?;
                }
                store.read(|tables| Ok((tables.endpoint_row(&name)?, tables.pending(&name, BATCH)?)))
            })
            .await?;
        let EndpointRow { failures, not_before, disabled, .. } = known;
        self.breaker = Breaker { failures, not_before };
        if disabled.is_some() || owed.is_empty() {
            if self.order() != Order::Work {
                return Ok(Next::End);
            }
            self.wait_for_change().await;
            return Ok(Next::Look);
        }
        self.fail.pass(Point::DeliveryTaken);
        for delivery in owed {
            if let Some(wait) = self.wait(&delivery) {
                self.settle().await?;
                if self.order() != Order::Work {
                    return Ok(Next::End);
                }
                self.rest(wait.min(NAP)).await;
                return Ok(Next::Look);
            }
            let Some(attempt) = self.attempt(&delivery).await else { return Ok(Next::Look) };
            self.fail.pass(Point::DeliveryAnswered);
            let failed = attempt.verdict != Verdict::Delivered;
            self.note(&delivery, attempt).await?;
            // After a failure the same one is first in line again.
            if failed || matches!(self.order(), Order::Finish | Order::Abort) {
                return Ok(Next::Look);
            }
            if clock::now().since(self.since) >= SETTLE_WITHIN {
                self.settle().await?;
            }
        }
        Ok(Next::Look)
    }

    /// How long the delivery that is first in line has to wait; `None` when it is due.
    fn wait(&self, delivery: &Delivery) -> Option<Duration> {
        let now = clock::unix_millis(clock::wall());
        let ready = self.breaker.ready_at(delivery.next_attempt).saturating_sub(now);
        let ready = Duration::from_millis(u64::try_from(ready).unwrap_or(0));
        // Farther off than any wait there is: the clock was wrong when it was written down.
        let ready = if ready > LONGEST { Duration::ZERO } else { ready };
        Some(ready.max(self.limiter.wait(clock::now()))).filter(|wait| !wait.is_zero())
    }

    /// One attempt; `None` when it was broken off by an order.
    async fn attempt(&mut self, delivery: &Delivery) -> Option<Attempt> {
        let begun_ns = clock::unix_nanos(clock::wall());
        let trace = delivery.trace.map(|context| context.attempt(&self.name, begun_ns));
        let attempt = self.try_once(delivery, trace).await?;
        if let (Some(cause), Some(context), Some(journal)) = (delivery.trace, trace, &self.journal) {
            let server = self.poster.server();
            journal.outlet().delivered(&Delivered {
                cause,
                context,
                event: &delivery.event,
                endpoint: &self.name,
                server: server.as_ref().map(|(host, port)| (host.as_str(), *port)),
                time_ns: (begun_ns, clock::unix_nanos(clock::wall())),
                before: delivery.attempts,
                status: attempt.status,
                error: attempt.error.as_deref(),
            });
        }
        Some(attempt)
    }

    async fn try_once(&mut self, delivery: &Delivery, trace: Option<TraceContext>) -> Option<Attempt> {
        self.limiter.take(clock::now());
        let Self { poster, ledger, name, breaker, unsettled, orders, .. } = self;
        let mut attempt = std::pin::pin!(poster.post(&delivery.event, delivery.body.clone(), trace));
        if !unsettled.is_empty() {
            // A receiver that hangs must not keep what was delivered before from being written down.
            match tokio::time::timeout(SETTLE_WITHIN, &mut attempt).await {
                Ok(attempt) => return Some(attempt),
                Err(_elapsed) => {
                    if let Err(error) = write_down(ledger, name, *breaker, unsettled, &self.fail).await {
                        tracing::error!(endpoint = name, %error, "deliveries that arrived are noted later");
                    }
                }
            }
        }
        let aborted = orders.wait_for(|order| *order == Order::Abort);
        tokio::select! {
            biased;
            attempt = attempt => Some(attempt),
            _aborted = aborted => None,
        }
    }

    /// Draws the consequences of an attempt.
    async fn note(&mut self, delivery: &Delivery, attempt: Attempt) -> Result<(), LedgerError> {
        let now = clock::unix_millis(clock::wall());
        let fate = self.fate(delivery, attempt.verdict, now);
        let (id, event, endpoint) = (delivery.id, delivery.event.as_str(), self.name.as_str());
        let error = attempt.error.as_deref().unwrap_or_default();
        {
            let mut gauge = lock(&self.gauge);
            gauge.count(&attempt);
            match fate {
                Fate::Delivered { attempts } => {
                    tracing::debug!(endpoint, event, attempts, "webhook delivered");
                }
                Fate::Later { attempts, next_attempt, .. } => {
                    let at = self.breaker.ready_at(next_attempt).saturating_sub(now);
                    tracing::warn!(
                        endpoint,
                        event,
                        attempts,
                        retry_in_ms = at,
                        "webhook delivery failed: {error}"
                    );
                }
                Fate::Dead { attempts } => {
                    gauge.dead += 1;
                    tracing::error!(
                        endpoint,
                        event,
                        attempts,
                        "webhook delivery given up, kept as a dead letter: {error}"
                    );
                }
            }
        }
        let gone = attempt.verdict == Verdict::Gone;
        let delivered = attempt.verdict == Verdict::Delivered;
        let row = AttemptRow {
            at: now,
            status: attempt.status,
            latency_ms: millis(attempt.latency),
            error: attempt.error,
            answer: attempt.answer,
        };
        if self.unsettled.is_empty() {
            self.since = clock::now();
        }
        self.unsettled.push(Settled { delivery: id, fate, attempt: row });
        if gone {
            self.disable(now).await?;
        }
        if delivered { Ok(()) } else { self.settle().await }
    }

    /// What becomes of a delivery, and of the breaker. A probe that fails leaves the delivery's schedule alone.
    fn fate(&mut self, delivery: &Delivery, verdict: Verdict, now: i64) -> Fate {
        let probe = self.breaker.is_open() && now < delivery.next_attempt;
        let attempts = delivery.attempts.saturating_add(u32::from(!probe));
        let retry_after = match verdict {
            Verdict::Delivered => {
                self.breaker.succeeded();
                return Fate::Delivered { attempts };
            }
            Verdict::Later { retry_after } => retry_after,
            Verdict::Rejected | Verdict::Gone => None,
        };
        self.breaker.failed(now, retry_after);
        let rejected = delivery.rejected.saturating_add(u32::from(verdict == Verdict::Rejected));
        if verdict == Verdict::Gone {
            // It is the endpoint that is at an end, not the delivery.
            return Fate::Later { attempts: delivery.attempts, rejected, next_attempt: now };
        }
        if probe && rejected < MOST_REJECTED {
            return Fate::Later { attempts, rejected, next_attempt: delivery.next_attempt };
        }
        match wait_after(attempts, &delivery.event) {
            Some(wait) if rejected < MOST_REJECTED => {
                let wait = wait.max(retry_after.unwrap_or_default());
                let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
                Fate::Later { attempts, rejected, next_attempt: now.saturating_add(wait) }
            }
            Some(_) | None => Fate::Dead { attempts },
        }
    }

    async fn disable(&self, now: i64) -> Result<(), LedgerError> {
        let why = "it answered 410 Gone";
        let name = self.name.clone();
        self.ledger.run(move |store| store.write(|tables| tables.disable_endpoint(&name, why, now))).await?;
        tracing::error!(endpoint = self.name, "webhook endpoint disabled: {why}");
        if let Some(journal) = &self.journal {
            let endpoint = self.poster.endpoint().name.clone();
            journal.tell(clock::now(), Notice::WebhookDisabled { endpoint, why: why.to_owned() });
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), LedgerError> {
        write_down(&self.ledger, &self.name, self.breaker, &mut self.unsettled, &self.fail).await
    }

    /// Sleeps until there may be something new.
    async fn wait_for_change(&mut self) {
        tokio::select! {
            () = self.bells.more.notified() => {}
            () = self.bells.again.notified() => {}
            _changed = self.orders.changed() => {}
        }
    }

    /// Sleeps, less when there is an order. What is added meanwhile is behind what is waited for.
    async fn rest(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.bells.again.notified() => {}
            _changed = self.orders.changed() => {}
        }
    }
}
