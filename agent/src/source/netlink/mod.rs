//! The proc connector: the kernel's process events over netlink, for hosts where eBPF is not permitted.
//!
//! Degraded by nature: the kernel wakes the reader for every event, names nothing but pids, and drops what
//! does not fit. Losses are found by gaps in the per-CPU counts and by `ENOBUFS`; either asks for a resync.
//! Its other limits are listed in [`lives`]. Works in the initial pid and user namespaces only.

mod lives;
mod socket;
mod wire;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use crate::clock;
use crate::model::event::Event;
use crate::model::id::ProcKey;
use crate::model::time::Timestamp;
use crate::procfs::Proc;
use crate::source::{Counts, Drained, Hints, LAZY_INTERVAL, Source, SourceError};
use lives::Lives;
use socket::{Received, Socket};
use wire::{Body, Message};

/// Most datagrams that one drain takes; the rest keeps the descriptor readable.
const BATCH: usize = 4096;

/// The source.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    lives: Lives,
    gaps: Gaps,
    recheck_at: Option<Timestamp>,
    received: u64,
    malformed: u64,
    wakeups: u64,
}

impl Netlink {
    /// Subscribes to the connector. Processes are read through `proc`.
    ///
    /// # Errors
    /// When the kernel refuses or does not answer: no `CAP_NET_ADMIN` (before Linux 6.6), not in the initial
    /// namespaces, or a kernel without `CONFIG_PROC_EVENTS`.
    pub fn open(proc: Proc) -> Result<Self, SourceError> {
        Ok(Self {
            socket: Socket::open()?,
            lives: Lives::new(proc),
            gaps: Gaps::default(),
            recheck_at: None,
            received: 0,
            malformed: 0,
            wakeups: 0,
        })
    }

    fn take(&mut self, datagram: &[u8], suspended: std::time::Duration, sink: &mut dyn FnMut(Event)) -> u64 {
        let mut missing = 0;
        for message in wire::messages(datagram) {
            let Ok(Message { cpu, seq, at_ns, body }) = message else {
                self.malformed += 1;
                continue;
            };
            if let Some(cpu) = cpu {
                self.received += 1;
                missing += u64::from(self.gaps.before(cpu, seq));
            }
            match body {
                Body::Change(change) => {
                    self.lives.handle(change, Timestamp::from_nanos(at_ns).after(suspended), sink);
                }
                // Sent to every listener; ours came while the socket was opened.
                Body::Ack { .. } => {}
            }
        }
        missing
    }
}

impl Source for Netlink {
    fn name(&self) -> &'static str {
        "netlink"
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.socket.fd()]
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.recheck_at
    }

    fn drain(&mut self, now: Timestamp, sink: &mut dyn FnMut(Event)) -> Result<Drained, SourceError> {
        let mut drained = Drained::default();
        let mut sink = |event| {
            drained.events += 1;
            sink(event);
        };
        let suspended = clock::suspended();
        let mut buffer = [0; size_of::<socket::Buffer>()];
        let mut woken = false;
        for _ in 0..BATCH {
            match self.socket.receive(&mut buffer)? {
                Received::Datagram(datagram) => {
                    woken = true;
                    drained.dropped += self.take(datagram, suspended, &mut sink);
                }
                Received::Foreign => self.malformed += 1,
                Received::Overrun => drained.resync = true,
                Received::Dry => break,
            }
        }
        self.wakeups += u64::from(woken);
        self.lives.settle(&mut sink);
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.lives.recheck(now, &mut sink);
            self.recheck_at = None;
        }
        if !self.lives.is_pending() {
            self.recheck_at = None;
        } else if self.recheck_at.is_none() {
            self.recheck_at = Some(now.after(LAZY_INTERVAL));
        }
        Ok(drained)
    }

    fn snapshot(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), SourceError> {
        self.lives.snapshot(sink).map_err(SourceError::from)
    }

    fn set_hints(&mut self, _hints: &Hints) -> Result<(), SourceError> {
        Ok(())
    }

    fn watch(&mut self, _key: ProcKey, _on: bool) -> Result<(), SourceError> {
        Ok(())
    }

    /// `dropped` holds what the gaps showed, and the deaths of which nothing could be told.
    fn counts(&self) -> Counts {
        let unidentified = self.lives.unidentified();
        Counts {
            produced: self.received + self.gaps.total,
            sent: self.received.saturating_sub(unidentified),
            dropped: self.gaps.total + unidentified,
            malformed: self.malformed + self.lives.unreadable(),
            wakeups: self.wakeups,
            exact: false,
        }
    }
}

/// The kernel numbers its messages per CPU: a jump is a loss. What was lost last on a CPU shows only with
/// that CPU's next message, hence not exact.
#[derive(Debug, Default)]
struct Gaps {
    next: BTreeMap<u32, u32>,
    total: u64,
}

impl Gaps {
    /// Number of messages missing before this one.
    fn before(&mut self, cpu: u32, seq: u32) -> u32 {
        let missing = self.next.insert(cpu, seq.wrapping_add(1)).map_or(0, |next| seq.wrapping_sub(next));
        self.total += u64::from(missing);
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::conformance::{Abilities, behaviours};

    #[test]
    fn behaves_as_a_source() {
        let mut source = Netlink::open(Proc::host().unwrap()).unwrap();
        behaviours(&mut source, Abilities { status: true });
        let counts = source.counts();
        assert!(counts.sent > 0 && counts.malformed == 0, "{counts:?}");
    }

    #[test]
    fn an_overrun_asks_for_a_resync() {
        let mut source = Netlink::open(Proc::host().unwrap()).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(source.socket.fd(), 1).unwrap();
        for _ in 0..20 {
            std::process::Command::new("true").status().unwrap();
        }
        let drained = source.drain(clock::now(), &mut |_| {}).unwrap();
        assert!(drained.resync, "{drained:?}");
        // The gap shows with the next messages, on whichever CPUs they come.
        let mut dropped = drained.dropped;
        for _ in 0..50 {
            std::process::Command::new("true").status().unwrap();
            dropped += source.drain(clock::now(), &mut |_| {}).unwrap().dropped;
        }
        assert!(dropped > 0 && source.counts().dropped >= dropped, "{:?}", source.counts());
    }

    #[test]
    fn gaps_are_counted_per_cpu_and_across_the_wrap() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.before(0, 7), 0, "the first one shows nothing");
        assert_eq!(gaps.before(1, u32::MAX), 0);
        assert_eq!(gaps.before(0, 8), 0);
        assert_eq!(gaps.before(1, 0), 0);
        assert_eq!(gaps.before(0, 12), 3);
        assert_eq!(gaps.before(1, 3), 2);
        assert_eq!(gaps.total, 5);
    }
}
