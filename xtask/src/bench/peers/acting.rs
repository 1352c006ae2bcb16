//! How soon something is done: a limit after an exec, and a word after a death.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::cgroup::{TestCgroup, cpu_quota_of};
use integration_tests::clock::{SOON, Stopwatch, pause, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::SECRET;
use integration_tests::sink::Sink;
use integration_tests::storm::Storm;
use integration_tests::tool::free_ports;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;
use serde_json::json;

use super::tools::{self, CLASSIFIED_COMM, Peer};
use crate::bench::Setting;
use crate::bench::prompt::be_prompt;
use crate::bench::stats::Samples;

/// Matched execs in a round, quiet and in a storm.
const EXECS: usize = 20;
/// A process that is not limited by then was missed.
const MISSED_AFTER: Duration = Duration::from_secs(2);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_micros(50);
/// Between two execs: moves that follow each other closely share a grace period of the kernel's.
const APART: Duration = Duration::from_millis(60);
/// Deaths in a round.
const DEATHS: u32 = 2;
/// By then monit has seen that its process is there.
const SEEN: Duration = Duration::from_millis(2_500);

/// One who limits.
pub(super) struct Reaction {
    pub(super) who: &'static str,
    pub(super) quiet: Reacted,
    pub(super) storm: Reacted,
}

/// Times from an exec to the limit in force, ms, and how many never were limited.
#[derive(Default)]
pub(super) struct Reacted {
    rounds: Vec<Vec<f64>>,
    missed: usize,
}

impl Reacted {
    /// The mean of each round, if there is a time in each. Moves take whole ticks of the kernel, so that the middle one
    /// jumps from one of two to the other.
    pub(super) fn means(&self) -> Option<Samples> {
        let mean = |times: &Vec<f64>| Samples::new(times.clone()).map(|times| times.mean());
        Samples::new(self.rounds.iter().map(mean).collect::<Option<_>>()?)
    }

    /// For the table: p50, p99, missed.
    pub(super) fn cells(&self) -> String {
        let times = self.rounds.concat();
        let missed = format!("{} of {}", self.missed, times.len() + self.missed);
        match Samples::new(times) {
            Some(times) => {
                format!("{:.2} ms | {:.2} ms | {missed}", times.median(), times.percentile(99))
            }
            None => format!("– | – | {missed}"),
        }
    }
}

/// The agent, to whom it is left how, and in a cgroup of the process's own; and cgrulesengd, which moves.
///
/// # Errors
/// When one cannot be started.
pub(super) fn reactions(setting: &Setting) -> Result<Vec<Reaction>> {
    be_prompt()?;
    let mut found = [
        "process-throttler, in place (a cgroup of its own)",
        "process-throttler, by moving it",
        "cgrulesengd, by moving it",
    ]
    .map(|who| Reaction { who, quiet: Reacted::default(), storm: Reacted::default() });
    for round in 0..setting.rounds {
        let [in_place, moved, theirs] = &mut found;
        for storming in [false, true] {
            with_agent(setting, true, storming, in_place)?;
            with_agent(setting, false, storming, moved)?;
            with_cgrulesengd(setting, storming, theirs)?;
        }
        println!("reactions: round {} of {}", round + 1, setting.rounds);
    }
    Ok(found.into())
}

fn with_agent(setting: &Setting, own: bool, storming: bool, found: &mut Reaction) -> Result<()> {
    let places = Places::for_agent(setting.agent.clone())?;
    let daemon = Daemon::start(&places)?;
    let rule = ProfileText::new("peers").rule_matching(
        "matched",
        &json!({ "comm": CLASSIFIED_COMM }),
        &json!({ "cpu": "50%" }),
        if own { "process" } else { "group" },
    );
    daemon.activate(&rule)?;
    execs(&places, own, storming, found)?;
    daemon.stop()
}

fn with_cgrulesengd(setting: &Setting, storming: bool, found: &mut Reaction) -> Result<()> {
    let places = Places::for_agent(setting.agent.clone())?;
    let group = TestCgroup::new("peers")?;
    let file = group.quota_file()?;
    fs::write(&file, "50000").with_context(|| format!("write {}", file.display()))?;
    let running = Peer::Cgrulesengd.start(places.root(), 0, group.name())?;
    execs(&places, false, storming, found)?;
    drop(running);
    Ok(())
}

fn execs(places: &Places, own: bool, storming: bool, found: &mut Reaction) -> Result<()> {
    let program = Program::Wait.write(&places.bin(), CLASSIFIED_COMM)?;
    let life = Program::Exit(0).write(&places.bin(), "pt-life")?;
    let longest = MISSED_AFTER * u32::try_from(EXECS).context("a small number")?;
    let storm = storming.then(|| Storm::for_time(&life, longest)).transpose()?;
    let into = if storming { &mut found.storm } else { &mut found.quiet };
    let mut times = Vec::with_capacity(EXECS);
    for _ in 0..EXECS {
        let cgroup = own.then(|| TestCgroup::new("peers-own")).transpose()?;
        let process = match &cgroup {
            Some(cgroup) => Workload::spawn_in(&program, cgroup)?,
            None => Workload::spawn(&program)?,
        };
        match limited(process.pid())? {
            Some(time) => times.push(time.as_secs_f64() * 1_000.0),
            None => into.missed += 1,
        }
        drop(process);
        pause(APART);
    }
    into.rounds.push(times);
    // Not to its end: it is as long as the slowest could need.
    storm.map_or(Ok(()), Storm::cut_short)
}

fn limited(pid: u32) -> Result<Option<Duration>> {
    let watch = Stopwatch::start();
    while watch.elapsed() < MISSED_AFTER {
        if cpu_quota_of(pid)?.is_some() {
            return Ok(Some(watch.elapsed()));
        }
        pause(LOOK);
    }
    Ok(None)
}

/// Times from the death of a process that matters to the word of it, ms.
pub(super) struct Deaths {
    pub(super) agent: Samples,
    pub(super) monit: Samples,
}

/// The agent with a webhook, and monit with a program that it runs.
///
/// # Errors
/// When one of them does not notice.
pub(super) fn deaths(setting: &Setting) -> Result<Deaths> {
    let (mut agent, mut monit) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        for _ in 0..DEATHS {
            agent.push(told_by_agent(setting)?);
        }
        monit.extend(told_by_monit(setting)?);
    }
    let samples = |times: Vec<Duration>| {
        let times = times.into_iter().map(|time| time.as_secs_f64() * 1_000.0).collect();
        Samples::new(times).context("at least one death")
    };
    Ok(Deaths { agent: samples(agent)?, monit: samples(monit)? })
}

fn told_by_agent(setting: &Setting) -> Result<Duration> {
    let (places, sink) = (Places::for_agent(setting.agent.clone())?, Sink::start()?);
    places.write_webhook(&sink.url(), SECRET)?;
    let program = Program::Wait.write(&places.bin(), "pt-vital")?;
    let victim = Workload::spawn(&program)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("vital").critical("vital", &program))?;
    wait_until("it is known", SOON, || Ok(daemon.data(&["critical", "list"])?[0]["state"] == "up"))?;
    let before = sink.count();
    let watch = Stopwatch::start();
    victim.signal(Signal::SIGKILL)?;
    while sink.count() == before && watch.elapsed() < SOON {
        pause(LOOK);
    }
    let took = watch.elapsed();
    anyhow::ensure!(took < SOON, "the death was not told");
    daemon.stop()?;
    Ok(took)
}

fn told_by_monit(setting: &Setting) -> Result<Vec<Duration>> {
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::Wait.write(&places.bin(), "pt-vital")?;
    let (pid_file, sign) = (tools::monit_pid_file(places.root()), tools::monit_sign(places.root()));
    let mut times = Vec::new();
    let mut running = None;
    for _ in 0..DEATHS {
        let mut victim = Workload::spawn(&program)?;
        fs::write(&pid_file, victim.pid_text()).context("write the pid file")?;
        if running.is_none() {
            let [port] = free_ports()?;
            running = Some(Peer::Monit.start(places.root(), port, "")?);
        }
        pause(SEEN);
        if sign.exists() {
            fs::remove_file(&sign).context("remove the sign")?;
        }
        let watch = Stopwatch::start();
        victim.kill()?;
        wait_until("monit notices", SOON, || Ok(sign.exists()))?;
        times.push(watch.elapsed());
    }
    Ok(times)
}
