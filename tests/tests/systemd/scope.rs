//! Processes moved out of a unit: limited alone, ended with their unit, returned to it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::Turn;
use integration_tests::places::Places;
use integration_tests::systemd::{TestUnit, agent_units, cgroup_of, property, require_systemd, systemctl};

const SHARED: &str = "sleep 1001 & sleep 1002 & wait";
const SLICE: &str = "/sys/fs/cgroup/process.slice/process-throttler.slice/process-throttler-g.slice";

/// Moves the child that sleeps for 1001 s into a scope; returns its pid.
fn moved(places: &Places, unit: &TestUnit) -> Result<u32> {
    // The shell, whose command line has it too, and its child.
    unit.pids("sleep 1002", 2)?;
    let pid = child(unit)?;
    let text = pid.to_string();
    let arguments = ["throttle", "--pid", &text, "--group", "g", "--cpu", "20%", "--allow-move"];
    let told = run(places, &arguments)?.expect(0)?.stdout;
    ensure!(told.contains(&format!("in a transient scope: shares {} with", unit.id())), "{told}");
    let cgroup = cgroup_of(pid).context("it lives")?;
    ensure!(
        cgroup.starts_with("/process.slice/process-throttler.slice/process-throttler-g.slice/"),
        "{cgroup}"
    );
    ensure!(fs::read_to_string(Path::new(SLICE).join("cpu.max"))? == "20000 100000\n");
    Ok(pid)
}

/// `sleep 1001` itself, not the shell around it.
fn child(unit: &TestUnit) -> Result<u32> {
    let pids = unit.pids("sleep 1001", 2).or_else(|_| unit.pids("sleep 1001", 1))?;
    let own = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n");
    pids.into_iter().find(own).context("no sleep in the unit")
}

fn gone(pid: u32) -> Result<bool> {
    Ok(cgroup_of(pid).is_none() || fs::read_to_string(format!("/proc/{pid}/stat"))?.contains(") Z "))
}

#[test]
fn a_moved_process_returns_and_nothing_is_left() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("move", SHARED, &[])?;
    let (before, units) = (unit.capture()?, agent_units()?);
    let pid = moved(&places, &unit)?;
    systemctl(&["daemon-reload"])?;
    ensure!(fs::read_to_string(Path::new(SLICE).join("cpu.max"))? == "20000 100000\n");
    // Other limits, and one more process, which shares them.
    let shell = property(unit.id(), "MainPID")?;
    let more = ["throttle", "--pid", &shell, "--group", "g", "--cpu", "30%", "--pids", "9", "--allow-move"];
    run(&places, &more)?.expect(0)?;
    ensure!(fs::read_to_string(Path::new(SLICE).join("cpu.max"))? == "30000 100000\n");
    ensure!(fs::read_to_string(Path::new(SLICE).join("pids.max"))? == "9\n");
    ensure!(property(unit.id(), "ActiveState")? == "active", "the service lives by its main process");

    run(&places, &["release", "--group", "g"])?.expect(0)?;
    let home = format!("/system.slice/{}", unit.id());
    ensure!(cgroup_of(pid).as_ref() == Some(&home), "{:?}", cgroup_of(pid));
    ensure!(unit.capture()? == before, "after: {:#?}\nbefore: {before:#?}", unit.capture()?);
    wait_until("our units are gone", SOON, || Ok(agent_units()? == units))
}

#[test]
fn a_moved_process_ends_with_its_service() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    for verb in ["stop", "restart"] {
        let unit = TestUnit::service("follow", SHARED, &[])?;
        let pid = moved(&places, &unit)?;
        systemctl(&[verb, unit.id()])?;
        wait_until("the moved process ends, too", SOON, || gone(pid))?;
        let state = property(unit.id(), "ActiveState")?;
        ensure!(state == if verb == "stop" { "inactive" } else { "active" }, "after {verb}: {state}");
        run(&places, &["release", "--all", "--yes"])?.expect(0)?;
        ensure!(property(unit.id(), "ActiveState")? == state, "a release starts or stops nothing");
        wait_until("our units are gone", SOON, || Ok(agent_units()?.is_empty()))?;
    }
    Ok(())
}

#[test]
fn a_moved_process_ends_with_a_service_that_fails() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("crash", SHARED, &[])?;
    let pid = moved(&places, &unit)?;
    systemctl(&["kill", "--kill-who=main", "--signal=SIGKILL", unit.id()])?;
    wait_until("the moved process ends, too", SOON, || gone(pid))?;
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    Ok(())
}

#[test]
fn a_process_outlives_a_unit_that_would_not_have_ended_it() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let service = TestUnit::service("lenient", SHARED, &["KillMode=process"])?;
    let session = TestUnit::scope("session", SHARED)?;
    for unit in [service, session] {
        let pid = moved(&places, &unit)?;
        systemctl(&["stop", unit.id()])?;
        ensure!(!gone(pid)?, "{} took its process along", unit.id());
        // Another process of the service survives there, too, and has to go before its cgroup does.
        let rest = Path::new("/sys/fs/cgroup/system.slice").join(unit.id());
        for other in integration_tests::systemd::procs(&rest).unwrap_or_default() {
            run_kill(other)?;
        }
        wait_until("its cgroup is gone", SOON, || Ok(!rest.exists()))?;
        run(&places, &["release", "--all", "--yes"])?.expect(0)?;
        let cgroup = cgroup_of(pid).context("it lives on")?;
        ensure!(cgroup.starts_with("/system.slice/process-throttler-returned-"), "{cgroup}");
        run_kill(pid)?;
        wait_until("our units are gone", SOON, || Ok(agent_units()?.is_empty()))?;
    }
    Ok(())
}

fn run_kill(pid: u32) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
    Ok(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?)
}

#[test]
fn the_last_process_of_a_session_is_not_taken_away() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let session = TestUnit::scope("last", "exec sleep 1001")?;
    let other = TestUnit::scope("last-other", "exec sleep 1001")?;
    let pids = [session.pids("sleep", 1)?[0].to_string(), other.pids("sleep", 1)?[0].to_string()];
    let both = format!("{},{}", pids[0], pids[1]);
    let refused =
        run(&places, &["throttle", "--pid", &both, "--group", "g", "--cpu", "20%", "--allow-move"])?
            .expect(5)?
            .stderr;
    ensure!(refused.contains("without a process, which ends the unit"), "{refused}");
    ensure!(agent_units()?.is_empty(), "{:?}", agent_units()?);
    Ok(())
}

#[test]
fn each_process_can_have_a_slice_to_itself() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("each", SHARED, &[])?;
    unit.pids("sleep", 3)?;
    let before = unit.capture()?;
    let mut pids = unit.pids("sleep", 3)?;
    pids.sort_unstable();
    let list = format!("{},{}", pids[1], pids[2]);
    let arguments =
        ["throttle", "--pid", &list, "--group", "g", "--cpu", "20%", "--allow-move", "--scope", "process"];
    run(&places, &arguments)?.expect(0)?;
    let slices: Vec<String> = pids[1..].iter().filter_map(|pid| cgroup_of(*pid)).collect();
    ensure!(
        slices.len() == 2 && Path::new(&slices[0]).parent() != Path::new(&slices[1]).parent(),
        "{slices:?}"
    );
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    ensure!(unit.capture()? == before, "after: {:#?}\nbefore: {before:#?}", unit.capture()?);
    wait_until("our units are gone", SOON, || Ok(agent_units()?.is_empty()))
}
