//! From the death of a critical process to the alert: until it is owed for good, that is, over the ring, the engine, the
//! journal and its disk flush, and until it arrives at a webhook receiver. On a quiet machine and in a fork storm.
//!
//! What is owed is told to followers of the events once it is on the disk. The first time therefore runs from before
//! the kill until the command that follows has printed the event, and is longer than what is promised: the dying, the
//! control socket and a pipe are in it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::clock::{SOON, Stopwatch, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::follow::Follower;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::SECRET;
use integration_tests::sink::Sink;
use integration_tests::storm::Storm;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;

use crate::bench::Setting;
use crate::bench::prompt::be_prompt;
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
    let quiet = [
        "death of a critical process to its alert on the disk and owed to a webhook, p99",
        "death of a critical process to its alert at a webhook receiver, p99",
    ];
    let storm = [
        "death to an alert that is owed, in a fork storm on all CPUs, p99",
        "death to an alert at its receiver, in a fork storm on all CPUs, p99",
    ];
    let rows = [measure(setting, quiet, false)?, measure(setting, storm, true)?];
    Ok(rows.into_iter().flatten().collect())
}

fn measure(setting: &Setting, what: [&'static str; 2], storming: bool) -> Result<[Row; 2]> {
    let (mut owed, mut arrived, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        let (places, sink) = (Places::for_agent(setting.agent.clone())?, Sink::start()?);
        places.write_webhook(&sink.url(), SECRET)?;
        let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
        let mut profile = ProfileText::new("deaths");
        let mut victims = Vec::new();
        // The first one to die shows that the events are followed, and is not measured.
        for number in 0..=DEATHS {
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
        let path = places.state().join("flush");
        let disk = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let follower = Follower::start_under(&daemon, &["chrt", "--fifo", "1"], "critical_process_down")?;
        be_prompt()?;
        let storm = storming.then(|| Storm::for_time(&life, STORM)).transpose()?;
        for (number, victim) in victims.iter_mut().enumerate() {
            let watch = Stopwatch::start();
            victim.signal(Signal::SIGKILL)?;
            follower.next(SOON, |_event| true)?;
            if number > 0 {
                owed.push(watch.elapsed().as_secs_f64() * 1_000.0);
            }
            victim.wait()?;
            flushes.push(flush(&disk)?);
            wait_until("its alert arrives", SOON, || Ok(sink.count() > number))?;
        }
        drop(storm);
        daemon.stop()?;
        let times = sink.take().into_iter().filter_map(|arrival| arrival.on_the_way);
        arrived.extend(times.map(|time| time.as_secs_f64() * 1_000.0));
    }
    let all = |values| Samples::new(values).context("samples");
    let (owed, arrived, flushes) = (all(owed)?, all(arrived)?, all(flushes)?);
    let row = |what, promise, samples: &Samples, most, beside: &str| Row {
        what,
        promise,
        measured: format!("{:.1} ms, median {samples:.1} ms{beside}", samples.percentile(99)),
        kept: samples.percentile(99) <= most,
    };
    let beside = format!(
        "; a flush of 4 KiB by itself takes this disk {:.1} ms, median {:.1} ms",
        flushes.percentile(99),
        flushes.median()
    );
    Ok([row(what[0], "≤ 2 ms", &owed, 2.0, &beside), row(what[1], "≤ 20 ms", &arrived, 20.0, "")])
}

/// How long the disk takes to keep a block that it has a place for already, ms: the least that anything takes which is
/// not lost afterwards.
fn flush(disk: &File) -> Result<f64> {
    disk.write_all_at(&[1; 4_096], 0).context("write to the disk")?;
    let watch = Stopwatch::start();
    disk.sync_data().context("flush the disk")?;
    Ok(watch.elapsed().as_secs_f64() * 1_000.0)
}
