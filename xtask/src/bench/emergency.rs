//! How long it takes to lift a thousand groups at once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::agent_groups;
use integration_tests::clock::Stopwatch;
use integration_tests::command::run as command;
use integration_tests::daemon::Daemon;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;

use crate::bench::Setting;
use crate::bench::report::Row;

const GROUPS: usize = 1_000;
const PROMISED: Duration = Duration::from_secs(2);

/// Runs it.
///
/// # Errors
/// When the groups cannot be made, or are not all lifted.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::Wait.write(&places.bin(), "pt-emergency")?;
    let daemon = Daemon::start(&places)?;
    let _processes = limited(&places, &program)?;
    let watch = Stopwatch::start();
    daemon.ask(&["emergency", "stop"])?;
    let with_daemon = watch.elapsed();
    ensure!(agent_groups()?.is_empty(), "{} groups are left", agent_groups()?.len());
    daemon.ask(&["emergency", "resume"])?;
    let _more = limited(&places, &program)?;
    daemon.kill()?;
    let watch = Stopwatch::start();
    command(&places, &["emergency", "stop"])?.expect(0)?;
    let alone = watch.elapsed();
    ensure!(agent_groups()?.is_empty(), "{} groups are left", agent_groups()?.len());
    Ok(vec![Row {
        what: "emergency stop with 1,000 groups of a process each, from the command to its end",
        promise: "≤ 2 s",
        measured: format!(
            "{:.0} ms; {:.0} ms without the daemon",
            with_daemon.as_secs_f64() * 1e3,
            alone.as_secs_f64() * 1e3
        ),
        kept: with_daemon.max(alone) <= PROMISED,
    }])
}

fn limited(places: &Places, program: &std::path::Path) -> Result<Vec<Workload>> {
    let processes = (0..GROUPS).map(|_| Workload::spawn(program)).collect::<Result<Vec<_>>>()?;
    let pids: Vec<String> = processes.iter().map(Workload::pid_text).collect();
    let limit = ["--cpu", "90%", "--scope", "process", "--group", "many"];
    command(places, &[&["throttle", "--pid", &pids.join(",")], &limit[..]].concat())?
        .expect(0)
        .context("limit a thousand processes")?;
    Ok(processes)
}
