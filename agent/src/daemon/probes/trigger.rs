//! A pressure trigger: the kernel tells when processes have waited for CPUs, so that nobody has to look
//! (Documentation/accounting/psi.rst, "Monitoring for pressure thresholds").

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::thread::CapabilitySet;

use crate::daemon::privilege;
use crate::model::chain::chain;
use crate::procfs::pressure::Resource;
use crate::procfs::{Proc, ProcError};

const FILE: &str = "/proc/pressure/cpu";
/// Some task waits for a CPU 15 % of two seconds, in µs.
const THRESHOLD_US: u64 = 300_000;
/// Windows of whole two seconds need no capability since Linux 6.5, in µs.
const WINDOW_US: u64 = 2_000_000;

/// An open trigger, readable out of band when it fires; at most once per window.
#[derive(Debug)]
pub(super) struct Trigger {
    file: File,
    /// For how long some task had waited when it was opened, µs; none once it has been that much longer.
    opened_us: Option<u64>,
}

impl Trigger {
    /// Opens it as somebody without `CAP_SYS_RESOURCE` if that is possible. What that capability opens is looked after
    /// at every switch of threads (psi.c, `psi_schedule_rtpoll_work`), which costs some percent of a switch; the others
    /// come with the averages, which the kernel keeps anyway.
    ///
    /// # Errors
    /// Where the kernel keeps no pressure, or refuses the trigger.
    pub(super) fn open(proc: &Proc) -> io::Result<Self> {
        privilege::without(CapabilitySet::SYS_RESOURCE, || Self::open_as_is(proc))?.or_else(|refused| {
            let privileged = refused.kind() == io::ErrorKind::PermissionDenied;
            if privileged { Self::open_as_is(proc) } else { Err(refused) }
        })
    }

    fn open_as_is(proc: &Proc) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).open(FILE)?;
        // In one write, the terminating NUL included.
        let trigger = trigger();
        let written = file.write(trigger.as_bytes())?;
        if written == trigger.len() {
            let opened_us = Some(waited_us(proc).map_err(io::Error::other)?);
            Ok(Self { file, opened_us })
        } else {
            Err(io::Error::new(io::ErrorKind::WriteZero, format!("{FILE} took {written} bytes only")))
        }
    }

    /// Whether what it fired for has happened since it was opened. The first windows of one without the capability begin
    /// at what had been counted for those with it (`psi_trigger_create` in kernel/sched/psi.c), mostly nothing: it fires
    /// once or twice for all that tasks have waited since the boot.
    pub(super) fn is_true(&mut self, proc: &Proc) -> bool {
        let Some(opened_us) = self.opened_us else { return true };
        match waited_us(proc) {
            Ok(now_us) if now_us.saturating_sub(opened_us) < THRESHOLD_US => return false,
            Ok(_) => {}
            Err(error) => tracing::warn!("pressure cannot be read: {}", chain(&error)),
        }
        self.opened_us = None;
        true
    }
}

impl AsFd for Trigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn trigger() -> String {
    format!("some {THRESHOLD_US} {WINDOW_US}\0")
}

/// For how long some task has waited since the boot, µs.
fn waited_us(proc: &Proc) -> Result<u64, ProcError> {
    Ok(proc.pressure(Resource::Cpu)?.map_or(0, |pressure| pressure.some.total_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_true_once_somebody_has_waited_for_long_enough() {
        let proc = Proc::host().unwrap();
        let Ok(mut trigger) = Trigger::open(&proc) else {
            return assert!(!std::path::Path::new(FILE).exists());
        };
        let opened = trigger.opened_us.unwrap();
        let is_true = trigger.is_true(&proc);
        // Others on the machine may make somebody wait meanwhile.
        assert!(!is_true || waited_us(&proc).unwrap() >= opened + THRESHOLD_US);
        trigger.opened_us = Some(opened.saturating_sub(THRESHOLD_US));
        assert!(trigger.is_true(&proc) && trigger.is_true(&proc));
    }

    #[test]
    fn what_it_fires_for_is_what_is_looked_for() {
        let text = trigger();
        assert!(text.contains(&THRESHOLD_US.to_string()), "{text}");
        assert_eq!(text, "some 300000 2000000\0");
    }
}
