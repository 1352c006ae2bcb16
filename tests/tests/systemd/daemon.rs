//! The daemon on a host that systemd runs: rules, and its sudden death.

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel::comm;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::systemd::{TestUnit, agent_units, cgroup_of, property, require_systemd, systemctl};
use serde_json::{Value, json};

/// A profile with one rule for one comm.
fn profile(places: &Places, comm: &str, extra: &Value, critical: Option<&str>) -> Result<()> {
    let mut rule = json!({ "name": "hog", "match": { "comm": comm }, "limits": { "cpu": "20%", "nice": 4 } });
    for (key, value) in extra.as_object().context("an object")? {
        rule[key] = value.clone();
    }
    let critical: Vec<Value> =
        critical.iter().map(|exe| json!({ "name": "precious", "match": { "exe": exe } })).collect();
    let text = json!({ "name": "p", "critical_processes": critical, "throttling_rules": [rule] });
    places.write_profile("p", text.to_string().as_bytes()).map(drop)
}

/// A service of two programs of ours, `pt-hog` and `pt-precious`.
fn service(places: &Places, name: &str) -> Result<(TestUnit, u32, String)> {
    let hog = Program::Wait.write(&places.bin(), "pt-hog")?;
    let precious = Program::Wait.write(&places.bin(), "pt-precious")?;
    let script = format!("{} & exec {}", hog.display(), precious.display());
    let unit = TestUnit::service(name, &script, &[])?;
    let pid = unit.pids("pt-hog", 1)?[0];
    unit.pids("pt-precious", 1)?;
    Ok((unit, pid, precious.display().to_string()))
}

#[test]
fn a_rule_limits_a_whole_unit_and_spares_it_for_a_critical_process() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let (unit, _, precious) = service(&places, "ruled")?;
    let before = unit.capture()?;
    let daemon = Daemon::start(&places)?;
    profile(&places, "pt-hog", &json!({ "whole_unit": true }), None)?;
    let plan = daemon.data(&["profile", "plan", "p"])?;
    ensure!(plan.to_string().contains("on unit pt-test-ruled.service"), "{plan}");
    daemon.ask(&["profile", "activate", "p"])?;
    wait_until("the quota is in force", SOON, || Ok(unit.capture()?["cpu.max"] == "20000 100000\n"))?;
    let group = daemon.group("hog")?.context("the group is shown")?;
    let how = group["how"].as_str().unwrap_or_default();
    ensure!(how.contains("on unit pt-test-ruled.service") && how.contains("pt-precious"), "{group}");

    profile(&places, "pt-hog", &json!({ "whole_unit": true }), Some(&precious))?;
    daemon.ask(&["profile", "deactivate"])?;
    ensure!(unit.capture()? == before, "after: {:#?}\nbefore: {before:#?}", unit.capture()?);
    daemon.ask(&["profile", "activate", "p"])?;
    let refused = daemon.wait_event("throttle_failed", |_| true)?;
    ensure!(refused.to_string().contains("a critical process"), "{refused}");
    ensure!(unit.capture()? == before, "a unit with a critical process was limited");
    daemon.stop()
}

#[test]
fn a_sudden_death_leaves_nothing_after_the_next_start_or_a_release() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    for (extra, again) in
        [("whole_unit", false), ("allow_move", false), ("whole_unit", true), ("allow_move", true)]
    {
        let (unit, pid, _) = service(&places, "orphan")?;
        let (before, home) = (unit.capture()?, cgroup_of(pid));
        let daemon = Daemon::start(&places)?;
        profile(&places, "pt-hog", &json!({ extra: true }), None)?;
        daemon.ask(&["profile", "activate", "p"])?;
        wait_until("the limit is in force", SOON, || {
            Ok(unit.capture()?["cpu.max"] == "20000 100000\n" || cgroup_of(pid) != home)
        })?;
        daemon.kill()?;
        if again {
            let daemon = Daemon::start(&places)?;
            daemon.ask(&["profile", "deactivate"])?;
            daemon.stop()?;
        } else {
            run(&places, &["release", "--all", "--yes"])?.expect(0)?;
        }
        ensure!(unit.capture()? == before, "after: {:#?}\nbefore: {before:#?}", unit.capture()?);
        ensure!(cgroup_of(pid) == home, "{:?}", cgroup_of(pid));
        ensure!(integration_tests::kernel::stat(pid)?.nice == 0, "nice is not restored");
        wait_until("our units are gone", SOON, || Ok(agent_units()?.is_empty()))?;
    }
    Ok(())
}

#[test]
fn what_a_rule_may_not_do_is_told() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let (unit, pid, _) = service(&places, "refused")?;
    let before = unit.capture()?;
    let daemon = Daemon::start(&places)?;
    profile(&places, "pt-hog", &json!({}), None)?;
    daemon.ask(&["profile", "activate", "p"])?;
    let failed = daemon.wait_event("throttle_failed", |_| true)?;
    let expected = "shares pt-test-refused.service with 1 other (";
    ensure!(failed.to_string().contains(expected), "{failed}");
    ensure!(failed.to_string().contains("set whole_unit or allow_move"), "{failed}");
    let explained = daemon.ask(&["explain", &pid.to_string()])?.stdout;
    ensure!(explained.contains(expected), "{explained}");
    ensure!(unit.capture()? == before);
    daemon.stop()
}

/// The main process of a service is followed by another in the same unit.
#[test]
fn each_main_process_of_a_service_is_limited() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let hog = Program::Wait.write(&places.bin(), "pt-again")?;
    let script = format!("exec {}", hog.display());
    let unit = TestUnit::service("again", &script, &["Restart=always", "RestartSec=0"])?;
    let mut pid = unit.pids("pt-again", 1)?[0];
    let capture = || -> Result<_> {
        let mut all = unit.capture()?;
        // Another one each time.
        all.remove("MainPID");
        Ok(all)
    };
    let before = capture()?;
    let daemon = Daemon::start(&places)?;
    profile(&places, "pt-again", &json!({ "scope": "process", "whole_unit": true }), None)?;
    daemon.ask(&["profile", "activate", "p"])?;
    for life in 0..3 {
        wait_until("the process is known as limited", SOON, || {
            Ok(!daemon.data(&["explain", &pid.to_string()])?["group"].is_null())
        })
        .with_context(|| format!("life {life}: {}", daemon.printed()))?;
        ensure!(capture()?["cpu.max"] == "20000 100000\n", "{:?}", capture()?);
        let last = std::mem::replace(&mut pid, 0);
        systemctl(&["kill", "--signal=KILL", unit.id()])?;
        wait_until("the next one runs", SOON, || {
            pid = property(unit.id(), "MainPID")?.parse()?;
            Ok(pid != 0 && pid != last && comm(pid).is_ok_and(|comm| comm == "pt-again"))
        })?;
    }
    daemon.stop()?;
    ensure!(capture()? == before, "after: {:#?}\nbefore: {before:#?}", capture()?);
    Ok(())
}
