//! Who or what ended a watched process, on the running kernel.

use super::*;
use crate::model::death::{Cause, OomLimit, Sender};

/// A cgroup of the memory controller, removed on drop.
struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    /// With a limit in bytes, in whichever hierarchy has the controller.
    fn new(limit: u64) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, file) = if v1.is_dir() {
            (v1, "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max")
        };
        let dir = root.join(format!("pt-test-oom-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let cgroup = Self(dir);
        std::fs::write(cgroup.0.join(file), limit.to_string()).unwrap();
        cgroup
    }

    fn id(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(&self.0).unwrap().ino()
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // Who was killed in it may be charged there a moment longer.
        let end = clock::now().after(clock::patience(PATIENCE));
        while std::fs::remove_dir(&self.0).is_err() && clock::now() < end {
            std::thread::yield_now();
        }
    }
}

fn watch(source: &mut EbpfSource, child: &Reaped) -> u32 {
    let pid = child.0.id();
    source.watch(ProcKey { pid, start: stat(pid).unwrap().start }, true).unwrap();
    pid
}

/// A shell that runs `script` when its input ends.
fn shell(script: &str) -> Reaped {
    let mut command = quiet("/bin/sh");
    command.args(["-c", &format!("read line; {script}")]).stdin(Stdio::piped());
    Reaped(command.spawn().unwrap())
}

fn let_go(child: &mut Reaped) {
    drop(child.0.stdin.take());
    child.0.wait().unwrap();
}

#[test]
fn nothing_of_it_is_missing_here() {
    assert_eq!(open(&Options::default()).lacks(), [""; 0]);
}

#[test]
fn the_sender_of_the_last_signal_is_named() {
    let mut source = open(&Options::default());
    // A second fatal signal overtakes one that dumps core, as long as that has not been taken (kernel/signal.c).
    for (number, name, later) in [(9, "KILL", "USR1"), (15, "TERM", "USR1"), (6, "ABRT", "CONT")] {
        let victim = Reaped(quiet("/bin/sleep").arg("60").spawn().unwrap());
        let pid = watch(&mut source, &victim);
        // A signal that is no cause goes before, from somebody else.
        quiet("/bin/sh").args(["-c", &format!("kill -CONT {pid}")]).status().unwrap();
        let mut killer = shell(&format!("kill -{name} {pid}; kill -{later} {pid}; exit 0"));
        let by = killer.0.id();
        let_go(&mut killer);
        let exit = exit_of(&mut source, pid);
        let sent = exit.cause.sent.unwrap();
        assert_eq!(sent.signal, number);
        assert_eq!(sent.by, Sender::Process { pid: by, uid: 0, comm: Comm::from_bytes(b"sh") });
        assert!(sent.at <= exit.at && sent.at >= exit.process.started);
        assert_eq!(exit.cause.oom, None);
    }
}

#[test]
fn one_that_ends_by_itself_tells_who_asked_for_it() {
    let mut source = open(&Options::default());
    let script = "trap 'exit 3' TERM; while :; do sleep 0.01; done";
    let mut victim = shell(script);
    let pid = watch(&mut source, &victim);
    drop(victim.0.stdin.take());
    // Until the trap is set, SIGTERM would end it.
    let end = clock::now().after(clock::patience(PATIENCE));
    while !catches_term(pid) {
        assert!(clock::now() < end, "no trap");
        std::thread::yield_now();
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    victim.0.wait().unwrap();
    let exit = exit_of(&mut source, pid);
    assert_eq!(exit.status, Some(Status::Code(3)));
    let sent = exit.cause.sent.unwrap();
    assert!(matches!(sent.by, Sender::Process { pid, .. } if pid == std::process::id()), "{sent:?}");
    assert_eq!(sent.signal, 15);
}

fn catches_term(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << 14) != 0
}

#[test]
fn a_death_comes_with_the_last_thread_and_not_with_the_leader() {
    let directory = tempfile::tempdir().unwrap();
    let program = threads(directory.path());
    let mut source = open(&Options::default());
    let mut child = Reaped(quiet(&program).spawn().unwrap());
    let pid = watch(&mut source, &child);
    let code = u8::try_from(child.0.wait().unwrap().code().unwrap()).unwrap();
    let exit = exit_of(&mut source, pid);
    assert_eq!((exit.status, exit.cause), (Some(Status::Code(code)), Cause::UNKNOWN));
    assert!(exit.lifetime() >= Duration::from_millis(150), "reported with its leader");
    settle(&mut source);
}

#[test]
fn of_others_nothing_is_told() {
    let mut source = open(&Options::default());
    let other = Reaped(quiet("/bin/sleep").arg("60").spawn().unwrap());
    watch(&mut source, &other);
    let victim = Reaped(quiet("/bin/sleep").arg("60").spawn().unwrap());
    let pid = victim.0.id();
    drop(victim);
    assert_eq!(exit_of(&mut source, pid).cause, Cause::UNKNOWN);
}

#[test]
fn an_end_without_any_signal_has_no_cause_beyond_its_code() {
    let mut source = open(&Options::default());
    let mut child = shell("exit 7");
    let pid = watch(&mut source, &child);
    let_go(&mut child);
    let exit = exit_of(&mut source, pid);
    assert_eq!((exit.status, exit.cause), (Some(Status::Code(7)), Cause::UNKNOWN));
}

#[test]
fn the_oom_killer_is_told_with_the_limit_it_enforced() {
    const LIMIT: u64 = 16 << 20;
    let mut source = open(&Options::default());
    let cgroup = MemoryCgroup::new(LIMIT);
    let inner = cgroup.0.join("pt-test-inner");
    std::fs::create_dir(&inner).unwrap();
    let inner = MemoryCgroup(inner);
    let join = format!("echo $$ >{}/cgroup.procs; exec tail /dev/zero", inner.0.display());
    let mut victim = shell(&join);
    let pid = watch(&mut source, &victim);
    let_go(&mut victim);
    let exit = exit_of(&mut source, pid);
    assert_eq!(exit.status, Some(Status::Signal { number: 9, core: false }));
    assert_eq!(exit.cause.sent.map(|sent| sent.by), Some(Sender::Kernel));
    let Some(OomLimit::Cgroup { id, limit }) = exit.cause.oom else { panic!("{:?}", exit.cause) };
    assert_eq!((id, limit.get()), (cgroup.id(), LIMIT), "the limit of the cgroup above");
}

#[test]
fn on_a_kernel_that_tells_a_pid_only_the_limit_is_unknown() {
    // The argument is a pointer here, so no victim is found: what must hold is that the program loads.
    let options = Options::default();
    let mut fit = Fit::to_kernel(&options).unwrap();
    fit.causes.victim_is = agent_common::offsets::victim::PID;
    fit.causes.has_memcg = 0;
    let source = EbpfSource::open_fit(&options, &fit).unwrap();
    assert_eq!(source.lacks(), [""; 0]);
}

#[test]
fn a_kernel_without_causes_is_used_all_the_same() {
    let options = Options::default();
    let mut fit = Fit::to_kernel(&options).unwrap();
    fit.causes.victim_is = 0;
    fit.causes.lacks = vec!["whom the OOM killer chose: no such thing".to_owned()];
    let mut source = EbpfSource::open_fit(&options, &fit).unwrap();
    assert_eq!(source.lacks(), fit.causes.lacks);
    let child = Reaped(quiet("/bin/sleep").arg("60").spawn().unwrap());
    let pid = watch(&mut source, &child);
    drop(child);
    assert!(exit_of(&mut source, pid).cause.sent.is_some());
}

#[test]
fn pids_that_share_a_bit_are_told_apart() {
    let mut source = open(&Options::default());
    let child = Reaped(quiet("/bin/sleep").arg("60").spawn().unwrap());
    let pid = watch(&mut source, &child);
    let other = ProcKey { pid: pid + 65_536, start: 1 };
    source.watch(other, true).unwrap();
    source.watch(other, false).unwrap();
    drop(child);
    assert!(exit_of(&mut source, pid).cause.sent.is_some(), "its bit went with the other's");
}
