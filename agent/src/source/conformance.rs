//! What every source must do, run on the real kernel with processes that the test starts itself.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock;
use crate::model::event::{Event, Exit, Status};
use crate::model::id::ProcKey;
use crate::model::process::{Comm, Process};
use crate::model::time::Timestamp;
use crate::procfs::Proc;
use crate::source::Source;

/// A description of this kernel's types in which `task_struct.start_boottime` has another name, in a directory.
pub(crate) fn btf_that_lacks_a_member(directory: &Path) -> PathBuf {
    let mut blob = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let name = b"\0start_boottime\0";
    let at = blob.windows(name.len()).position(|window| window == name).unwrap();
    blob[at + 1] = b'S';
    let path = directory.join("vmlinux");
    std::fs::write(&path, blob).unwrap();
    path
}

/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_secs(20);

/// In what sources differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    /// Whether it knows how a process ended.
    pub(crate) status: bool,
}

/// All behaviours, one after the other on one source.
pub(crate) fn behaviours(source: &mut dyn Source, abilities: Abilities) {
    let mut watch = Watch { source, abilities, proc: Proc::host().unwrap(), seen: Vec::new() };
    watch.snapshot_is_proc();
    watch.exec_is_seen();
    watch.exit_is_seen(Some("exit 3"), Status::Code(3));
    watch.exit_is_seen(Some("kill -TERM $$"), Status::Signal { number: 15, core: false });
    watch.exit_is_seen(None, Status::Signal { number: 9, core: false });
    watch.threads_are_no_processes();
    watch.the_dead_are_not_in_a_snapshot();
}

struct Watch<'a> {
    source: &'a mut dyn Source,
    abilities: Abilities,
    proc: Proc,
    seen: Vec<Event>,
}

/// A shell that waits for a line and then runs it; killed and reaped on drop.
struct Shell(Child);

impl Shell {
    fn start() -> Self {
        let shell = Command::new("/bin/sh")
            .args(["-c", "read -r line; eval \"$line\""])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // The parent goes on when the child has its new memory, a moment before it has its new name.
        let end = clock::now().after(clock::patience(PATIENCE));
        let comm = format!("/proc/{}/comm", shell.id());
        while std::fs::read(&comm).unwrap() != b"sh\n" {
            assert!(clock::now() < end, "the shell has no name");
            std::thread::yield_now();
        }
        Self(shell)
    }

    fn key(&self, proc: &Proc) -> ProcKey {
        proc.stat(self.0.id()).unwrap().unwrap().key()
    }

    fn run(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Killing fails when it has ended, which is as well.
        self.0.kill().unwrap_or_default();
        self.0.wait().unwrap();
    }
}

impl Watch<'_> {
    /// The snapshot holds every process that is alive before and after it, with the facts of `/proc`, and
    /// none that is alive in neither.
    fn snapshot_is_proc(&mut self) {
        let shell = Shell::start();
        let own = shell.key(&self.proc);
        let before = self.keys();
        let snapshot = self.snapshot();
        let after = self.keys();
        let found: BTreeSet<_> = snapshot.iter().map(|process| process.key).collect();
        assert_eq!(found.len(), snapshot.len(), "a process is reported twice");
        let missing: Vec<_> = before.intersection(&after).filter(|key| !found.contains(key)).collect();
        assert!(missing.is_empty(), "missing {missing:?}");
        // What is in neither was born after `before` was read, and has ended before `after` was.
        let strangers: BTreeSet<_> =
            found.iter().filter(|key| !before.contains(key) && !after.contains(key)).collect();
        assert!(
            strangers.iter().all(|key| self.proc.stat(key.pid).unwrap().is_none_or(|s| s.key() != **key))
        );
        let reported = snapshot.iter().find(|process| process.key == own).unwrap();
        let expected = self.proc.process(own.pid).unwrap().unwrap();
        let facts = |process: &Process| {
            (process.ppid, process.uid, process.gid, process.cgroup, process.comm, process.kthread)
        };
        assert_eq!(facts(reported), facts(&expected));
        assert_eq!(reported.ppid, std::process::id());
        assert!(snapshot.iter().any(|process| process.kthread) || !before.iter().any(|key| key.pid == 2));
    }

    /// An exec changes the comm and not the identity.
    fn exec_is_seen(&mut self) {
        let mut shell = Shell::start();
        let key = shell.key(&self.proc);
        // Sources that compare two readings must have read it once before.
        self.drain_once();
        shell.run("exec sleep 600");
        let sleep = Comm::from_bytes(b"sleep");
        let event = self.until("the exec", |event| match event {
            Event::Exec(process) | Event::Alive(process) => process.key == key && process.comm == sleep,
            Event::Fork(_) | Event::Exit(_) => false,
        });
        assert_eq!(event.process().ppid, std::process::id());
        assert!(event.process().started <= clock::now());
        let others = self.seen.iter().filter(|event| event.process().key.pid == key.pid);
        assert!(others.clone().all(|event| event.process().key == key), "{others:?}");
    }

    /// The end of a process is seen with its identity, name and, where known, status, while it is a zombie.
    fn exit_is_seen(&mut self, line: Option<&str>, status: Status) {
        let mut shell = Shell::start();
        let key = shell.key(&self.proc);
        self.drain_once();
        match line {
            Some(line) => shell.run(line),
            None => shell.0.kill().unwrap(),
        }
        let exit = self.exit_of(key);
        assert_eq!(exit.status, self.abilities.status.then_some(status));
        assert_eq!(exit.process.comm, Comm::from_bytes(b"sh"));
        assert_eq!(exit.process.uid, rustix::process::getuid().as_raw());
        assert!(exit.at >= exit.process.started && exit.at <= clock::now());
        drop(shell);
        self.drain_once();
        assert_eq!(self.exits_of(key), 1, "reported once");
    }

    /// Threads that begin and end are neither processes nor deaths.
    fn threads_are_no_processes(&mut self) {
        let own = self.proc.stat(std::process::id()).unwrap().unwrap().key();
        let threads: Vec<u32> = (0..4)
            .map(|_| std::thread::spawn(rustix::thread::gettid).join().unwrap().as_raw_pid().unsigned_abs())
            .collect();
        // A death after theirs: whatever was reported of them has arrived by then.
        let marker = Shell::start();
        let key = marker.key(&self.proc);
        self.drain_once();
        drop(marker);
        self.exit_of(key);
        let about_threads = self.seen.iter().filter(|event| threads.contains(&event.process().key.pid));
        assert_eq!(about_threads.count(), 0);
        assert_eq!(self.exits_of(own), 0);
    }

    fn the_dead_are_not_in_a_snapshot(&mut self) {
        let mut shell = Shell::start();
        let key = shell.key(&self.proc);
        self.drain_once();
        shell.0.kill().unwrap();
        self.exit_of(key);
        assert!(self.proc.stat(key.pid).unwrap().is_some_and(|stat| stat.is_dead()), "still a zombie");
        assert!(!self.snapshot().iter().any(|process| process.key == key));
    }

    fn exit_of(&mut self, key: ProcKey) -> Exit {
        match self.until("the exit", |event| matches!(event, Event::Exit(exit) if exit.process.key == key)) {
            Event::Exit(exit) => exit,
            Event::Exec(_) | Event::Fork(_) | Event::Alive(_) => unreachable!("an exit was asked for"),
        }
    }

    fn exits_of(&self, key: ProcKey) -> usize {
        self.seen.iter().filter(|event| matches!(event, Event::Exit(exit) if exit.process.key == key)).count()
    }

    fn snapshot(&mut self) -> Vec<Process> {
        let mut processes = Vec::new();
        self.source
            .snapshot(&mut |event| match event {
                Event::Alive(process) => processes.push(process),
                Event::Exec(_) | Event::Fork(_) | Event::Exit(_) => panic!("not alive: {event:?}"),
            })
            .unwrap();
        processes
    }

    fn keys(&self) -> BTreeSet<ProcKey> {
        self.proc.processes().unwrap().map(|process| process.unwrap().key).collect()
    }

    /// Drains when the source is next due, or at once when it only waits for its descriptors.
    fn drain_once(&mut self) {
        self.drain(self.source.deadline().unwrap_or_else(clock::now));
    }

    fn drain(&mut self, until: Timestamp) {
        let timeout = Timespec::try_from(until.since(clock::now())).unwrap();
        let fds = self.source.fds();
        let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        poll(&mut fds, Some(&timeout)).unwrap();
        drop(fds);
        let seen = &mut self.seen;
        let drained = self.source.drain(clock::now(), &mut |event| seen.push(event)).unwrap();
        assert!(!drained.resync && drained.dropped == 0, "{drained:?}");
    }

    /// Drives the source as the daemon does, until an event of those seen so far satisfies `wanted`.
    #[track_caller]
    fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let end = clock::now().after(clock::patience(PATIENCE));
        loop {
            if let Some(event) = self.seen.iter().find(|event| wanted(event)) {
                return *event;
            }
            let now = clock::now();
            assert!(now < end, "{} never reported {what}", self.source.name());
            let due = self.source.deadline().unwrap_or(end).min(end).max(now);
            self.drain(due);
        }
    }
}
