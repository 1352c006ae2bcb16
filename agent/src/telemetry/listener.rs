//! `GET /metrics` over TCP, for whoever scrapes. A bounded number of connections, each for one request without a body
//! and for a bounded time, so that clients that are slow, many or hostile cost no more than that; the answer to many
//! that ask at once is the same one.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Question, Reader, prometheus};

/// Connections served at the same time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 16;
/// A client must have sent its request by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// And have taken the answer by then, from the beginning of its connection.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a request's head may have, in bytes.
const HEAD_MAX: usize = 8 * 1_024;
/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The only path.
const PATH: &str = "/metrics";

type Answer = Response<Full<Bytes>>;

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds an address; port 0 stands for any that is free. Must be called within a runtime.
    ///
    /// # Errors
    /// When somebody else has it, or the system refuses.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener: TcpListener::from_std(listener)?, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub async fn serve(self, questions: mpsc::Sender<Question>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let accepted = async {
                let place = place.await;
                (place, self.listener.accept().await)
            };
            tokio::select! {
                (place, accepted) = accepted => match accepted {
                    Ok((stream, peer)) => {
                        let questions = questions.clone();
                        connections.spawn(async move {
                            if let Err(why) = connection(stream, questions).await {
                                // Clients may vanish whenever they like.
                                tracing::debug!(%peer, why, "a connection for metrics ended early");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "metrics: accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a connection for metrics");
                },
            }
        }
    }
}

async fn connection(stream: TcpStream, questions: mpsc::Sender<Question>) -> Result<(), String> {
    let service = service_fn(move |request: Request<Incoming>| {
        let questions = questions.clone();
        async move { Ok::<_, Infallible>(answer(&request, &questions).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(WHOLE_TIMEOUT, served).await {
        Ok(ended) => ended.map_err(|error| error.to_string()),
        Err(_elapsed) => Err("it took too long".to_owned()),
    }
}

async fn answer(request: &Request<Incoming>, questions: &mpsc::Sender<Question>) -> Answer {
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "there is nothing here but /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    if !request.body().is_end_stream() {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "a request for metrics has no body\n");
    }
    match ask(questions, Reader::Prometheus).await {
        Ok(families) => {
            let mut answer = Response::new(Full::from(prometheus::text(&families)));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(prometheus::CONTENT_TYPE));
            answer
        }
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::from(text.to_owned()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Asks for all figures.
///
/// # Errors
/// Why there are none, in words.
pub(super) async fn ask(
    questions: &mpsc::Sender<Question>,
    reader: Reader,
) -> Result<Arc<Vec<super::Family>>, String> {
    let (answer, answered) = oneshot::channel();
    questions
        .send(Question { reader, answer })
        .await
        .map_err(|_closed| "the agent is stopping".to_owned())?;
    answered.await.map_err(|_closed| "the agent is stopping".to_owned())?
}

#[cfg(test)]
mod tests;
