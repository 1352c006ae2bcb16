//! From the death of a critical process, by the kernel's clock, to the alert's arrival at a webhook receiver: over the
//! ring, the engine, the journal and its disk flush. On a quiet machine and in a fork storm.

use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::SECRET;
use integration_tests::sink::Sink;
use integration_tests::storm::Storm;
use integration_tests::workload::Workload;

use crate::bench::Setting;
use crate::bench::report::Row;
use crate::bench::stats::Samples;

/// Critical processes, each of which dies once: many deaths of one are summed up.
const DEATHS: usize = 40;
/// Longer than all of them take.
const STORM: Duration = Duration::from_secs(20);

/// Runs both.
///
/// # Errors
/// When an alert does not arrive.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let quiet = "death of a critical process to its alert at a webhook receiver, p99";
    let storm = "the same in a fork storm on all CPUs, p99";
    Ok(vec![measure(setting, quiet, false)?, measure(setting, storm, true)?])
}

fn measure(setting: &Setting, what: &'static str, storming: bool) -> Result<Row> {
    let mut millis = Vec::new();
    for _ in 0..setting.rounds {
        let (places, sink) = (Places::for_agent(setting.agent.clone())?, Sink::start()?);
        places.write_webhook(&sink.url(), SECRET)?;
        let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
        let mut profile = ProfileText::new("deaths");
        let mut victims = Vec::new();
        for number in 0..DEATHS {
            let program = Program::Wait.write(&places.bin(), &format!("pt-vital-{number}"))?;
            profile = profile.critical(&format!("vital-{number}"), &program);
            victims.push(Workload::spawn(&program)?);
        }
        let daemon = Daemon::start(&places)?;
        daemon.activate(&profile)?;
        wait_until("every one is known", SOON, || {
            let known = daemon.data(&["critical", "list"])?;
            Ok(known.as_array().context("a list")?.iter().all(|one| one["state"] == "up"))
        })?;
        let storm = storming.then(|| Storm::for_time(&life, STORM)).transpose()?;
        for (number, victim) in victims.iter_mut().enumerate() {
            victim.kill()?;
            wait_until("its alert arrives", SOON, || Ok(sink.count() > number))?;
        }
        drop(storm);
        daemon.stop()?;
        let times = sink.take().into_iter().filter_map(|arrival| arrival.on_the_way);
        millis.extend(times.map(|time| time.as_secs_f64() * 1_000.0));
    }
    let millis = Samples::new(millis).context("samples")?;
    Ok(Row {
        what,
        promise: "≤ 20 ms",
        measured: format!("{:.1} ms, median {millis:.1} ms", millis.percentile(99)),
        kept: millis.percentile(99) <= 20.0,
    })
}
