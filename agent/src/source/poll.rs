//! The last resort: `/proc` read on an interval and compared with the last reading.
//!
//! Needs no privilege. Its limits: what is born and ends between two readings is never seen, exit statuses
//! are unknown, times are those of the reading, and a process that renames itself counts as an exec, because
//! without ptrace permission nothing else of an exec shows.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::model::death::Cause;
use crate::model::event::{Event, Exit};
use crate::model::id::ProcKey;
use crate::model::process::{Comm, Process};
use crate::model::time::Timestamp;
use crate::procfs::stat::Stat;
use crate::procfs::{Proc, ProcError};
use crate::source::{Counts, Drained, Hints, Source, SourceError};

/// Interval between two readings, unless the caller wants another one.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The source.
#[derive(Debug)]
pub struct Poll {
    proc: Proc,
    interval: Duration,
    due: Timestamp,
    known: BTreeMap<u32, Seen>,
    round: u64,
    reported: u64,
    unreadable: u64,
}

/// A process at its last reading.
#[derive(Clone, Copy, Debug)]
struct Seen {
    process: Process,
    program: Program,
    round: u64,
}

/// What changes with an exec, as far as it may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Program {
    comm: Comm,
    image: (u64, u64),
}

impl Seen {
    fn is(&self, stat: &Stat) -> bool {
        self.process.key == stat.key()
    }
}

impl Program {
    const fn of(stat: &Stat) -> Self {
        Self { comm: stat.comm, image: stat.image }
    }
}

impl Poll {
    /// A source that reads `proc` every `interval`, first when [`Source::drain`] is called first.
    #[must_use]
    pub const fn new(proc: Proc, interval: Duration) -> Self {
        Self {
            proc,
            interval,
            due: Timestamp::ZERO,
            known: BTreeMap::new(),
            round: 0,
            reported: 0,
            unreadable: 0,
        }
    }

    /// Reads everything once and reports the changes.
    fn read(&mut self, now: Timestamp, sink: &mut dyn FnMut(Event)) -> Result<(), SourceError> {
        self.round += 1;
        let pids: Vec<_> = self.proc.pids()?.collect();
        for pid in pids {
            if let Err(error) = self.visit(pid?, now, sink) {
                self.unreadable += 1;
                tracing::debug!(error = &error as &dyn std::error::Error, "a process could not be read");
            }
        }
        let round = self.round;
        self.known.retain(|_, seen| {
            if seen.round != round {
                sink(Event::Exit(ended(seen.process, now)));
            }
            seen.round == round
        });
        Ok(())
    }

    /// Reads one process; more of it than its `stat` only when that shows a change.
    fn visit(&mut self, pid: u32, now: Timestamp, sink: &mut dyn FnMut(Event)) -> Result<(), ProcError> {
        let Some(stat) = self.proc.stat(pid)?.filter(|stat| !stat.is_dead()) else { return Ok(()) };
        let seen = self.known.get_mut(&pid);
        if let Some(seen) = seen.filter(|seen| seen.is(&stat) && seen.program == Program::of(&stat)) {
            seen.round = self.round;
            return Ok(());
        }
        let Some((process, stat)) = self.proc.remains(pid)?.filter(|(_, stat)| !stat.is_dead()) else {
            return Ok(());
        };
        let seen = Seen { process, program: Program::of(&stat), round: self.round };
        match self.known.insert(pid, seen) {
            Some(before) if before.is(&stat) => {
                let process = Process { execed: Some(now), ..process };
                self.known.insert(pid, Seen { process, ..seen });
                sink(Event::Exec(process));
            }
            Some(before) => {
                sink(Event::Exit(ended(before.process, now)));
                sink(Event::Alive(process));
            }
            None => sink(Event::Alive(process)),
        }
        Ok(())
    }
}

impl Source for Poll {
    fn name(&self) -> &'static str {
        "poll"
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn deadline(&self) -> Option<Timestamp> {
        Some(self.due)
    }

    fn drain(&mut self, now: Timestamp, sink: &mut dyn FnMut(Event)) -> Result<Drained, SourceError> {
        if now < self.due {
            return Ok(Drained::default());
        }
        self.due = now.after(self.interval);
        let mut events = 0;
        self.read(now, &mut |event| {
            events += 1;
            sink(event);
        })?;
        self.reported += events;
        Ok(Drained { events, ..Drained::default() })
    }

    fn snapshot(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), SourceError> {
        let pids: Vec<_> = self.proc.pids()?.collect();
        for pid in pids {
            let found = match self.proc.remains(pid?) {
                Ok(found) => found.filter(|(_, stat)| !stat.is_dead()),
                Err(error) => {
                    self.unreadable += 1;
                    tracing::debug!(error = &error as &dyn std::error::Error, "a process could not be read");
                    continue;
                }
            };
            let Some((mut process, stat)) = found else { continue };
            let before = self.known.get(&process.key.pid).filter(|seen| seen.is(&stat));
            process.execed = before.and_then(|seen| seen.process.execed);
            let seen = Seen { process, program: Program::of(&stat), round: self.round };
            self.known.insert(process.key.pid, seen);
            sink(Event::Alive(process));
        }
        // What is known and was not found stays, so that the next drain reports its end.
        Ok(())
    }

    fn set_hints(&mut self, _hints: &Hints) -> Result<(), SourceError> {
        Ok(())
    }

    fn watch(&mut self, _key: ProcKey, _on: bool) -> Result<(), SourceError> {
        Ok(())
    }

    fn counts(&self) -> Counts {
        Counts {
            produced: self.reported,
            sent: self.reported,
            malformed: self.unreadable,
            wakeups: self.round,
            ..Counts::default()
        }
    }
}

fn ended(process: Process, at: Timestamp) -> Exit {
    Exit {
        process,
        at: at.max(process.started),
        status: None,
        cpu: None,
        peak_rss: None,
        cause: Cause::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::procfs::tree::{Task, Tree};
    use crate::source::conformance::{Abilities, behaviours};

    const fn second(number: u64) -> Timestamp {
        Timestamp::from_nanos(number * 1_000_000_000)
    }

    fn drain(source: &mut Poll, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        let drained = source.drain(now, &mut |event| events.push(event)).unwrap();
        assert_eq!(drained.events, events.len() as u64);
        events
    }

    #[test]
    fn behaves_as_a_source() {
        let mut source = Poll::new(Proc::host().unwrap(), Duration::from_millis(20));
        behaviours(&mut source, Abilities { status: false });
        assert_eq!(source.counts().malformed, 0);
        assert!(source.deadline().unwrap() <= clock::now().after(Duration::from_millis(20)));
    }

    #[test]
    fn reads_when_due_and_reports_changes_once() {
        let tree = Tree::new();
        tree.put(&Task::new(7, 100));
        let mut source = Poll::new(tree.proc(), INTERVAL);
        let [Event::Alive(first)] = drain(&mut source, second(10))[..] else { panic!("alive") };
        assert_eq!(source.deadline(), Some(second(11)));
        tree.put(&Task { comm: b"other", ..Task::new(7, 100) });
        assert_eq!(drain(&mut source, Timestamp::from_nanos(10_999_999_999)), [], "not due");
        let [Event::Exec(second_run)] = drain(&mut source, second(11))[..] else { panic!("exec") };
        assert_eq!((second_run.key, second_run.execed), (first.key, Some(second(11))));
        assert_eq!(drain(&mut source, second(12)), [], "nothing changed");
        tree.put(&Task { comm: b"other", stack: 333, ..Task::new(7, 100) });
        let [Event::Exec(_)] = drain(&mut source, second(13))[..] else { panic!("exec under the same name") };
        tree.remove(7);
        let [Event::Exit(exit)] = drain(&mut source, second(14))[..] else { panic!("exit") };
        assert_eq!((exit.process.key, exit.at, exit.status), (first.key, second(14), None));
        assert_eq!(drain(&mut source, second(15)), []);
        assert!(source.known.is_empty());
    }

    #[test]
    fn zombies_have_ended_and_reused_pids_are_two_processes() {
        let tree = Tree::new();
        tree.put(&Task::new(7, 100));
        tree.put(&Task::new(8, 100));
        let mut source = Poll::new(tree.proc(), INTERVAL);
        assert_eq!(drain(&mut source, second(10)).len(), 2);
        tree.put(&Task { state: 'Z', ..Task::new(7, 100) });
        tree.put(&Task::new(8, 1050));
        let events = drain(&mut source, second(11));
        let [Event::Exit(eight), Event::Alive(heir), Event::Exit(seven)] = events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((eight.process.key.start, heir.key.start, seven.process.key.pid), (100, 1050, 7));
    }

    #[test]
    fn a_snapshot_swallows_no_death() {
        let tree = Tree::new();
        tree.put(&Task::new(7, 100));
        let mut source = Poll::new(tree.proc(), INTERVAL);
        drain(&mut source, second(10));
        tree.remove(7);
        source.snapshot(&mut |event| panic!("{event:?}")).unwrap();
        let [Event::Exit(_)] = drain(&mut source, second(11))[..] else { panic!("exit") };
    }

    #[test]
    fn an_unreadable_process_does_not_hide_the_others() {
        let tree = Tree::new();
        tree.put(&Task::new(7, 100));
        tree.write("8/stat", b"8 (cut");
        let mut source = Poll::new(tree.proc(), INTERVAL);
        assert_eq!(drain(&mut source, second(10)).len(), 1);
        assert_eq!(source.counts().malformed, 1);
    }
}
