//! Starting, stopping, reloading: one agent per place, answers to signals, and keeps its last good
//! configuration.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::{run, run_in_mount_namespace};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;

#[test]
fn a_detached_daemon_starts_reports_restarts_and_stops() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let pid = || -> Result<u64> {
        run(&places, &["daemon", "status", "-o", "json"])?.expect(0)?.json()?["data"]["pid"]
            .as_u64()
            .context("pid")
    };

    run(&places, &["daemon", "start"])?.expect(0)?;
    let first = pid()?;
    run(&places, &["daemon", "restart"])?.expect(0)?;
    let second = pid()?;
    run(&places, &["daemon", "stop"])?.expect(0)?;

    ensure!(first != second, "restart kept process {first}");
    run(&places, &["daemon", "status"])?.expect(3)?;
    for pid in [first, second] {
        // Whoever adopted it reaps it when it likes.
        let ended = kernel::stat(u32::try_from(pid)?).map_or(true, |stat| stat.state == 'Z');
        ensure!(ended, "agent {pid} is still there");
    }
    Ok(())
}

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;

    let second = run(&places, &["daemon", "run"])?;

    ensure!(second.code == 7, "{second:?}");
    ensure!(
        second.stderr.contains(&daemon.pid().to_string()),
        "the first one is not named: {}",
        second.stderr
    );
    daemon.ask(&["daemon", "status"])?;
    daemon.stop()
}

#[test]
fn a_bad_configuration_is_refused_on_reload_and_the_last_good_one_kept() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    places.write_config("# good\n")?;
    let daemon = Daemon::start(&places)?;

    places.write_config("no_such_key: 1\n")?;
    let refused = run(&places, &["daemon", "reload"])?;
    daemon.signal(Signal::SIGHUP)?;

    ensure!(refused.code == 6, "{refused:?}");
    ensure!(refused.stderr.contains("config.yaml:1:1"), "no place is named: {}", refused.stderr);
    wait_until("the status tells it", SOON, || {
        let status = daemon.data(&["daemon", "status"])?;
        Ok(status["config_error"].as_str().is_some_and(|error| error.contains("no_such_key")))
    })?;
    places.write_config("# good again\n")?;
    daemon.ask(&["daemon", "reload"])?;
    ensure!(daemon.data(&["daemon", "status"])?["config_error"].is_null(), "the error outlives its cause");
    daemon.stop()
}

#[test]
fn sigint_stops_it_in_order_too() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    daemon.signal(Signal::SIGINT)?;
    daemon.stopped()
}

#[test]
fn status_names_the_source_and_every_feature() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let status = daemon.data(&["daemon", "status"])?;
    ensure!(status["state"] == "running" && status["pid"] == daemon.pid(), "{status}");
    let features = status["features"].as_array().context("features")?;
    for (name, state) in [
        ("continuous-monitoring", ["working", "degraded"]),
        ("manual-throttling", ["working", "working"]),
        ("critical-process-monitoring", ["disabled", "disabled"]),
        ("health-checks", ["disabled", "disabled"]),
        ("auto-restart", ["disabled", "disabled"]),
        ("protection", ["disabled", "disabled"]),
        ("alerts", ["working", "working"]),
        ("webhooks", ["disabled", "disabled"]),
    ] {
        let found = features.iter().find(|feature| feature["name"] == name);
        let found = found.with_context(|| format!("no feature {name} in {status}"))?;
        let told = state.iter().any(|state| found["state"] == *state);
        let why = found["state"] == "working" || found["why"].as_str().is_some_and(|why| !why.is_empty());
        ensure!(told && why && found["requires_daemon"].is_boolean(), "{found}");
    }
    // What runs now is what is told: a profile with a check, a restart and a protection.
    places.write_profile(
        "web",
        b"name: web\ncritical_processes:\n  - name: absent\n    match: { exe: /usr/sbin/absent-of-pt-test }\n    \
          protection_level: low\n    restart_policy: on-failure\n    restart: { unit: absent-of-pt-test.service }\n    \
          health_check: { type: file, target: /proc/self/stat, interval: 30s, timeout: 5s, retries: 3 }\n",
    )?;
    daemon.ask(&["profile", "activate", "web"])?;
    let status = daemon.data(&["daemon", "status"])?;
    let features = status["features"].as_array().context("features")?;
    for name in ["health-checks", "auto-restart", "protection", "critical-process-monitoring"] {
        let working =
            features.iter().any(|feature| feature["name"] == name && feature["state"] != "disabled");
        ensure!(working, "{name} is still disabled: {status}");
    }
    daemon.stop()
}

#[test]
fn a_pid_file_that_names_another_process_harms_nobody() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let foreign = Workload::spawn_with(Path::new("sleep"), &["120"])?;
    let file = places.runtime().join("daemon.pid");
    // A living process that is no agent, one that does not exist, and no pid at all.
    for text in [foreign.pid_text(), "4194304".to_owned(), "-1".to_owned(), "no pid\n".to_owned()] {
        std::fs::write(&file, &text).context("write a PID file")?;
        run(&places, &["daemon", "status"])?.expect(3)?;
        run(&places, &["daemon", "stop"])?.expect(0)?;
        run(&places, &["daemon", "reload"])?.expect(3)?;
        let alive = kernel::stat(foreign.pid()).is_ok_and(|stat| stat.state != 'Z');
        ensure!(alive, "a process that is no agent was ended because of {text:?}");
    }
    let daemon = Daemon::start(&places)?;
    ensure!(std::fs::read_to_string(&file)?.trim() == daemon.pid().to_string(), "the file names another");
    daemon.stop()
}

#[test]
fn missing_directories_are_made_and_those_that_may_not_be_written_are_named() -> Result<()> {
    const SCRIPT: &str = r#"
        dir=$1; shift
        mount -t tmpfs -o ro pt-test-ro "$dir"
        code=0; "$@" daemon run || code=$?
        echo "code=$code"
    "#;
    let _turn = Turn::take()?;
    let places = Places::new()?;
    for dir in [places.config(), places.state(), places.runtime(), places.log()] {
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Daemon::start(&places)?.stop()?;
    for dir in [places.state(), places.runtime()] {
        let text = dir.to_str().context("UTF-8")?;
        let output = run_in_mount_namespace(&places, SCRIPT, &[text])?.expect(0)?;
        ensure!(output.stdout.contains("code=1"), "it ran without {text}: {output:?}");
        let named = output.stderr.contains(text) && output.stderr.to_lowercase().contains("read-only");
        ensure!(named, "the reason is not told: {output:?}");
    }
    Ok(())
}
