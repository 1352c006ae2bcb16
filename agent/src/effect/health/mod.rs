//! Asks critical processes whether they work. Each check has a hard limit in time, whatever it waits for: a name, a
//! connection, a byte, a program or a file system that hangs.
//!
//! It decides nothing of what an answer means beyond this one check.

pub mod command;
pub mod file;
pub mod http;
pub mod lookup;
pub mod port;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::effect::Kernel;
use crate::effect::health::lookup::Lookups;
use crate::model::critical::{Checked, HealthCheck, Probe};
use crate::model::id::Name;
use crate::systemd::Bus;

/// Checks at a time. Each is a connection or a process.
const AT_ONCE: usize = 16;
/// Calls at a time that no timer can end, because the kernel or a library does not return from them. One that hangs
/// keeps its place, so that a dead server costs a few threads and no more.
const BLOCKING: usize = 8;

/// What checks are made with.
#[derive(Debug)]
pub struct Prober {
    turns: Semaphore,
    blocking: Arc<Semaphore>,
    http: http::Client,
    lookups: Lookups,
    /// Who runs programs, where systemd does.
    systemd: Option<Bus>,
    /// Where their output is taken up.
    runtime: PathBuf,
}

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked does not work.
    Theirs(String),
    /// It could not be asked.
    Ours(String),
}

impl Prober {
    /// A prober. Programs are run by systemd where it runs the host; their output comes through `runtime`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(kernel: &Kernel, runtime: PathBuf) -> Result<Self, reqwest::Error> {
        let systemd = kernel.systemd.then(|| kernel.bus.clone());
        Self::with(systemd, runtime)
    }

    /// A prober of what is reached over the network. It runs no programs.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_network(runtime: PathBuf) -> Result<Self, reqwest::Error> {
        Self::with(None, runtime)
    }

    fn with(systemd: Option<Bus>, runtime: PathBuf) -> Result<Self, reqwest::Error> {
        let blocking = Arc::new(Semaphore::new(BLOCKING));
        let lookups = Lookups::new(Arc::clone(&blocking));
        let http = http::Client::new(lookups.clone())?;
        Ok(Self { turns: Semaphore::new(AT_ONCE), blocking, http, lookups, systemd, runtime })
    }

    /// Makes one check.
    pub async fn check(&self, name: &Name, check: &HealthCheck) -> Checked {
        // Closed only when the prober is dropped.
        let Ok(_turn) = self.turns.acquire().await else {
            return Checked::NotRun { why: "the agent is stopping".to_owned() };
        };
        let HealthCheck { probe, timeout, .. } = check;
        let result = match probe {
            Probe::Port { target } => within(*timeout, port::check(&self.lookups, target)).await,
            Probe::Http { target } => within(*timeout, self.http.check(target)).await,
            Probe::File { target, max_age } => {
                within(*timeout, file::check(&self.blocking, target, *max_age)).await
            }
            // Its end is part of it, so it keeps the time itself.
            Probe::Command { program } => self.run(name, program, *timeout).await,
        };
        match result {
            Ok(()) => Checked::Healthy,
            Err(Fault::Theirs(error)) => Checked::Unhealthy { error },
            Err(Fault::Ours(why)) => Checked::NotRun { why },
        }
    }
}

async fn within(timeout: Duration, check: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    let late = |_elapsed| Fault::Theirs(format!("no answer within {timeout:?}"));
    tokio::time::timeout(timeout, check).await.map_err(late)?
}

/// Runs what may not return on a thread of its own. One that never gets a place is not made.
async fn unhurried<T: Send + 'static>(
    places: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return Err(Fault::Ours(format!("{BLOCKING} earlier ones hang")));
    };
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(place);
        result
    });
    done.await.map_err(|error| Fault::Ours(format!("its thread ended: {error}")))
}

#[cfg(test)]
mod tests;
