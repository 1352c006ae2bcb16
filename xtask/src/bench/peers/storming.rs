//! A storm of short lives beside each program, and without any right before.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::pause;
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::sink::Sink;
use integration_tests::storm::{Account, Storm};
use integration_tests::tool::free_ports;

use super::tools::Peer;
use crate::bench::Setting;
use crate::bench::profile::twenty_rules;
use crate::bench::stats::Samples;

const STORM: Duration = Duration::from_secs(3);
/// The agent gives back what only its start needed once it has run for 5 s; before that the storm would take the page
/// faults of it.
const SETTLING: Duration = Duration::from_secs(6);
/// For how long nothing happens before it.
const IDLE: Duration = Duration::from_secs(2);

/// What stands beside the storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The agent with twenty rules.
    Agent,
    /// The same, pushing its metrics every second.
    Exporting,
    Peer(Peer),
}

impl Subject {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Agent => "**process-throttler**, 20 rules",
            Self::Exporting => "the same, with OTLP pushed every second",
            Self::Peer(peer) => peer.name(),
        }
    }
}

/// All rounds of one subject.
pub(super) struct Storming {
    pub(super) subject: Subject,
    /// Lives per second relative to the storm before without it.
    pub(super) ratio: Samples,
    /// CPU time of the program itself per life, µs.
    pub(super) micros: Samples,
    /// Of a hundred lives, how many it took in; none for those which do not say.
    pub(super) told: Option<Samples>,
    /// MiB, after the storm.
    pub(super) rss: Samples,
    /// Percent of a CPU before the storm.
    pub(super) idle: Samples,
}

/// What one round gives.
struct Reading {
    account: Account,
    nanos: u64,
    told: Option<f64>,
    rss: u64,
    idle: f64,
}

/// Runs all subjects in turn, as often as there are rounds.
///
/// # Errors
/// When one cannot be started.
#[expect(clippy::cast_precision_loss, reason = "counts, bytes and nanoseconds far below 2^52")]
pub(super) fn run(setting: &Setting) -> Result<Vec<Storming>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
    let storm = || -> Result<Account> { Storm::for_time(&life, STORM)?.finish() };
    storm().context("warm up")?;
    let subjects = [Subject::Agent, Subject::Exporting].into_iter().chain(Peer::ALL.map(Subject::Peer));
    let mut found: Vec<(Subject, Vec<(f64, Reading)>)> =
        subjects.map(|subject| (subject, Vec::new())).collect();
    for round in 0..setting.rounds {
        for (subject, readings) in &mut found {
            let without = storm()?.rate();
            let reading = beside(*subject, setting, &storm).with_context(|| subject.name())?;
            readings.push((reading.account.rate() / without, reading));
        }
        println!("storms: round {} of {}", round + 1, setting.rounds);
    }
    let summed = found.into_iter().map(|(subject, readings)| {
        let all = |value: &dyn Fn(&(f64, Reading)) -> f64| {
            Samples::new(readings.iter().map(value).collect()).context("at least one round")
        };
        Ok(Storming {
            subject,
            ratio: all(&|(ratio, _)| *ratio)?,
            micros: all(&|(_, one)| one.nanos as f64 / 1_000.0 / one.account.lives as f64)?,
            told: Samples::new(readings.iter().filter_map(|(_, one)| one.told).collect()),
            rss: all(&|(_, one)| one.rss as f64 / f64::from(1 << 20))?,
            idle: all(&|(_, one)| one.idle)?,
        })
    });
    summed.collect()
}

fn beside(subject: Subject, setting: &Setting, storm: &dyn Fn() -> Result<Account>) -> Result<Reading> {
    match subject {
        Subject::Agent => beside_agent(setting, storm, None),
        Subject::Exporting => beside_agent(setting, storm, Some(&Sink::start()?)),
        Subject::Peer(peer) => beside_peer(peer, setting, storm),
    }
}

fn beside_agent(
    setting: &Setting,
    storm: &dyn Fn() -> Result<Account>,
    receiver: Option<&Sink>,
) -> Result<Reading> {
    let places = Places::for_agent(setting.agent.clone())?;
    if let Some(sink) = receiver {
        let url = sink.url();
        places.write_config(&format!(
            "metrics: {{ otlp: {{ endpoint: \"{url}\", interval: 1s, timeout: 1s }} }}\n"
        ))?;
    }
    let daemon = Daemon::start(&places)?;
    daemon.activate(&twenty_rules())?;
    let records = || -> Result<[u64; 2]> {
        let source = daemon.data(&["daemon", "status"])?["source"].clone();
        let count = |key: &str| source[key].as_u64().context("a count of records");
        Ok([count("produced")?, count("sent")?])
    };
    pause(SETTLING);
    let before = records()?;
    let mut reading = measured(daemon.pid(), storm)?;
    let [produced, sent] = records()?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let share = (sent - before[1]) as f64 / (produced - before[0]) as f64 * 100.0;
    reading.told = Some(share);
    if let Some(sink) = receiver {
        ensure!(sink.count() > 1, "nothing was pushed");
    }
    daemon.stop()?;
    Ok(reading)
}

fn beside_peer(peer: Peer, setting: &Setting, storm: &dyn Fn() -> Result<Account>) -> Result<Reading> {
    // A directory of its own, which goes with it.
    let places = Places::for_agent(setting.agent.clone())?;
    let [port] = free_ports()?;
    let running = peer.start(places.root(), port, "")?;
    let mut reading = measured(running.pid(), storm)?;
    if let Some(sign) = peer.tells() {
        // What is still in its buffers.
        pause(Duration::from_millis(500));
        let lines = running.printed()?.lines().filter(|line| line.contains(sign)).count();
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let share = lines as f64 / reading.account.lives as f64 * 100.0;
        reading.told = Some(share.min(100.0));
    }
    Ok(reading)
}

fn measured(pid: u32, storm: &dyn Fn() -> Result<Account>) -> Result<Reading> {
    let begin = kernel::cpu_nanos(pid)?;
    pause(IDLE);
    let before = kernel::cpu_nanos(pid)?;
    let account = storm()?;
    let nanos = kernel::cpu_nanos(pid)?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
    let idle = before.saturating_sub(begin) as f64 / IDLE.as_nanos() as f64 * 100.0;
    Ok(Reading { account, nanos, told: None, rss: kernel::rss(pid)?, idle })
}
