//! What the scheduler's probes add to a switch of threads with the wake-up before it, beside libbpf-tools' runqlat,
//! which does the same for the whole machine without cgroups; and how long arming takes.
//!
//! Two threads on one CPU hand a byte to and fro through pipes: each hand-over is one wake-up and one switch.

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, Stopwatch, pause, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::places::Places;
use integration_tests::scrape;
use integration_tests::workload::pin_this_thread;

use crate::bench::Setting;
use crate::bench::report::Row;
use crate::bench::stats::Samples;
use crate::setup;

/// Hand-overs there and back in one measurement, about half a second, in bursts that are too short to count as pressure.
const ROUND_TRIPS: u32 = 12_500;
const BURSTS: u32 = 12;
/// After a burst the kernel has forgotten it: pressure is that of two seconds.
const FORGOTTEN: Duration = Duration::from_millis(2_100);
/// Looks after each of which the probes are disarmed.
const ARMINGS: usize = 9;

/// Runs both.
///
/// # Errors
/// When runqlat cannot be had or the agent fails.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let runqlat = setup::unpacked("libbpf-tools")?.join("usr/sbin/runqlat");
    let mut rows = cost(setting, &runqlat)?;
    rows.push(arming(setting)?);
    Ok(rows)
}

fn cost(setting: &Setting, runqlat: &Path) -> Result<Vec<Row>> {
    hand_over(Duration::ZERO).context("warm up")?;
    let (mut bare, mut disarmed, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut ratios = Vec::new();
    for _ in 0..setting.rounds {
        // Bursts that are far apart each begin cold: with others like them only can they be compared.
        let apart = hand_over(FORGOTTEN)?;
        let at_rest = with_probes(setting, "auto")?;
        let without = hand_over(Duration::ZERO)?;
        let armed = with_probes(setting, "on")?;
        let peer = Runqlat::start(runqlat)?;
        let beside_peer = hand_over(Duration::ZERO)?;
        drop(peer);
        bare.push(without);
        disarmed.push(at_rest - apart);
        ours.push(armed - without);
        theirs.push(beside_peer - without);
        ratios.push((armed - without) / (beside_peer - without));
    }
    let all = |values| Samples::new(values).context("at least one round");
    let (bare, disarmed, ours) = (all(bare)?, all(disarmed)?, all(ours)?);
    let (theirs, ratios) = (all(theirs)?, all(ratios)?);
    Ok(vec![
        Row {
            what: "added by the armed scheduler probes to a switch with its wake-up",
            promise: "≤ 180 ns",
            measured: format!("{ours:.0} ns, to {bare:.0} ns without"),
            kept: ours.median() <= 180.0,
        },
        Row {
            what: "the same relative to what libbpf-tools' runqlat adds",
            promise: "≤ 0.7",
            measured: format!("{ratios:.2}; runqlat adds {theirs:.0} ns"),
            kept: ratios.median() <= 0.7,
        },
        Row {
            what: "added to a switch with its wake-up while the probes are disarmed",
            promise: "0 ns: within ± 2 % of a switch",
            measured: format!("{disarmed:.0} ns"),
            kept: disarmed.median().abs() <= bare.median() * 0.02,
        },
    ])
}

/// Nanoseconds per hand-over beside an agent whose probes have this mode.
fn with_probes(setting: &Setting, mode: &str) -> Result<f64> {
    let places = Places::for_agent(setting.agent.clone())?;
    // Nothing sheds them, and what the start makes others wait is over when it is measured.
    places.write_config(&format!("scheduler_probes: {{ mode: {mode}, budget: 100%, window: 2s }}\n"))?;
    let daemon = Daemon::start(&places)?;
    pause(FORGOTTEN * 3);
    let why = probes_why(&daemon)?;
    ensure!(why.contains("not armed") == (mode == "auto"), "probes {mode}: {why}");
    let nanos = hand_over(if mode == "auto" { FORGOTTEN } else { Duration::ZERO })?;
    let why = probes_why(&daemon)?;
    ensure!(why.contains("not armed") == (mode == "auto"), "probes {mode}, afterwards: {why}");
    daemon.stop()?;
    Ok(nanos)
}

fn probes_why(daemon: &Daemon<'_>) -> Result<String> {
    Ok(scrape::state_of(daemon, "scheduler-probes")?.1)
}

/// How much longer a look takes that has to arm the probes than the next one, when the agent has come to rest.
fn arming(setting: &Setting) -> Result<Row> {
    let places = Places::for_agent(setting.agent.clone())?;
    places.write_config("scheduler_probes: { mode: auto, budget: 100%, window: 2s }\n")?;
    let mut took = Vec::new();
    for _ in 0..ARMINGS * 3 {
        let daemon = Daemon::start(&places)?;
        wait_until("the probes are at rest", SOON, || Ok(probes_why(&daemon)?.contains("not armed")))?;
        pause(FORGOTTEN);
        let look = || -> Result<(f64, bool)> {
            let watch = Stopwatch::start();
            let look = daemon.data(&["latency", "--for", "100ms"])?;
            let armed = look["armed_for_this"].as_bool().context("whether it was armed for this")?;
            Ok((watch.elapsed().as_secs_f64() * 1_000.0, armed))
        };
        let (first, second) = (look()?, look()?);
        ensure!(!second.1, "the second look does not arm");
        // What others do may have armed them in the meantime.
        if first.1 {
            took.push(first.0 - second.0);
        }
        daemon.stop()?;
        if took.len() >= ARMINGS {
            break;
        }
    }
    let took = Samples::new(took).context("looks")?;
    Ok(Row {
        what: "arming the scheduler's probes: a look that has to, less one that has not",
        promise: "≤ 50 ms",
        measured: format!("{took:.0} ms"),
        kept: took.median() <= 50.0,
    })
}

/// A running runqlat; ends on drop.
struct Runqlat(Child);

impl Runqlat {
    /// Returns when it has attached its programs.
    fn start(path: &Path) -> Result<Self> {
        let mut command = Command::new("stdbuf");
        command.arg("--output=L").arg(path).arg("3600").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut runqlat = Self(command.spawn().with_context(|| format!("start {command:?}"))?);
        let stdout = runqlat.0.stdout.take().context("its output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("read what runqlat prints")?;
        ensure!(line.contains("Tracing run queue latency"), "runqlat printed {line:?}");
        Ok(runqlat)
    }
}

impl Drop for Runqlat {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("runqlat is left behind: {error}");
        }
    }
}

/// Nanoseconds per hand-over in the middle one of the bursts, with so long a pause before each.
fn hand_over(apart: Duration) -> Result<f64> {
    let spaced = |_| {
        pause(apart);
        burst()
    };
    let bursts = (0..BURSTS).map(spaced).collect::<Result<_>>()?;
    Ok(Samples::new(bursts).context("bursts")?.median())
}

fn burst() -> Result<f64> {
    let (there, back) = (pipe().context("make a pipe")?, pipe().context("make a pipe")?);
    let (mut near, mut far) = ((back.0, there.1), (there.0, back.1));
    let partner = std::thread::spawn(move || -> Result<()> {
        pin_this_thread()?;
        (0..ROUND_TRIPS).try_for_each(|_| {
            take(&mut far.0)?;
            give(&mut far.1)
        })
    });
    let time = std::thread::spawn(move || -> Result<f64> {
        pin_this_thread()?;
        let watch = Stopwatch::start();
        for _ in 0..ROUND_TRIPS {
            give(&mut near.1)?;
            take(&mut near.0)?;
        }
        Ok(watch.elapsed().as_secs_f64() * 1e9 / f64::from(2 * ROUND_TRIPS))
    });
    let time = time.join().map_err(|_panic| anyhow::anyhow!("a thread panicked"))?;
    partner.join().map_err(|_panic| anyhow::anyhow!("a thread panicked"))??;
    time
}

fn give(to: &mut PipeWriter) -> Result<()> {
    to.write_all(&[0]).context("hand over")
}

fn take(from: &mut PipeReader) -> Result<()> {
    from.read_exact(&mut [0]).context("take over")
}
