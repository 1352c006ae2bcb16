//! The connection: made when first needed, made again when it breaks, and never waited for without end.
//!
//! A thread of its own drives it, because callers are ordinary threads, and one of them may be inside of another
//! runtime.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use zbus::connection::{Builder, Connection};
use zbus::{DynamicType, Message};

use crate::systemd::error::{Answer, SystemdError};
use crate::systemd::private::Private;

/// systemd's name on the bus.
pub(crate) const SYSTEMD: &str = "org.freedesktop.systemd1";
/// Its manager's object.
pub(crate) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// Its manager's interface.
pub(crate) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Longest wait for a connection, and for an answer. PID 1 answers within a millisecond unless it is stuck.
const PATIENCE: Duration = Duration::from_secs(2);
/// Calls on their way.
const QUEUE: usize = 64;

/// Where systemd listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// Its own socket, for root only: a connection to PID 1 itself, which needs no bus daemon.
    pub private: PathBuf,
    /// The system bus.
    pub bus: PathBuf,
}

impl Sockets {
    /// The usual places below `/run`.
    #[must_use]
    pub fn below(run: &Path) -> Self {
        Self { private: run.join("systemd/private"), bus: run.join("dbus/system_bus_socket") }
    }
}

/// A handle on the connection; clones share it.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    sockets: Sockets,
    patience: Duration,
    thread: Mutex<Option<mpsc::Sender<Job>>>,
}

type Reply = Pin<Box<dyn Future<Output = zbus::Result<Message>> + Send>>;

struct Job {
    ask: Box<dyn FnOnce(Connection, bool) -> Reply + Send>,
    answer: SyncSender<Result<Message, Failure>>,
}

enum Failure {
    Unreachable(String),
    Call(zbus::Error),
    Silent,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("sockets", &self.shared.sockets).finish_non_exhaustive()
    }
}

impl Bus {
    /// A handle; nothing is connected yet.
    #[must_use]
    pub fn new(sockets: Sockets) -> Self {
        Self::with_patience(sockets, PATIENCE)
    }

    pub(crate) fn with_patience(sockets: Sockets, patience: Duration) -> Self {
        Self { shared: Arc::new(Shared { sockets, patience, thread: Mutex::new(None) }) }
    }

    /// Longest wait for an answer.
    pub(crate) fn patience(&self) -> Duration {
        self.shared.patience
    }

    /// Calls a method and waits for its answer, at most a few seconds.
    pub(crate) fn call<B>(
        &self,
        operation: impl FnOnce() -> String,
        path: &str,
        interface: &'static str,
        member: &'static str,
        body: B,
    ) -> Result<Message, SystemdError>
    where
        B: Serialize + DynamicType + Send + Sync + 'static,
    {
        let path = path.to_owned();
        let ask = move |connection: Connection, on_bus: bool| -> Reply {
            Box::pin(async move {
                let destination = on_bus.then_some(SYSTEMD);
                connection.call_method(destination, path.as_str(), Some(interface), member, &body).await
            })
        };
        let (answer, answered) = sync_channel(1);
        self.submit(Job { ask: Box::new(ask), answer })?;
        // The thread answers every job: its waits are bounded.
        match answered.recv() {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(Failure::Unreachable(tried))) => Err(SystemdError::Unreachable { tried }),
            Ok(Err(Failure::Call(error))) => {
                Err(SystemdError::Call { operation: operation(), source: Answer::of(&error) })
            }
            Ok(Err(Failure::Silent)) => {
                Err(SystemdError::Silent { operation: operation(), waited: self.shared.patience })
            }
            Err(_ended) => {
                Err(SystemdError::other(operation(), "the thread that talks to systemd has ended"))
            }
        }
    }

    fn submit(&self, job: Job) -> Result<(), SystemdError> {
        let mut thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match thread.as_ref().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => thread.insert(start(&self.shared).map_err(SystemdError::Thread)?),
        };
        sender.try_send(job).map_err(|error| {
            let why = match error {
                mpsc::error::TrySendError::Full(_) => "too many calls are under way",
                mpsc::error::TrySendError::Closed(_) => "the thread that talks to systemd has ended",
            };
            SystemdError::other("call systemd", why)
        })
    }
}

/// Starts the thread, which ends when the last handle is dropped.
fn start(shared: &Shared) -> std::io::Result<mpsc::Sender<Job>> {
    let (sender, mut jobs) = mpsc::channel::<Job>(QUEUE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut line = Line { sockets: shared.sockets.clone(), patience: shared.patience, open: None };
    std::thread::Builder::new().name("systemd".to_owned()).spawn(move || {
        runtime.block_on(async {
            while let Some(job) = jobs.recv().await {
                // Whoever asked may have gone away.
                drop(job.answer.send(line.carry(job.ask).await));
            }
        });
    })?;
    Ok(sender)
}

/// The thread's connection.
struct Line {
    sockets: Sockets,
    patience: Duration,
    /// It, and whether it goes through a bus, which wants a destination.
    open: Option<(Connection, bool)>,
}

impl Line {
    async fn carry(
        &mut self,
        ask: Box<dyn FnOnce(Connection, bool) -> Reply + Send>,
    ) -> Result<Message, Failure> {
        let (connection, on_bus) = match self.open.take().filter(|(open, _)| !open.is_closed()) {
            Some(open) => open,
            None => self.connect().await.map_err(Failure::Unreachable)?,
        };
        let reply = ask(connection.clone(), on_bus);
        match tokio::time::timeout(self.patience, reply).await {
            Ok(Ok(message)) => {
                self.open = Some((connection, on_bus));
                Ok(message)
            }
            Ok(Err(error)) => {
                // An error reply leaves the connection as it was; everything else ends it.
                if matches!(error, zbus::Error::MethodError(..) | zbus::Error::FDO(_)) {
                    self.open = Some((connection, on_bus));
                }
                Err(Failure::Call(error))
            }
            Err(_elapsed) => Err(Failure::Silent),
        }
    }

    /// PID 1's own socket first, as systemctl does for root, then the system bus.
    async fn connect(&self) -> Result<(Connection, bool), String> {
        let mut tried = Vec::new();
        for (path, on_bus) in [(&self.sockets.private, false), (&self.sockets.bus, true)] {
            let failed = match tokio::time::timeout(self.patience, dial(path, on_bus)).await {
                Ok(Ok(connection)) => return Ok((connection, on_bus)),
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => format!("no answer within {:?}", self.patience),
            };
            tried.push(format!("{}: {failed}", path.display()));
        }
        Err(tried.join("; "))
    }
}

async fn dial(path: &Path, on_bus: bool) -> zbus::Result<Connection> {
    let failed = |error: std::io::Error| zbus::Error::InputOutput(Arc::new(error));
    let stream = tokio::net::UnixStream::connect(path).await.map_err(failed)?;
    let builder = if on_bus {
        Builder::unix_stream(stream.into_std().map_err(failed)?)
    } else {
        Builder::socket(Private(stream)).p2p()
    };
    builder.build().await
}
