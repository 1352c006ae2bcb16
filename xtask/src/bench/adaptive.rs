//! What it costs to control many groups: each of 200 processes has a group of its own, measured every second.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{Stopwatch, pause, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::json;

use crate::bench::Setting;
use crate::bench::report::Row;

const GROUPS: usize = 200;
/// Time for the first application of all limits.
const BEGUN: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);

/// Runs it.
///
/// # Errors
/// When the agent fails.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::Wait.write(&places.bin(), "pt-many")?;
    let _processes = (0..GROUPS).map(|_| Workload::spawn(&program)).collect::<Result<Vec<_>>>()?;
    let daemon = Daemon::start(&places)?;
    let profile = json!({ "name": "many", "version": "1.0", "throttling_rules": [{
        "name": "many",
        "match": { "comm": "pt-many" },
        "scope": "process",
        "policy": { "type": "adaptive", "target": { "cpu": "40%" }, "interval": "1s" },
    }]});
    places.write_profile("many", format!("{profile:#}\n").as_bytes())?;
    daemon.ask(&["profile", "activate", "many"])?;
    wait_until("every group is limited", BEGUN, || {
        let groups = daemon.data(&["dynamic", "list"])?;
        let active = groups.as_array().context("a list")?.iter().filter(|group| group["active"] == true);
        Ok(active.count() == GROUPS)
    })?;
    pause(SETTLED);
    let (nanos, watch) = (kernel::cpu_nanos(daemon.pid())?, Stopwatch::start());
    pause(MEASURED);
    let percent =
        kernel::cpu_nanos(daemon.pid())?.saturating_sub(nanos) as f64 / 1e9 / watch.elapsed().as_secs_f64()
            * 100.0;
    let groups = daemon.data(&["dynamic", "list"])?;
    let measured = groups.as_array().into_iter().flatten().filter(|group| group["readings"][0].is_object());
    ensure!(measured.count() == GROUPS, "not all groups were measured");
    daemon.stop()?;
    Ok(vec![Row {
        what: "CPU time for adaptive control of 200 groups, each measured every second",
        promise: "≤ 0.5 % of a CPU",
        measured: format!("{percent:.2} %, {:.0} µs a group", percent / 100.0 / GROUPS as f64 * 1e6),
        kept: percent <= 0.5,
    }])
}
