//! Builders for the engine's tests.

use crate::engine::{Engine, EngineConfig, Own};
use crate::model::death::Cause;
use crate::model::event::{Event, Exit, Status};
use crate::model::id::ProcKey;
use crate::model::process::{Comm, Process};
use crate::model::time::Timestamp;

/// A moment, in milliseconds since boot.
pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_nanos(millis * 1_000_000)
}

/// Begins a process: uid 1000, start tick 100, parent unknown.
pub(crate) fn process(pid: u32, comm: &str) -> Builder {
    Builder(Process {
        key: ProcKey { pid, start: 100 },
        started: Timestamp::from_nanos(1_000_000_000),
        execed: None,
        ppid: 0,
        uid: 1000,
        gid: 1000,
        cgroup: 0,
        comm: Comm::from_bytes(comm.as_bytes()),
        kthread: false,
    })
}

/// See [`process`].
#[derive(Clone, Copy)]
pub(crate) struct Builder(Process);

impl Builder {
    pub(crate) fn start(mut self, ticks: u64) -> Self {
        self.0.key.start = ticks;
        self.0.started = Timestamp::from_nanos(ticks * 10_000_000);
        self
    }

    pub(crate) fn execed(mut self, millis: u64) -> Self {
        self.0.execed = Some(at(millis));
        self
    }

    pub(crate) fn ppid(mut self, pid: u32) -> Self {
        self.0.ppid = pid;
        self
    }

    pub(crate) fn uid(mut self, uid: u32) -> Self {
        self.0.uid = uid;
        self
    }

    pub(crate) fn cgroup(mut self, id: u64) -> Self {
        self.0.cgroup = id;
        self
    }

    pub(crate) fn comm(mut self, bytes: &[u8]) -> Self {
        self.0.comm = Comm::from_bytes(bytes);
        self
    }

    pub(crate) fn kthread(mut self) -> Self {
        self.0.kthread = true;
        self
    }

    pub(crate) fn build(self) -> Process {
        self.0
    }

    pub(crate) fn exit(self, millis: u64, status: Status) -> Event {
        Event::Exit(Exit {
            process: self.0,
            at: at(millis),
            status: Some(status),
            cpu: None,
            peak_rss: None,
            cause: Cause::UNKNOWN,
        })
    }
}

/// An engine whose agent is pid 900, a child of pid 800.
pub(crate) fn engine() -> Engine {
    let own =
        Own { key: ProcKey { pid: 900, start: 100 }, ancestors: vec![ProcKey { pid: 800, start: 100 }] };
    Engine::new(EngineConfig::new(own))
}
