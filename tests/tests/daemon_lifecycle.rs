//! Starting, stopping, reloading: one agent per place, answers to signals, and keeps its last good
//! configuration.

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
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
    ensure!(features.iter().any(|feature| feature["name"] == "critical-process-monitoring"), "{status}");
    daemon.stop()
}
