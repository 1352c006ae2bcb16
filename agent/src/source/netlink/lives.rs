//! What the connector's messages mean: it names pids, and everything else has to be known or read in time.
//!
//! The messages carry no start time, name or owner. A process is read from `/proc` when it execs, or at the
//! end of the batch that brought its fork; until then it is a *sketch* drawn from its parent. Its end is
//! taken from the known life, or from the zombie while that waits to be reaped. Limits of this source:
//!
//! - a process that execs and is reaped before it can be read is counted as unidentified, not reported; if
//!   it was read before the exec, its end is reported under its former name;
//! - the start of one that ends before it can be read is the time of the fork message, so its key may be a
//!   tick late; nobody has been told another key for it;
//! - when the leader ends before other threads and the last thread ends with code 0, the leader's code is
//!   reported, although `exit_group(0)` may have replaced it;
//! - changes of ids, of cgroup and of comm without an exec are seen by the next snapshot only.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::model::death::Cause;
use crate::model::event::{Event, Exit, Status};
use crate::model::id::{ProcKey, TICK_NANOS};
use crate::model::process::Process;
use crate::model::time::Timestamp;
use crate::procfs::stat::Stat;
use crate::procfs::{Proc, ProcError};
use crate::source::netlink::wire::Change;

/// Most lives that are remembered; the exits of others are reported only while their zombies can be read.
const CAPACITY: usize = 1 << 16;
/// A life that began this shortly before a fork message is the one that the message is about: it was found
/// by a snapshot in between. The kernel does not reuse a pid as fast.
const SAME_BIRTH: Duration = Duration::from_secs(1);

/// The known processes and what is pending among them.
#[derive(Debug)]
pub(super) struct Lives {
    proc: Proc,
    known: HashMap<u32, Life>,
    /// Forked in this batch and not read yet.
    newborn: Vec<u32>,
    /// Processes whose leader has ended while other threads live on.
    leaderless: BTreeSet<u32>,
    unidentified: u64,
    unreadable: u64,
}

/// What is known of a process.
#[derive(Clone, Copy, Debug)]
struct Life {
    process: Process,
    /// Read from `/proc`, as opposed to drawn from the parent.
    read: bool,
    /// Whether the comm is its own: not after an exec that could not be read.
    named: bool,
    /// `exit_code` of its leader, once that has ended.
    leader: Option<u32>,
}

/// How a process looks after one of its threads has ended.
enum Aftermath {
    /// It lives on, its leader ended or not.
    Alive { leader_ended: bool },
    /// It has ended and waits to be reaped.
    Zombie(Stat),
    /// It has been reaped.
    Gone,
}

impl Lives {
    pub(super) fn new(proc: Proc) -> Self {
        Self {
            proc,
            known: HashMap::new(),
            newborn: Vec::new(),
            leaderless: BTreeSet::new(),
            unidentified: 0,
            unreadable: 0,
        }
    }

    /// Deaths that could not be reported, because nothing could be learnt of the process.
    pub(super) const fn unidentified(&self) -> u64 {
        self.unidentified
    }

    /// Processes whose files could not be read or understood although they existed.
    pub(super) const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Whether a death may go unnoticed unless [`Self::recheck`] is called later.
    pub(super) fn is_pending(&self) -> bool {
        !self.leaderless.is_empty()
    }

    /// Takes one message.
    pub(super) fn handle(&mut self, change: Change, at: Timestamp, sink: &mut dyn FnMut(Event)) {
        match change {
            Change::Fork { parent, child } => self.fork(parent, child, at),
            Change::Exec { tgid } => self.exec(tgid, at, sink),
            Change::Exit { tid, tgid, status } => self.exit(tid, tgid, status, at, sink),
            Change::Other => {}
        }
    }

    /// Ends a batch: reads the processes that were born in it and are still alive.
    pub(super) fn settle(&mut self, sink: &mut dyn FnMut(Event)) {
        for pid in std::mem::take(&mut self.newborn) {
            // An exec of this batch may have read it already.
            if self.known.get(&pid).is_some_and(|life| life.read) {
                continue;
            }
            if let Some(process) = self.look(pid) {
                self.learn(process);
                sink(Event::Fork(process));
            }
        }
    }

    /// Looks again at the processes whose leader has ended: the end of their last thread may have been seen
    /// before that thread was off the books (a tracer holds it).
    pub(super) fn recheck(&mut self, now: Timestamp, sink: &mut dyn FnMut(Event)) {
        for tgid in std::mem::take(&mut self.leaderless) {
            self.conclude(tgid, 0, now, sink);
        }
    }

    /// Forgets everything and reports every live process.
    pub(super) fn snapshot(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), ProcError> {
        let before = std::mem::take(&mut self.known);
        self.newborn.clear();
        self.leaderless.clear();
        // Collected, because the iterator borrows the reader; 65,536 processes are 6 MB.
        let found: Vec<_> = self.proc.processes()?.collect();
        for process in found {
            let Ok(mut process) = process else {
                self.unreadable += 1;
                continue;
            };
            let earlier = before.get(&process.key.pid).filter(|life| life.process.key == process.key);
            process.execed = earlier.and_then(|life| life.process.execed);
            self.learn(process);
            if let Some(status) = earlier.and_then(|life| life.leader) {
                self.leader_ended(process.key.pid, status);
            }
            sink(Event::Alive(process));
        }
        Ok(())
    }

    fn fork(&mut self, parent: u32, child: u32, at: Timestamp) {
        if self
            .known
            .get(&child)
            .is_some_and(|life| life.read && life.process.started.after(SAME_BIRTH) >= at)
        {
            return;
        }
        let Some(from) = self.known.get(&parent).copied() else {
            // Nothing to draw from, but it may still be there at the end of the batch.
            self.known.remove(&child);
            self.newborn.push(child);
            return;
        };
        let key = ProcKey::from_start_ns(child, at.as_nanos());
        let process = Process { key, started: at, execed: None, ppid: parent, ..from.process };
        self.insert(Life { process, read: false, named: from.named, leader: None });
        self.newborn.push(child);
    }

    fn exec(&mut self, tgid: u32, at: Timestamp, sink: &mut dyn FnMut(Event)) {
        self.leaderless.remove(&tgid);
        if let Some(process) = self.look(tgid) {
            let process = Process { execed: Some(at), ..process };
            self.learn(process);
            sink(Event::Exec(process));
        } else if let Some(life) = self.known.get_mut(&tgid) {
            life.named = false;
        }
    }

    fn exit(&mut self, tid: u32, tgid: u32, status: u32, at: Timestamp, sink: &mut dyn FnMut(Event)) {
        if tid == tgid {
            // The kernel sends this after the thread has become a zombie. The leader of a process that
            // another thread replaces by exec ends as well: then the process is alive and no zombie.
            if let Some(life) = self.known.get_mut(&tgid) {
                life.leader = Some(status);
            }
            self.conclude(tgid, status, at, sink);
        } else if self.leaderless.contains(&tgid) {
            self.conclude(tgid, status, at, sink);
        }
    }

    /// Reports the end of a process, if it has ended.
    fn conclude(&mut self, tgid: u32, status: u32, at: Timestamp, sink: &mut dyn FnMut(Event)) {
        let stat = match self.aftermath(tgid) {
            Aftermath::Alive { leader_ended: true } => {
                if !self.known.contains_key(&tgid)
                    && let Some(process) = self.look(tgid)
                {
                    self.learn(process);
                }
                self.leader_ended(tgid, status);
                return;
            }
            Aftermath::Alive { leader_ended: false } => {
                if let Some(life) = self.known.get_mut(&tgid) {
                    life.leader = None;
                }
                return;
            }
            Aftermath::Zombie(stat) => Some(stat),
            Aftermath::Gone => None,
        };
        self.leaderless.remove(&tgid);
        let life = self.known.remove(&tgid);
        let leader = life.and_then(|life| life.leader);
        let complete = life.filter(|life| life.read && life.named);
        // Once its birth was reported the end must be as well, be it under the name from before an exec.
        let partial = life.filter(|life| life.read || life.named);
        let corpse = match stat {
            Some(stat) if complete.is_none() => self.corpse(&stat),
            Some(_) | None => None,
        };
        let process = complete.map(|life| life.process).or(corpse).or(partial.map(|life| life.process));
        let Some(process) = process else {
            self.unidentified += 1;
            return;
        };
        let raw = if status == 0 { leader.unwrap_or(0) } else { status };
        let cpu = stat.map(|stat| ticks(stat.utime.saturating_add(stat.stime)));
        let status = Some(Status::from_wait(raw));
        sink(Event::Exit(Exit {
            process,
            at: at.max(process.started),
            status,
            cpu,
            peak_rss: None,
            cause: Cause::UNKNOWN,
        }));
    }

    fn aftermath(&mut self, tgid: u32) -> Aftermath {
        let stat = match self.proc.stat(tgid) {
            Ok(stat) => stat,
            Err(error) => {
                self.note(&error);
                None
            }
        };
        let Some(stat) = stat else { return Aftermath::Gone };
        let reused = self.known.get(&tgid).is_some_and(|life| {
            let start = life.process.key.start;
            // The start of a sketch is the fork message's time, which may lie a tick behind the true one.
            if life.read { stat.start != start } else { stat.start > start + 1 }
        });
        if reused {
            Aftermath::Gone
        } else if stat.is_dead() {
            Aftermath::Zombie(stat)
        } else {
            Aftermath::Alive { leader_ended: stat.leader_ended() }
        }
    }

    fn leader_ended(&mut self, tgid: u32, status: u32) {
        if let Some(life) = self.known.get_mut(&tgid) {
            life.leader.get_or_insert(status);
            self.leaderless.insert(tgid);
        }
    }

    fn learn(&mut self, process: Process) {
        self.insert(Life { process, read: true, named: true, leader: None });
    }

    /// Remembers a life, unless the table is full.
    fn insert(&mut self, life: Life) {
        let pid = life.process.key.pid;
        if self.known.len() < CAPACITY || self.known.contains_key(&pid) {
            self.known.insert(pid, life);
        }
    }

    fn look(&mut self, pid: u32) -> Option<Process> {
        self.noted(|proc| proc.process(pid))
    }

    /// The zombie whose `stat` was read, unless it has been reaped since.
    fn corpse(&mut self, stat: &Stat) -> Option<Process> {
        let remains = self.noted(|proc| proc.remains(stat.pid));
        remains.map(|(process, _)| process).filter(|process| process.key == stat.key())
    }

    fn noted<T>(&mut self, read: impl FnOnce(&Proc) -> Result<Option<T>, ProcError>) -> Option<T> {
        read(&self.proc).unwrap_or_else(|error| {
            self.note(&error);
            None
        })
    }

    fn note(&mut self, error: &ProcError) {
        self.unreadable += 1;
        tracing::debug!(error = error as &dyn std::error::Error, "a process could not be read");
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_nanos(count.saturating_mul(TICK_NANOS))
}

#[cfg(test)]
mod tests;
