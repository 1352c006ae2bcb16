//! The webhook task: takes what is due from the outbox, attempts it, and writes down what came of it. What
//! was pending when an agent died is due again at the next start.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock;
use crate::effect::webhook::deliver::{Attempt, Endpoint, delay_after};
use crate::store::outbox::Delivery;
use crate::store::{Store, StoreError};

/// Deliveries taken from the outbox at a time, in order.
const BATCH: u32 = 64;
/// Before the outbox is read again after it could not be.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// Delivers until it is dropped.
pub async fn run(mut store: Store, endpoint: Endpoint, due: Arc<Notify>) {
    loop {
        let wait = match deliver_due(&mut store, &endpoint).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "webhook outbox");
                Some(STORE_RETRY)
            }
        };
        let timer = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timer => {}
            () = due.notified() => {}
        }
    }
}

/// Attempts all that is due and returns how long until more is.
async fn deliver_due(store: &mut Store, endpoint: &Endpoint) -> Result<Option<Duration>, StoreError> {
    loop {
        let now = clock::unix_millis(clock::wall());
        let batch = store.read(|tables| tables.due(now, BATCH))?;
        if batch.is_empty() {
            let next = store.read(|tables| tables.next_due())?;
            return Ok(
                next.map(|at| Duration::from_millis(u64::try_from(at.saturating_sub(now)).unwrap_or(0)))
            );
        }
        for delivery in batch {
            attempt(store, endpoint, delivery).await?;
        }
    }
}

async fn attempt(store: &mut Store, endpoint: &Endpoint, delivery: Delivery) -> Result<(), StoreError> {
    let Delivery { id, event, body, attempts, .. } = delivery;
    let unix_seconds = clock::unix_millis(clock::wall()).div_euclid(1_000);
    let result = endpoint.post(&event, unix_seconds, body).await;
    let made = attempts.saturating_add(1);
    match result {
        Attempt::Delivered => {
            tracing::info!(event, attempts = made, "webhook delivered");
            store.write(|tables| tables.delivered(id))
        }
        Attempt::Refused { error } => dead(store, id, &event, made, &error),
        Attempt::Failed { error, retry_after } => match delay_after(made) {
            None => dead(store, id, &event, made, &error),
            Some(delay) => {
                let delay = delay.max(retry_after.unwrap_or_default());
                tracing::warn!(event, attempts = made, retry_in = ?delay, "webhook delivery failed: {error}");
                let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
                let next = clock::unix_millis(clock::wall()).saturating_add(delay_ms);
                store.write(|tables| tables.attempt_failed(id, &error, Some(next)))
            }
        },
    }
}

fn dead(store: &mut Store, id: i64, event: &str, made: u32, error: &str) -> Result<(), StoreError> {
    tracing::error!(event, attempts = made, "webhook delivery given up, kept as a dead letter: {error}");
    store.write(|tables| tables.attempt_failed(id, error, None))
}
