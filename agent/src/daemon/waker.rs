//! Wakes the engine thread out of its poll: an eventfd that everything that is not a kernel ring shares.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// A cloneable handle to one eventfd.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A new eventfd.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Makes the descriptor readable.
    pub fn wake(&self) {
        // EAGAIN means the counter is at its maximum, which is as readable as it can be; no other error can
        // happen to a valid eventfd (eventfd(2)).
        if let Err(error) = rustix::io::write(&*self.0, &1u64.to_ne_bytes())
            && error != Errno::AGAIN
        {
            tracing::error!(%error, "cannot wake the engine thread");
        }
    }

    /// Makes it unreadable again.
    pub fn clear(&self) {
        let mut count = [0; 8];
        if let Err(error) = rustix::io::read(&*self.0, &mut count)
            && error != Errno::AGAIN
        {
            tracing::error!(%error, "cannot read the waker of the engine thread");
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A time to wait in poll(2).
pub(super) fn timespec(duration: Duration) -> Timespec {
    // Rounded up to the next ms: waking just before a deadline would spin until it.
    let nanos = duration.as_nanos().div_ceil(1_000_000).saturating_mul(1_000_000);
    let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0) }
}
