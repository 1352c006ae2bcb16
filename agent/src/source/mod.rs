//! Where events come from: the eBPF programs, else the netlink proc connector, else `/proc` polling.
//!
//! A source is driven by one thread that polls the file descriptors it names and calls [`Source::drain`].
//! It knows nothing of rules beyond the kernel-side hints.

pub mod attach;
pub mod btf;
mod cause;
pub mod ebpf;
pub mod netlink;
mod pace;
pub mod poll;
pub mod record;
mod ring;
pub mod run_time;
pub mod sched;
pub mod select;
mod snapshot;

#[cfg(test)]
pub(crate) mod conformance;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::model::event::Event;
pub use crate::model::hints::Hints;
use crate::model::id::ProcKey;
use crate::model::time::Timestamp;

/// A source of events.
pub trait Source {
    /// Its name: `ebpf`, `netlink` or `poll`.
    fn name(&self) -> &'static str;

    /// File descriptors whose readability means that [`Self::drain`] has work.
    fn fds(&self) -> Vec<BorrowedFd<'_>>;

    /// When [`Self::drain`] must be called although no descriptor is readable; `None` while the source
    /// sleeps until a first event wakes it.
    fn deadline(&self) -> Option<Timestamp>;

    /// Hands over what has come in, oldest first, in bounded work, and re-arms the wake-up when it is dry.
    ///
    /// # Errors
    /// When the source is broken for good; the caller falls back to the next one.
    fn drain(&mut self, now: Timestamp, sink: &mut dyn FnMut(Event)) -> Result<Drained, SourceError>;

    /// Reports every live process as `Event::Alive`.
    ///
    /// # Errors
    /// When the kernel or `/proc` cannot be read.
    fn snapshot(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), SourceError>;

    /// Replaces the kernel-side hints. Sources without a kernel side keep nothing.
    ///
    /// # Errors
    /// When a map cannot be written.
    fn set_hints(&mut self, hints: &Hints) -> Result<(), SourceError>;

    /// Reports a process's events at once from now on (or no longer).
    ///
    /// # Errors
    /// When the map is full or cannot be written.
    fn watch(&mut self, key: ProcKey, on: bool) -> Result<(), SourceError>;

    /// What it cannot tell of causes of death on this kernel, and why; a lesser source tells none at all.
    fn lacks(&self) -> &[String] {
        &[]
    }

    /// Counts since the source was opened.
    fn counts(&self) -> Counts;

    /// How full its rings are now: some system calls each. None of a source that has none.
    fn fills(&self) -> Vec<Fill> {
        Vec::new()
    }
}

/// How full a ring of the kernel side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Its name: `priority` or `bulk`.
    pub ring: &'static str,
    /// Bytes of records that were not taken out yet, their headers included.
    pub waiting: u64,
    /// Bytes that it has room for.
    pub capacity: u64,
}

/// What one [`Source::drain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Events handed over.
    pub events: u64,
    /// Records dropped by the kernel since the last drain: the caller resyncs.
    pub dropped: u64,
    /// Whether the source could not tell how many were lost, only that some were.
    pub resync: bool,
}

/// Totals of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that the kernel side decided to send.
    pub produced: u64,
    /// Records it sent.
    pub sent: u64,
    /// Records it could not send.
    pub dropped: u64,
    /// Records that were not understood.
    pub malformed: u64,
    /// Times the kernel side woke the agent.
    pub wakeups: u64,
    /// Whether `produced == sent + dropped` is measured by the kernel side; false where the source cannot
    /// count its losses.
    pub exact: bool,
}

/// A drain interval while events come in and a rule waits on the sweep.
pub const EAGER_INTERVAL: Duration = Duration::from_millis(20);
/// A drain interval while events come in otherwise.
pub const LAZY_INTERVAL: Duration = Duration::from_millis(100);

/// Why a source cannot be opened or goes on no longer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The kernel's BTF lacks something the programs need.
    #[error("kernel BTF: {0}")]
    Btf(String),
    /// Loading or attaching failed.
    #[error("eBPF: {0}")]
    Bpf(String),
    /// A system call failed.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried, with its path or object.
        operation: String,
        /// The error.
        source: std::io::Error,
    },
}

impl From<crate::procfs::ProcError> for SourceError {
    fn from(error: crate::procfs::ProcError) -> Self {
        Self::Io { operation: "reading processes".to_owned(), source: std::io::Error::other(error) }
    }
}
