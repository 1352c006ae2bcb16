//! The scheduler's probes, on a thread of their own: armed when the configuration, an objective, pressure or somebody's
//! look asks for it, disarmed after, and shed when they cost more than they may.
//!
//! The thread alone keeps the capability to load programs. It waits on descriptors and deadlines, and runs no timer
//! while nothing is armed.

mod answer;
mod duty;
mod ear;
mod ledger;
mod listening;
mod programs;
mod rate;
mod recent;
mod shift;
mod subject;
mod trigger;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::config::probes::{ProbesMode, ProbesSettings};
use crate::config::settings::Settings;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{FeatureState, Latency};
use crate::daemon::waker::Waker;
use crate::model::id::ProcKey;
use crate::procfs::Proc;
use crate::procfs::cgroup::Version;
use crate::source::attach::Options;

pub use answer::Subject;
pub use ear::Ear;
pub use ledger::{Counted, Waiter};
use recent::Ask;
pub use recent::{Recent, Waited, Whose};
use shift::{Lines, Shift};

/// Looks on their way to the thread, and under way.
const LOOKS_MAX: usize = 16;

/// Somebody wants to know how long processes wait.
#[derive(Debug)]
pub(super) struct Look {
    /// Who.
    pub subject: Subject,
    /// For how long.
    pub time: Duration,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Latency, Failure>>,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    Look(Box<Look>),
    Ask(Ask),
    /// These are the critical processes now.
    Critical(Vec<ProcKey>),
    /// Metrics are read.
    Count(oneshot::Sender<Counted>),
}

/// The way to the thread.
#[derive(Debug)]
pub struct Desk {
    orders: SyncSender<Order>,
    waker: Waker,
    settings: ProbesSettings,
    told: Arc<Mutex<Told>>,
    /// The thread wants to know which processes are critical.
    wanted: Arc<Notify>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread says of itself.
#[derive(Clone, Debug, Default)]
struct Told {
    state: Option<FeatureState>,
    why: String,
}

/// Where the thread finds what it needs.
#[derive(Debug)]
struct Place {
    /// The host's processes, and its pressure.
    proc: Proc,
    /// How the programs are loaded.
    options: Options,
    /// Mount point of the hierarchy that cgroup ids refer to.
    mount: Option<PathBuf>,
}

/// Starts the thread, which finds the host's processes at `proc`; none where the configuration has the probes off. What
/// it hears for the engine wakes `engine`. Capabilities are of a thread: this comes before the others give theirs up.
///
/// # Errors
/// When the system refuses a thread or descriptors.
pub fn start(settings: &Settings, proc: &Path, engine: &Waker) -> io::Result<(Desk, Ear)> {
    let settings = settings.scheduler_probes;
    let (orders, inbox) = sync_channel(LOOKS_MAX);
    let waker = Waker::new()?;
    let told = Arc::new(Mutex::new(Told::default()));
    let (ear, mouth) = ear::pair(settings.mode, waker.clone(), engine.clone(), Arc::clone(&told));
    let wanted = Arc::new(Notify::new());
    let stop = Arc::new(AtomicBool::new(false));
    let mut desk = Desk {
        orders,
        waker: waker.clone(),
        settings,
        told: Arc::clone(&told),
        wanted: Arc::clone(&wanted),
        stop: Arc::clone(&stop),
        thread: None,
    };
    if settings.mode == ProbesMode::Off {
        return Ok((desk, ear));
    }
    let proc = Proc::of_host(proc).map_err(io::Error::other)?;
    let hierarchy = proc.hierarchy();
    let cgroup_v1 = hierarchy.is_some_and(|hierarchy| hierarchy.version == Version::V1Cpu);
    let mount = hierarchy.map(|hierarchy| hierarchy.mount.clone());
    let place = Place { options: Options { cgroup_v1, ..Options::default() }, mount, proc };
    let thread = std::thread::Builder::new().name("probes".to_owned()).spawn(move || {
        // A trigger needs a capability on some kernels, and is opened first.
        let shift = Shift::new(settings, place, Lines { inbox, mouth, waker, told, wanted });
        if let Err(error) = super::privilege::reduce_to_load() {
            tracing::warn!(%error, "the thread of the scheduler's probes keeps more capabilities than it needs");
        }
        shift.run(&stop);
    })?;
    desk.thread = Some(thread);
    Ok((desk, ear))
}

impl Desk {
    /// Looks how long processes wait.
    ///
    /// # Errors
    /// When the probes are off, cannot be armed, or too many look already.
    pub(super) async fn look(&self, subject: Subject, time: Duration) -> Result<Latency, Failure> {
        let (answer, result) = oneshot::channel();
        self.order(Order::Look(Box::new(Look { subject, time, answer })))?;
        result.await.map_err(|_closed| stopping())?
    }

    /// How long these waited of late; else why that is not measured, and what to do about it, for people.
    pub(super) async fn recent(&self, of: Vec<Whose>) -> Result<Recent, String> {
        self.permitted().map_err(|failure| match failure.hint {
            Some(hint) => format!("{}; {hint}", failure.message),
            None => failure.message,
        })?;
        let (answer, result) = oneshot::channel();
        self.order(Order::Ask(Ask { of, answer })).map_err(|failure| failure.message)?;
        result.await.map_err(|_closed| stopping().message)?
    }

    /// Tells which processes are critical.
    pub(super) fn critical(&self, keys: Vec<ProcKey>) {
        // Told again in a moment where there is no room now.
        if let Err(failure) = self.order(Order::Critical(keys)) {
            tracing::debug!(%failure, "the scheduler's probes are not told who is critical");
        }
    }

    /// What was counted since the last time; nothing where the probes are off, or the thread has too much to do.
    pub(super) async fn counted(&self) -> Counted {
        if self.settings.mode == ProbesMode::Off {
            return Counted::default();
        }
        let (answer, result) = oneshot::channel();
        if let Err(failure) = self.order(Order::Count(answer)) {
            tracing::debug!(%failure, "waits for CPUs are left out of metrics");
            return Counted::default();
        }
        // Dropped where the thread has ended, which it has said.
        result.await.unwrap_or_default()
    }

    /// Whether anybody may look.
    ///
    /// # Errors
    /// When the probes are off.
    fn permitted(&self) -> Result<(), Failure> {
        if self.settings.mode != ProbesMode::Off {
            return Ok(());
        }
        let failure = Failure::new(FailureKind::Conflict, "the scheduler's probes are off");
        Err(failure.with_hint("set scheduler_probes: { mode: auto } in config.yaml and restart the daemon"))
    }

    /// Until the thread wants to know which processes are critical.
    pub(super) async fn wants_critical(&self) {
        self.wanted.notified().await;
    }

    /// State for `daemon status`, and why it is so.
    pub(super) fn state(&self) -> (FeatureState, String) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.state {
            Some(state) => (state, told.why.clone()),
            None => (FeatureState::Disabled, "off; see scheduler_probes in config.yaml".to_owned()),
        }
    }

    fn order(&self, order: Order) -> Result<(), Failure> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => {
                Failure::new(FailureKind::Conflict, "too many look at the scheduler already")
                    .with_hint("try again in a moment")
            }
            TrySendError::Disconnected(_) => stopping(),
        })?;
        self.waker.wake();
        Ok(())
    }
}

impl Drop for Desk {
    /// Has the thread disarm and end, and waits for it.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        if thread.join().is_err() {
            tracing::error!(thread = "probes", "a thread panicked");
        }
    }
}

fn stopping() -> Failure {
    Failure::new(FailureKind::Failed, "the daemon is stopping")
}
