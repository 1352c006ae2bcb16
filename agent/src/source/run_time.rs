//! Has the kernel count runs and time of BPF programs, of all that the machine has, for as long as somebody holds this
//! (bpf(2), `BPF_ENABLE_STATS`). Each run then takes two readings of the clock more. Reads nothing: each program's
//! descriptor tells its figures.

use std::os::fd::OwnedFd;

use aya::sys::{Stats, enable_stats};

use crate::source::{SourceError, attach};

/// See the module. Nothing is left behind when it is dropped, nor when the process that holds it is killed.
#[derive(Debug)]
pub struct RunTime {
    _held: OwnedFd,
}

impl RunTime {
    /// Has them counted from now on.
    ///
    /// # Errors
    /// [`SourceError::Bpf`] without `CAP_SYS_ADMIN`, and before Linux 5.8.
    pub fn count() -> Result<Self, SourceError> {
        let held = enable_stats(Stats::RunTime);
        let held = held.map_err(|error| {
            attach::bpf("count the run time of programs, which needs CAP_SYS_ADMIN", &error)
        })?;
        Ok(Self { _held: held })
    }
}
