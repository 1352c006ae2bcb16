//! Protection of critical processes and what is reserved for them, end to end: given, shown, not inherited, and taken
//! back exactly.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::{TestCgroup, is_v2};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::{Program, copy_executable, write_executable};
use integration_tests::workload::Workload;
use serde_json::{Value, json};

fn values(pid: u32) -> Result<(i32, i32)> {
    let path = format!("/proc/{pid}/oom_score_adj");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok((text.trim().parse()?, kernel::stat(pid)?.nice))
}

/// A profile with one critical process, known by its executable.
fn activate(daemon: &Daemon<'_>, exe: &Path, keys: &Value) -> Result<()> {
    let mut critical = json!({ "name": "web", "match": { "exe": exe } });
    if let (Some(critical), Some(keys)) = (critical.as_object_mut(), keys.as_object()) {
        critical.extend(keys.clone());
    }
    let profile = json!({ "name": "keep", "version": "1.0", "critical_processes": [critical] });
    fs::write(daemon.places().profiles().join("keep.yaml"), format!("{profile:#}\n"))?;
    daemon.ask(&["profile", "activate", "keep"]).map(drop)
}

/// A shell under a name of its own, with a child when its input ends: children of it run other programs.
fn shell(places: &Places) -> Result<(PathBuf, Workload)> {
    let shell = copy_executable(Path::new("/bin/sh"), &places.bin(), "pt-critical-sh")?;
    let hog = Program::Wait.write(&places.bin(), "pt-cgi")?;
    let text = format!("#!{}\nread line; {} & wait\n", shell.display(), hog.display());
    let script = write_executable(&places.bin(), "pt-critical", text.as_bytes())?;
    let process = Workload::spawn_reading(&script)?;
    wait_until("the shell runs", SOON, || {
        Ok(fs::read_link(format!("/proc/{}/exe", process.pid()))? == shell)
    })?;
    // Down to 0 it may be lowered by anybody.
    fs::write(format!("/proc/{}/oom_score_adj", process.pid()), "600")?;
    Ok((shell, process))
}

/// Kills the process that is left when its parent is gone.
struct Left(u32);

impl Drop for Left {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

#[test]
fn a_critical_process_is_protected_and_its_children_are_not() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let (exe, mut process) = shell(&places)?;
    let pid = process.pid();
    let before = values(pid)?;
    let keys = json!({ "protection_level": "maximum", "oom_score_adj": 0 });

    let daemon = Daemon::start(&places)?;
    activate(&daemon, &exe, &keys)?;
    wait_until("it is protected", SOON, || Ok(values(pid)? == (0, -10)))?;
    let told = daemon.data(&["explain", &process.pid_text()])?;
    let words = told["protection"].as_str().unwrap_or_default();
    ensure!(words.starts_with("maximum: oom_score_adj=0 nice=-10, as web; in force"), "{told}");
    let plan = daemon.data(&["profile", "plan", "keep"])?;
    ensure!(plan["critical"][0]["protection"]["nice"] == -10, "{plan}");

    process.close_input();
    let mut child = None;
    let children = format!("/proc/{pid}/task/{pid}/children");
    wait_until("the child is there", SOON, || {
        child =
            fs::read_to_string(&children)?.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok());
        Ok(child.is_some())
    })?;
    let child: u32 = child.context("there is a child")?;
    let _left = Left(child);
    wait_until("the child has what its parent had", SOON, || Ok(values(child)? == before))?;

    // An emergency lifts limits, not this; nor does an operator's release.
    daemon.ask(&["emergency", "stop", "--yes", "test"])?;
    ensure!(values(pid)? == (0, -10), "an emergency takes protection away");
    daemon.ask(&["emergency", "resume", "--yes"])?;
    daemon.ask(&["release", "--all", "--yes"])?;
    ensure!(values(pid)? == (0, -10), "a release takes protection away");

    daemon.ask(&["profile", "deactivate", "--yes"])?;
    wait_until("the profile takes it along", SOON, || Ok(values(pid)? == before))?;
    activate(&daemon, &exe, &keys)?;
    wait_until("it is protected again", SOON, || Ok(values(pid)? == (0, -10)))?;
    daemon.stop()?;
    ensure!(values(pid)? == before, "a stop leaves {:?}", values(pid)?);

    let daemon = Daemon::start(&places)?;
    wait_until("it is protected after a start", SOON, || Ok(values(pid)? == (0, -10)))?;
    daemon.kill()?;
    ensure!(values(pid)? == (0, -10), "protection outlives the agent's sudden death");
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    ensure!(values(pid)? == before, "release --all leaves {:?}", values(pid)?);
    Ok(())
}

#[test]
fn what_the_kernel_refuses_is_told_and_changes_nothing() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let (exe, process) = shell(&places)?;
    let before = values(process.pid())?;
    let status = fs::read_to_string("/proc/self/status")?;
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).context("CapEff")?;
    // CAP_SYS_RESOURCE, of capability.h.
    let may_lower = u64::from_str_radix(capabilities, 16)? & 1 << 24 != 0;

    let daemon = Daemon::start(&places)?;
    activate(&daemon, &exe, &json!({ "protection_level": "maximum" }))?;
    if may_lower {
        wait_until("it is protected", SOON, || Ok(values(process.pid())? == (-900, -10)))?;
    } else {
        let event = daemon.wait_event("protection_failed", |event| event["name"] == "web")?;
        ensure!(event.to_string().contains("Permission denied"), "{event}");
        ensure!(values(process.pid())? == before, "half of it is in force: {:?}", values(process.pid())?);
    }
    daemon.stop()?;
    ensure!(values(process.pid())? == before, "a stop leaves {:?}", values(process.pid())?);
    Ok(())
}

/// The file and value of a weight in a cgroup.
fn weight(cgroup: &TestCgroup) -> Result<(PathBuf, String)> {
    let file = if is_v2() { "cpu.weight" } else { "cpu.shares" };
    let found = cgroup.limits()?.into_iter().find(|(path, _)| path.ends_with(file));
    found.with_context(|| format!("{} has no {file}", cgroup.name()))
}

/// A weight of v2 in the words of this host.
fn as_written(weight: u64) -> String {
    if is_v2() { weight.to_string() } else { (weight * 1_024 / 100).to_string() }
}

#[test]
fn a_share_is_reserved_where_a_critical_process_is_alone() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let cgroup = TestCgroup::new("vital")?;
    let exe = Program::Wait.write(&places.bin(), "pt-vital")?;
    let process = Workload::spawn_in(&exe, &cgroup)?;
    let before = cgroup.limits()?;
    let has = |wanted: u64| Ok(weight(&cgroup)?.1 == as_written(wanted));
    let profile = json!({ "name": "keep", "version": "1.0", "critical_processes": [
        { "name": "web", "match": { "exe": exe }, "cpu_weight": 400 },
    ]});

    let daemon = Daemon::start(&places)?;
    places.write_profile("keep", profile.to_string().as_bytes())?;
    daemon.ask(&["profile", "activate", "keep"])?;
    wait_until("it has its share", SOON, || has(400)).with_context(|| daemon.printed())?;
    let shown = || daemon.data(&["critical", "show", "web"]);
    wait_until("it is said", SOON, || Ok(shown()?["reservation"]["how"] == "in place"))
        .with_context(|| format!("{:?}", shown()))?;
    let told = daemon.data(&["explain", &process.pid_text()])?;
    let words = told["reservation"].as_str().unwrap_or_default();
    ensure!(words == "cpu_weight=400; in force: in place", "{told}");
    let plan = daemon.data(&["profile", "plan", "keep"])?;
    ensure!(plan["critical"][0]["how"] == json!(["cpu_weight=400 in place"]), "{plan}");

    daemon.ask(&["emergency", "stop", "--yes", "test"])?;
    ensure!(has(400)?, "an emergency takes it away");
    daemon.ask(&["emergency", "resume", "--yes"])?;
    daemon.kill()?;
    ensure!(has(400)?, "it outlives the agent's sudden death");
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    ensure!(cgroup.limits()? == before, "release --all leaves {:?}", cgroup.limits()?);

    let daemon = Daemon::start(&places)?;
    wait_until("it has it after a start", SOON, || has(400))?;
    daemon.stop()?;
    ensure!(cgroup.limits()? == before, "a stop leaves {:?}", cgroup.limits()?);
    Ok(())
}

#[test]
fn what_cannot_be_reserved_without_moving_anybody_is_told() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let cgroup = TestCgroup::new("shared")?;
    let exe = Program::Wait.write(&places.bin(), "pt-vital")?;
    let other = Program::Wait.write(&places.bin(), "pt-other")?;
    let (_process, other) = (Workload::spawn_in(&exe, &cgroup)?, Workload::spawn_in(&other, &cgroup)?);
    let before = cgroup.limits()?;

    let daemon = Daemon::start(&places)?;
    activate(&daemon, &exe, &json!({ "cpu_weight": 400 }))?;
    let event = daemon.wait_event("protection_failed", |event| event["name"] == "web")?;
    let error = event["error"].as_str().unwrap_or_default();
    ensure!(error.contains(&format!("process {} in ", other.pid())), "{event}");
    ensure!(error.ends_with("a critical process is never moved"), "{event}");
    let shown = daemon.data(&["critical", "show", "web"])?;
    ensure!(shown["reservation"]["error"] == error, "{shown}");
    ensure!(cgroup.limits()? == before, "{:?}", cgroup.limits()?);
    daemon.stop()
}
