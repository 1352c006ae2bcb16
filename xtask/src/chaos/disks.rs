//! The agent's files: no room for more, and not all there after a crash.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, Stopwatch, pause, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::Daemon;
use integration_tests::disk::{fill, start_on_small_disk};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::json;

use crate::chaos::dice::Dice;
use crate::chaos::stage::{Setting, Stage};

/// The state directory is full for a while.
pub(crate) fn full(setting: &Setting, dice: &mut Dice) -> Result<Duration> {
    const LATE: &str = "pt-late";
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage =
        Stage::set(&places, "full", "")?.with(|profile| profile.rule(LATE, LATE, &json!({ "nice": 8 })));
    let late = Program::Wait.write(&places.bin(), LATE)?;
    let daemon = stage.begin(start_on_small_disk(&places)?)?;
    let ballast = fill(&daemon)?;
    let victim = stage.kill_one()?;
    let late = Workload::spawn(&late)?;
    wait_until("it says that its disk refuses", SOON, || {
        let features = daemon.data(&["daemon", "status"])?["features"].clone();
        let features = features.as_array().context("features")?;
        Ok(features.iter().any(|one| one["why"].as_str().is_some_and(|why| why.contains("the disk refuses"))))
    })?;
    pause(dice.time(Duration::from_millis(200)));
    ensure!(stage.receiver.requests().is_empty(), "something was told that is not on record");
    fs::remove_file(&ballast).context("make room")?;
    let watch = Stopwatch::start();
    stage.alerted(&victim)?;
    stage.right(&daemon)?;
    let recovery = watch.elapsed();
    // Limited, or said that it is not: what is said is what is.
    wait_until("the one that came late is what the agent says", SOON, || {
        let said = daemon.data(&["explain", &late.pid_text()])?;
        let nice = kernel::stat(late.pid())?.nice;
        ensure!(said["group"].is_null() == (nice == 0), "nice {nice}: {said}");
        Ok(true)
    })?;
    drop(late);
    stage.end(daemon)?;
    Ok(recovery)
}

/// Both databases are cut to half; what was not yet moved into them is in their logs.
pub(crate) fn torn(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage = Stage::set(&places, "torn", "")?;
    // At the stop everything moves into the databases.
    stage.start()?.stop()?;
    let daemon = stage.start()?;
    let victim = stage.kill_one()?;
    stage.alerted(&victim)?;
    daemon.kill()?;
    for name in ["state.db", "journal.db"] {
        cut(&places.state().join(name), |length| length / 2)?;
    }
    let watch = Stopwatch::start();
    let daemon = Daemon::start(&places)?;
    // Which profile was in force was in the journal.
    let daemon = if daemon.group("pt-chaos-a")?.is_some() {
        stage.right(&daemon)?;
        daemon
    } else {
        stage.restored().context("neither in force nor lifted")?;
        stage.begin(daemon)?
    };
    let recovery = watch.elapsed();
    stage.forget();
    stage.end(daemon)?;
    Ok(recovery)
}

/// The last record of the audit log is written only in part.
pub(crate) fn torn_audit(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let stage = Stage::set(&places, "audit", "")?;
    stage.start()?.kill()?;
    let log = audit_log(&places)?;
    cut(&log, |length| length - 20)?;
    let watch = Stopwatch::start();
    let daemon = Daemon::start(&places)?;
    stage.right(&daemon)?;
    let recovery = watch.elapsed();
    run(&places, &["audit", "verify"])?.expect(0)?;
    stage.end(daemon)?;
    Ok(recovery)
}

fn audit_log(places: &Places) -> Result<PathBuf> {
    let entries = fs::read_dir(places.log()).context("list the logs")?;
    let found = entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("audit"))
            && path.extension().is_some_and(|kind| kind == "jsonl")
    });
    found.context("an audit log")
}

fn cut(path: &Path, to: impl FnOnce(u64) -> u64) -> Result<()> {
    let context = || format!("cut {}", path.display());
    let file = OpenOptions::new().write(true).open(path).with_context(context)?;
    let length = file.metadata().with_context(context)?.len();
    file.set_len(to(length)).with_context(context)
}
