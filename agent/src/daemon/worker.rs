//! The thread that moves processes between cgroups. A lone move costs 6 to 10 ms and has been seen to take
//! seconds in a fork storm; the engine thread must not wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use crate::control::proto::PROCESSES_MAX;
use crate::daemon::waker::Waker;
use crate::effect::throttle::MoveBatch;
use crate::engine::action::ActionId;
use crate::engine::input::Outcome;
use crate::model::id::Name;

/// Most jobs that wait: each process of the largest request may have a group to itself, and each group has one
/// batch on its way.
const WAITING_MAX: usize = PROCESSES_MAX + 256;
/// Batches that are done and not yet fetched.
const DONE_MAX: usize = 256;

/// A batch that is done.
#[derive(Debug)]
pub struct Finished {
    /// The action that it carried out.
    pub id: ActionId,
    /// The group that the action was about; none when it was about all.
    pub group: Option<Name>,
    /// Its result.
    pub outcome: Outcome,
}

enum Job {
    /// An action's part that takes milliseconds.
    Batch(ActionId, MoveBatch),
    /// A question whose answer takes milliseconds.
    Question(Box<dyn FnOnce() + Send>),
}

/// The engine thread's end.
#[derive(Debug)]
pub struct Worker {
    /// Bounded by `waiting`: a bounded channel would hold memory for its longest queue from the beginning.
    jobs: Sender<Job>,
    waiting: Arc<AtomicUsize>,
    finished: Receiver<Finished>,
}

impl Worker {
    /// Starts the thread, which rings `waker` after each batch. It ends when the worker is dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(waker: Waker) -> std::io::Result<Self> {
        let (jobs, inbox) = channel::<Job>();
        let (outbox, finished) = sync_channel(DONE_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        std::thread::Builder::new().name("moves".to_owned()).spawn(move || {
            for job in inbox {
                left.fetch_sub(1, Ordering::Relaxed);
                let (id, batch) = match job {
                    Job::Batch(id, batch) => (id, batch),
                    Job::Question(ask) => {
                        ask();
                        continue;
                    }
                };
                let group = batch.group().cloned();
                let outcome = batch.run();
                if outbox.send(Finished { id, group, outcome }).is_err() {
                    return;
                }
                waker.wake();
            }
        })?;
        Ok(Self { jobs, waiting, finished })
    }

    /// Hands over a batch. With the queue full it is refused at once: the engine tries again later.
    pub fn submit(&self, id: ActionId, batch: MoveBatch) -> Option<Finished> {
        let group = batch.group().cloned();
        let refused =
            |why: &str| Some(Finished { id, group, outcome: Outcome::Failed { error: why.to_owned() } });
        match self.send(Job::Batch(id, batch)) {
            Ok(()) => None,
            Err(why) => refused(why),
        }
    }

    /// Hands over a question, which answers whoever asked by itself; false when there is no room for it.
    pub fn ask(&self, question: impl FnOnce() + Send + 'static) -> bool {
        self.send(Job::Question(Box::new(question))).is_ok()
    }

    fn send(&self, job: Job) -> Result<(), &'static str> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err("too many moves are waiting");
        }
        self.jobs.send(job).map_err(|_closed| "the thread that moves processes has ended")
    }

    /// A batch that is done, if there is one.
    #[must_use]
    pub fn next_finished(&self) -> Option<Finished> {
        self.finished.try_recv().ok()
    }
}
