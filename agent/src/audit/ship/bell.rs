//! What the threads tell each other: that there are records, that it is time to stop, and how shipping fares.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::id::Name;

/// Wakes the shipping threads.
#[derive(Debug, Default)]
pub struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rung: u64,
    stop: bool,
    ended: usize,
}

impl Bell {
    /// There are new records.
    pub fn ring(&self) {
        self.lock().rung += 1;
        self.changed.notify_all();
    }

    /// How often it has been rung.
    pub(super) fn rung(&self) -> u64 {
        self.lock().rung
    }

    /// Whether it is time to stop.
    pub(super) fn is_over(&self) -> bool {
        self.lock().stop
    }

    /// Waits for a ring after the `seen`th, or the stop.
    pub(super) fn wait(&self, seen: u64) {
        let waited = self.changed.wait_while(self.lock(), |state| !state.stop && state.rung == seen);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for so long, or the stop.
    pub(super) fn rest(&self, time: Duration) {
        let waited = self.changed.wait_timeout_while(self.lock(), time, |state| !state.stop);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// A thread has ended.
    pub(super) fn end(&self) {
        self.lock().ended += 1;
        self.changed.notify_all();
    }

    /// Says that it is time to stop, and waits for `threads` of them, but no longer than `grace`.
    pub(super) fn stop(&self, threads: usize, grace: Duration) {
        self.lock().stop = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(self.lock(), grace, |state| state.ended < threads);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a destination fares.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) name: Name,
    problem: Mutex<Option<String>>,
}

impl Health {
    pub(super) const fn new(name: Name) -> Self {
        Self { name, problem: Mutex::new(None) }
    }

    /// What is in the way.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets that, and says whether it was otherwise before.
    pub(super) fn set(&self, problem: Option<String>) -> bool {
        let mut slot = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let other = slot.is_some() != problem.is_some();
        *slot = problem;
        other
    }
}
