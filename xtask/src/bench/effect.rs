//! What the executor takes for a limit in place and for a batch of moves, without the way from the kernel to it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{Stopwatch, pause};
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::Value;

use crate::bench::Setting;
use crate::bench::report::Row;
use crate::bench::stats::Samples;
use crate::cargo::output_of;

const MOVED: usize = 100;
/// Limits in place in a round.
const WRITTEN: &str = "1000";
/// After this long no move of before makes the next one quicker.
const SETTLED: Duration = Duration::from_millis(200);

/// Runs it.
///
/// # Errors
/// When a process cannot be started or is not limited.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    let (mut moves, mut slowest, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let places = Places::for_agent(setting.agent.clone())?;
        let program = Program::Wait.write(&places.bin(), "pt-effect")?;
        let cgroup = TestCgroup::new(&format!("effect-{round}"))?;
        // The first quota of a host switches code in the kernel on, and the last one off: another one is there.
        let other = TestCgroup::new(&format!("effect-other-{round}"))?;
        let file = other.quota_file()?;
        std::fs::write(&file, "50000").with_context(|| format!("write {}", file.display()))?;
        let alone = Workload::spawn_in(&program, &cgroup)?;
        let many = (0..MOVED).map(|_| Workload::spawn(&program)).collect::<Result<Vec<_>>>()?;
        bare.push(bare_moves(&program, &format!("effect-bare-{round}"))?);
        let state = places.state().display().to_string();
        std::fs::create_dir_all(places.state()).with_context(|| format!("create {state}"))?;
        let mut arguments: Vec<String> =
            ["run", "--quiet", "--release", "--package", "process-throttler", "--example", "effect", "--"]
                .map(str::to_owned)
                .to_vec();
        arguments.extend([state, WRITTEN.to_owned(), alone.pid_text()]);
        arguments.extend(many.iter().map(Workload::pid_text));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let text = output_of("cargo", &arguments)?;
        let measured: Value =
            serde_json::from_str(&text).with_context(|| format!("effect printed {text:?}"))?;
        let samples = |list: &str| {
            let list = measured[list].as_array().with_context(|| list.to_owned())?;
            Samples::new(list.iter().filter_map(Value::as_f64).collect()).context("times")
        };
        let times = samples("in_place_us")?;
        p50.push(times.median());
        p99.push(times.percentile(99));
        let batches = samples("moved_us")?;
        moves.push(batches.median() / 1e3);
        slowest.push(batches.max() / 1e3);
    }
    let (p50, p99) = (Samples::new(p50).context("a round")?, Samples::new(p99).context("a round")?);
    let (moves, bare) = (Samples::new(moves).context("a round")?, Samples::new(bare).context("a round")?);
    let slowest = Samples::new(slowest).context("a round")?;
    Ok(vec![
        Row {
            what: "limit written in place, from the decision to the value read back, p50",
            promise: "≤ 50 µs",
            measured: format!("{p50:.0} µs, p99 {p99:.0} µs"),
            kept: p50.median() <= 50.0,
        },
        Row {
            what: "100 processes moved into a group in one batch, p50",
            promise: "≤ 10 ms",
            measured: format!(
                "{moves:.1} ms, the slowest of ten {slowest:.1}; {bare:.1} ms of it is the kernel's, if somebody just writes their pids"
            ),
            kept: moves.median() <= 10.0,
        },
    ])
}

/// How long the kernel takes to move as many processes into a cgroup and do nothing else, ms. The first move of a while
/// waits for a grace period of RCU (`cgroup_threadgroup_rwsem`).
fn bare_moves(program: &Path, name: &str) -> Result<f64> {
    let cgroup = TestCgroup::new(name)?;
    let file = cgroup.quota_file()?.with_file_name("cgroup.procs");
    let processes = (0..MOVED).map(|_| Workload::spawn(program)).collect::<Result<Vec<_>>>()?;
    pause(SETTLED);
    let watch = Stopwatch::start();
    for process in &processes {
        std::fs::write(&file, process.pid_text()).with_context(|| format!("write {}", file.display()))?;
    }
    let took = watch.elapsed().as_secs_f64() * 1e3;
    drop(processes);
    // The next first move is to wait as this one did.
    pause(SETTLED);
    Ok(took)
}
