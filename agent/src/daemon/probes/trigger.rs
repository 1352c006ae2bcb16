//! A pressure trigger: the kernel tells when processes have waited for CPUs, so that nobody has to look
//! (Documentation/accounting/psi.rst, "Monitoring for pressure thresholds").

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;

use rustix::thread::CapabilitySet;

use crate::daemon::privilege;
use crate::model::chain::chain;
use crate::procfs::pressure::Pressure;

const FILE: &str = "/proc/pressure/cpu";
/// Some task waits for a CPU 15 % of two seconds. Windows of whole two seconds need no capability since Linux 6.5.
const TRIGGER: &[u8] = b"some 300000 2000000\0";
/// What is in [`TRIGGER`], µs.
const THRESHOLD_US: u64 = 300_000;
/// A pressure file has two short lines.
const PRESSURE_MAX: usize = 1_024;

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
    pub(super) fn open() -> io::Result<Self> {
        privilege::without(CapabilitySet::SYS_RESOURCE, Self::open_as_is)?.or_else(|refused| {
            let privileged = refused.kind() == io::ErrorKind::PermissionDenied;
            if privileged { Self::open_as_is() } else { Err(refused) }
        })
    }

    fn open_as_is() -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).open(FILE)?;
        // In one write, the terminating NUL included.
        let written = file.write(TRIGGER)?;
        if written == TRIGGER.len() {
            let opened_us = Some(waited_us(&file)?);
            Ok(Self { file, opened_us })
        } else {
            Err(io::Error::new(io::ErrorKind::WriteZero, format!("{FILE} took {written} bytes only")))
        }
    }

    /// Whether what it fired for has happened since it was opened. The first windows of one without the capability begin
    /// at what had been counted for those with it (`psi_trigger_create` in kernel/sched/psi.c), mostly nothing: it fires
    /// once or twice for all that tasks have waited since the boot.
    pub(super) fn is_true(&mut self) -> bool {
        let Some(opened_us) = self.opened_us else { return true };
        match waited_us(&self.file) {
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

/// For how long some task has waited since the boot, µs.
fn waited_us(file: &File) -> io::Result<u64> {
    let mut text = [0; PRESSURE_MAX];
    let length = file.read_at(&mut text, 0)?;
    let pressure = text.get(..length).and_then(Pressure::parse);
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} is not a pressure file"));
    Ok(pressure.ok_or_else(malformed)?.some.total_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_true_once_somebody_has_waited_for_long_enough() {
        let Ok(mut trigger) = Trigger::open() else { return assert!(!std::path::Path::new(FILE).exists()) };
        let opened = trigger.opened_us.unwrap();
        let is_true = trigger.is_true();
        // Others on the machine may make somebody wait meanwhile.
        assert!(!is_true || waited_us(&trigger.file).unwrap() >= opened + THRESHOLD_US);
        trigger.opened_us = Some(opened.saturating_sub(THRESHOLD_US));
        assert!(trigger.is_true() && trigger.is_true());
    }

    #[test]
    fn what_it_fires_for_is_what_is_looked_for() {
        let text = std::str::from_utf8(TRIGGER).unwrap();
        assert!(text.contains(&THRESHOLD_US.to_string()), "{text}");
    }
}
