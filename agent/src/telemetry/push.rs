//! Pushes figures to a receiver of OTLP over HTTP, at an interval. Nothing is queued: a push that fails is counted and
//! told, and the next one has all that it had. Whatever the receiver does, there is one request and one body at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, redirect};
use tokio::sync::mpsc;

use super::otlp::{self, Origin};
use super::{Question, Reader, listener};
use crate::clock;
use crate::model::chain::chain;
use crate::model::telemetry::{Header, HeaderValue as Written, Otlp};
use crate::model::time::Timestamp;
use crate::sealed::{SecretError, read_private};

/// The first push comes after this, or after the interval if that is shorter: an agent that has just been started is
/// busy.
const FIRST: Duration = Duration::from_secs(5);
/// To establish a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time that a receiver may ask to be left alone.
const PATIENCE_MAX: Duration = Duration::from_secs(600);
/// What is read of an answer, in bytes.
const ANSWER_MAX: usize = 4_096;

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
    #[error("header {0}")]
    Secret(String, #[source] SecretError),
    #[error("header {0} cannot be sent: it is not one line of visible ASCII")]
    Header(String),
    #[error("read {0}")]
    CaFile(String, #[source] std::io::Error),
    #[error("{0} holds no certificates in PEM form")]
    Certificates(String),
    #[error("set up the client")]
    Client(#[source] reqwest::Error),
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    #[error("post")]
    Http(#[source] reqwest::Error),
    #[error("the receiver answered {0}")]
    Refused(StatusCode, Option<Duration>),
}

/// Pushes until it is dropped.
pub async fn run(otlp: Otlp, origin: Origin, questions: mpsc::Sender<Question>, pushes: Shared) {
    let mut client = None;
    let mut pause = FIRST.min(otlp.interval);
    loop {
        tokio::time::sleep(pause).await;
        let began = clock::now();
        let result = push(&otlp, &origin, &questions, &mut client).await;
        let asked = match &result {
            Err(PushError::Refused(_, Some(asked))) => (*asked).min(PATIENCE_MAX),
            Ok(_) | Err(_) => Duration::ZERO,
        };
        note(&mut lock(&pushes), result, &otlp.url);
        pause = otlp.interval.saturating_sub(clock::now().since(began)).max(asked);
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

async fn push(
    otlp: &Otlp,
    origin: &Origin,
    questions: &mpsc::Sender<Question>,
    client: &mut Option<Client>,
) -> Result<(u64, String), PushError> {
    let figures = tokio::time::timeout(otlp.timeout, listener::ask(questions, Reader::Otlp)).await;
    let figures = figures.map_err(|_elapsed| PushError::NoFigures("figures took too long".to_owned()))?;
    let body = {
        let families = figures.map_err(PushError::NoFigures)?;
        let now = u64::try_from(clock::unix_millis(clock::wall())).unwrap_or(0).saturating_mul(1_000_000);
        otlp::request(&families, origin, now)
    };
    let headers = headers(&otlp.headers)?;
    let client = match client {
        Some(client) => client,
        None => client.insert(build(otlp)?),
    };
    let sent = client.post(&otlp.url).headers(headers).body(body).send().await;
    let response = sent.map_err(|error| {
        if error.is_timeout() {
            PushError::Timeout(otlp.timeout)
        } else {
            PushError::Http(error.without_url())
        }
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(otlp::rejected(&first_bytes(response).await));
    }
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Err(PushError::Refused(status, asked.map(Duration::from_secs)))
}

/// The headers, with what their files hold now.
fn headers(written: &[Header]) -> Result<HeaderMap, PushError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(otlp::CONTENT_TYPE));
    for Header { name, value } in written {
        let unusable = || PushError::Header(name.clone());
        let mut value = match value {
            Written::Plain(text) => HeaderValue::from_str(text).map_err(|_invalid| unusable())?,
            Written::File(path) => {
                let bytes = read_private(path).map_err(|error| PushError::Secret(name.clone(), error))?;
                HeaderValue::from_bytes(bytes.trim_ascii()).map_err(|_invalid| unusable())?
            }
        };
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name.as_str()).map_err(|_invalid| unusable())?, value);
    }
    Ok(headers)
}

fn build(otlp: &Otlp) -> Result<Client, PushError> {
    // Installing it twice is harmless: the first provider stays.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(concat!("process-throttler/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // What the environment says of proxies is not for what root sends.
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT.min(otlp.timeout))
        .timeout(otlp.timeout)
        .pool_max_idle_per_host(1);
    if let Some(path) = &otlp.ca_file {
        let shown = path.display().to_string();
        let pem = std::fs::read(path).map_err(|error| PushError::CaFile(shown.clone(), error))?;
        let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
        builder = builder.tls_certs_only(certificates.ok_or(PushError::Certificates(shown))?);
    }
    builder.build().map_err(PushError::Client)
}

/// The beginning of an answer, as far as it comes. The client's timeout bounds how long.
async fn first_bytes(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend(chunk.iter().take(ANSWER_MAX.saturating_sub(bytes.len())));
    }
    bytes
}

#[cfg(test)]
mod tests;
