//! From the exec of a process that a rule matches to its limit in force, in place: each process starts in a
//! cgroup of its own. The agent measures from the kernel's time of the exec to the value read back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::follow::Follower;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::json;

use crate::bench::Setting;
use crate::bench::report::Row;
use crate::bench::stats::Samples;

/// Samples of a round.
const SAMPLES: u32 = 50;
/// Matched execs in all, and how many live at a time.
const EXECS: usize = 10_000;
const BATCH: usize = 500;
/// How long the agent may take for a batch.
const BATCH_WITHIN: Duration = Duration::from_secs(20);

/// Latency of one matched exec at a time.
///
/// # Errors
/// When a process is not limited at all, or not in place.
pub(crate) fn in_place(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::Wait.write(&places.bin(), "pt-matched")?;
    let matches = json!({ "comm": "pt-matched" });
    let profile =
        ProfileText::new("latency").rule_matching("matched", &matches, &json!({ "cpu": "50%" }), "process");
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile)?;
    let events = Follower::start(&daemon, "throttle_applied")?;
    let mut micros = Vec::new();
    for sample in 0..SAMPLES * setting.rounds {
        let cgroup = TestCgroup::new(&format!("latency-{sample}"))?;
        let process = Workload::spawn_in(&program, &cgroup)?;
        let event = events.next(SOON, |event| event["processes"][0][0]["pid"] == process.pid())?;
        ensure!(event["how"] == "in place", "{event}");
        ensure!(cgroup.cpu_quota()? == Some(50.0), "the limit is not in force");
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of milliseconds")]
        micros.push(event["latency_ns"].as_u64().context("a latency")? as f64 / 1_000.0);
        drop(process);
    }
    daemon.stop()?;
    let micros = Samples::new(micros).context("at least one sample")?;
    Ok(vec![Row {
        what: "matched exec to limit in force, in place, p50",
        promise: "≤ 200 µs",
        measured: format!("{micros:.0} µs, p99 {:.0} µs", micros.percentile(99)),
        kept: micros.median() <= 200.0,
    }])
}

/// Whether each of many matched execs is found and limited.
///
/// # Errors
/// When a process cannot be started.
pub(crate) fn missed(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::Wait.write(&places.bin(), "pt-matched")?;
    let cgroup = TestCgroup::new("missed")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("missed").rule("matched", "pt-matched", &json!({ "cpu": "50%" })))?;
    let mut missed = 0;
    for _ in 0..EXECS / BATCH {
        let spawn = |_| Workload::spawn_in(&program, &cgroup);
        let batch = (0..BATCH).map(spawn).collect::<Result<Vec<_>>>()?;
        let mut absent = BATCH;
        let found = wait_until("every process of the batch is in the group", BATCH_WITHIN, || {
            let group = daemon.group("matched")?.context("the group exists")?;
            let members = group["members"].as_array().context("members")?;
            let is_member = |pid: u32| members.iter().any(|member| member["key"]["pid"] == pid);
            absent = batch.iter().filter(|process| !is_member(process.pid())).count();
            Ok(absent == 0)
        });
        if found.is_err() {
            missed += absent;
        }
    }
    daemon.stop()?;
    Ok(vec![Row {
        what: "missed of 10,000 matched execs",
        promise: "0",
        measured: missed.to_string(),
        kept: missed == 0,
    }])
}
