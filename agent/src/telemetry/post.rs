//! Posts requests of OTLP to a receiver. Follows no redirect, and reads no more of an answer than it keeps.

use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Certificate, Client, Response, StatusCode, redirect};

use super::otlp;
use crate::clock;
use crate::model::telemetry::{Access, Header, HeaderValue as Written};
use crate::sealed::{SecretError, read_private};

/// To establish a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time that a receiver may ask to be left alone.
const PATIENCE_MAX: Duration = Duration::from_secs(600);
/// What is read of an answer, in bytes.
const ANSWER_MAX: usize = 4_096;

/// Why a request failed. Never with a secret in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
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

impl PostError {
    /// Whether the same request may be taken later. Of answers OTLP names those (specification, "Failures").
    pub(super) fn may_pass(&self) -> bool {
        // Files may be put right meanwhile.
        let Self::Refused(status, _) = self else { return true };
        matches!(
            *status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        )
    }

    /// How long the receiver asked to be left alone; none if it did not.
    pub(super) fn asked(&self) -> Duration {
        if let Self::Refused(_, Some(asked)) = self { *asked } else { Duration::ZERO }
    }
}

/// The way to a receiver, with its connection, which is kept between requests.
#[derive(Debug)]
pub(super) struct Poster {
    access: Access,
    client: Option<Client>,
}

impl Poster {
    /// For this receiver. Nothing is read or contacted yet.
    pub(super) const fn new(access: Access) -> Self {
        Self { access, client: None }
    }

    /// Posts a request, and returns the beginning of the answer.
    ///
    /// # Errors
    /// When it was not taken.
    pub(super) async fn post(&mut self, url: &str, body: impl Into<Body>) -> Result<Vec<u8>, PostError> {
        let headers = headers(&self.access.headers)?;
        let client = match &self.client {
            Some(client) => client,
            None => self.client.insert(build(&self.access)?),
        };
        let sent = client.post(url).headers(headers).body(body).send().await;
        let response = sent.map_err(|error| {
            if error.is_timeout() {
                PostError::Timeout(self.access.timeout)
            } else {
                PostError::Http(error.without_url())
            }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(first_bytes(response).await);
        }
        let asked =
            response.headers().get(RETRY_AFTER).and_then(|value| wait(value.to_str().ok()?, clock::wall()));
        Err(PostError::Refused(status, asked))
    }
}

/// `Retry-After` is seconds or a date (RFC 9110, 10.2.3). One that is neither asks for nothing.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    let until = || Some(httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default());
    Some(seconds.or_else(until)?.min(PATIENCE_MAX))
}

/// The headers, with what their files hold now.
fn headers(written: &[Header]) -> Result<HeaderMap, PostError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(otlp::CONTENT_TYPE));
    for Header { name, value } in written {
        let unusable = || PostError::Header(name.clone());
        let mut value = match value {
            Written::Plain(text) => HeaderValue::from_str(text).map_err(|_invalid| unusable())?,
            Written::File(path) => {
                let bytes = read_private(path).map_err(|error| PostError::Secret(name.clone(), error))?;
                HeaderValue::from_bytes(bytes.trim_ascii()).map_err(|_invalid| unusable())?
            }
        };
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name.as_str()).map_err(|_invalid| unusable())?, value);
    }
    Ok(headers)
}

fn build(access: &Access) -> Result<Client, PostError> {
    // Installing it twice is harmless: the first provider stays.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(concat!("process-throttler/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // What the environment says of proxies is not for what root sends.
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT.min(access.timeout))
        .timeout(access.timeout)
        .pool_max_idle_per_host(1);
    if let Some(path) = &access.ca_file {
        let shown = path.display().to_string();
        let pem = std::fs::read(path).map_err(|error| PostError::CaFile(shown.clone(), error))?;
        let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
        builder = builder.tls_certs_only(certificates.ok_or(PostError::Certificates(shown))?);
    }
    builder.build().map_err(PostError::Client)
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
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_what_otlp_says() {
        for status in 100..=599 {
            let refused = PostError::Refused(StatusCode::from_u16(status).unwrap(), None);
            assert_eq!(refused.may_pass(), [429, 502, 503, 504].contains(&status), "{status}");
        }
        assert!(PostError::Timeout(Duration::from_secs(1)).may_pass());
    }

    #[test]
    fn waits_are_seconds_or_dates_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_420);
        for (text, seconds) in [
            ("7", Some(7)),
            (" 99999 ", Some(600)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(60)),
            ("Wed, 21 Oct 2015 07:20:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(wait(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }
}
