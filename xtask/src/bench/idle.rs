//! Wake-ups and CPU time with nothing to do. Processes that other programs of the machine start in the meantime are
//! counted against the agent.

use std::time::Duration;

use anyhow::Result;
use integration_tests::clock::{Stopwatch, pause};
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;

use crate::bench::Setting;
use crate::bench::profile::twenty_rules;
use crate::bench::report::Row;

const SETTLED: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);

/// Runs it.
///
/// # Errors
/// When the agent fails.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&twenty_rules())?;
    pause(SETTLED);
    let pid = daemon.pid();
    let (switches, nanos, watch) =
        (kernel::context_switches(pid)?, kernel::cpu_nanos(pid)?, Stopwatch::start());
    pause(MEASURED);
    let seconds = watch.elapsed().as_secs_f64();
    let wakeups = kernel::context_switches(pid)?.saturating_sub(switches) as f64 / seconds;
    let percent = kernel::cpu_nanos(pid)?.saturating_sub(nanos) as f64 / 1e9 / seconds * 100.0;
    daemon.stop()?;
    Ok(vec![
        Row {
            what: "wake-ups with nothing to do, all threads",
            promise: "≤ 3 /s",
            measured: format!("{wakeups:.2} /s over {seconds:.0} s"),
            kept: wakeups <= 3.0,
        },
        Row {
            what: "CPU time with nothing to do",
            promise: "≤ 0.05 % of a CPU",
            measured: format!("{percent:.3} %"),
            kept: percent <= 0.05,
        },
    ])
}
