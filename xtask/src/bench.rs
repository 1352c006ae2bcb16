//! `cargo xtask bench`: measures what docs/SPECIFICATION.md promises and writes the results there.
//!
//! Comparisons are interleaved (without, with, without, with, …), so that a slow spell of the machine hits both
//! sides; each number is a median with its range. A missed promise is written down like a kept one.

mod adaptive;
mod cost;
mod death;
mod deliveries;
mod effect;
mod groups;
mod idle;
mod latency;
mod loss;
pub(crate) mod machine;
mod memory;
mod peers;
mod profile;
pub(crate) mod prompt;
mod report;
mod sched;
mod snapshot;
pub(crate) mod stats;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use integration_tests::binary;
use integration_tests::clock::Stopwatch;
use integration_tests::daemon::Turn;

use crate::bench::report::Row;
use crate::cargo::{cargo, target_dir};

/// What to measure and how often.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these, and without writing the results down.
    #[arg(value_enum)]
    only: Vec<Bench>,
    /// Compare with the peers again, and fail where a ratio is more than a tenth worse than in docs/peers.json.
    #[arg(long, conflicts_with = "only")]
    check: bool,
    /// Rounds of each comparison.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// The benchmarks, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Throughput of a storm with the agent, and the agent's CPU time in it.
    Cost,
    /// From an exec to the limit in force.
    Latency,
    /// Matched execs that were missed.
    Missed,
    /// Accounting and recovery of an agent that was stopped in a storm.
    Loss,
    /// Snapshot by the task iterator and by reading /proc.
    Snapshot,
    /// Wake-ups and CPU time with nothing to do.
    Idle,
    /// Memory over a million lives.
    Memory,
    /// Control of many groups.
    Adaptive,
    /// The executor by itself.
    Effect,
    /// A thousand groups: telling of them, releasing and lifting them.
    Groups,
    /// Webhook deliveries.
    Deliveries,
    /// From a death to the alert at its receiver.
    Death,
    /// The scheduler's probes, beside libbpf-tools' runqlat.
    Sched,
    /// The agent beside other programs, for docs/PEERS.md; only by name.
    Peers,
}

/// What every benchmark gets.
struct Setting {
    agent: PathBuf,
    rounds: u32,
}

/// Runs the benchmarks.
///
/// # Errors
/// When one cannot be run. A promise that is not kept is a result, not an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    binary::require_root()?;
    cargo(&["build", "--release", "--package", "process-throttler"])?;
    cargo(&["build", "--quiet", "--package", "integration-tests", "--bin", "storm", "--bin", "poll"])?;
    let setting = Setting { agent: target_dir()?.join("release/process-throttler"), rounds: options.rounds };
    let _turn = Turn::take()?;
    if options.check || options.only == [Bench::Peers] {
        return peers::run(&setting, options.check);
    }
    let mut rows: Vec<Row> = Vec::new();
    for bench in Bench::value_variants() {
        let is_named = options.only.contains(bench);
        if !is_named && (!options.only.is_empty() || *bench == Bench::Peers) {
            continue;
        }
        let watch = Stopwatch::start();
        let results = bench.run(&setting).with_context(|| format!("benchmark {bench:?}"))?;
        println!("{bench:?}, {:.0} s", watch.elapsed().as_secs_f64());
        for row in &results {
            println!("  {row}");
        }
        rows.extend(results);
    }
    if options.only.is_empty() {
        report::write(&machine::describe("cargo xtask bench", "release")?, &rows)?;
    }
    Ok(())
}

impl Bench {
    fn run(self, setting: &Setting) -> Result<Vec<Row>> {
        match self {
            Self::Cost => cost::run(setting),
            Self::Latency => latency::in_place(setting),
            Self::Missed => latency::missed(setting),
            Self::Loss => loss::run(setting),
            Self::Snapshot => snapshot::run(setting),
            Self::Idle => idle::run(setting),
            Self::Memory => memory::run(setting),
            Self::Adaptive => adaptive::run(setting),
            Self::Effect => effect::run(setting),
            Self::Groups => groups::run(setting),
            Self::Deliveries => deliveries::run(setting),
            Self::Death => death::run(setting),
            Self::Sched => sched::run(setting),
            Self::Peers => peers::run(setting, false).map(|()| Vec::new()),
        }
    }
}
