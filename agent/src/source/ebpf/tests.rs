//! On the running kernel, as root. Other processes of the machine are seen too, so every check is about
//! processes that the test started. Without root or BTF these tests fail and say so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent_common::text::comm_key;
use aya::programs::ProgramError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::model::event::{Exit, Status};
use crate::model::process::{Comm, Process};
use crate::procfs::cgroup::Version;
use crate::source::conformance::{Abilities, behaviours, btf_that_lacks_a_member};

mod causes;

const PATIENCE: Duration = Duration::from_secs(5);

fn open(options: &Options) -> EbpfSource {
    EbpfSource::open(options).expect("these tests need root, BPF and /sys/kernel/btf/vmlinux")
}

/// Drives the source as the agent does, until `done` says so. Panics after [`PATIENCE`].
fn drive(source: &mut EbpfSource, what: &str, mut done: impl FnMut(Event) -> bool) {
    let end = clock::now().after(clock::patience(PATIENCE));
    let mut finished = false;
    while !finished {
        let now = clock::now();
        assert!(now < end, "no {what} within {PATIENCE:?}");
        let until = source.deadline().unwrap_or(end).min(end).since(now);
        wait_readable(source, until);
        source.drain(clock::now(), &mut |event| finished |= done(event)).unwrap();
    }
}

fn wait_readable(source: &EbpfSource, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).unwrap();
    let fds = source.fds();
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    poll(&mut polled, Some(&limit)).unwrap() > 0
}

/// Drives the source until it sleeps.
fn settle(source: &mut EbpfSource) {
    let end = clock::now().after(clock::patience(PATIENCE));
    while source.deadline().is_some() {
        assert!(clock::now() < end, "the source never sleeps");
        source.pace.again(Timestamp::ZERO);
        source.drain(clock::now(), &mut |_| ()).unwrap();
    }
}

#[test]
fn what_was_not_taken_out_fills_a_ring() {
    let options = Options { bulk_bytes: 64 * 1_024, ..Options::default() };
    let mut source = open(&options);
    settle(&mut source);
    let bulk = |source: &EbpfSource| {
        let [priority, bulk] = source.fills()[..] else { panic!("two rings") };
        assert_eq!((priority.ring, bulk.ring, bulk.capacity), ("priority", "bulk", 64 * 1_024));
        bulk.waiting
    };
    let before = bulk(&source);
    for _ in 0..20 {
        assert!(quiet("/bin/true").status().unwrap().success());
    }
    let after = bulk(&source);
    // A record of each life, some of other processes beside them.
    assert!(after >= before + 20 * 64, "{before} bytes before, {after} after");
    while source.bulk.drain(DRAIN_LIMIT, &mut |_| ()) > 0 {}
    assert!(bulk(&source) < after, "{after} bytes were taken out");
}

fn exit_of(source: &mut EbpfSource, pid: u32) -> Exit {
    let mut found = None;
    drive(source, "exit", |event| {
        if let Event::Exit(exit) = event
            && exit.process.key.pid == pid
        {
            found = Some(exit);
        }
        found.is_some()
    });
    found.unwrap()
}

/// A copy of a program under another name, so that its comm is the test's own.
fn copy_as(directory: &Path, program: &str, name: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::copy(program, &path).unwrap();
    path
}

fn quiet(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Ends and reaps its process in every case.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // It may have ended by itself; nothing is left to do then.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

fn hinted_exec(hints: &Hints, name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let program = copy_as(directory.path(), "/bin/true", name);
    let mut source = open(&Options::default());
    source.set_hints(hints).unwrap();
    settle(&mut source);
    let child = Reaped(quiet(&program).spawn().unwrap());
    let pid = child.0.id();
    let mut found = None;
    // Not driven by deadlines: only the priority ring may bring it.
    let end = clock::now().after(clock::patience(PATIENCE));
    while found.is_none() {
        assert!(clock::now() < end, "no exec record");
        wait_readable(&source, Duration::from_millis(100));
        source.priority.drain(DRAIN_LIMIT, &mut |event| {
            if let Event::Exec(process) = event
                && process.key.pid == pid
            {
                found = Some(process);
            }
        });
    }
    let process = found.unwrap();
    assert_eq!(process.comm, Comm::from_bytes(name.as_bytes()));
    assert_eq!(process.ppid, std::process::id());
    assert!(process.execed.is_some_and(|at| at >= process.started));
}

/// The verifier walks every path and gives up at a million instructions. How many it walks depends on the
/// kernel: 6.1 prunes far less than later ones.
#[test]
fn the_programs_are_far_from_too_much_for_the_verifier() {
    const LIMIT: u32 = 100_000;
    let source = open(&Options::default());
    let mut loaded = 0;
    for (name, program) in source.kernel.ebpf.programs() {
        let info = match program.info() {
            Ok(info) => info,
            // The scheduler's, which are loaded while they are armed only.
            Err(ProgramError::NotLoaded) => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        let walked = info.verified_instruction_count().unwrap();
        assert!(walked < LIMIT, "{name}: {walked} instructions walked");
        loaded += 1;
    }
    assert!(loaded >= 6, "{loaded} programs are loaded");
}

#[test]
fn behaves_like_every_source() {
    // As on this kind of host, so that cgroup ids are compared with those of `/proc` too.
    let hierarchy = Proc::host().unwrap().hierarchy().map(|hierarchy| hierarchy.version);
    let options = Options { cgroup_v1: hierarchy == Some(Version::V1Cpu), ..Options::default() };
    behaviours(&mut open(&options), Abilities { status: true });
}

#[test]
fn exec_of_a_hinted_comm_comes_at_once() {
    let comms = vec![Comm::from_bytes(b"other"), Comm::from_bytes(b"pt-test-comm")];
    hinted_exec(&Hints { comms, ..Hints::default() }, "pt-test-comm");
}

#[test]
fn exec_of_a_hinted_prefix_comes_at_once() {
    let prefixes = vec![b"".to_vec(), b"a-prefix-that-is-too-long".to_vec(), b"pt-test-pre".to_vec()];
    hinted_exec(&Hints { prefixes, ..Hints::default() }, "pt-test-prefix");
}

#[test]
fn exec_of_a_hinted_uid_comes_at_once() {
    hinted_exec(&Hints { uids: vec![0], ..Hints::default() }, "pt-test-uid");
}

#[test]
fn hints_are_replaced() {
    let mut source = open(&Options::default());
    let comms = |names: [&[u8]; 2]| names.map(Comm::from_bytes).to_vec();
    let old = Hints { comms: comms([b"one", b"two"]), uids: vec![7], ..Hints::default() };
    source.set_hints(&old).unwrap();
    source.set_hints(&Hints { comms: comms([b"two", b"three"]), ..Hints::default() }).unwrap();
    let mut held: Vec<_> = source.kernel.comms.keys().map(Result::unwrap).collect();
    held.sort_unstable();
    assert_eq!(held, [comm_key(b"three"), comm_key(b"two")]);
    assert_eq!(source.kernel.uids.keys().count(), 0);
    assert_eq!((source.settings.has_comms, source.settings.has_uids), (1, 0));
    let many = (0..3000).map(|n| Comm::from_bytes(format!("c{n}").as_bytes())).collect();
    source.set_hints(&Hints { comms: many, ..Hints::default() }).unwrap();
    assert_eq!(source.kernel.comms.keys().count(), 1024, "cut, not refused");
    source.set_hints(&Hints::default()).unwrap();
    assert_eq!(source.kernel.comms.keys().count(), 0);
}

#[test]
fn an_exit_tells_the_life() {
    let mut source = open(&Options::default());
    let busy = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; exit 7";
    let before = clock::now();
    let mut child = Reaped(quiet("/bin/sh").args(["-c", busy]).spawn().unwrap());
    let pid = child.0.id();
    child.0.wait().unwrap();
    let after = clock::now();
    let exit = exit_of(&mut source, pid);
    assert_eq!(exit.status, Some(Status::Code(7)));
    assert_eq!(exit.process.comm, Comm::from_bytes(b"sh"));
    assert_eq!(exit.process.ppid, std::process::id());
    assert!(exit.process.started >= before && exit.at <= after && exit.process.execed.is_some());
    let cpu = exit.cpu.unwrap();
    assert!(cpu > Duration::from_millis(5) && cpu <= exit.lifetime(), "{cpu:?} of {:?}", exit.lifetime());
    let rss = exit.peak_rss.unwrap();
    // No upper bound: like wait4's, the peak includes the image before the exec, which is this test's own.
    assert!(rss >= 256 << 10, "peak of {rss} bytes");

    let child = Reaped(quiet("/bin/sleep").arg("60").spawn().unwrap());
    let pid = child.0.id();
    drop(child);
    assert_eq!(exit_of(&mut source, pid).status, Some(Status::Signal { number: 9, core: false }));
}

/// Environment variable: the fixture of threads, compiled already, on a machine that has no compiler.
const THREADS_VARIABLE: &str = "PROCESS_THROTTLER_TEST_THREADS";
const THREADS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/threads.rs");

/// A process of nine threads, each of which ends alone: the leader at once, the others with it or later.
fn threads(directory: &Path) -> PathBuf {
    if let Some(program) = std::env::var_os(THREADS_VARIABLE) {
        return PathBuf::from(program);
    }
    let program = directory.join("pt-test-threads");
    let mut rustc = Command::new("rustc");
    rustc.args(["-Copt-level=1", "--edition=2024", "-o"]).arg(&program).arg(THREADS);
    assert!(rustc.status().unwrap().success(), "the fixture does not compile");
    program
}

fn one_exit_per_process(source: &mut EbpfSource) {
    let directory = tempfile::tempdir().unwrap();
    let program = threads(directory.path());
    let mut exits: BTreeMap<u32, (i32, Vec<Exit>)> = BTreeMap::new();
    for round in 0..60 {
        let mut command = quiet(&program);
        if round != 0 {
            command.arg("together");
        }
        let mut child = Reaped(command.spawn().unwrap());
        let pid = child.0.id();
        let code = child.0.wait().unwrap().code().unwrap();
        exits.insert(pid, (code, Vec::new()));
    }
    let last = Reaped(quiet("/bin/true").spawn().unwrap());
    let last = last.0.id();
    drive(source, "last exit", |event| {
        if let Event::Exit(exit) = event
            && let Some((_, found)) = exits.get_mut(&exit.process.key.pid)
        {
            found.push(exit);
        }
        event.process().key.pid == last && matches!(event, Event::Exit(_))
    });
    let mut lifetimes = Vec::new();
    for (pid, (code, found)) in exits {
        let [exit] = found.as_slice() else { panic!("{} exits of process {pid}", found.len()) };
        let code = u8::try_from(code).unwrap();
        assert!([4, 9].contains(&code), "neither the leader's code nor a thread's: {code}");
        assert_eq!(exit.status, Some(Status::Code(code)), "as wait(2) tells it");
        lifetimes.push(exit.lifetime());
    }
    assert!(lifetimes.iter().any(|life| *life >= Duration::from_millis(150)), "reported with its leader");
}

#[test]
fn threads_that_end_one_by_one_are_one_exit() {
    one_exit_per_process(&mut open(&Options::default()));
}

#[test]
fn threads_are_one_exit_on_kernels_that_do_not_tell_the_last() {
    let options = Options::default();
    let fit = Fit { has_group_dead: 0, ..Fit::to_kernel(&options).unwrap() };
    one_exit_per_process(&mut EbpfSource::open_fit(&options, &fit).unwrap());
}

#[test]
fn a_watched_process_reports_children_but_no_threads() {
    let mut source = open(&Options::default());
    let own = own_key();
    source.watch(own, true).unwrap();
    let tids: Vec<u32> = (0..20)
        .map(|_| std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()))
        .map(|thread| thread.join().unwrap())
        .collect();
    let child = Reaped(quiet("/bin/true").spawn().unwrap());
    let pid = child.0.id();
    drive(&mut source, "fork of a critical process", |event| {
        if let Event::Fork(process) = event {
            assert!(!tids.contains(&process.key.pid), "a thread");
            assert_eq!(process.ppid, own.pid);
        }
        matches!(event, Event::Fork(process) if process.key.pid == pid)
    });
    source.watch(own, false).unwrap();
    source.watch(own, false).unwrap();
    settle(&mut source);
    let child = Reaped(quiet("/bin/true").spawn().unwrap());
    let pid = child.0.id();
    drive(&mut source, "exit", |event| {
        assert!(!matches!(event, Event::Fork(process) if process.key.pid == pid), "watched no longer");
        matches!(event, Event::Exit(exit) if exit.process.key.pid == pid)
    });
}

#[test]
fn the_exit_of_a_watched_process_comes_at_once() {
    let mut source = open(&Options::default());
    let child = Reaped(quiet("/bin/sleep").arg("60").spawn().unwrap());
    let pid = child.0.id();
    let start = stat(pid).unwrap().start;
    source.watch(ProcKey { pid, start: start + 100 }, true).unwrap();
    source.watch(ProcKey { pid, start }, true).unwrap();
    drop(child);
    let mut found = false;
    wait_readable(&source, clock::patience(PATIENCE));
    while !found {
        assert!(wait_readable(&source, clock::patience(PATIENCE)), "no exit record");
        source.priority.drain(DRAIN_LIMIT, &mut |event| {
            found |= matches!(event, Event::Exit(exit) if exit.process.key.pid == pid);
        });
    }
}

#[test]
fn a_sweep_finds_the_new_and_the_changed() {
    let mut source = open(&Options::default());
    settle(&mut source);
    // The shell is found after its fork; what it becomes, after its exec.
    let script = "read line; exec sleep 60";
    let mut command = Command::new("/bin/sh");
    let mut child =
        Reaped(command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    let pid = child.0.id();
    let alive = |comm: &'static [u8]| move |event: Event| matches!(event, Event::Alive(p) if p.key.pid == pid && p.comm == Comm::from_bytes(comm));
    drive(&mut source, "new process", alive(b"sh"));
    settle(&mut source);
    drop(child.0.stdin.take());
    drive(&mut source, "process after its exec", alive(b"sleep"));
}

#[test]
fn a_snapshot_is_what_proc_tells() {
    let mut source = open(&Options { cgroup_v1: false, ..Options::default() });
    let before = processes();
    let mut seen: BTreeMap<u32, Process> = BTreeMap::new();
    source
        .snapshot(&mut |event| {
            let Event::Alive(process) = event else { panic!("{event:?} in a snapshot") };
            assert!(seen.insert(process.key.pid, process).is_none(), "pid {} twice", process.key.pid);
        })
        .unwrap();
    let after = processes();
    let own = std::process::id();
    let stable = before.iter().filter(|(pid, stat)| after.get(pid) == Some(stat));
    let mut compared = 0;
    for (pid, stat) in stable.filter(|(_, stat)| !stat.zombie) {
        let process = seen.get(pid).unwrap_or_else(|| panic!("pid {pid} is missing"));
        assert_eq!((process.key.start, process.ppid), (stat.start, stat.ppid), "pid {pid}");
        assert_eq!(process.kthread, stat.kthread, "pid {pid}");
        // Of a kernel worker `/proc` tells more than the task's name.
        assert!(stat.kthread || process.comm.bytes() == stat.comm, "pid {pid}");
        compared += 1;
    }
    assert!(compared > 10, "only {compared} processes compared");
    assert!(seen.contains_key(&1) && seen.contains_key(&own), "those that the kernel side leaves out");
    for pid in seen.keys() {
        let known = before.contains_key(pid) || after.contains_key(pid);
        assert!(known || stat(*pid).is_none(), "pid {pid} is in no listing");
    }
    assert!(seen.values().all(|process| process.cgroup != 0));
    assert_eq!(source.counts().malformed, 0);
}

#[test]
fn what_a_full_ring_drops_is_counted() {
    let small = Options { priority_bytes: 4096, bulk_bytes: 4096, ..Options::default() };
    let mut source = open(&small);
    // A stopped consumer: nothing is drained while the storm blows.
    let script = "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done";
    assert!(quiet("/bin/sh").args(["-c", script]).status().unwrap().success());
    for name in [abi::program::FORK, abi::program::EXEC, abi::program::EXIT] {
        let hook: &mut aya::programs::BtfTracePoint = attach::program(&mut source.kernel.ebpf, name).unwrap();
        hook.unload().unwrap();
    }
    let mut counts = source.counts();
    let end = clock::now().after(clock::patience(PATIENCE));
    let (mut exits, mut dropped) = (0, 0);
    // A program that was running when its hook was detached ends soon, unless its CPU is taken from it.
    while (counts.produced, exits, dropped) != (exits + dropped, counts.sent, counts.dropped)
        && clock::now() < end
    {
        let done =
            source.drain(clock::now(), &mut |event| exits += u64::from(matches!(event, Event::Exit(_))));
        dropped += done.unwrap().dropped;
        counts = source.counts();
    }
    assert_eq!((exits, dropped), (counts.sent, counts.dropped), "{counts:?}");
    assert_eq!(counts.produced, counts.sent + counts.dropped, "{counts:?}");
    assert!(counts.exact && counts.dropped >= 200, "{counts:?}");
}

#[test]
fn sleeps_when_idle_and_wakes_for_an_unmatched_event() {
    let mut source = open(&Options::default());
    settle(&mut source);
    let wakeups = source.counts().wakeups;
    let child = Reaped(quiet("/bin/true").spawn().unwrap());
    let pid = child.0.id();
    assert!(wait_readable(&source, clock::patience(PATIENCE)), "a deferred fork must wake the agent");
    assert!(source.counts().wakeups > wakeups);
    drive(&mut source, "exit", |event| matches!(event, Event::Exit(exit) if exit.process.key.pid == pid));
}

#[test]
fn a_slot_taken_over_brings_a_full_snapshot() {
    let options = Options::default();
    let fit = Fit { slots: 1, ..Fit::to_kernel(&options).unwrap() };
    let mut source = EbpfSource::open_fit(&options, &fit).unwrap();
    // Both have exec'd since the last sweep and live, and there is one slot.
    let children = [(); 2].map(|()| Reaped(quiet("/bin/sleep").arg("60").spawn().unwrap()));
    // A spawn returns before its exec has come to the hook.
    let end = clock::now().after(clock::patience(PATIENCE));
    while source.totals().unwrap()[loss::SLOT_TAKEOVERS as usize] == 0 {
        assert!(clock::now() < end, "no takeover");
    }
    let (mut kthreadd, mut found) = (false, 0);
    drive(&mut source, "full snapshot", |event| {
        kthreadd |= matches!(event, Event::Alive(process) if process.key.pid == 2);
        found += children.iter().filter(|child| child.0.id() == event.process().key.pid).count();
        kthreadd && found >= 2
    });
}

#[derive(Clone, Default)]
struct Captured(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut held = self.0.lock().map_err(|_poisoned| std::io::ErrorKind::Other)?;
        held.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn debug_output_is_on_demand() {
    for debug_log in [true, false] {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        let pid = tracing::subscriber::with_default(subscriber, || {
            let mut source = open(&Options { debug_log, ..Options::default() });
            source.set_hints(&Hints { uids: vec![0], ..Hints::default() }).unwrap();
            let mut child = Reaped(quiet("/bin/true").spawn().unwrap());
            child.0.wait().unwrap();
            source.drain(clock::now(), &mut |_| ()).unwrap();
            child.0.id()
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.contains(&format!("exec {pid} flags")), debug_log, "{text}");
    }
}

#[test]
fn a_kernel_without_a_member_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = btf_that_lacks_a_member(directory.path());
    let error = EbpfSource::open(&Options { btf: Some(path), ..Options::default() }).unwrap_err();
    assert_eq!(error.to_string(), "kernel BTF: this kernel has no task_struct.start_boottime");
}

/// What is compared with a record.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: Vec<u8>,
    zombie: bool,
    ppid: u32,
    start: u64,
    kthread: bool,
}

fn stat(pid: u32) -> Option<Stat> {
    const PF_KTHREAD: u32 = 0x0020_0000;
    let line = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let comm = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    let behind = line.iter().rposition(|byte| *byte == b')')?;
    let text = String::from_utf8_lossy(&line[behind + 2..]).into_owned();
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let flags: u32 = fields[6].parse().ok()?;
    Some(Stat {
        comm: comm.strip_suffix(b"\n")?.to_vec(),
        zombie: fields[0] == "Z" || fields[0] == "X",
        ppid: fields[1].parse().ok()?,
        start: fields[19].parse().ok()?,
        kthread: flags & PF_KTHREAD != 0,
    })
}

fn processes() -> BTreeMap<u32, Stat> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

fn own_key() -> ProcKey {
    let pid = std::process::id();
    ProcKey { pid, start: stat(pid).unwrap().start }
}
