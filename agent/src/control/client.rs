//! The client side of the control socket: one connection per request. Tells "no daemon" from "not allowed".

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;

use super::failure::{Failure, FailureKind};
use super::proto::{
    Acknowledge, Activate, BackUp, CriticalRestart, DeliveryQuery, DryRun, DynamicApply, DynamicRemove,
    Emergency, EventQuery, FollowQuery, LatencyLook, PlanOf, Release, Reply, Request, Throttle,
    WebhookReplay, WebhookTest,
};

/// A little longer than the server gives the daemon, so that its own words arrive.
const TIMEOUT: Duration = Duration::from_secs(35);
/// Longest reply in bytes: many groups with many members each.
const REPLY_MAX: usize = 64 * 1024 * 1024;
/// Longest line of a stream in bytes.
const LINE_MAX: usize = 4 * 1024 * 1024;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: no socket, or one that its server left behind.
    #[error("no daemon listens on {0}")]
    NotRunning(PathBuf),
    /// The socket's permissions keep us out.
    #[error("connect to {path}")]
    Denied {
        /// The socket.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Somebody else listens: neither root nor this user. Nothing was sent.
    #[error("{path} is served by uid {uid}, which is neither root nor you")]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Who listens.
        uid: u32,
    },
    /// Another failure to connect.
    #[error("connect to {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The connection broke.
    #[error("talk to the daemon")]
    Http(#[source] hyper::Error),
    /// The daemon took too long.
    #[error("the daemon did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The answer makes no sense, as from another version.
    #[error("the daemon's answer makes no sense: {0}")]
    Malformed(String),
    /// The daemon refused or failed.
    #[error(transparent)]
    Refused(Failure),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Refused(failure) => return failure.clone(),
            ClientError::NotRunning(_) => FailureKind::NotRunning,
            ClientError::Denied { .. } | ClientError::Stranger { .. } => FailureKind::Denied,
            ClientError::Connect { .. }
            | ClientError::Http(_)
            | ClientError::Timeout(_)
            | ClientError::Malformed(_) => FailureKind::Failed,
        };
        let failure = Self::from_error(kind, &error);
        if let ClientError::Stranger { .. } = &error {
            failure.with_hint("nothing was sent; see who it is: ss --unix --listening --processes")
        } else if kind == FailureKind::Denied {
            failure.with_hint("become root, or have yourself added to the group of the control socket")
        } else {
            failure
        }
    }
}

/// A control socket's path; connects anew for every request.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the socket at `path`. Nothing is contacted yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Asks for a reply.
    ///
    /// # Errors
    /// As [`ClientError`].
    pub async fn call(&self, request: &Request) -> Result<Reply, ClientError> {
        let exchange = async {
            let response = self.send(request).await?;
            read_reply(response).await
        };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_elapsed| ClientError::Timeout(TIMEOUT))?
    }

    /// Asks for a stream: `Follow` or `Record`.
    ///
    /// # Errors
    /// As [`ClientError`].
    pub async fn stream(&self, request: &Request) -> Result<LineReader, ClientError> {
        let head = tokio::time::timeout(TIMEOUT, self.send(request));
        let response = head.await.map_err(|_elapsed| ClientError::Timeout(TIMEOUT))??;
        if !response.status().is_success() {
            let reply = read_reply(response).await?;
            return Err(ClientError::Malformed(format!("{reply:?} in place of a stream")));
        }
        Ok(LineReader { body: response.into_body(), buffer: BytesMut::new(), ended: false })
    }

    /// Refuses to believe whoever has put a socket there: who commands and alerts go to decides what root does next.
    /// Of a socket that a service manager has opened, that is the one who listens.
    fn know(&self, stream: &UnixStream) -> Result<(), ClientError> {
        let failed = |source| ClientError::Connect { path: self.path.clone(), source };
        let uid = stream.peer_cred().map_err(failed)?.uid();
        if uid == 0 || uid == rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        Err(ClientError::Stranger { path: self.path.clone(), uid })
    }

    async fn send(&self, request: &Request) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.connect_error(error))?;
        self.know(&stream)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Http)?;
        // Drives the connection until the reply's body is read; its error reaches the reader as well.
        tokio::spawn(connection);
        let Wire { method, path, body } = Wire::of(request)?;
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "localhost")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Malformed(error.to_string()))?;
        sender.send_request(request).await.map_err(ClientError::Http)
    }

    fn connect_error(&self, source: io::Error) -> ClientError {
        let (path, kind) = (self.path.clone(), source.kind());
        if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            ClientError::NotRunning(path)
        } else if kind == io::ErrorKind::PermissionDenied {
            ClientError::Denied { path, source }
        } else {
            ClientError::Connect { path, source }
        }
    }
}

async fn read_reply(response: Response<Incoming>) -> Result<Reply, ClientError> {
    let body = Limited::new(response.into_body(), REPLY_MAX)
        .collect()
        .await
        .map_err(|error| ClientError::Malformed(error.to_string()))?
        .to_bytes();
    // Without its envelope, which serde would take apart in memory first, twice over: thousands of groups are long.
    let reply = serde_json::from_slice(&body).map_err(|error| ClientError::Malformed(error.to_string()))?;
    if let Reply::Failure(failure) = reply { Err(ClientError::Refused(failure)) } else { Ok(reply) }
}

/// The lines of a stream.
#[derive(Debug)]
pub struct LineReader {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
}

impl LineReader {
    /// The next line without its newline; `None` at the end. Cancelling loses nothing.
    ///
    /// # Errors
    /// When the connection breaks or a line does not end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let mut line = self.buffer.split_to(end + 1);
                line.truncate(end);
                return Ok(Some(line.freeze()));
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() > LINE_MAX {
                return Err(ClientError::Malformed(format!("a line of more than {LINE_MAX} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(ClientError::Http(error)),
                None => self.ended = true,
            }
        }
    }
}

/// A request as HTTP.
struct Wire {
    method: Method,
    path: String,
    body: Bytes,
}

impl Wire {
    fn of(request: &Request) -> Result<Self, ClientError> {
        let wire = match request {
            Request::Status => Self::get("/v1/status"),
            Request::Groups => Self::get("/v1/groups"),
            Request::ActiveProfile => Self::get("/v1/profile"),
            Request::Record => Self::get("/v1/record"),
            Request::Explain { pid } => Self::get(&format!("/v1/explain/{pid}")),
            Request::Events(EventQuery { since_ms, kind, limit }) => Self::get_with(
                "/v1/events",
                &[
                    ("since_ms", since_ms.map(|ms| ms.to_string())),
                    ("kind", kind.clone()),
                    ("limit", limit.map(|limit| limit.to_string())),
                ],
            ),
            Request::Follow(FollowQuery { kind }) => Self::get_with("/v1/follow", &[("kind", kind.clone())]),
            Request::Throttle(body) => Self::post::<Throttle>("/v1/throttle", body)?,
            Request::Release(body) => Self::post::<Release>("/v1/release", body)?,
            Request::Plan { profile } => {
                Self::post::<PlanOf>("/v1/plan", &PlanOf { profile: profile.clone() })?
            }
            Request::Activate(body) => Self::post::<Activate>("/v1/activate", body)?,
            Request::Deactivate(body) => Self::post::<DryRun>("/v1/deactivate", body)?,
            Request::Emergency(body) => Self::post::<Emergency>("/v1/emergency", body)?,
            Request::Dynamics => Self::get("/v1/dynamic"),
            Request::DynamicApply(body) => Self::post::<DynamicApply>("/v1/dynamic/apply", body)?,
            Request::DynamicRemove(body) => Self::post::<DynamicRemove>("/v1/dynamic/remove", body)?,
            Request::WebhookStates => Self::get("/v1/webhooks/state"),
            Request::Deliveries(DeliveryQuery { endpoint, state, since_ms, limit }) => Self::get_with(
                "/v1/webhooks/deliveries",
                &[
                    ("endpoint", endpoint.as_ref().map(ToString::to_string)),
                    ("state", state.map(|state| state.as_str().to_owned())),
                    ("since_ms", since_ms.map(|ms| ms.to_string())),
                    ("limit", limit.map(|limit| limit.to_string())),
                ],
            ),
            Request::Delivery { id } => Self::get(&format!("/v1/webhooks/deliveries/{id}")),
            Request::WebhookTest(body) => Self::post::<WebhookTest>("/v1/webhooks/test", body)?,
            Request::WebhookReplay(body) => Self::post::<WebhookReplay>("/v1/webhooks/replay", body)?,
            Request::Criticals => Self::get("/v1/critical"),
            Request::CriticalRestart(body) => Self::post::<CriticalRestart>("/v1/critical/restart", body)?,
            Request::Reload(body) => Self::post::<DryRun>("/v1/reload", body)?,
            Request::Alerts => Self::get("/v1/alerts"),
            Request::Acknowledge(body) => Self::post::<Acknowledge>("/v1/alerts/acknowledge", body)?,
            Request::BackUp(body) => Self::post::<BackUp>("/v1/backup", body)?,
            Request::Latency(body) => Self::post::<LatencyLook>("/v1/latency", body)?,
            Request::State => Self::get("/v1/state"),
            Request::Metrics => Self::get("/v1/metrics"),
        };
        Ok(wire)
    }

    fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), body: Bytes::new() }
    }

    fn get_with(path: &str, query: &[(&str, Option<String>)]) -> Self {
        let pairs: Vec<String> = query
            .iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", escaped(value.as_deref()?))))
            .collect();
        if pairs.is_empty() { Self::get(path) } else { Self::get(&format!("{path}?{}", pairs.join("&"))) }
    }

    fn post<T: Serialize>(path: &str, body: &T) -> Result<Self, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Malformed(error.to_string()))?;
        Ok(Self { method: Method::POST, path: path.to_owned(), body: body.into() })
    }
}

/// Percent-encodes everything but unreserved characters (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
