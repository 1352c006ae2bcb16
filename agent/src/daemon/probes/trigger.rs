//! A pressure trigger: the kernel tells when processes have waited for CPUs, so that nobody has to look
//! (Documentation/accounting/psi.rst, "Monitoring for pressure thresholds").

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::thread::CapabilitySet;

use crate::daemon::privilege;

const FILE: &str = "/proc/pressure/cpu";
/// Some task waits for a CPU 15 % of two seconds. Windows of whole two seconds need no capability since Linux 6.5.
const TRIGGER: &[u8] = b"some 300000 2000000\0";

/// An open trigger, readable out of band when it fires; at most once per window.
#[derive(Debug)]
pub(super) struct Trigger(File);

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
            Ok(Self(file))
        } else {
            Err(io::Error::new(io::ErrorKind::WriteZero, format!("{FILE} took {written} bytes only")))
        }
    }
}

impl AsFd for Trigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
