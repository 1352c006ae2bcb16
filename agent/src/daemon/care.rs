//! Health checks and restarts, which take from milliseconds to minutes: handed over by the engine thread, carried out
//! by the main one, and answered to the engine. Every job is answered, once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::control::proto::CriticalRestarted;
use crate::daemon::command::Answer;
use crate::daemon::waker::Waker;
use crate::effect::Kernel;
use crate::effect::health::Prober;
use crate::effect::restart::Restarter;
use crate::engine::action::ActionId;
use crate::engine::input::Input;
use crate::model::critical::{Checked, HealthCheck, RestartBy, Restarted};
use crate::model::id::Name;

/// Jobs that have not been answered: a check and a restart of each of the most critical processes that a profile can
/// have, and as many again of a profile that has just gone.
const JOBS: usize = 4_096;

/// Restarts that operators wait for.
pub type ByHand = BTreeMap<Name, Answer<CriticalRestarted>>;

/// Something to do about a critical process.
#[derive(Debug)]
pub struct Job {
    /// The action.
    pub id: ActionId,
    /// The critical process.
    pub name: Name,
    /// What.
    pub what: Care,
}

/// See [`Job`].
#[derive(Debug)]
pub enum Care {
    /// Ask whether it works.
    Check(HealthCheck),
    /// Bring it back.
    Restart {
        /// By what.
        by: RestartBy,
        /// In any case.
        force: bool,
    },
}

/// The engine thread's end.
#[derive(Debug)]
pub struct Carer {
    jobs: mpsc::Sender<Job>,
    /// In boxes, since the queue has the memory for all of its places from the start.
    done: Receiver<Box<(Name, Input)>>,
}

/// The main thread's end.
#[derive(Debug)]
pub struct Caretaker {
    jobs: mpsc::Receiver<Job>,
    done: SyncSender<Box<(Name, Input)>>,
    waker: Waker,
    restarter: Restarter,
    prober: Arc<Prober>,
}

/// Both ends; `runtime` is where programs' output is taken up.
///
/// # Errors
/// When no HTTP client can be made.
pub fn pair(waker: Waker, kernel: &Kernel, runtime: PathBuf) -> Result<(Carer, Caretaker), reqwest::Error> {
    let (jobs, inbox) = mpsc::channel(JOBS);
    // As long as the other one, and those that are being carried out.
    let (outbox, done) = sync_channel(2 * JOBS);
    let prober = Arc::new(Prober::new(kernel, runtime)?);
    Ok((
        Carer { jobs, done },
        Caretaker { jobs: inbox, done: outbox, waker, restarter: Restarter::new(kernel), prober },
    ))
}

impl Carer {
    /// Hands over a job. One that finds no room is answered at once.
    pub fn submit(&self, job: Job) -> Option<(Name, Input)> {
        let refused = |Job { id, name, what }, why: &str| Some((name, what.not_done(id, why)));
        match self.jobs.try_send(job) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(job)) => {
                refused(job, "too many checks and restarts are waiting")
            }
            Err(mpsc::error::TrySendError::Closed(job)) => refused(job, "the agent is stopping"),
        }
    }

    /// An answer, if there is one, and whom it is about.
    #[must_use]
    pub fn next_done(&self) -> Option<(Name, Input)> {
        self.done.try_recv().ok().map(|done| *done)
    }
}

impl Care {
    fn not_done(&self, id: ActionId, why: &str) -> Input {
        match self {
            Self::Check(_) => Input::Checked { id, checked: Checked::NotRun { why: why.to_owned() } },
            Self::Restart { .. } => {
                Input::Restarted { id, restarted: Restarted::Failed { error: why.to_owned() } }
            }
        }
    }
}

impl Caretaker {
    /// Carries out jobs until it is dropped, which ends the checks that are under way.
    pub async fn run(mut self) {
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                Some(job) = self.jobs.recv(), if under_way.len() < JOBS => {
                    let (prober, restarter) = (Arc::clone(&self.prober), self.restarter.clone());
                    under_way.spawn(carry_out(prober, restarter, job));
                }
                Some(done) = under_way.join_next() => match done {
                    Ok(done) => self.answer(done),
                    Err(error) => tracing::error!(%error, "a health check or a restart panicked"),
                },
                else => std::future::pending().await,
            }
        }
    }

    fn answer(&self, done: (Name, Input)) {
        if let (name, Input::Checked { checked: Checked::NotRun { why }, .. }) = &done {
            tracing::warn!(critical = %name, "a health check could not be made: {why}");
        }
        // There is room for all of them; its receiver goes with the engine thread only.
        if self.done.try_send(Box::new(done)).is_err() {
            tracing::debug!("nobody waits for the answer of a health check or a restart");
        }
        self.waker.wake();
    }
}

async fn carry_out(prober: Arc<Prober>, restarter: Restarter, job: Job) -> (Name, Input) {
    let Job { id, name, what } = job;
    let input = match what {
        Care::Check(check) => Input::Checked { id, checked: prober.check(&name, &check).await },
        Care::Restart { by, force } => {
            let critical = name.clone();
            let done = tokio::task::spawn_blocking(move || restarter.restart(&critical, &by, force));
            let ended = |error: tokio::task::JoinError| Restarted::Failed {
                error: format!("the thread that restarts it ended: {error}"),
            };
            Input::Restarted { id, restarted: done.await.unwrap_or_else(ended) }
        }
    };
    (name, input)
}
