//! Pushes figures to a receiver of OTLP over HTTP, at an interval. Nothing is queued: a push that fails is counted and
//! told, and the next one has all that it had. Whatever the receiver does, there is one request and one body at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::otlp::{self, Origin};
use super::post::{PostError, Poster};
use super::{Question, Reader, listener};
use crate::clock;
use crate::model::chain::chain;
use crate::model::telemetry::Otlp;
use crate::model::time::Timestamp;

/// The first push comes after this, or after the interval if that is shorter: an agent that has just been started is
/// busy.
const FIRST: Duration = Duration::from_secs(5);

/// What came of the pushes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushes {
    /// Those that the receiver took.
    pub ok: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that failed since one succeeded.
    pub in_a_row: u64,
    /// Points that it took and rejected.
    pub rejected: u64,
    /// When one succeeded last.
    pub last_ok: Option<Timestamp>,
    /// Why the last one failed, or some of it was rejected; absent when all was well.
    pub trouble: Option<String>,
}

/// What came of the pushes so far, as several threads see it.
pub type Shared = Arc<Mutex<Pushes>>;

/// What came of the pushes so far.
pub fn lock(pushes: &Shared) -> MutexGuard<'_, Pushes> {
    pushes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a push failed. Never with a secret in it.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("{0}")]
    NoFigures(String),
    #[error(transparent)]
    Post(#[from] PostError),
}

/// Pushes to this URL until it is dropped.
pub async fn run(url: String, otlp: Otlp, origin: Origin, questions: mpsc::Sender<Question>, pushes: Shared) {
    let (timeout, interval) = (otlp.access.timeout, otlp.interval);
    let mut poster = Poster::new(otlp.access);
    let mut pause = FIRST.min(interval);
    loop {
        tokio::time::sleep(pause).await;
        let began = clock::now();
        let result = match figures(timeout, &origin, &questions).await {
            Ok(body) => push(&mut poster, &url, body).await,
            Err(why) => Err(PushError::NoFigures(why)),
        };
        let asked = match &result {
            Err(PushError::Post(error)) => error.asked(),
            Ok(_) | Err(PushError::NoFigures(_)) => Duration::ZERO,
        };
        note(&mut lock(&pushes), result, &url);
        pause = interval.saturating_sub(clock::now().since(began)).max(asked);
    }
}

fn note(pushes: &mut Pushes, result: Result<(u64, String), PushError>, url: &str) {
    match result {
        Ok((rejected, why)) => {
            if pushes.in_a_row > 0 {
                tracing::info!(url, "metrics are pushed again");
            }
            pushes.ok += 1;
            pushes.in_a_row = 0;
            pushes.rejected = pushes.rejected.saturating_add(rejected);
            pushes.last_ok = Some(clock::now());
            pushes.trouble = (rejected > 0).then(|| format!("{rejected} points were rejected: {why}"));
        }
        Err(error) => {
            let why = chain(&error);
            // A receiver that is down is one line, however long it is.
            if pushes.in_a_row == 0 {
                tracing::warn!(url, "metrics cannot be pushed: {why}");
            }
            pushes.failed += 1;
            pushes.in_a_row += 1;
            pushes.trouble = Some(why);
        }
    }
}

async fn figures(
    timeout: Duration,
    origin: &Origin,
    questions: &mpsc::Sender<Question>,
) -> Result<Vec<u8>, String> {
    let figures = tokio::time::timeout(timeout, listener::ask(questions, Reader::Otlp)).await;
    let families = figures.map_err(|_elapsed| "figures took too long".to_owned())??;
    Ok(otlp::metrics::request(&families, origin, clock::unix_nanos(clock::wall())))
}

async fn push(poster: &mut Poster, url: &str, body: Vec<u8>) -> Result<(u64, String), PushError> {
    Ok(otlp::rejected(&poster.post(url, body).await?))
}

#[cfg(test)]
mod tests;
