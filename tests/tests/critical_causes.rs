//! What is told of critical processes that do not live and die in the simplest way: by whom they were killed,
//! what becomes of those that fork, exec, are stopped or traced, and of those that die again and again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, Stopwatch, patience, repetitions, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::{Program, copy_executable};
use integration_tests::receiver::{Receiver, SECRET};
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::critical_alert::wait_known_critical;

const DOWN: &str = "critical_process_down";
const MISSING: &str = "critical_process_missing";
const BACK: &str = "critical_process_recovered";

/// A shell of our own, so that it is the only instance of its executable.
fn shell(places: &Places) -> Result<PathBuf> {
    copy_executable(Path::new("/bin/sh"), &places.bin(), "pt-shell")
}

/// A shell that runs this when its input ends.
fn start(shell: &Path, script: &str) -> Result<Workload> {
    Workload::spawn_with(shell, &["-c", &format!("read line; {script}")])
}

fn death_of(daemon: &Daemon<'_>, pid: u32) -> Result<Value> {
    daemon.wait_event(DOWN, |event| event["exit"]["process"]["key"]["pid"] == pid)
}

fn sender(event: &Value) -> &Value {
    &event["exit"]["cause"]["sent"]["by"]["process"]
}

fn expecting(name: &str, exe: &Path, within: &str) -> Value {
    json!({
        "name": name,
        "match": { "exe": exe },
        "expect": { "min_instances": 1, "start_within": within },
    })
}

#[test]
fn the_sender_of_a_deadly_signal_is_told() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let program = Program::Wait.write(&places.bin(), "pt-vital")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("vital").critical("vital", &program))?;
    let mut victim = Workload::spawn(&program)?;
    wait_known_critical(&daemon, &victim)?;

    let mut killer = start(Path::new("/bin/sh"), &format!("kill -KILL {}", victim.pid()))?;
    let by = killer.pid();
    killer.finish()?;
    victim.wait()?;

    let event = death_of(&daemon, victim.pid())?;
    ensure!(*sender(&event) == json!({ "pid": by, "uid": 0, "comm": "sh" }), "{event}");
    let told = daemon.ask(&["events", "--kind", DOWN])?.stdout;
    ensure!(told.contains(&format!("was killed by SIGKILL sent by pid {by} (sh, uid 0)")), "{told}");
    daemon.stop()
}

#[test]
fn a_victim_of_the_oom_killer_is_told_with_its_limit_and_the_machines_state() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let shell = shell(&places)?;
    let cgroup = TestCgroup::new("oom")?;
    limit_memory(&cgroup)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("vital").critical("shell", &shell))?;
    let join: String = cgroup.procs_files().map(|procs| format!("echo $$ >{}; ", procs.display())).collect();
    // A shell that never stops growing.
    let mut victim = start(&shell, &format!("{join}x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"))?;
    wait_known_critical(&daemon, &victim)?;

    victim.close_input();
    victim.wait()?;

    let event = death_of(&daemon, victim.pid())?;
    ensure!(event["exit"]["cause"]["oom"]["cgroup"]["limit"] == "16M", "{event}");
    let path = format!("/{}", cgroup.name());
    ensure!(event["circumstances"]["oom_cgroup"] == path, "{event}");
    ensure!(event["circumstances"]["oom_group"].is_null(), "it is no group of the agent: {event}");
    let pressure = Path::new("/proc/pressure/cpu").exists();
    ensure!(event["circumstances"]["pressure"].is_array() == pressure, "{event}");
    let told = daemon.ask(&["events", "--kind", DOWN])?.stdout;
    let expected = format!("was killed by the OOM killer: memory limit of cgroup {path} (16M)");
    ensure!(told.contains(&expected), "{told}");
    daemon.stop()
}

/// 16 MiB, and no swap to go to.
fn limit_memory(cgroup: &TestCgroup) -> Result<()> {
    let mut limited = false;
    for procs in cgroup.procs_files() {
        let dir = procs.parent().context("a file lies in a directory")?;
        for (file, value) in [
            ("memory.limit_in_bytes", "16777216"),
            ("memory.memsw.limit_in_bytes", "16777216"),
            ("memory.max", "16777216"),
            ("memory.swap.max", "0"),
        ] {
            let path = dir.join(file);
            if path.exists() {
                std::fs::write(&path, value).with_context(|| format!("write {}", path.display()))?;
                limited = true;
            }
        }
    }
    ensure!(limited, "no hierarchy has the memory controller");
    Ok(())
}

#[test]
fn one_that_is_stopped_or_traced_has_not_died() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let waits = Program::Wait.write(&places.bin(), "pt-stopped")?;
    let traced = Program::Traced.write(&places.bin(), "pt-traced")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("vital").critical("stopped", &waits).critical("traced", &traced))?;
    for (program, signal, state) in [(&waits, Signal::SIGSTOP, 'T'), (&traced, Signal::SIGTERM, 't')] {
        let mut victim = Workload::spawn(program)?;
        wait_known_critical(&daemon, &victim)?;
        // Its parent traces the one as soon as it has said so, and until then it would die of the signal.
        wait_until("it waits", SOON, || Ok(state_of(victim.pid())? == 'S'))?;
        victim.signal(signal)?;
        wait_until("it is held", SOON, || Ok(state_of(victim.pid())? == state))?;
        let deaths = daemon.events(DOWN)?;
        ensure!(
            !deaths.iter().any(|event| event["exit"]["process"]["key"]["pid"] == victim.pid()),
            "{deaths:?}"
        );

        victim.signal(Signal::SIGKILL)?;
        wait_until("it is dead", SOON, || Ok(state_of(victim.pid())? == 'Z'))?;
        victim.wait()?;

        let event = death_of(&daemon, victim.pid())?;
        ensure!(event["exit"]["status"] == json!({ "signal": { "number": 9, "core": false } }), "{event}");
        ensure!(sender(&event)["pid"] == std::process::id(), "{event}");
    }
    daemon.stop()
}

/// The state as proc_pid_stat(5) has it.
fn state_of(pid: u32) -> Result<char> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("stat of {pid}"))?;
    text.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).context("a stat has a state")
}

#[test]
fn children_are_told_apart_from_the_one_that_must_live() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let shell = shell(&places)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("vital").critical("shell", &shell))?;
    // A child that becomes another program, and one that is another instance. Both live long enough to be looked at: of
    // one that was seen as an instance and ends right after its exec nobody knows what it was, and it is told.
    let long_enough = patience(Duration::from_millis(300)).as_secs_f64();
    let script = format!("/bin/sleep {long_enough}; (/bin/sleep {long_enough}; exit 3); exec /bin/sleep 60");
    let mut parent = start(&shell, &script)?;
    wait_known_critical(&daemon, &parent)?;
    parent.close_input();
    wait_until("it is another program", SOON, || Ok(kernel::comm(parent.pid())? == "sleep"))?;

    let child = daemon.wait_event(DOWN, |event| event["exit"]["status"] == json!({ "code": 3 }))?;
    ensure!(child["exit"]["process"]["ppid"] == parent.pid(), "{child}");
    ensure!(child["remaining"] == 1 && child["wanted"] == 1, "{child}");
    let deaths = daemon.events(DOWN)?;
    ensure!(deaths.len() == 1, "the other program is none of them: {deaths:?}");
    daemon.stop()
}

#[test]
fn what_does_not_start_or_becomes_something_else_is_missing_until_it_is_back() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let shell = shell(&places)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("vital").critical_value(expecting("shell", &shell, "1s")))?;

    let missing = daemon.wait_event(MISSING, |event| event["name"] == "shell")?;
    ensure!(missing["why"]["why"] == "never_started" && missing["instances"] == 0, "{missing}");
    let mut process = start(&shell, "exec sleep 60")?;
    let back = daemon.wait_event(BACK, |event| event["name"] == "shell")?;
    ensure!(
        back["how"]["key"]["pid"] == process.pid() && back["how"]["parent"] == std::process::id(),
        "{back}"
    );

    process.close_input();

    let changed = daemon.wait_event(MISSING, |event| event["why"]["why"] == "changed")?;
    ensure!(changed["why"]["key"]["pid"] == process.pid() && changed["why"]["comm"] == "sleep", "{changed}");
    ensure!(daemon.events(MISSING)?.len() == 2 && daemon.events(DOWN)?.is_empty(), "told once each");
    daemon.ask(&["profile", "deactivate"])?;
    daemon.wait_event(BACK, |event| event["how"]["how"] == "not_required")?;
    daemon.stop()
}

#[test]
fn one_that_dies_again_and_again_is_summed_up() -> Result<()> {
    const MARKERS: usize = 3;
    // At most the first five and the sum of what is held back, with a recovery after each, and the markers' like that.
    const POSTS: usize = 30;
    let deaths = repetitions(1_000);
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    places.write_webhook(&receiver.url(), SECRET)?;
    let program = Program::Exit(7).write(&places.bin(), "pt-dies")?;
    let daemon = Daemon::start(&places)?;
    // By name: nobody can look up the executable of a process that is dead already.
    let profile = ProfileText::new("vital")
        .critical_matching("dies", &json!({ "comm": "pt-dies" }))
        .critical_matching("last", &json!({ "comm": { "regex": "pt-l.st" } }));
    daemon.activate(&profile)?;
    let last = Program::Exit(7).write(&places.bin(), "pt-last")?;

    let run = |program: &Path| -> Result<()> {
        let status = Command::new(program).stdin(Stdio::null()).status().context("run the program")?;
        ensure!(status.code() == Some(7), "{status}");
        Ok(())
    };
    let watch = Stopwatch::start();
    for _ in 0..deaths {
        run(&program)?;
    }
    ensure!(watch.elapsed() < Duration::from_secs(60), "{deaths} deaths took {:?}", watch.elapsed());
    for _ in 0..MARKERS {
        run(&last)?;
    }

    daemon.wait_event(DOWN, |event| event["flapping"]["deaths"] == 5)?;
    // These are none that the kernel side has hints for: they come in order behind all others, unless they are found
    // alive, which three that live for less than a millisecond are not. What is held back is told with the end of the
    // profile.
    wait_until("the last are told", SOON, || {
        Ok(daemon.events(DOWN)?.iter().filter(|event| event["name"] == "last").count() == MARKERS)
    })?;
    daemon.ask(&["profile", "deactivate"])?;
    let rest = daemon.wait_event(DOWN, |event| event["flapping"]["held"].as_u64() > Some(0))?;
    let told = daemon.events(DOWN)?;
    let notices = told.iter().filter(|event| event["name"] == "dies").count();
    ensure!(notices == 6, "{notices} notices");
    ensure!(rest["flapping"]["held"] == deaths - 5, "{rest}");

    // One call for many: whoever is on call hears of it a few times, and nothing twice.
    receiver.wait_for("that it is down", SOON, |body| body["data"]["details"]["name"] == "dies")?;
    let posts = receiver.requests();
    let mut ids = posts.iter().map(|post| post.header("webhook-id")).collect::<Result<Vec<_>>>()?;
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == posts.len(), "{} posts with {} ids", posts.len(), ids.len());
    ensure!(posts.len() <= POSTS, "{} posts for {deaths} deaths", posts.len());
    daemon.stop()
}
