//! What the kernel cannot hand over is counted to the last record, and the process table is right again at
//! once when the agent gets to run.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, Stopwatch, patience, pause, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::storm::Storm;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const STOPPED: Duration = Duration::from_secs(1);
/// By the contract, from SIGCONT to a correct table.
const CONVERGES: Duration = Duration::from_millis(100);
/// Starting a command and connecting to the socket, on a busy machine; the benchmark measures without it.
const ASKING: Duration = Duration::from_millis(400);

fn number(source: &Value, field: &str) -> Result<u64> {
    source[field].as_u64().with_context(|| format!("{field} in {source}"))
}

#[test]
fn an_agent_stopped_in_a_storm_loses_no_count_and_recovers() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
    let wait = Program::Wait.write(&places.bin(), "pt-sleeper")?;
    let mut doomed = Workload::spawn(&wait)?;
    let daemon = Daemon::start(&places)?;
    // A rule that matches every life: records go to the priority ring as well.
    daemon.activate(&ProfileText::new("storm").rule("lives", "pt-life", &json!({ "nice": 1 })))?;

    daemon.signal(Signal::SIGSTOP)?;
    let storm = Storm::for_time(&life, patience(STOPPED))?;
    let born = Workload::spawn(&wait)?;
    doomed.kill()?;
    let account = storm.finish()?;
    ensure!(account.lives > 100, "that was no storm: {account:?}");
    daemon.signal(Signal::SIGCONT)?;
    let watch = Stopwatch::start();

    let known = |pid: &str| -> Result<Option<Value>> {
        let output = integration_tests::command::run(&places, &["explain", pid, "-o", "json"])?;
        if output.code == 0 { Ok(Some(output.json()?["data"].clone())) } else { Ok(None) }
    };
    let alive = |pid: &str| -> Result<bool> { Ok(known(pid)?.is_some_and(|found| found["ended"].is_null())) };
    wait_until("the table is right", SOON, || Ok(alive(&born.pid_text())? && !alive(&doomed.pid_text())?))?;
    let took = watch.elapsed();
    ensure!(took < patience(CONVERGES + ASKING), "the table was wrong for {took:?}");

    let source = daemon.data(&["daemon", "status"])?["source"].clone();
    ensure!(source["exact"] == true, "{source}");
    let (produced, sent, dropped) =
        (number(&source, "produced")?, number(&source, "sent")?, number(&source, "dropped")?);
    ensure!(produced == sent + dropped, "{produced} produced, {sent} sent, {dropped} dropped");
    ensure!(produced >= account.lives, "{} lives, but {produced} records", account.lives);
    ensure!(number(&source, "malformed")? == 0, "{source}");
    if dropped > 0 {
        daemon.wait_event("events_lost", |event| event["dropped"].as_u64().is_some_and(|lost| lost > 0))?;
    }
    daemon.stop()
}

#[test]
fn the_table_has_as_many_processes_as_the_kernel() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
    let daemon = Daemon::start(&places)?;

    let account = Storm::for_time(&life, patience(STOPPED))?.finish()?;

    ensure!(account.lives > 100, "that was no storm: {account:?}");
    // Other processes of the host come and go, so the two counts are compared until they meet.
    wait_until("the counts meet", SOON, || {
        let status = daemon.data(&["daemon", "status"])?;
        let known = status["processes"].as_u64().context("processes")?;
        let alive = kernel::processes()?.len() as u64;
        pause(Duration::from_millis(20));
        Ok(known.abs_diff(alive) <= 2)
    })?;
    daemon.stop()
}
