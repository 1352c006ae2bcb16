//! Processes that come one after the other in the same cgroup, or in cgroups of the same path: each is limited.

use anyhow::{Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;
use serde_json::json;

const LIVES: usize = 5;

/// One life after the other, with or without its cgroup, under a rule of this scope.
fn each_is_limited(scope: &str, anew: bool) -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("successors")?);
    let program = Program::Wait.write(&places.bin(), "pt-successor")?;
    let before = cgroup.limits()?;
    let daemon = Daemon::start(&places)?;
    let (matched, limits) = (json!({ "comm": "pt-successor" }), json!({ "cpu": "30%", "pids": 9 }));
    daemon.activate(&ProfileText::new("jobs").rule_matching("jobs", &matched, &limits, scope))?;

    for life in 0..LIVES {
        let mut process = Workload::spawn_in(&program, &cgroup)?;
        let limited = wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(30.0)));
        ensure!(limited.is_ok(), "life {life}: {:?}; {}", cgroup.limits()?, daemon.printed());
        wait_until("the process is known as limited", SOON, || {
            Ok(!daemon.data(&["explain", &process.pid_text()])?["group"].is_null())
        })?;
        process.kill()?;
        if anew {
            cgroup.make_anew()?;
        }
    }

    wait_until("nobody is limited any more", SOON, || {
        Ok(daemon.data(&["status"])?.as_array().is_some_and(Vec::is_empty))
    })?;
    for kind in ["throttle_failed", "throttle_conflict"] {
        let told = daemon.events(kind)?;
        ensure!(told.is_empty(), "{told:?}");
    }
    daemon.stop()?;
    ensure!(cgroup.limits()? == before, "after: {:?}, before: {before:?}", cgroup.limits()?);
    Ok(())
}

#[test]
fn each_in_a_cgroup_that_is_made_anew() -> Result<()> {
    ["process", "group"].into_iter().try_for_each(|scope| each_is_limited(scope, true))
}

#[test]
fn each_in_the_same_cgroup() -> Result<()> {
    ["process", "group"].into_iter().try_for_each(|scope| each_is_limited(scope, false))
}

#[test]
fn of_another_rule_before_the_agent_knows_that_the_one_before_has_ended() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("heirs")?);
    let [first, second] = ["pt-heir-b", "pt-heir-a"].map(|name| Program::Wait.write(&places.bin(), name));
    let before = cgroup.limits()?;
    let daemon = Daemon::start(&places)?;
    let profile = ["pt-heir-b", "pt-heir-a"]
        .iter()
        .fold(ProfileText::new("heirs"), |profile, comm| profile.rule(comm, comm, &json!({ "cpu": "30%" })));
    daemon.activate(&profile)?;
    let mut process = Workload::spawn_in(&first?, &cgroup)?;
    daemon.wait_event("throttle_applied", |event| event["group"] == "pt-heir-b")?;

    daemon.signal(Signal::SIGSTOP)?;
    process.kill()?;
    let mut process = Workload::spawn_in(&second?, &cgroup)?;
    daemon.signal(Signal::SIGCONT)?;

    daemon.wait_event("throttle_applied", |event| event["group"] == "pt-heir-a")?;
    daemon.wait_event("throttle_removed", |event| event["group"] == "pt-heir-b")?;
    ensure!(cgroup.cpu_quota()? == Some(30.0), "{:?}; {}", cgroup.limits()?, daemon.printed());
    for kind in ["throttle_failed", "throttle_conflict"] {
        let told = daemon.events(kind)?;
        ensure!(told.is_empty(), "{told:?}");
    }
    process.kill()?;
    daemon.stop()?;
    ensure!(cgroup.limits()? == before, "after: {:?}, before: {before:?}", cgroup.limits()?);
    Ok(())
}
