//! Questions and requests on webhook deliveries: answered from the outbox, by the daemon and, when none runs, by
//! commands.

use std::collections::BTreeMap;

use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{
    AttemptCounts, AttemptStatus, BreakerState, DELIVERIES_MAX, DeliveryDetail, DeliveryQuery,
    DeliveryStatus, Replayed, WebhookReplay, WebhookReplayed, WebhookState, WebhookTest, WebhookTested,
};
use crate::daemon::deliveries::{Gauge, LedgerError};
use crate::daemon::requests::Office;
use crate::effect::webhook::deliver::breaker::Breaker;
use crate::effect::webhook::deliver::client::Attempt;
use crate::effect::webhook::deliver::judge::Verdict;
use crate::model::delivery::DeliveryState;
use crate::model::endpoint::Endpoint;
use crate::model::id::Name;
use crate::model::time::millis;
use crate::store::attempts::AttemptRow;
use crate::store::endpoints::EndpointRow;
use crate::store::outbox::{Delivery, DeliveryFilter};
use crate::store::{Store, StoreError};

/// What a test event says.
pub const TEST_DETAIL: &str = "sent by process-throttler webhook test";

type Result<T> = std::result::Result<T, Failure>;

impl Office {
    /// How every endpoint fares.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub async fn webhook_states(&self) -> Result<Vec<WebhookState>> {
        let (endpoints, gauges) = (self.deliveries.endpoints(), self.deliveries.gauges());
        let states = self.deliveries.ledger().run(move |store| states(store, &endpoints, &gauges));
        states.await.map_err(refused)
    }

    /// Past and coming deliveries, newest first.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub async fn webhook_deliveries(&self, query: DeliveryQuery) -> Result<Vec<DeliveryStatus>> {
        self.deliveries.ledger().run(move |store| list(store, query)).await.map_err(refused)
    }

    /// One delivery.
    ///
    /// # Errors
    /// When there is none, or the outbox cannot be read.
    pub async fn webhook_delivery(&self, id: i64) -> Result<DeliveryDetail> {
        let found = self.deliveries.ledger().run(move |store| show(store, id)).await;
        found.map_err(refused)?.ok_or_else(|| no_delivery(id))
    }

    /// Owes deliveries again.
    ///
    /// # Errors
    /// When there is no such delivery, or the outbox cannot be written.
    pub async fn webhook_replay(&self, request: WebhookReplay) -> Result<WebhookReplayed> {
        let asked = request.clone();
        let replayed = self.deliveries.ledger().run(move |store| replay(store, &asked)).await;
        let replayed = found(&request, replayed.map_err(refused)?)?;
        self.deliveries.look_again();
        Ok(replayed)
    }

    /// Sends a test event.
    ///
    /// # Errors
    /// When there is no such endpoint. An attempt that fails is a result.
    pub async fn webhook_test(&self, request: WebhookTest) -> Result<WebhookTested> {
        let WebhookTest { endpoint } = request;
        match self.deliveries.test(&endpoint, TEST_DETAIL).await {
            Some((event, attempt)) => Ok(tested(endpoint, event, attempt)),
            None => Err(no_endpoint(&endpoint)),
        }
    }
}

fn refused(error: LedgerError) -> Failure {
    match error {
        LedgerError::Store(error) => Failure::from_error(FailureKind::Failed, &error),
        LedgerError::Closed => Failure::new(FailureKind::Conflict, "the daemon is stopping"),
    }
}

/// What to say when there is no such endpoint.
#[must_use]
pub fn no_endpoint(name: &Name) -> Failure {
    Failure::new(FailureKind::NotFound, format!("no webhook endpoint is named {name}"))
}

/// What to say when there is no such delivery.
#[must_use]
pub fn no_delivery(id: i64) -> Failure {
    Failure::new(FailureKind::NotFound, format!("there is no delivery {id}"))
        .with_hint("process-throttler webhook deliveries lists those that are kept")
}

/// A replay of one delivery that is not there has failed.
///
/// # Errors
/// Then.
pub fn found(request: &WebhookReplay, replayed: WebhookReplayed) -> Result<WebhookReplayed> {
    match request.which {
        Replayed::Id(id) if replayed.deliveries == 0 => Err(no_delivery(id)),
        Replayed::Id(_) | Replayed::Matching(_) => Ok(replayed),
    }
}

/// The outcome of a test event.
#[must_use]
pub fn tested(endpoint: Name, event: String, attempt: Attempt) -> WebhookTested {
    let delivered = attempt.verdict == Verdict::Delivered;
    let attempt = attempt_status(AttemptRow {
        at: clock::unix_millis(clock::wall()),
        status: attempt.status,
        latency_ms: millis(attempt.latency),
        error: attempt.error,
        answer: attempt.answer,
    });
    WebhookTested { endpoint, event, delivered, attempt }
}

/// How endpoints fare.
///
/// # Errors
/// When the outbox cannot be read.
fn states(
    store: &Store,
    endpoints: &[Endpoint],
    gauges: &BTreeMap<Name, Gauge>,
) -> std::result::Result<Vec<WebhookState>, StoreError> {
    let (rows, counts) = store.read(|tables| Ok((tables.endpoint_rows()?, tables.delivery_counts()?)))?;
    let count = |name: &Name, state| {
        let of = |count: &&crate::store::outbox::DeliveryCount| {
            count.endpoint == name.as_str() && count.state == state
        };
        counts.iter().find(of).map_or(0, |count| count.count)
    };
    let state = |endpoint: &Endpoint| {
        let name = &endpoint.name;
        let row = rows.iter().find(|row| row.name == name.as_str()).cloned().unwrap_or_default();
        let EndpointRow { failures, not_before, disabled, .. } = row;
        let gauge = gauges.get(name).cloned().unwrap_or_default();
        let open = Breaker { failures, not_before }.is_open();
        WebhookState {
            endpoint: name.clone(),
            enabled: endpoint.enabled,
            disabled,
            breaker: if open { BreakerState::Open } else { BreakerState::Closed },
            failures,
            not_before: not_before.map(moment),
            pending: count(name, DeliveryState::Pending),
            dead: count(name, DeliveryState::Dead),
            attempts: AttemptCounts {
                delivered: gauge.delivered,
                failed: gauge.failed,
                rejected: gauge.rejected,
            },
            given_up: gauge.dead,
            last_latency_ms: gauge.last_latency.map(millis),
            last_status: gauge.last_status,
            last_error: gauge.last_error,
        }
    };
    Ok(endpoints.iter().map(state).collect())
}

/// Deliveries, newest first.
///
/// # Errors
/// When the outbox cannot be read.
pub fn list(store: &Store, query: DeliveryQuery) -> std::result::Result<Vec<DeliveryStatus>, StoreError> {
    let limit = query.limit.unwrap_or(DELIVERIES_MAX).min(DELIVERIES_MAX);
    let rows = store.read(|tables| tables.deliveries(&filter(&query), limit))?;
    Ok(rows.into_iter().map(delivery_status).collect())
}

/// One delivery with its history.
///
/// # Errors
/// When the outbox cannot be read.
pub fn show(store: &Store, id: i64) -> std::result::Result<Option<DeliveryDetail>, StoreError> {
    store.read(|tables| {
        let Some(mut delivery) = tables.delivery(id)? else { return Ok(None) };
        let body = String::from_utf8_lossy(&std::mem::take(&mut delivery.body)).into_owned();
        let history = tables.attempts(id)?.into_iter().map(attempt_status).collect();
        Ok(Some(DeliveryDetail { delivery: delivery_status(delivery), body, history }))
    })
}

/// Owes deliveries again.
///
/// # Errors
/// When the outbox cannot be written.
pub fn replay(
    store: &mut Store,
    request: &WebhookReplay,
) -> std::result::Result<WebhookReplayed, StoreError> {
    let WebhookReplay { which, dry_run } = request;
    let now = clock::unix_millis(clock::wall());
    let deliveries = match which {
        Replayed::Id(id) if *dry_run => store.read(|tables| tables.delivery(*id))?.map_or(0, |_| 1),
        Replayed::Id(id) => store.write(|tables| tables.replay(*id, now))?.into(),
        Replayed::Matching(query) if *dry_run => {
            store.read(|tables| tables.count_deliveries(&filter(query)))?
        }
        Replayed::Matching(query) => store.write(|tables| tables.replay_all(&filter(query), now))?,
    };
    Ok(WebhookReplayed { deliveries, dry_run: *dry_run })
}

fn filter(query: &DeliveryQuery) -> DeliveryFilter {
    DeliveryFilter {
        endpoint: query.endpoint.as_ref().map(ToString::to_string),
        state: query.state,
        since: query.since_ms,
    }
}

fn delivery_status(delivery: Delivery) -> DeliveryStatus {
    let waits = delivery.state == DeliveryState::Pending;
    DeliveryStatus {
        id: delivery.id,
        event: delivery.event,
        endpoint: delivery.endpoint,
        state: delivery.state,
        created: moment(delivery.created),
        attempts: delivery.attempts,
        next_attempt: waits.then(|| moment(delivery.next_attempt)),
        last_error: delivery.last_error,
        bytes: delivery.bytes,
    }
}

fn attempt_status(row: AttemptRow) -> AttemptStatus {
    AttemptStatus {
        at: moment(row.at),
        status: row.status,
        latency_ms: row.latency_ms,
        error: row.error,
        answer: String::from_utf8_lossy(&row.answer).into_owned(),
    }
}

fn moment(unix_ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}
