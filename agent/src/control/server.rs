//! The server side of the control socket. Knows HTTP and who may ask, nothing of processes: each request
//! goes to the daemon as a [`Call`].

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::{Gid, Uid, geteuid};
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::access::Refusal;
use super::desk::Desk;
use super::failure::Failure;
use super::peer::Peer;
use super::proto::{Reply, Request};
use super::routes;
pub use super::socket::BindError;
use super::socket::{self, SocketFile};
use super::stream::Lines;
use crate::model::access::{Access, Reach};
use crate::model::chain::chain;

/// Connections served at the same time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Those among them of users who are neither root nor the daemon's own: whatever they do with theirs, who has to set
/// things right gets in. More are hung up on.
pub(super) const OTHERS_MAX: usize = 48;
/// Streams among them, so that readers cannot keep commands out.
const STREAMS_MAX: usize = 16;
/// A client must have sent a request's head by then, also the next one on a kept connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that running requests get to end when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request that the daemon must answer. A caller that has gone away is no error: the send on `reply`
/// fails then and means nothing.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// By whom. Has a role that may ask this.
    pub peer: Peer,
    /// If there are any: only upon processes that satisfy one of these.
    pub within: Option<Vec<Reach>>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Answer, Failure>>,
}

/// Where requests go, and by what they are judged.
#[derive(Clone, Debug)]
pub struct Doors {
    /// Requests that may be asked.
    pub calls: mpsc::Sender<Call>,
    /// What was refused; more than fit are logged only.
    pub refusals: mpsc::Sender<Refusal>,
    /// Who has which role, now.
    pub access: watch::Receiver<Arc<Access>>,
}

/// The daemon's answer.
#[derive(Debug)]
pub enum Answer {
    /// A reply, of the kind that the request's documentation names.
    Reply(Reply),
    /// For `Follow` and `Record`.
    Stream(Lines),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// A bound control socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    owner: Uid,
    group: Gid,
    // None of a service manager's, which stays as it is.
    place: Option<Place>,
}

/// Where the server is found.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    // Removed when the server goes.
    file: SocketFile,
    /// None where it cannot be watched, or is given up.
    watch: Option<AsyncFd<OwnedFd>>,
}

impl Server {
    /// Binds `path` with mode 0660 and the given group. A leftover of a dead server is replaced.
    ///
    /// Must be called within a tokio runtime, and only by the holder of the daemon's lock.
    ///
    /// # Errors
    /// When somebody serves there, or something that is no socket is in the way, or the system refuses.
    pub fn bind(path: &Path, group: Gid) -> Result<Self, BindError> {
        let (listener, file) = socket::bind(path, group)?;
        let watch = socket::watch(path).inspect_err(|error| {
            tracing::warn!(%error, "control socket: nobody will notice when {} is deleted", path.display());
        });
        let place = Place { path: path.to_owned(), file, watch: watch.ok() };
        Self::with(listener, path, group, Some(place))
    }

    /// Serves on a listening socket that the service manager has bound to `path`.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When it is another socket, or may not be given to the group.
    pub fn adopt(socket: OwnedFd, path: &Path, group: Gid) -> Result<Self, BindError> {
        Self::with(socket::adopt(socket, path, group)?, path, group, None)
    }

    fn with(
        listener: std::os::unix::net::UnixListener,
        path: &Path,
        group: Gid,
        place: Option<Place>,
    ) -> Result<Self, BindError> {
        let listener = UnixListener::from_std(listener).map_err(|source| BindError::Io {
            operation: "register with the runtime",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { listener, owner: geteuid(), group, place })
    }

    /// Serves until `stop` turns true or its sender is gone, then gives running requests a second and
    /// removes the socket.
    ///
    /// A file that somebody deletes is made anew.
    pub async fn serve(mut self, doors: Doors, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let others = Arc::new(Semaphore::new(OTHERS_MAX));
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let accepted = async {
                let place = place.await;
                (place, self.listener.accept().await)
            };
            tokio::select! {
                (place, accepted) = accepted => match accepted {
                    Ok((stream, _address)) => {
                        let (doors, streams, stop) = (doors.clone(), Arc::clone(&streams), stop.clone());
                        let desk = self.desk(&stream, doors, streams, stop.clone());
                        if let Some((desk, share)) = desk.and_then(|desk| share(&others, desk)) {
                            connections.spawn(async move {
                                serve_connection(stream, desk, stop).await;
                                drop((place, share));
                            });
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "control socket: accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => log_panic(ended),
                () = deleted(self.place.as_ref()) => self.bind_again(),
                () = stopped(&mut stop) => break,
            }
        }
        let drain = async {
            while let Some(ended) = connections.join_next().await {
                log_panic(ended)
            }
        };
        if tokio::time::timeout(STOP_GRACE, drain).await.is_err() {
            connections.abort_all();
        }
    }

    /// Listens where the file was deleted, or gives up until the next start.
    fn bind_again(&mut self) {
        let Some(place) = &mut self.place else { return };
        let bound = socket::bind_again(&place.path, self.group).map_err(|error| chain(&error)).and_then(
            |(listener, file)| Ok((UnixListener::from_std(listener).map_err(|error| chain(&error))?, file)),
        );
        match bound {
            Ok((listener, file)) => {
                tracing::warn!("control socket: {} was deleted and is there again", place.path.display());
                (self.listener, place.file) = (listener, file);
            }
            Err(error) => {
                tracing::error!("control socket: {} was deleted: {error}", place.path.display());
                place.watch = None;
            }
        }
    }

    fn desk(
        &self,
        stream: &UnixStream,
        doors: Doors,
        streams: Arc<Semaphore>,
        stop: watch::Receiver<bool>,
    ) -> Option<Desk> {
        match Peer::of(stream) {
            Ok(peer) => {
                Some(Desk { subject: peer.subject(self.owner, self.group), peer, doors, streams, stop })
            }
            Err(error) => {
                tracing::warn!(%error, "control socket: peer credentials");
                None
            }
        }
    }
}

/// What a connection takes of the places for others; nothing is left for it when this is `None`.
fn share(others: &Arc<Semaphore>, desk: Desk) -> Option<(Desk, Option<OwnedSemaphorePermit>)> {
    if desk.subject.owner {
        return Some((desk, None));
    }
    match Arc::clone(others).try_acquire_owned() {
        Ok(share) => Some((desk, Some(share))),
        Err(_full) => {
            // Not louder: whoever does this can do it as often as they like.
            tracing::debug!(peer = %desk.peer, "control socket: too many connections, hung up");
            None
        }
    }
}

async fn serve_connection(stream: UnixStream, desk: Desk, mut stop: watch::Receiver<bool>) {
    let peer = desk.peer;
    let service = TowerToHyperService::new(routes::router(desk));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients may vanish whenever they like.
        tracing::debug!(%peer, %error, "control connection ended early");
    }
}

/// Ends when the socket's file was deleted.
async fn deleted(place: Option<&Place>) {
    let Some(Place { path, watch: Some(watch), .. }) = place else { return std::future::pending().await };
    if let Err(error) = socket::gone(path, watch).await {
        tracing::warn!(%error, "control socket: nobody will notice when it is deleted");
        std::future::pending().await
    }
}

pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    drop(stop.wait_for(|stop| *stop).await);
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "control connection");
    }
}
