//! A pressure trigger: the kernel tells when processes have waited for CPUs, so that nobody has to look
//! (Documentation/accounting/psi.rst, "Monitoring for pressure thresholds").

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

const FILE: &str = "/proc/pressure/cpu";
/// Some task waits for a CPU 15 % of two seconds. Windows of whole two seconds need no capability.
const TRIGGER: &[u8] = b"some 300000 2000000\0";

/// An open trigger, readable out of band when it fires; at most once per window.
#[derive(Debug)]
pub(super) struct Trigger(File);

impl Trigger {
    /// # Errors
    /// Where the kernel keeps no pressure, or refuses the trigger.
    pub(super) fn open() -> io::Result<Self> {
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
