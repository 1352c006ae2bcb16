//! The thread that reads and writes the outbox, so that nobody who delivers waits for the disk on the main thread.

use std::thread::Builder;

use tokio::sync::{mpsc, oneshot};

use crate::store::{Store, StoreError};

/// Jobs that wait for the disk; more wait with their tasks.
const JOBS: usize = 64;

type Job = Box<dyn FnOnce(&mut Store) + Send>;

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread is gone.
    #[error("the outbox is closed")]
    Closed,
}

/// The way to the thread. It ends when every way is gone.
#[derive(Clone, Debug)]
pub struct Ledger(mpsc::Sender<Job>);

impl Ledger {
    /// Starts the thread.
    ///
    /// # Errors
    /// When none can be started.
    pub fn start(mut store: Store) -> std::io::Result<Self> {
        let (sender, mut jobs) = mpsc::channel::<Job>(JOBS);
        Builder::new().name("outbox".to_owned()).spawn(move || {
            while let Some(job) = jobs.blocking_recv() {
                job(&mut store);
            }
        })?;
        Ok(Self(sender))
    }

    /// Runs a job there.
    ///
    /// # Errors
    /// Those of the job.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, result) = oneshot::channel();
        // Whoever asked may have gone.
        let job: Job = Box::new(move |store| drop(answer.send(job(store))));
        self.0.send(job).await.map_err(|_closed| LedgerError::Closed)?;
        Ok(result.await.map_err(|_closed| LedgerError::Closed)??)
    }
}
