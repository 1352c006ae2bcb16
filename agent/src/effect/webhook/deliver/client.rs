//! Posts one delivery and tells what came of it. Never follows a redirect, never connects to an address that the
//! endpoint may not have, never sends unsigned what is to be signed, and never reads more of an answer than it keeps.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Proxy, Response, Url, redirect};

use super::address::{Permit, Refusal};
use super::certificate;
use super::judge::{Verdict, judge};
use super::resolve::Resolver;
use crate::clock;
use crate::effect::webhook::payload;
use crate::effect::webhook::secret::{KeyRing, SecretError, read_text};
use crate::model::chain::chain;
use crate::model::endpoint::Endpoint;
use crate::model::trace::TraceContext;

/// To establish a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// What is kept of an answer's body, in bytes.
pub const ANSWER_MAX: usize = 1_024;
/// For the body of an answer. Its status has been read by then, and that is what counts.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What it means.
    pub verdict: Verdict,
    /// The answer's status, if there was an answer.
    pub status: Option<u16>,
    /// From the beginning to the end.
    pub latency: Duration,
    /// What went wrong; none when it was delivered.
    pub error: Option<String>,
    /// The first bytes of the answer's body, at most [`ANSWER_MAX`].
    pub answer: Vec<u8>,
}

/// Why an attempt did not get as far as an answer.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("the url cannot be used: {0}")]
    Url(String),
    #[error("http is for this host only, unless allow_http is set")]
    Clear,
    #[error(transparent)]
    Address(#[from] Refusal),
    #[error("proxy")]
    Proxy(#[source] reqwest::Error),
    #[error("read {}", path.display())]
    CaFile { path: PathBuf, source: std::io::Error },
    #[error("{} holds no certificates in PEM form", .0.display())]
    Certificates(PathBuf),
    #[error("set up the client")]
    Client(#[source] reqwest::Error),
    #[error("sign")]
    Sign(#[source] SecretError),
    #[error("{0} cannot be sent as a header")]
    Header(&'static str),
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    #[error("the receiver's certificate is refused: {0}")]
    Certificate(&'static str),
    #[error("post")]
    Http(#[source] reqwest::Error),
}

/// An endpoint with its keys and its connection, which is kept between deliveries.
#[derive(Debug)]
pub struct Poster {
    endpoint: Endpoint,
    keys: KeyRing,
    client: Option<(Client, Option<Stamp>)>,
}

impl Poster {
    /// For this endpoint. Nothing is read or contacted yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { keys: KeyRing::new(endpoint.secrets.clone()), endpoint, client: None }
    }

    /// Where it posts to.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Host and port of its URL, if that is one.
    #[must_use]
    pub fn server(&self) -> Option<(String, u16)> {
        let url = Url::parse(&self.endpoint.url).ok()?;
        Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
    }

    /// Posts a body under the event's id, which is the same on every attempt; as part of a trace, if it has one. Takes at most the endpoint's timeout
    /// and [`ANSWER_WITHIN`].
    pub async fn post(&mut self, id: &str, body: Vec<u8>, trace: Option<TraceContext>) -> Attempt {
        let started = clock::now();
        let result = self.answer(id, body, trace).await;
        let mut attempt = Attempt {
            verdict: Verdict::Later { retry_after: None },
            status: None,
            latency: clock::now().since(started),
            error: None,
            answer: Vec::new(),
        };
        match result {
            Err(error) => attempt.error = Some(chain(&error)),
            Ok(response) => {
                let status = response.status();
                let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                attempt.verdict = judge(status, retry_after, clock::wall());
                attempt.status = Some(status.as_u16());
                if attempt.verdict != Verdict::Delivered {
                    attempt.error = Some(format!("the receiver answered {status}"));
                }
                attempt.answer = first_bytes(response).await;
            }
        }
        attempt
    }

    async fn answer(
        &mut self,
        id: &str,
        body: Vec<u8>,
        trace: Option<TraceContext>,
    ) -> Result<Response, PostError> {
        let url = Url::parse(&self.endpoint.url).map_err(|error| PostError::Url(error.to_string()))?;
        let permit = permit(&self.endpoint, &url)?;
        // What receivers want in the body is not in what is stored, and is signed with it.
        let key = self.endpoint.routing_key.as_ref().map(read_text).transpose().map_err(PostError::Sign)?;
        let body = payload::finish(self.endpoint.format, body, key.as_deref());
        let headers = self.headers(id, &body, trace)?;
        let timeout = self.endpoint.timeout;
        let client = self.client(permit, url.scheme() == "http")?;
        let sent = client.post(url).headers(headers).body(body).send().await;
        sent.map_err(|error| {
            // Without the URL: it may carry a token.
            let error = error.without_url();
            if error.is_timeout() && !error.is_connect() {
                PostError::Timeout(timeout)
            } else {
                certificate::refusal(&error).map_or(PostError::Http(error), PostError::Certificate)
            }
        })
    }

    fn headers(
        &mut self,
        id: &str,
        body: &[u8],
        trace: Option<TraceContext>,
    ) -> Result<HeaderMap, PostError> {
        let unix_seconds = clock::unix_millis(clock::wall()).div_euclid(1_000);
        let signed = self.keys.sign(id, unix_seconds, body).map_err(PostError::Sign)?;
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| {
            let value = HeaderValue::try_from(value).map_err(|_invalid| PostError::Header(name))?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<_, PostError>(())
        };
        put("webhook-id", id.to_owned())?;
        put("webhook-timestamp", unix_seconds.to_string())?;
        if let Some(context) = trace {
            put("traceparent", context.to_string())?;
        }
        if let Some(signature) = signed {
            put("webhook-signature", signature)?;
        }
        if self.endpoint.hub_signature
            && let Some(signature) = self.keys.hub_signature(body).map_err(PostError::Sign)?
        {
            put("x-hub-signature-256", signature)?;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(payload::content_type(self.endpoint.format)));
        Ok(headers)
    }

    /// The client, built anew when the file with its certificates has changed.
    fn client(&mut self, permit: Permit, clear: bool) -> Result<&Client, PostError> {
        let stamp = self.endpoint.ca_file.as_deref().map(Stamp::of).transpose()?;
        let kept = self.client.take().filter(|(_, of)| *of == stamp);
        let (client, _) = match kept {
            Some(kept) => self.client.insert(kept),
            None => self.client.insert((build(&self.endpoint, permit, clear)?, stamp)),
        };
        Ok(client)
    }
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Result<Self, PostError> {
        let found =
            fs::metadata(path).map_err(|source| PostError::CaFile { path: path.to_owned(), source })?;
        let changed = (found.ctime(), found.ctime_nsec());
        Ok(Self { file: (found.dev(), found.ino()), size: found.size(), changed })
    }
}

/// What the endpoint may connect to. The client asks its resolver for names only, so an address that the URL itself
/// names is checked here.
fn permit(endpoint: &Endpoint, url: &Url) -> Result<Permit, PostError> {
    let clear = match url.scheme() {
        "https" => false,
        "http" => !endpoint.allow_http,
        other => return Err(PostError::Url(format!("{other} is neither http nor https"))),
    };
    let permit = Permit {
        networks: endpoint.allow_networks.clone(),
        loopback_only: clear,
        anything: endpoint.proxy.is_some(),
    };
    if clear && permit.anything {
        return Err(PostError::Clear);
    }
    let host = url.host_str().ok_or_else(|| PostError::Url("it names no host".to_owned()))?;
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = literal.parse() {
        permit.check(address)?;
    }
    Ok(permit)
}

/// For connections that stay `clear`, the certificates of the authorities that the host trusts are not read.
fn build(endpoint: &Endpoint, permit: Permit, clear: bool) -> Result<Client, PostError> {
    // Installing it twice is harmless: the first provider stays.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(concat!("process-throttler/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // What the environment says of proxies is not for deliveries of root.
        .no_proxy()
        .http1_only()
        .dns_resolver(Resolver(permit))
        .connect_timeout(CONNECT.min(endpoint.timeout))
        .timeout(endpoint.timeout)
        .pool_max_idle_per_host(1);
    if let Some(proxy) = &endpoint.proxy {
        builder = builder.proxy(Proxy::all(proxy).map_err(PostError::Proxy)?);
    }
    if let Some(path) = &endpoint.ca_file {
        let pem = fs::read(path).map_err(|source| PostError::CaFile { path: path.clone(), source })?;
        let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
        let certificates = certificates.ok_or_else(|| PostError::Certificates(path.clone()))?;
        builder = builder.tls_certs_only(certificates);
    } else if clear && endpoint.proxy.is_none() {
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(PostError::Client)
}

/// The beginning of a body, as far as it comes soon. The connection of a longer one is closed, so that nothing more
/// of it is received.
async fn first_bytes(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        // A body that breaks off has been read as far as it goes.
        while bytes.len() < ANSWER_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            let room = ANSWER_MAX.saturating_sub(bytes.len()).min(chunk.len());
            bytes.extend(chunk.iter().take(room));
        }
    };
    // One that comes too slowly likewise.
    drop(tokio::time::timeout(ANSWER_WITHIN, read).await);
    bytes
}
