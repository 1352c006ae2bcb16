//! `cargo xtask noisy-neighbour`: nginx beside hogs, without the agent and with it, and what became of its latency.
//!
//! Writes the figures and the plot of docs/guides/noisy-neighbour.md. Everything that it starts is its own, in cgroups
//! of its own, and is matched by the path of a program that it has copied.

mod measure;
mod plot;
mod stage;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use integration_tests::binary;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;

use crate::bench::machine;
use crate::cargo::{cargo, target_dir, workspace_root};
use crate::neighbour::measure::Run;
use crate::neighbour::stage::Stage;
use crate::{marked, setup};

/// The objective that nginx has, for the p99 of its waits for a CPU.
pub(crate) const OBJECTIVE: Duration = Duration::from_millis(4);
/// The hogs of the first kind start then.
pub(crate) const FIRST_HOGS: Duration = Duration::from_secs(10);
/// Those of the second kind, relative to the whole run.
const SECOND_HOGS_AT: f64 = 0.5;
const GUIDE: &str = "docs/guides/noisy-neighbour.md";
const PLOT: &str = "docs/guides/noisy-neighbour.svg";
const MARK: &str = "results of cargo xtask noisy-neighbour";

/// How long to look.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of each of the two runs.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(20..=600))]
    seconds: u32,
    /// Print the figures, and write neither guide nor plot.
    #[arg(long)]
    dry: bool,
}

/// Runs both and writes down what came out.
///
/// # Errors
/// When nginx or stress-ng cannot be had, or the agent fails. A missed objective is a result, not an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    binary::require_root()?;
    cargo(&["build", "--release", "--package", "process-throttler"])?;
    setup::install(&["stress-ng"])?;
    setup::unpacked("nginx")?;
    let agent = target_dir()?.join("release/process-throttler");
    let _turn = Turn::take()?;
    let length = Duration::from_secs(options.seconds.into());
    let second = length.mul_f64(SECOND_HOGS_AT);
    let places = Places::for_agent(agent)?;

    println!("Without the agent, {length:?} ...");
    let without = Stage::set(&places)?.play(length, second)?;
    println!("With the agent, {length:?} ...");
    let stage = Stage::set(&places)?;
    places.write_config("scheduler_probes: { mode: auto, budget: 100% }\n")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&stage.profile())?;
    let with = stage.play(length, second)?;
    let told = told(&daemon)?;
    daemon.stop()?;

    let table = table(&without, &with, &told)?;
    println!("{table}");
    if options.dry {
        return Ok(());
    }
    let root = workspace_root()?;
    fs::write(root.join(PLOT), plot::svg(&without, &with, second)?)
        .with_context(|| format!("write {PLOT}"))?;
    marked::replace(
        GUIDE,
        MARK,
        &format!("{}\n\n{table}", machine::describe("cargo xtask noisy-neighbour", "release")?),
    )?;
    println!("results are in {GUIDE} and {PLOT}");
    Ok(())
}

/// What the agent said of the objective.
struct Told {
    violated: usize,
    recovered: usize,
}

fn told(daemon: &Daemon<'_>) -> Result<Told> {
    let count = |kind| -> Result<usize> { Ok(daemon.events(kind)?.len()) };
    let told = Told { violated: count("latency_slo_violated")?, recovered: count("latency_slo_recovered")? };
    Ok(told)
}

fn table(without: &Run, with: &Run, told: &Told) -> Result<String> {
    let objective = OBJECTIVE.as_secs_f64() * 1e3;
    let mut rows = String::from("| with hogs | without the agent | with the agent |\n|---|---|---|\n");
    let mut row = |what: &str, of: &dyn Fn(&Run) -> Result<String>| -> Result<()> {
        rows.push_str(&format!("| {what} | {} | {} |\n", of(without)?, of(with)?));
        Ok(())
    };
    row("nginx waits for a CPU, p99 of all requests", &|run| Ok(format!("{:.2} ms", run.wait_p99()?)))?;
    row("a request takes, p99 of all requests", &|run| Ok(format!("{:.2} ms", run.request_p99()?)))?;
    row("half seconds whose p99 of waits is within the objective", &|run| {
        Ok(format!("{:.0} %", run.share_within(objective)?))
    })?;
    row("from the first hogs to the objective being held", &|run| {
        Ok(run
            .held_after(objective)
            .map_or("never".to_owned(), |time| format!("{:.1} s", time.as_secs_f64())))
    })?;
    row("CPU time that the hogs get", &|run| Ok(format!("{:.0} % of a CPU", run.hogs_percent()?)))?;
    rows.push_str(&format!(
        "\nThe objective is a p99 of at most {objective:.0} ms. The agent told of {} violations and {} recoveries.\n",
        told.violated, told.recovered
    ));
    Ok(rows)
}
