//! A snapshot of 4,000 processes by the task iterator against reading `/proc/PID/stat` of each.

use anyhow::{Context as _, Result};
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::Value;

use crate::bench::Setting;
use crate::bench::report::Row;
use crate::bench::stats::Samples;
use crate::cargo::output_of;

const PROCESSES: usize = 4_000;

/// Runs it.
///
/// # Errors
/// When the processes cannot be started or the iterator cannot be run.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::Wait.write(&places.bin(), "pt-sleeper")?;
    let _sleepers = (0..PROCESSES).map(|_| Workload::spawn(&program)).collect::<Result<Vec<_>>>()?;
    let rounds = setting.rounds.to_string();
    let cargo_run =
        ["run", "--quiet", "--release", "--package", "process-throttler", "--example", "snapshot", "--"];
    let text = output_of("cargo", &[&cargo_run[..], &[rounds.as_str()]].concat())?;
    let (mut ratios, mut iterator) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let round: Value =
            serde_json::from_str(line).with_context(|| format!("snapshot printed {line:?}"))?;
        let micros = |field: &str| round[field].as_f64().with_context(|| format!("{field} in {line}"));
        ratios.push(micros("proc_us")? / micros("iterator_us")?);
        iterator.push(micros("iterator_us")?);
    }
    let ratios = Samples::new(ratios).context("at least one round")?;
    let iterator = Samples::new(iterator).context("at least one round")?;
    Ok(vec![Row {
        what: "snapshot of 4,000 processes by the task iterator: times cheaper than reading /proc/*/stat",
        promise: "≥ 10",
        measured: format!("{ratios:.1}; it takes {iterator:.0} µs"),
        kept: ratios.median() >= 10.0,
    }])
}
