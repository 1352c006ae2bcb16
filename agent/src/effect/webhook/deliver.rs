//! One attempt at an endpoint, and what its answer means.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url, redirect};

use super::secret::Secret;

/// To establish a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Before each retry. After the last one a delivery is a dead letter.
const RETRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
/// Longest wait that a receiver's `Retry-After` is granted.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Wait before the next attempt after `attempts` of them failed; `None` when there is none left.
#[must_use]
pub fn delay_after(attempts: u32) -> Option<Duration> {
    let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
    RETRIES.get(index).copied()
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// 2xx.
    Delivered,
    /// Worth another try.
    Failed {
        /// What went wrong.
        error: String,
        /// How long the receiver asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The receiver will never take it: 410 Gone.
    Refused {
        /// What it said.
        error: String,
    },
}

/// Why an endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The URL is none, or of another scheme.
    #[error("webhook url {url:?}: {why}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The HTTP client cannot be built, such as for want of a certificate store.
    #[error("set up the webhook client")]
    Client(#[source] reqwest::Error),
}

/// A configured endpoint with its connection pool.
#[derive(Debug)]
pub struct Endpoint {
    url: Url,
    secret: Secret,
    client: Client,
}

impl Endpoint {
    /// An endpoint at `url`, which must be https unless it is on this host or `allow_http` is set. An attempt
    /// may take `timeout` as a whole.
    ///
    /// # Errors
    /// When the URL cannot be used or the client cannot be built.
    pub fn new(
        url: &str,
        secret: Secret,
        timeout: Duration,
        allow_http: bool,
    ) -> Result<Self, EndpointError> {
        let bad = |why: &str| EndpointError::Url { url: url.to_owned(), why: why.to_owned() };
        let parsed = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        match parsed.scheme() {
            "https" => {}
            "http" if allow_http || is_loopback(&parsed) => {}
            "http" => return Err(bad("http is allowed to this host only, or with allow_http: true")),
            _ => return Err(bad("must be http or https")),
        }
        // Installing it twice is harmless: the first provider stays.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .user_agent(concat!("process-throttler/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT.min(timeout))
            .timeout(timeout)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(EndpointError::Client)?;
        Ok(Self { url: parsed, secret, client })
    }

    /// Posts one message. `id` is the same on every attempt; `unix_seconds` is this attempt's time.
    pub async fn post(&self, id: &str, unix_seconds: i64, body: Vec<u8>) -> Attempt {
        let failed = |error| Attempt::Failed { error, retry_after: None };
        let Some(signature) = self.secret.sign(id, unix_seconds, &body) else {
            return failed("cannot sign".to_owned());
        };
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", id)
            .header("webhook-timestamp", unix_seconds)
            .header("webhook-signature", signature)
            .body(body);
        match request.send().await {
            Ok(response) => judge(response.status(), response.headers().get(RETRY_AFTER)),
            // Without the URL: it may carry a token.
            Err(error) => failed(format!("{:#}", anyhow::Error::new(error.without_url()))),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let literal = host.trim_start_matches('[').trim_end_matches(']');
            literal.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

fn judge(status: StatusCode, retry_after: Option<&HeaderValue>) -> Attempt {
    if status.is_success() {
        return Attempt::Delivered;
    }
    let error = format!("the receiver answered {status}");
    if status == StatusCode::GONE {
        return Attempt::Refused { error };
    }
    let seconds = retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    Attempt::Failed { error, retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }

    #[test]
    fn http_stays_on_this_host() {
        for good in
            ["https://example.com/hook", "http://127.0.0.1:8080/x", "http://[::1]/", "http://localhost/"]
        {
            assert!(Endpoint::new(good, secret(), CONNECT, false).is_ok(), "{good}");
        }
        for bad in [
            "",
            "not a url",
            "ftp://example.com/",
            "http://example.com/",
            "http://127.0.0.1.example.com/",
            "file:///etc/passwd",
        ] {
            assert!(Endpoint::new(bad, secret(), CONNECT, false).is_err(), "{bad}");
        }
        assert!(Endpoint::new("http://example.com/", secret(), CONNECT, true).is_ok());
    }

    #[test]
    fn answers_and_what_they_mean() {
        assert_eq!(judge(StatusCode::NO_CONTENT, None), Attempt::Delivered);
        assert!(
            matches!(judge(StatusCode::FOUND, None), Attempt::Failed { .. }),
            "redirects are not followed"
        );
        assert!(matches!(judge(StatusCode::GONE, None), Attempt::Refused { .. }));
        let header = HeaderValue::from_static("7");
        let Attempt::Failed { retry_after, .. } = judge(StatusCode::TOO_MANY_REQUESTS, Some(&header)) else {
            panic!("429 is worth another try");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn three_retries() {
        assert_eq!(delay_after(0), None);
        assert!((1..=3).all(|attempts| delay_after(attempts).is_some()));
        assert_eq!(delay_after(4), None);
    }
}
