//! On the running kernel, as root: what the programs count is compared with what the kernel itself says.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::*;
use crate::model::latency::{blame, since, sum};
use crate::source::conformance::btf_that_lacks_a_member;

const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: u64 = 1_000_000_000;

/// A shell that uses all of a CPU that it gets, on the first CPU of those that this test may use.
struct Spinner(Child);

impl Spinner {
    fn new() -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        let child = Self(command.spawn().unwrap());
        to_first_cpu(child.pid());
        child
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    fn key(&self) -> ProcKey {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let behind = stat.rsplit_once(')').unwrap().1;
        let start = behind.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
        ProcKey { pid: self.0.id(), start }
    }

    /// Time on a CPU and on a run queue, ns, as the kernel has it.
    fn schedstat(&self) -> [u64; 2] {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.0.id())).unwrap();
        let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().unwrap());
        [numbers.next().unwrap(), numbers.next().unwrap()]
    }

    /// Until it has waited for so much longer.
    fn wait_for(&self, nanos: u64) {
        let before = self.schedstat()[1];
        wait_until(|| self.schedstat()[1] >= before + nanos);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The CPUs that this test may use.
fn cpus() -> Vec<usize> {
    let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap());
    let allowed = nix::sched::sched_getaffinity(own).unwrap();
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap()).collect()
}

/// Has a thread stay on the first of them.
fn to_first_cpu(thread: Pid) {
    to_cpu(thread, cpus()[0]);
}

fn to_cpu(thread: Pid, cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu).unwrap();
    sched_setaffinity(thread, &only).unwrap();
}

/// The turn of a test whose threads use all of a CPU.
fn turn() -> MutexGuard<'static, ()> {
    static CPU: Mutex<()> = Mutex::new(());
    CPU.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that waits and one that has the CPU meanwhile, before all others, so that nobody else is to blame.
fn rivals() -> (MutexGuard<'static, ()>, Spinner, Spinner) {
    let turn = turn();
    let (waiter, hog) = (Spinner::new(), Spinner::new());
    ahead_of_others(waiter.pid());
    ahead_of_others(hog.pid());
    (turn, waiter, hog)
}

/// Has a thread get nearly all of a CPU that others, of other tests or programs, want too.
fn ahead_of_others(thread: Pid) {
    let thread = rustix::process::Pid::from_raw(thread.as_raw());
    rustix::process::setpriority_process(thread, -20).unwrap();
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let end = clock::now().after(clock::patience(PATIENCE));
    while !done() {
        assert!(clock::now() < end, "it did not come to pass");
        for_a_moment(10_000_000);
    }
}

fn for_a_moment(nanos: i64) {
    let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: nanos };
    rustix::event::poll(&mut [], Some(&pause)).unwrap();
}

fn arm(arming: &Arming) -> Probes {
    Ready::load(&options(), arming).unwrap().arm().unwrap()
}

fn options() -> Options {
    let proc = crate::procfs::Proc::host().unwrap();
    let cgroup_v1 =
        proc.hierarchy().is_some_and(|found| found.version == crate::procfs::cgroup::Version::V1Cpu);
    Options { cgroup_v1, ..Options::default() }
}

const QUIET: Arming = Arming::new(u64::MAX, SECOND);

fn watched(reading: &Reading, key: ProcKey) -> ByCpu {
    reading.watched.iter().find(|(found, _)| *found == key).unwrap().1.clone()
}

/// Within a fifth of each other, and 20 ms: a stint that goes on is told by the kernel and not yet by us.
fn near(ours: u64, kernels: u64) -> bool {
    ours.abs_diff(kernels) <= kernels / 5 + 20_000_000
}

#[test]
fn a_waiter_is_measured_as_the_kernel_measures_it() {
    let (_turn, waiter, hog) = rivals();
    let mut probes = arm(&Arming::new(500_000, 50_000_000));
    assert_eq!(probes.watch(&[waiter.key()]).unwrap(), 1);
    // Its slot is found when it runs next.
    waiter.wait_for(SECOND / 20);
    let (before, [ran, waited]) = (probes.read().unwrap(), waiter.schedstat());
    waiter.wait_for(SECOND * 6 / 10);
    let (after, [ran_then, waited_then]) = (probes.read().unwrap(), waiter.schedstat());

    let key = waiter.key();
    let by_cpu = since(&watched(&after, key), Some(&watched(&before, key)));
    let ours = sum(&by_cpu);
    assert!(near(ours.wait_ns, waited_then - waited), "waited {ours:?}, not {}", waited_then - waited);
    assert!(near(ours.on_cpu_ns, ran_then - ran), "ran {ours:?}, not {}", ran_then - ran);
    assert!(ours.count() >= 10 && ours.longest_ns < 2 * SECOND, "{ours:?}");
    // Two that take turns wait for about a slice, which is milliseconds.
    let median = ours.percentile_ns(500).unwrap();
    assert!((500_000..SECOND).contains(&median), "median of {median} ns");

    let users: Vec<(u64, ByCpu)> = after
        .cgroups
        .iter()
        .map(|(id, now)| {
            let earlier = before.cgroups.iter().find(|(known, _)| known == id).map(|(_, then)| then);
            (*id, since(now, earlier))
        })
        .collect();
    let shares = blame(&by_cpu, &users);
    assert!(shares.first().is_some_and(|(_, share)| *share >= 5_000), "{shares:?}");

    let mut delays = Vec::new();
    probes.delays(&mut |delay| delays.push(delay));
    assert!(
        delays.iter().all(|delay| delay.waiter.tgid == key.pid && delay.wait_ns >= 500_000),
        "{delays:?}"
    );
    // For how long it had the CPU before the probes were armed is not known.
    let by_hog = |delay: &&Delay| {
        delay.held_ns > 0 && delay.holder.as_ref().is_some_and(|holder| holder.tgid == hog.0.id())
    };
    let blamed = delays.iter().find(by_hog).unwrap_or_else(|| panic!("{delays:?}"));
    assert!(
        blamed.holder_cgroup != 0 && blamed.holder.as_ref().unwrap().comm == blamed.waiter.comm,
        "{blamed:?}"
    );
    // At most one in 50 ms, and those held back are counted.
    assert!(delays.is_sorted_by(|a, b| b.at.since(a.at) >= Duration::from_millis(49)), "{delays:?}");
    let totals = probes.totals().unwrap();
    assert!(totals.suppressed > 0 && totals.dropped == 0 && probes.malformed() == 0, "{totals:?}");
    assert!(totals.switches >= ours.count(), "{totals:?}");
}

#[test]
fn a_wait_that_continues_on_another_cpu_is_one() {
    let _turn = turn();
    let cpus = cpus();
    let waiter = Spinner::new();
    let hogs: Vec<Spinner> = cpus.iter().take(2).flat_map(|_| [Spinner::new(), Spinner::new()]).collect();
    for (hog, cpu) in hogs.iter().zip(cpus.iter().cycle()) {
        to_cpu(hog.pid(), *cpu);
    }
    let mut probes = arm(&QUIET);
    probes.watch(&[waiter.key()]).unwrap();
    waiter.wait_for(SECOND / 20);
    let (before, [_, waited]) = (probes.read().unwrap(), waiter.schedstat());
    // It is moved while it waits, mostly: its turn comes once in some milliseconds.
    let mut turns = cpus.iter().take(2).cycle();
    while waiter.schedstat()[1] < waited + SECOND / 2 {
        to_cpu(waiter.pid(), *turns.next().unwrap());
        for_a_moment(1_000_000);
    }
    let (after, [_, waited_then]) = (probes.read().unwrap(), waiter.schedstat());
    let key = waiter.key();
    let ours = sum(&since(&watched(&after, key), Some(&watched(&before, key))));
    assert!(near(ours.wait_ns, waited_then - waited), "waited {ours:?}, not {}", waited_then - waited);
}

#[test]
fn who_had_the_cpu_longest_is_named_and_not_who_came_last() {
    let (_turn, waiter, hog) = rivals();
    // A thread that comes for a moment again and again, and goes before the one that waits.
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let flicker = std::thread::spawn(move || {
        to_first_cpu(Pid::from_raw(0));
        ahead_of_others(Pid::from_raw(0));
        while !stopped.load(Ordering::Relaxed) {
            for_a_moment(1_000_000);
        }
    });
    let mut probes = arm(&Arming::new(1_000_000, 10_000_000));
    probes.watch(&[waiter.key()]).unwrap();
    waiter.wait_for(SECOND);
    stop.store(true, Ordering::Relaxed);
    flicker.join().unwrap();
    let mut delays = Vec::new();
    probes.delays(&mut |delay| delays.push(delay));
    let hogs = delays.iter().filter(|delay| delay.holder.as_ref().is_some_and(|who| who.tgid == hog.0.id()));
    let hogs = hogs.count();
    assert!(delays.len() >= 5 && hogs * 4 >= delays.len() * 3, "{hogs} of {}: {delays:?}", delays.len());
    assert!(delays.iter().all(|delay| delay.held_ns <= delay.wait_ns), "{delays:?}");
}

#[test]
fn programs_that_are_ready_count_nothing_until_they_are_armed() {
    let ready = Ready::load(&options(), &QUIET).unwrap();
    let (_turn, waiter, _hog) = rivals();
    waiter.wait_for(SECOND / 20);
    assert_eq!(ready.0.totals().unwrap().switches, 0);
    let mut probes = ready.arm().unwrap();
    probes.watch(&[waiter.key()]).unwrap();
    waiter.wait_for(SECOND / 20);
    let reading = probes.read().unwrap();
    // Waits that began before are not known, and so not told.
    let longest = sum(&watched(&reading, waiter.key())).longest_ns;
    assert!(reading.totals.switches > 0 && longest < SECOND, "{reading:?}");
}

#[test]
fn the_successor_of_a_pid_is_not_the_one_that_is_watched() {
    let (_turn, waiter, _hog) = rivals();
    let key = waiter.key();
    let other = ProcKey { start: key.start + 100, ..key };
    let mut probes = arm(&QUIET);
    probes.watch(&[other]).unwrap();
    waiter.wait_for(SECOND / 5);
    assert_eq!(sum(&watched(&probes.read().unwrap(), other)), Waits::default());
    probes.watch(&[key]).unwrap();
    waiter.wait_for(SECOND / 5);
    let reading = probes.read().unwrap();
    assert!(sum(&watched(&reading, key)).count() > 0);
    assert_eq!(reading.watched.len(), 1, "the other one is watched no longer");
}

#[test]
fn more_processes_than_slots_are_left_out_and_slots_come_again_empty() {
    let (_turn, waiter, _hog) = rivals();
    let key = waiter.key();
    let mut probes = arm(&QUIET);
    let strangers: Vec<ProcKey> = (0..100).map(|n| ProcKey { pid: 4_000_000 + n, start: 1 }).collect();
    assert_eq!(probes.watch(&strangers).unwrap(), WATCHED_MAX);
    assert_eq!(probes.watch(&[key]).unwrap(), 1);
    waiter.wait_for(SECOND / 5);
    assert!(sum(&watched(&probes.read().unwrap(), key)).count() > 0);
    assert_eq!(probes.watch(&strangers).unwrap(), WATCHED_MAX);
    let reading = probes.read().unwrap();
    assert!(reading.watched.iter().all(|(_, waits)| sum(waits).count() == 0), "{reading:?}");
}

#[test]
fn cgroups_without_a_slot_count_together() {
    let (_turn, waiter, _hog) = rivals();
    let probes = arm(&Arming { cgroup_slots: 1, ..QUIET });
    waiter.wait_for(SECOND / 5);
    let reading = probes.read().unwrap();
    assert!(reading.cgroups.is_empty(), "{reading:?}");
    let other = sum(&reading.other);
    assert!(other.wait_ns >= SECOND / 10 && other.on_cpu_ns >= SECOND / 10, "{other:?}");
    assert!(reading.totals.overflows > 0, "{reading:?}");
}

#[test]
fn a_cgroup_has_what_its_processes_did() {
    let (_turn, waiter, _hog) = rivals();
    let probes = arm(&QUIET);
    waiter.wait_for(SECOND / 4);
    let reading = probes.read().unwrap();
    let proc = crate::procfs::Proc::host().unwrap();
    let cgroup = proc.process(waiter.key().pid).unwrap().unwrap().cgroup;
    let (_, found) =
        reading.cgroups.iter().find(|(id, _)| *id == cgroup).unwrap_or_else(|| panic!("{cgroup}"));
    let found = sum(found);
    assert!(found.wait_ns >= SECOND / 5 && found.on_cpu_ns >= SECOND / 5, "{found:?}");
    assert_eq!((sum(&reading.other), reading.totals.overflows), (Waits::default(), 0));
}

#[test]
fn disarming_leaves_nothing_behind() {
    let probes = arm(&QUIET);
    let hook: &BtfTracePoint = probes.ebpf.program(program::SWITCH).unwrap().try_into().unwrap();
    let id = hook.info().unwrap().id();
    let is_loaded = || {
        let mut programs = aya::programs::loaded_programs();
        programs.any(|info| info.is_ok_and(|info| info.id() == id))
    };
    assert!(is_loaded());
    let loaded = probes.ebpf.programs().filter(|(_, program)| program.fd().is_ok());
    assert_eq!(loaded.count(), 1, "nothing else is loaded");
    drop(probes);
    // The kernel frees it a moment after its last use.
    wait_until(|| !is_loaded());
}

#[test]
fn a_kernel_that_lacks_something_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = btf_that_lacks_a_member(directory.path());
    let error = Ready::load(&Options { btf: Some(path), ..options() }, &QUIET).unwrap_err();
    assert_eq!(error.to_string(), "kernel BTF: this kernel has no task_struct.start_boottime");
}

/// Two threads that hand a CPU to and fro, until it is dropped.
struct HandOver(Option<(std::sync::mpsc::SyncSender<()>, std::thread::JoinHandle<usize>)>);

impl HandOver {
    fn new() -> Self {
        let (give, take) = std::sync::mpsc::sync_channel(0);
        Self(Some((give, std::thread::spawn(move || take.into_iter().count()))))
    }

    fn times(&self, times: usize) {
        let (give, _) = self.0.as_ref().unwrap();
        (0..times).for_each(|_| give.send(()).unwrap());
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        let (give, taker) = self.0.take().unwrap();
        drop(give);
        assert!(taker.join().unwrap() > 0);
    }
}

#[test]
fn what_a_switch_takes_is_what_the_kernel_says_of_it() {
    let probes = arm(&QUIET);
    let _stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let hand_over = HandOver::new();
    wait_until(|| {
        hand_over.times(10_000);
        probes.timing().unwrap().timed >= 64
    });
    let Timing { timed, timed_ns } = probes.timing().unwrap();
    let switches = probes.totals().unwrap().switches;
    assert!(timed <= switches / sched::TIMED_EVERY, "{timed} of {switches}");
    let program: &BtfTracePoint = probes.ebpf.program(program::SWITCH).unwrap().try_into().unwrap();
    let info = program.info().unwrap();
    let kernels = u64::try_from(info.run_time().as_nanos()).unwrap() / info.run_count();
    let ours = timed_ns / timed;
    println!("a switch takes {ours} ns, {kernels} ns by the kernel, of {timed}");
    // Ours has a reading of the clock in it, which is most of it on an emulated machine. The program takes none by itself,
    // and the kernel's own clock is another one. Here one takes no less than there.
    let began = clock::now();
    let readings = 1_000;
    (0..readings).for_each(|_| {
        std::hint::black_box(clock::now());
    });
    let reading = u64::try_from(clock::now().since(began).as_nanos()).unwrap() / readings;
    // Nor is it the same part of the way in and out, and of the few that are timed one may be interrupted for microseconds.
    let most = kernels * 5 + reading;
    assert!(
        ours <= most && kernels <= ours * 3,
        "{ours} ns, {kernels} ns by the kernel, {reading} ns a reading"
    );
}
