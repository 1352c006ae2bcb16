//! Resident memory over a million process lives.

use anyhow::Result;
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::storm::Storm;

use crate::bench::Setting;
use crate::bench::profile::twenty_rules;
use crate::bench::report::Row;

const WARM_UP: u64 = 50_000;
const LIVES: u64 = 1_000_000;

/// Runs it.
///
/// # Errors
/// When the agent or the storm fails.
#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&twenty_rules())?;
    // Before that, memory that every run needs once would count as growth.
    Storm::of_lives(&life, WARM_UP)?.finish()?;
    let before = kernel::rss(daemon.pid())?;
    Storm::of_lives(&life, LIVES)?.finish()?;
    let after = kernel::rss(daemon.pid())?;
    daemon.stop()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let growth = mib(after) - mib(before);
    Ok(vec![
        Row {
            what: "resident memory after 1,000,000 process lives",
            promise: "≤ 20 MiB",
            measured: format!("{:.1} MiB", mib(after)),
            kept: mib(after) <= 20.0,
        },
        Row {
            what: "growth of resident memory over them",
            promise: "≤ 2 MiB",
            measured: format!("{growth:+.2} MiB"),
            kept: growth <= 2.0,
        },
    ])
}
