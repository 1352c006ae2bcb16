//! Critical processes where systemd runs the host: units restarted by it, programs run by it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_for, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::installed::Installed;
use integration_tests::places::Places;
use integration_tests::systemd::{TestUnit, agent_units, property, require_systemd, systemctl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const RESTART: &str = "critical_process_restart";

fn main_pid(unit: &TestUnit) -> Result<i32> {
    property(unit.id(), "MainPID")?.parse().context("a pid")
}

/// A profile with the processes of a unit as the critical one.
fn profile(unit: &TestUnit, more: &Value) -> Value {
    let mut critical = json!({ "name": "vital", "match": { "cgroup": format!("**/{}", unit.id()) } });
    if let (Some(critical), Some(more)) = (critical.as_object_mut(), more.as_object()) {
        critical.extend(more.clone());
    }
    json!({ "name": "vital", "critical_processes": [critical] })
}

fn activate(daemon: &Daemon<'_>, profile: &Value) -> Result<()> {
    daemon.places().write_profile("vital", profile.to_string().as_bytes())?;
    daemon.ask(&["profile", "activate", "vital"]).map(drop)
}

fn wait_state(daemon: &Daemon<'_>, state: &str) -> Result<()> {
    let shown = || daemon.data(&["critical", "show", "vital"]);
    wait_until(&format!("it is {state}"), SOON, || Ok(shown()?["state"] == state))
        .with_context(|| format!("{:?}\n{}", shown(), daemon.printed()))
}

#[test]
fn a_unit_is_restarted_when_it_is_killed_and_not_when_it_is_stopped() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("vital", "exec sleep 1000", &[])?;
    let daemon = Daemon::start(&places)?;
    let restart = json!({ "restart_policy": "always", "restart": { "unit": unit.id(), "backoff": "500ms" } });
    activate(&daemon, &profile(&unit, &restart))?;
    wait_state(&daemon, "up")?;
    let before = main_pid(&unit)?;

    kill(Pid::from_raw(before), Signal::SIGKILL).context("kill it")?;

    daemon.wait_event(RESTART, |event| event["result"] == "restarted")?;
    ensure!(main_pid(&unit)? != before && property(unit.id(), "ActiveState")? == "active", "not restarted");
    wait_state(&daemon, "up")?;

    systemctl(&["stop", unit.id()])?;
    let declined = daemon.wait_event(RESTART, |event| event["result"] == "declined")?;
    ensure!(declined["detail"].as_str().is_some_and(|text| text.contains("on purpose")), "{declined}");
    ensure!(property(unit.id(), "ActiveState")? == "inactive", "somebody was fought");

    daemon.ask(&["critical", "restart", "vital", "--yes"])?;
    wait_state(&daemon, "up")?;
    daemon.stop()
}

#[test]
fn what_is_reserved_goes_on_the_unit_and_comes_off_it_exactly() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("reserved", "exec sleep 1000", &[])?;
    unit.pids("sleep", 1)?;
    let before = unit.capture()?;
    let daemon = Daemon::start(&places)?;
    activate(&daemon, &profile(&unit, &json!({ "cpu_weight": 400, "reserve": { "memory": "16M" } })))?;
    let low = || Ok(fs::read_to_string(unit.cgroup()?.join("memory.low"))? == "16777216\n");
    wait_until("it has its memory", SOON, low)
        .with_context(|| format!("{:?}", daemon.data(&["critical", "show", "vital"])))?;
    ensure!(unit.capture()?["cpu.weight"] == "400\n", "{:?}", unit.capture()?);
    ensure!(property(unit.id(), "MemoryLow")? == "16777216", "systemd does not know");
    daemon.stop()?;
    ensure!(unit.capture()? == before, "after: {:#?}\nbefore: {before:#?}", unit.capture()?);
    ensure!(property(unit.id(), "MemoryLow")? == "0", "MemoryLow stays");
    Ok(())
}

#[test]
fn a_unit_that_systemd_restarts_is_left_to_it() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("phoenix", "exec sleep 1000", &["Restart=always", "RestartSec=3"])?;
    let daemon = Daemon::start(&places)?;
    let restart = json!({ "restart_policy": "always", "restart": { "unit": unit.id(), "backoff": "200ms" } });
    activate(&daemon, &profile(&unit, &restart))?;
    wait_state(&daemon, "up")?;
    let before = main_pid(&unit)?;

    kill(Pid::from_raw(before), Signal::SIGKILL).context("kill it")?;
    wait_until("systemd restarts it", SOON, || Ok(![0, before].contains(&main_pid(&unit)?)))?;
    wait_state(&daemon, "up")?;

    ensure!(property(unit.id(), "NRestarts")? == "1", "not by systemd alone");
    ensure!(daemon.events(RESTART)?.is_empty(), "{:?}", daemon.events(RESTART)?);
    daemon.stop()
}

#[test]
fn a_command_becomes_a_service_that_outlives_the_agent() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("origin", "exec sleep 1000", &[])?;
    let name = "process-throttler-restart:vital.service";
    let daemon = Daemon::start(&places)?;
    let mut profile = profile(
        &unit,
        &json!({ "restart": { "command": ["/bin/sleep", "2000"], "user": "nobody", "backoff": "200ms" } }),
    );
    profile["critical_processes"][0]["match"] =
        json!({ "cgroup": format!("**/{{{},process-throttler-restart*}}", unit.id()) });
    activate(&daemon, &profile)?;
    wait_state(&daemon, "up")?;

    kill(Pid::from_raw(main_pid(&unit)?), Signal::SIGKILL).context("kill it")?;

    daemon.wait_event(RESTART, |event| event["result"] == "restarted")?;
    let pid = property(name, "MainPID")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(status.lines().any(|line| line.starts_with("Uid:") && line.contains("65534")), "{status}");
    daemon.stop()?;
    ensure!(property(name, "MainPID")? == pid, "it ended with the agent");
    systemctl(&["stop", name]).map(drop)
}

#[test]
fn a_check_by_the_installed_agent_is_not_confined_and_leaves_nothing() -> Result<()> {
    let (_turn, installed) = (Turn::take()?, Installed::new()?);
    let unit = TestUnit::service("checked", "exec sleep 1000", &[])?;
    let dir = tempfile::tempdir_in("/tmp")?;
    std::os::unix::fs::chown(dir.path(), Some(65_534), None)?;
    let seen = dir.path().join("seen");
    // /tmp is the agent's own for the agent; a check sees the host's.
    let script = format!(
        "test $$ -gt 0 && id -un > {0}; (trap \"\" TERM; exec sleep 3000) & echo $! >> {0}; echo told; trap \"\" TERM; sleep 3000",
        seen.display()
    );
    let check = json!({ "type": "command", "command": ["/bin/sh", "-c", script], "user": "nobody",
        "interval": "2s", "timeout": "1s", "retries": 1 });
    installed.start()?;
    installed.write_profile("vital", &profile(&unit, &json!({ "health_check": check })).to_string())?;
    installed.run(&["profile", "activate", "vital"])?.expect(0)?;

    let failed = wait_for("a failure", SOON, || {
        let events = installed.data(&["events", "--kind", "health_check_failed"])?;
        Ok(events.get(0).cloned())
    })
    .with_context(|| installed.log())?;
    let error = failed["error"].as_str().context("an error")?;
    ensure!(error.contains("longer than 1s") && error.contains("told"), "{error}");
    installed.run(&["profile", "deactivate"])?.expect(0)?;
    let text = fs::read_to_string(&seen)?;
    let mut lines = text.lines();
    ensure!(lines.next() == Some("nobody"), "{text}");
    for pid in lines {
        wait_until("its child is gone", SOON, || Ok(!fs::exists(format!("/proc/{pid}"))?))?;
    }
    let checks = || Ok(!agent_units()?.iter().any(|unit| unit.contains("check:")));
    wait_until("its service is gone", SOON, checks)?;
    ensure!(
        fs::read_dir("/run/process-throttler")?
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().starts_with("check:") }),
        "a FIFO is left"
    );
    Ok(())
}
