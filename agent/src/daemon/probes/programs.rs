//! The programs for the next time that they are armed: loaded meanwhile, since that takes longest.

use std::time::Duration;

use crate::clock;
use crate::config::probes::ProbesSettings;
use crate::model::chain::chain;
use crate::model::time::{Timestamp, nanos};
use crate::source::SourceError;
use crate::source::attach::Options;
use crate::source::sched::{Arming, Probes, Ready};

/// They are loaded so long after the start, when others need the CPUs, and after those before them have gone.
const CALM: Duration = Duration::from_secs(1);
/// Shortest time between two reports of one process.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Programs {
    arming: Arming,
    next: Next,
}

enum Next {
    /// To be loaded then.
    Due(Timestamp),
    Ready(Box<Ready>),
    /// They are armed, or could not be loaded: whoever arms them tries again.
    None,
}

impl Programs {
    pub(super) fn new(settings: &ProbesSettings) -> Self {
        let arming = Arming::new(nanos(settings.threshold), nanos(REPORT_INTERVAL));
        Self { arming, next: Next::Due(clock::now().after(CALM)) }
    }

    /// When they are to be loaded.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if let Next::Due(due) = self.next { Some(due) } else { None }
    }

    /// Loads them if that is due.
    pub(super) fn prepare(&mut self, options: &Options) {
        if self.due().is_none_or(|due| due > clock::now()) {
            return;
        }
        self.next = match self.load(options) {
            Ok(ready) => Next::Ready(Box::new(ready)),
            Err(error) => {
                tracing::error!("the scheduler's probes cannot be loaded: {}", chain(&error));
                Next::None
            }
        };
    }

    /// Arms them, and loads them first where that has not been done.
    ///
    /// # Errors
    /// As [`Ready::load`] and [`Ready::arm`].
    pub(super) fn arm(&mut self, options: &Options) -> Result<Probes, SourceError> {
        match std::mem::replace(&mut self.next, Next::None) {
            Next::Ready(ready) => ready.arm(),
            Next::Due(_) | Next::None => self.load(options)?.arm(),
        }
    }

    fn load(&self, options: &Options) -> Result<Ready, SourceError> {
        let loaded = Ready::load(options, &self.arming);
        // The kernel's types, as they were parsed.
        crate::sys::trim_heap();
        loaded
    }

    /// Those that were armed are gone: others are to be loaded.
    pub(super) fn gone(&mut self, now: Timestamp) {
        self.next = Next::Due(now.after(CALM));
    }
}
