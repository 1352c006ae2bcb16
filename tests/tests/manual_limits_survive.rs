//! What an operator limits by hand outlives the agent: a restart and a sudden death bring it back, with the time
//! that is left, until it is released, its time is up or its processes have ended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::{TestCgroup, agent_groups, cpu_quota_of};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::{Program, write_executable};
use integration_tests::workload::Workload;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn limit(daemon: &Daemon<'_>, hog: &Workload, options: &[&str]) -> Result<Value> {
    let pid = hog.pid().to_string();
    daemon.data(&[&["throttle", "--pid", &pid], options].concat())
}

/// When a group ends by itself, by the wall clock.
fn until(group: &Value) -> Result<jiff::Timestamp> {
    Ok(group["until"].as_str().with_context(|| format!("no end: {group}"))?.parse()?)
}

fn removals(daemon: &Daemon<'_>, group: &str, cause: &str) -> Result<usize> {
    let events = daemon.events("throttle_removed")?;
    let wanted = |event: &&Value| event["group"] == group && event["reason"]["cause"] == cause;
    Ok(events.iter().filter(wanted).count())
}

#[test]
fn a_killed_agents_limits_come_back_with_the_time_that_is_left() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("survive-kill")?);
    let (before, groups) = (cgroup.limits()?, agent_groups()?);
    let program = Program::Spin.write(&places.bin(), "pt-survivor")?;
    let (inside, outside) = (Workload::spawn_in(&program, &cgroup)?, Workload::spawn(&program)?);
    let daemon = Daemon::start(&places)?;
    let told = limit(&daemon, &inside, &["--cpu", "30%", "--nice", "4", "--group", "timed", "--for", "10m"])?;
    limit(&daemon, &outside, &["--cpu", "35%", "--group", "plain"])?;
    daemon.kill()?;

    let daemon = Daemon::start(&places)?;

    // Ready means in force.
    ensure!(cpu_quota_of(inside.pid())? == Some(30.0) && kernel::stat(inside.pid())?.nice == 4);
    ensure!(cpu_quota_of(outside.pid())? == Some(35.0));
    let timed = daemon.group("timed")?.context("the timed group is back")?;
    let drift = until(&timed)?.duration_since(until(&told)?).unsigned_abs();
    ensure!(drift < Duration::from_secs(1), "the end has moved by {drift:?}: {told} {timed}");
    let plain = daemon.group("plain")?.context("the group without an end is back")?;
    ensure!(plain["until"].is_null() && plain["reason"]["cause"] == "operator", "{plain}");
    daemon.ask(&["release", "--all", "--yes"])?;
    daemon.stop()?;
    ensure!(cgroup.limits()? == before && agent_groups()? == groups && kernel::stat(inside.pid())?.nice == 0);
    ensure!(cpu_quota_of(outside.pid())?.is_none());
    Ok(())
}

#[test]
fn a_stop_lifts_the_limits_and_the_next_start_brings_them_back() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("survive-stop")?);
    let hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "pt-survivor")?, &cgroup)?;
    let daemon = Daemon::start(&places)?;
    limit(&daemon, &hog, &["--cpu", "30%", "--group", "kept"])?;
    daemon.stop()?;
    ensure!(cgroup.cpu_quota()?.is_none(), "a stop lifts what was set by hand, too");

    let daemon = Daemon::start(&places)?;
    ensure!(cgroup.cpu_quota()? == Some(30.0), "it is back");
    daemon.ask(&["release", "--group", "kept"])?;
    daemon.kill()?;

    let daemon = Daemon::start(&places)?;
    ensure!(cgroup.cpu_quota()?.is_none() && daemon.group("kept")?.is_none(), "released is released");
    daemon.stop()
}

#[test]
fn a_limit_whose_time_was_up_while_no_agent_ran_does_not_come_back() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("survive-expiry")?);
    let hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "pt-survivor")?, &cgroup)?;
    let daemon = Daemon::start(&places)?;
    let end = until(&limit(&daemon, &hog, &["--cpu", "30%", "--group", "brief", "--for", "2s"])?)?;
    daemon.stop()?;
    wait_until("the time is up", SOON, || Ok(jiff::Timestamp::now() > end + Duration::from_millis(50)))?;

    let daemon = Daemon::start(&places)?;

    ensure!(cgroup.cpu_quota()?.is_none() && daemon.group("brief")?.is_none());
    daemon.wait_event("throttle_removed", |event| {
        event["group"] == "brief" && event["reason"]["cause"] == "expired"
    })?;
    daemon.stop()?;
    let daemon = Daemon::start(&places)?;
    ensure!(removals(&daemon, "brief", "expired")? == 1, "it is told once");
    daemon.stop()
}

#[test]
fn an_end_that_the_agent_saw_is_told_once() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("survive-seen")?);
    let hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "pt-survivor")?, &cgroup)?;
    let daemon = Daemon::start(&places)?;
    limit(&daemon, &hog, &["--cpu", "30%", "--group", "brief", "--for", "1s"])?;
    daemon.wait_event("throttle_removed", |event| {
        event["group"] == "brief" && event["reason"]["cause"] == "expired"
    })?;
    daemon.kill()?;

    let daemon = Daemon::start(&places)?;

    ensure!(cgroup.cpu_quota()?.is_none());
    ensure!(removals(&daemon, "brief", "expired")? == 1, "it is told once");
    daemon.stop()
}

#[test]
fn the_dead_stay_out_and_children_stay_in() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let spin = Program::Spin.write(&places.bin(), "pt-survivor")?;
    let mut short = Workload::spawn(&spin)?;
    let long = Workload::spawn(&spin)?;
    // A shell that begins its child once it is limited.
    let begin = places.root().join("begin");
    let text =
        format!("#!/bin/sh\nuntil [ -e {} ]; do :; done\n{} &\nwait\n", begin.display(), spin.display());
    let script = write_executable(&places.bin(), "pt-parent", text.as_bytes())?;
    let parent = Workload::spawn(&script)?;
    let daemon = Daemon::start(&places)?;
    limit(&daemon, &short, &["--cpu", "30%", "--group", "dying"])?;
    limit(&daemon, &long, &["--cpu", "35%", "--group", "living"])?;
    limit(&daemon, &parent, &["--cpu", "40%", "--group", "family"])?;
    std::fs::write(&begin, "")?;
    let child = child_of(parent.pid())?;
    let guard = Orphan(child);
    daemon.kill()?;
    short.kill()?;

    let daemon = Daemon::start(&places)?;

    ensure!(daemon.group("dying")?.is_none(), "nobody is left of it");
    ensure!(cpu_quota_of(long.pid())? == Some(35.0));
    ensure!(cpu_quota_of(parent.pid())? == Some(40.0));
    ensure!(cpu_quota_of(child)? == Some(40.0), "a child that was born limited is limited again");
    drop(guard);
    daemon.stop()
}

#[test]
fn a_limit_set_without_a_daemon_is_taken_over_by_one() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("survive-offline")?);
    let hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "pt-survivor")?, &cgroup)?;
    let pid = hog.pid().to_string();
    run(&places, &["throttle", "--pid", &pid, "--cpu", "30%", "--group", "early"])?.expect(0)?;
    ensure!(cgroup.cpu_quota()? == Some(30.0));

    let daemon = Daemon::start(&places)?;
    ensure!(cgroup.cpu_quota()? == Some(30.0) && daemon.group("early")?.is_some(), "it is taken over");
    daemon.stop()?;
    ensure!(cgroup.cpu_quota()?.is_none());

    // Nothing holds it now, and it would come back.
    run(&places, &["release", "--group", "early"])?.expect(0)?;
    run(&places, &["release", "--group", "early"])?.expect(4)?;
    let daemon = Daemon::start(&places)?;
    ensure!(cgroup.cpu_quota()?.is_none() && daemon.group("early")?.is_none());
    daemon.stop()
}

#[test]
fn a_dry_run_is_no_wish() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("survive-dry")?);
    let hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "pt-survivor")?, &cgroup)?;
    let daemon = Daemon::start(&places)?;
    limit(&daemon, &hog, &["--cpu", "30%", "--group", "dry", "--dry-run"])?;
    daemon.kill()?;
    let daemon = Daemon::start(&places)?;
    ensure!(cgroup.cpu_quota()?.is_none() && daemon.group("dry")?.is_none());
    daemon.stop()
}

/// The one child of a process, when it runs its program.
fn child_of(parent: u32) -> Result<u32> {
    let mut found = None;
    wait_until("the child runs", SOON, || {
        found = kernel::processes()?.into_keys().find(|pid| {
            kernel::stat(*pid).is_ok_and(|stat| stat.ppid == parent)
                && kernel::comm(*pid).is_ok_and(|comm| comm == "pt-survivor")
        });
        Ok(found.is_some())
    })?;
    found.context("the child")
}

/// A process that nobody waits for; killed on drop.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.0) else { return };
        // One that has ended is what is wanted.
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
}

#[test]
fn a_group_is_limited_anew_and_a_failure_leaves_it_as_it_was() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let program = Program::Wait.write(&places.bin(), "pt-anew")?;
    let (first, second) = (Workload::spawn(&program)?, Workload::spawn(&program)?);
    let daemon = Daemon::start(&places)?;
    let throttle = |pids: &str, limit: &[&str]| {
        run(&places, &[&["throttle", "--group", "anew", "--pid", pids][..], limit].concat())
    };
    let quotas =
        || -> Result<[Option<f64>; 2]> { Ok([cpu_quota_of(first.pid())?, cpu_quota_of(second.pid())?]) };
    let both = format!("{},{}", first.pid(), second.pid());
    throttle(&first.pid_text(), &["--cpu", "30%"])?.expect(0)?;
    // The same process under other limits, and then with another one.
    let again = throttle(&first.pid_text(), &["--cpu", "60%"])?.expect(0)?;
    ensure!(again.stdout.contains(&first.pid_text()), "{again:?}");
    ensure!(quotas()? == [Some(60.0), None], "{:?}", quotas()?);
    throttle(&both, &["--cpu", "90%"])?.expect(0)?;
    ensure!(quotas()? == [Some(90.0), Some(90.0)], "{:?}", quotas()?);
    let failed = throttle(&both, &["--cpu", "50%", "--io-weight", "10"])?;
    if failed.code != 0 {
        // A kernel without weights for I/O: what was before is in force, also after a restart.
        wait_until("the limit before is in force", SOON, || Ok(quotas()? == [Some(90.0), Some(90.0)]))?;
        ensure!(daemon.group("anew")?.is_some(), "it is released");
        daemon.stop()?;
        let daemon = Daemon::start(&places)?;
        wait_until("it comes back", SOON, || Ok(quotas()? == [Some(90.0), Some(90.0)]))?;
        return daemon.stop();
    }
    ensure!(quotas()? == [Some(50.0), Some(50.0)], "{:?}", quotas()?);
    daemon.stop()
}
