//! Wake-ups and CPU time with nothing to do. Processes that other programs of the machine start in the meantime are
//! counted against the agent.

use std::time::Duration;

use anyhow::Result;
use integration_tests::clock::{Stopwatch, pause};
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;

use crate::bench::Setting;
use crate::bench::profile::twenty_rules;
use crate::bench::report::Row;

const SETTLED: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);

/// Runs both: with rules alone, and with a critical process that lives, at which the agent looks every few seconds.
///
/// # Errors
/// When the agent fails.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let alone = ["wake-ups with nothing to do, all threads", "CPU time with nothing to do"];
    let beside = [
        "wake-ups beside a critical process that lives, all threads",
        "CPU time beside a critical process that lives",
    ];
    Ok([measure(setting, alone, false)?, measure(setting, beside, true)?].into_iter().flatten().collect())
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn measure(setting: &Setting, what: [&'static str; 2], critical: bool) -> Result<[Row; 2]> {
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::Wait.write(&places.bin(), "pt-vital")?;
    let _vital = critical.then(|| Workload::spawn(&program)).transpose()?;
    let daemon = Daemon::start(&places)?;
    let rules = twenty_rules();
    daemon.activate(&if critical { rules.critical("vital", &program) } else { rules })?;
    pause(SETTLED);
    let pid = daemon.pid();
    let (switches, nanos, watch) =
        (kernel::context_switches(pid)?, kernel::cpu_nanos(pid)?, Stopwatch::start());
    pause(MEASURED);
    let seconds = watch.elapsed().as_secs_f64();
    let wakeups = kernel::context_switches(pid)?.saturating_sub(switches) as f64 / seconds;
    let percent = kernel::cpu_nanos(pid)?.saturating_sub(nanos) as f64 / 1e9 / seconds * 100.0;
    daemon.stop()?;
    Ok([
        Row {
            what: what[0],
            promise: "≤ 3 /s",
            measured: format!("{wakeups:.2} /s over {seconds:.0} s"),
            kept: wakeups <= 3.0,
        },
        Row {
            what: what[1],
            promise: "≤ 0.05 % of a CPU",
            measured: format!("{percent:.3} %"),
            kept: percent <= 0.05,
        },
    ])
}
