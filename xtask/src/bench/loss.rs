//! An agent that does not run for a second in a storm: whether its counts add up, and how long after it runs again
//! its process table is right.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, Stopwatch, wait_until};
use integration_tests::command::run as command;
use integration_tests::daemon::Daemon;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::storm::Storm;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bench::Setting;
use crate::bench::report::Row;
use crate::bench::stats::Samples;

const STOPPED: Duration = Duration::from_secs(1);

/// Runs it.
///
/// # Errors
/// When the agent never recovers.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
    let wait = Program::Wait.write(&places.bin(), "pt-sleeper")?;
    let daemon = Daemon::start(&places)?;
    let (mut millis, mut lives) = (Vec::new(), 0);
    for _ in 0..setting.rounds {
        let mut doomed = Workload::spawn(&wait)?;
        wait_until("it is known", SOON, || alive(&places, &doomed))?;
        daemon.signal(Signal::SIGSTOP)?;
        let storm = Storm::for_time(&life, STOPPED)?;
        let born = Workload::spawn(&wait)?;
        doomed.kill()?;
        lives += storm.finish()?.lives;
        daemon.signal(Signal::SIGCONT)?;
        let watch = Stopwatch::start();
        wait_until("the table is right", SOON, || Ok(alive(&places, &born)? && !alive(&places, &doomed)?))?;
        millis.push(watch.elapsed().as_secs_f64() * 1_000.0);
    }
    let source = daemon.data(&["daemon", "status"])?["source"].clone();
    daemon.stop()?;
    ensure!(source["exact"] == true, "the source does not count its losses: {source}");
    let number = |field: &str| source[field].as_u64().with_context(|| format!("{field} in {source}"));
    let (produced, sent, dropped) = (number("produced")?, number("sent")?, number("dropped")?);
    let millis = Samples::new(millis).context("at least one round")?;
    Ok(vec![
        Row {
            what: "agent stopped for 1 s in a storm: sent + dropped = produced",
            promise: "exactly",
            measured: format!("{sent} + {dropped} = {produced} over {lives} lives"),
            kept: sent + dropped == produced && produced >= lives,
        },
        Row {
            what: "SIGCONT to a correct process table, two commands that ask for it included",
            promise: "≤ 100 ms",
            measured: format!("{millis:.0} ms"),
            kept: millis.median() <= 100.0,
        },
    ])
}

/// Whether the agent holds the process for alive.
fn alive(places: &Places, process: &Workload) -> Result<bool> {
    let output = command(places, &["explain", &process.pid_text(), "-o", "json"])?;
    let ended = |reply: Value| reply["data"]["ended"].is_null();
    if output.code == 0 { output.json().map(ended) } else { Ok(false) }
}
