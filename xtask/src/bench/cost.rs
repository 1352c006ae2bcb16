//! What the agent costs while processes are born and die as fast as the machine can: the storm's throughput with
//! and without it, and its own CPU time. The programs' time in the kernel is charged to the storm, so it is in the
//! throughput.

use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::storm::{Account, Storm};

use crate::bench::Setting;
use crate::bench::profile::twenty_rules;
use crate::bench::report::Row;
use crate::bench::stats::Samples;

const STORM: Duration = Duration::from_secs(3);

/// Runs it.
///
/// # Errors
/// When an agent or a storm fails.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
    let storm = || -> Result<Account> { Storm::for_time(&life, STORM)?.finish() };
    storm().context("warm up")?;
    let (mut ratios, mut micros, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        let without = storm()?;
        let daemon = Daemon::start(&places)?;
        daemon.activate(&twenty_rules())?;
        let before = kernel::cpu_nanos(daemon.pid())?;
        let with = storm()?;
        let nanos = kernel::cpu_nanos(daemon.pid())?.saturating_sub(before);
        daemon.stop()?;
        ratios.push(with.rate() / without.rate());
        rates.push(without.rate());
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        micros.push(nanos as f64 / 1_000.0 / with.lives as f64);
    }
    let all = |values| Samples::new(values).context("at least one round");
    let (ratios, micros, rates) = (all(ratios)?, all(micros)?, all(rates)?);
    Ok(vec![
        Row {
            what: "throughput of a fork+exec+exit storm on all CPUs with the agent and 20 rules, relative to without",
            promise: "≥ 0.97",
            measured: format!("{ratios:.3}, of {rates:.0} lives/s without"),
            kept: ratios.median() >= 0.97,
        },
        Row {
            what: "agent's CPU time per process life in that storm",
            promise: "≤ 3 µs",
            measured: format!("{micros:.2} µs"),
            kept: micros.median() <= 3.0,
        },
    ])
}
