//! What a thousand groups take: to tell of them, to release them one by one, and to lift them at once.

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
use crate::bench::stats::Samples;

const GROUPS: usize = 1_000;
const LOOKS: usize = 20;
const LIFTED: Duration = Duration::from_secs(2);
/// What a daemon that stops gives its releases, before it leaves the rest to `ExecStopPost`.
const RELEASED: Duration = Duration::from_secs(4);

/// Runs it.
///
/// # Errors
/// When the groups cannot be made, or are not all lifted.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::Wait.write(&places.bin(), "pt-groups")?;
    let daemon = Daemon::start(&places)?;
    let _processes = limited(&places, &program)?;
    let told = looks(&daemon)?;
    let released = timed(|| daemon.ask(&["release", "--all", "--yes"]).map(drop))?;
    let _again = limited(&places, &program)?;
    let with_daemon = timed(|| daemon.ask(&["emergency", "stop"]).map(drop))?;
    daemon.ask(&["emergency", "resume"])?;
    let _more = limited(&places, &program)?;
    daemon.kill()?;
    let alone = timed(|| command(&places, &["emergency", "stop"])?.expect(0).map(drop))?;
    Ok(vec![
        Row {
            what: "`status` with 1,000 groups of a process each, from the command to its end, after the first",
            promise: "≤ 50 ms",
            measured: format!("p50 {:.0} ms, {:.0} to {:.0} ms", told.median(), told.min(), told.max()),
            kept: told.median() <= 50.0,
        },
        Row {
            what: "`release --all` of them",
            promise: "≤ 4 s",
            measured: format!("{:.0} ms", millis(released)),
            kept: released <= RELEASED,
        },
        Row {
            what: "emergency stop of as many",
            promise: "≤ 2 s",
            measured: format!("{:.0} ms; {:.0} ms without the daemon", millis(with_daemon), millis(alone)),
            kept: with_daemon.max(alone) <= LIFTED,
        },
    ])
}

/// How long `status` takes, in ms. The first look is left out: it waits for something to compare with.
fn looks(daemon: &Daemon<'_>) -> Result<Samples> {
    let mut looks = Vec::new();
    for _ in 0..=LOOKS {
        let watch = Stopwatch::start();
        let status = daemon.ask(&["status"])?;
        looks.push(millis(watch.elapsed()));
        let lines = status.stdout.lines().count();
        ensure!(lines > GROUPS, "status tells of {lines} lines");
    }
    looks.remove(0);
    Samples::new(looks).context("no looks")
}

/// How long it takes until nothing is limited.
fn timed(lift: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let watch = Stopwatch::start();
    lift()?;
    let time = watch.elapsed();
    ensure!(agent_groups()?.is_empty(), "{} groups are left", agent_groups()?.len());
    Ok(time)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
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
