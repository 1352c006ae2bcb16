//! Brings critical processes back: through systemd, or by a program that the configuration names. Never by anything
//! that was read from a process.

use std::time::Duration;

use crate::effect::Kernel;
use crate::effect::program::start_detached;
use crate::model::chain::chain;
use crate::model::critical::{RestartBy, Restarted};
use crate::model::id::Name;
use crate::systemd::{Bus, name, service};

/// Longest wait for a unit to have started: `DefaultTimeoutStartSec=` of systemd, after which it gives up itself.
const JOB_PATIENCE: Duration = Duration::from_secs(90);

/// Who restarts.
#[derive(Clone, Debug)]
pub struct Restarter {
    systemd: Option<Bus>,
}

impl Restarter {
    /// For this host.
    #[must_use]
    pub fn new(kernel: &Kernel) -> Self {
        Self { systemd: kernel.systemd.then(|| kernel.bus.clone()) }
    }

    /// Restarts a critical process and waits until that is done, for more than a minute at worst. `force`: although it
    /// runs, or was stopped on purpose.
    #[must_use]
    pub fn restart(&self, critical: &Name, by: &RestartBy, force: bool) -> Restarted {
        let result = match (by, &self.systemd) {
            (RestartBy::Unit(unit), Some(bus)) => {
                service::restart(bus, unit, force, JOB_PATIENCE).map_err(|error| chain(&error))
            }
            (RestartBy::Unit(unit), None) => Err(format!("there is no systemd to restart unit {unit}")),
            (RestartBy::Command(program), Some(bus)) => {
                let unit = name::restarted(critical);
                let why = format!("restarted critical process {critical}");
                service::start(bus, &unit, &why, program)
                    .map(|()| Restarted::Done { how: format!("{by} was started as {unit}") })
                    .map_err(|error| chain(&error))
            }
            (RestartBy::Command(program), None) => {
                start_detached(program).map(|()| Restarted::Done { how: format!("{by} was started") })
            }
        };
        result.unwrap_or_else(|error| Restarted::Failed { error })
    }
}
