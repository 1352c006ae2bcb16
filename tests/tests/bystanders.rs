//! Whoever is not meant is not limited along with those who are: a critical process that a limited one starts,
//! and a stranger who comes into a limited cgroup.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use integration_tests::cgroup::{TestCgroup, cpu_quota_of};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::{Program, write_executable};
use integration_tests::workload::Workload;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::json;

/// A script that spins until it is told to start the critical program, whose pid it then writes down.
struct Family {
    script: PathBuf,
    go: PathBuf,
    pid: PathBuf,
}

impl Family {
    fn write(places: &Places) -> Result<(Self, PathBuf)> {
        let critical = Program::Wait.write(&places.bin(), "pt-critical-kid")?;
        let at = |name: &str| places.bin().join(name);
        let (go, kid, pid) = (at("go"), critical.display(), at("pid"));
        let (begin, written) = (go.display(), pid.display());
        // Nothing but the shell itself: it runs under a quota.
        let text =
            format!("#!/bin/sh\nwhile [ ! -e {begin} ]; do :; done\n{kid} &\necho $! >{written}\nwait\n");
        let script = write_executable(&places.bin(), "pt-family", text.as_bytes())?;
        Ok((Self { script, go, pid }, critical))
    }

    fn start_critical(&self) -> Result<Kid> {
        fs::write(&self.go, "")?;
        let written = || fs::read_to_string(&self.pid).unwrap_or_default();
        wait_until("the critical process is started", SOON, || Ok(written().ends_with('\n')))?;
        Ok(Kid(written().trim().parse()?))
    }
}

/// The critical process; killed on drop.
struct Kid(i32);

impl Kid {
    fn pid(&self) -> u32 {
        self.0.unsigned_abs()
    }
}

impl Drop for Kid {
    fn drop(&mut self) {
        // It may have been killed already.
        if let Err(error) = signal::kill(Pid::from_raw(self.0), Signal::SIGKILL) {
            assert_eq!(error, nix::errno::Errno::ESRCH, "kill the critical process");
        }
    }
}

fn profile(critical: &std::path::Path, allow_move: bool) -> ProfileText {
    ProfileText::new("family").critical("kid", critical).rule_value(json!({
        "name": "family", "match": { "comm": "pt-family" }, "limits": { "cpu": "30%" }, "allow_move": allow_move,
    }))
}

/// A program that is limited, another one that is not, and the profile that says so.
fn hog_and_stranger(places: &Places) -> Result<(PathBuf, PathBuf, ProfileText)> {
    let hog = Program::Spin.write(&places.bin(), "pt-hog-s")?;
    let other = Program::Wait.write(&places.bin(), "pt-other")?;
    Ok((hog, other, ProfileText::new("hogs").rule("hogs", "pt-hog-s", &json!({ "cpu": "30%" }))))
}

#[test]
fn it_leaves_a_cgroup_of_ours() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let (family, critical) = Family::write(&places)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile(&critical, true))?;
    let hog = Workload::spawn(&family.script)?;
    wait_until("the quota is in force", SOON, || Ok(cpu_quota_of(hog.pid())? == Some(30.0)))?;

    let kid = family.start_critical()?;

    wait_until("the critical process is free", SOON, || Ok(cpu_quota_of(kid.pid())?.is_none()))?;
    ensure!(cpu_quota_of(hog.pid())? == Some(30.0), "its parent stays limited");
    daemon.stop()
}

#[test]
fn limits_on_the_cgroup_that_it_shares_are_lifted() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("family")?);
    let (family, critical) = Family::write(&places)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile(&critical, false))?;
    let _hog = Workload::spawn_in(&family.script, &cgroup)?;
    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(30.0)))?;

    let kid = family.start_critical()?;

    wait_until("the critical process is free", SOON, || Ok(cgroup.cpu_quota()?.is_none()))?;
    let removed = daemon.wait_event("throttle_removed", |event| event["group"] == "family")?;
    ensure!(removed["reason"]["cause"] == "protected", "{removed}");
    let failed = daemon.wait_event("throttle_failed", |event| event["group"] == "family")?;
    ensure!(failed["error"].as_str().is_some_and(|error| error.contains("allow_move")), "{failed}");
    ensure!(cpu_quota_of(kid.pid())?.is_none());
    daemon.stop()
}

#[test]
fn a_stranger_in_the_cgroup_is_freed_with_it() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("stranger")?);
    let (hog, other, profile) = hog_and_stranger(&places)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile)?;
    let _hog = Workload::spawn_in(&hog, &cgroup)?;
    let stranger = Workload::spawn(&other)?;
    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(30.0)))?;

    for file in cgroup.procs_files() {
        fs::write(file, stranger.pid_text())?;
    }

    wait_until("the stranger is free", SOON, || Ok(cgroup.cpu_quota()?.is_none()))?;
    let removed = daemon.wait_event("throttle_removed", |event| event["group"] == "hogs")?;
    // By its number alone: the word of its exec may still be on the way, and with it its name.
    let named = format!("process {} (", stranger.pid());
    ensure!(removed["reason"]["who"].as_str().is_some_and(|who| who.starts_with(&named)), "{removed}");
    daemon.stop()
}

#[test]
fn who_shared_its_cgroup_is_limited_when_the_other_one_is_gone() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("shared")?);
    let (hog, other, profile) = hog_and_stranger(&places)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile)?;
    let bystander = Workload::spawn_in(&other, &cgroup)?;
    // The first is refused because of the bystander, and then each because of the others.
    let hogs = [Workload::spawn_in(&hog, &cgroup)?, Workload::spawn_in(&hog, &cgroup)?];
    let failed = daemon.wait_event("throttle_failed", |event| event["group"] == "hogs")?;
    ensure!(failed["error"].as_str().is_some_and(|error| error.contains("share")), "{failed}");
    ensure!(cgroup.cpu_quota()?.is_none(), "the bystander is held along");

    drop(bystander);

    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(30.0)))?;
    let applied = daemon.wait_event("throttle_applied", |event| event["group"] == "hogs")?;
    ensure!(applied["processes"].as_array().is_some_and(|held| held.len() == hogs.len()), "{applied}");
    let told = daemon.events("throttle_failed")?;
    ensure!(told.len() == 1, "{told:#?}");
    daemon.stop()
}
