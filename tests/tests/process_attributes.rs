//! Attributes of every thread: in force by a rule, and exactly as before after a release, whoever does it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::write_executable;
use integration_tests::workload::Workload;
use serde_json::json;

/// Five threads, each with attributes of its own, one of them real-time; and a child when its input ends.
const THREADS: &str = r#"#!/usr/bin/python3
import ctypes, os, subprocess, sys, threading
def thread(begin):
    begin()
    ready.release()
    threading.Event().wait()
def priority(value):
    ctypes.CDLL(None).syscall({"x86_64": 251, "aarch64": 30}[os.uname().machine], 1, 0, value)
ready = threading.Semaphore(0)
open("/proc/self/oom_score_adj", "w").write("17")
for begin in [
    lambda: os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 9),
    lambda: os.sched_setscheduler(0, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0)),
    lambda: priority(2 << 13 | 1),
    lambda: os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1)),
]:
    threading.Thread(target=thread, args=[begin], daemon=True).start()
    ready.acquire()
sys.stdin.read()
subprocess.run(["sleep", "1000"], preexec_fn=lambda: ctypes.CDLL(None).prctl(1, 9))
"#;

/// nice (19th field of stat), policy (41st), CPUs and I/O priority of each thread, and the OOM score adjustment.
fn capture(pid: u32) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let (dir, tid) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let tid = tid.to_string_lossy().into_owned();
        let stat = fs::read_to_string(dir.join("stat"))?;
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied().context("stat is shorter");
        let status = fs::read_to_string(dir.join("status"))?;
        let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let io = Command::new("ionice").args(["-p", &tid]).output()?;
        all.insert(format!("{tid} nice"), field(19)?.to_owned());
        all.insert(format!("{tid} policy"), field(41)?.to_owned());
        all.insert(format!("{tid} cpus"), cpus.unwrap_or_default().trim().to_owned());
        all.insert(format!("{tid} io"), String::from_utf8_lossy(&io.stdout).trim().to_owned());
        let reset = Command::new("chrt").args(["-p", &tid]).output()?;
        all.insert(format!("{tid} chrt"), String::from_utf8_lossy(&reset.stdout).into_owned());
    }
    all.insert("oom".to_owned(), fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?.trim().to_owned());
    Ok(all)
}

fn threads(places: &Places) -> Result<Workload> {
    let path = write_executable(&places.bin(), "pt-attributes", THREADS.as_bytes())?;
    let process = Workload::spawn_reading(&path)?;
    let dir = format!("/proc/{}/task", process.pid());
    wait_until("all threads are there", SOON, || {
        Ok(fs::read_dir(&dir)?.count() == 5 && capture(process.pid())?.values().any(|value| value == "1"))
    })?;
    Ok(process)
}

fn is_in_force(pid: u32) -> Result<()> {
    let all = capture(pid)?;
    let count = |what: &str, value: &str| {
        all.iter().filter(|(key, now)| key.ends_with(what) && now.as_str() == value).count()
    };
    // SCHED_IDLE is 5 and SCHED_FIFO 1; the real-time thread is left alone.
    let counts = [count("nice", "6"), count("policy", "5"), count("io", "idle"), count("cpus", "0")];
    ensure!(counts == [4; 4] && count("policy", "1") == 1 && count("oom", "350") == 1, "{all:#?}");
    Ok(())
}

#[test]
fn attributes_are_set_on_every_thread_and_restored_exactly() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let mut process = threads(&places)?;
    let before = capture(process.pid())?;
    let limits = json!({
        "nice": 6, "sched": "idle", "io_class": "idle", "cpu_affinity": "0", "oom_score_adj": 350,
    });
    let profile = ProfileText::new("attributes").rule("attributes", "pt-attributes", &limits);

    // A death, and no daemon.
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile)?;
    wait_until("all of it is in force", SOON, || Ok(is_in_force(process.pid()).is_ok()))?;
    let group = daemon.group("attributes")?.context("the group is listed")?;
    ensure!(group.to_string().contains("1 of 5 threads"), "it is not told: {group}");
    daemon.kill()?;
    is_in_force(process.pid())?;
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    let after = capture(process.pid())?;
    ensure!(after == before, "after {after:#?}, before {before:#?}");

    // A stop. A child is born with what the rule set, and does not keep it.
    let daemon = Daemon::start(&places)?;
    wait_until("all of it is in force again", SOON, || Ok(is_in_force(process.pid()).is_ok()))?;
    process.close_input();
    let child = wait_until_child(process.pid())?;
    let of_child =
        |what: &str| Ok::<_, anyhow::Error>(capture(child)?.get(&format!("{child} {what}")).cloned());
    ensure!(of_child("nice")?.as_deref() == Some("6"), "a child inherits");
    daemon.stop()?;
    let after = capture(process.pid())?;
    ensure!(after == before, "after {after:#?}, before {before:#?}");
    for what in ["nice", "policy", "cpus", "io"] {
        let of_parent = before.get(&format!("{} {what}", process.pid())).cloned();
        ensure!(of_child(what)? == of_parent, "{what} of the child is {:?}", of_child(what)?);
    }
    ensure!(capture(child)?.get("oom") == before.get("oom"), "the child keeps a score");
    Ok(())
}

fn wait_until_child(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let mut found = None;
    wait_until("the child is there", SOON, || {
        found = fs::read_to_string(&path)?.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok());
        Ok(found.is_some())
    })?;
    found.context("there is a child")
}
