//! What a scrape costs beside prometheus-process-exporter, which reads all of /proc for each.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, Stopwatch, pause, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::scrape::{self, Scrape};
use integration_tests::tool::free_ports;
use integration_tests::workload::Workload;
use serde_json::json;

use super::tools::Peer;
use crate::bench::Setting;
use crate::bench::stats::Samples;

const GROUPS: usize = 50;
/// Processes in each.
const MEMBERS: usize = 20;
/// Scrapes of each program in a round.
const SCRAPES: u32 = 20;
/// Before each of them. The agent gives figures again that are younger than 100 ms, which those who scrape it every few
/// seconds never see.
const APART: Duration = Duration::from_millis(150);

/// How often the agent has collected figures, before those that it tells with it.
const COLLECTED: &str = "process_throttler_metrics_collect_duration_seconds_count";

/// Wall and CPU time of one scrape, ms.
pub(super) struct Scraped {
    pub(super) who: &'static str,
    pub(super) wall: Samples,
    pub(super) cpu: Samples,
}

/// The agent and the exporter in turn, on the same 1,000 processes, which are 50 limited groups to the agent.
///
/// # Errors
/// When one cannot be started or does not answer.
pub(super) fn run(setting: &Setting) -> Result<[Scraped; 2]> {
    let places = Places::for_agent(setting.agent.clone())?;
    places.write_config("metrics: { listen: \"127.0.0.1:0\" }\n")?;
    let name = |group: usize| format!("pt-scraped-{group}");
    let mut profile = ProfileText::new("scraped");
    let mut processes = Vec::with_capacity(GROUPS * MEMBERS);
    for group in 0..GROUPS {
        let program = Program::Wait.write(&places.bin(), &name(group))?;
        for _ in 0..MEMBERS {
            processes.push(Workload::spawn(&program)?);
        }
        profile = profile.rule_value(json!({
            "name": name(group), "match": { "comm": name(group) }, "limits": { "cpu": "90%" }, "allow_move": true,
        }));
    }
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile)?;
    wait_until("all groups are limited", SOON, || {
        let groups = daemon.data(&["status"])?;
        let full = |group: &serde_json::Value| group["members"].as_array().map(Vec::len) == Some(MEMBERS);
        Ok(groups.as_array().is_some_and(|groups| groups.len() == GROUPS && groups.iter().all(full)))
    })?;
    let ours = scrape::address(&daemon)?;
    let [port] = free_ports()?;
    let exporter = Peer::ProcessExporter.start(places.root(), port, "")?;
    let theirs = format!("127.0.0.1:{port}");
    let mut scraped = [
        Target::new("process-throttler", daemon.pid(), ours),
        Target::new(Peer::ProcessExporter.name(), exporter.pid(), theirs),
    ];
    for _ in 0..setting.rounds {
        for target in &mut scraped {
            target.begin()?;
            ensure!(
                (0..GROUPS).all(|group| target.seen.0.contains(&name(group))),
                "{} lacks groups",
                target.who
            );
        }
        let before = scraped[0].seen.figure(COLLECTED)?;
        for _ in 0..SCRAPES {
            for target in &mut scraped {
                pause(APART);
                target.scrape()?;
            }
        }
        let collected = scraped[0].seen.figure(COLLECTED)? - before;
        ensure!(collected >= f64::from(SCRAPES), "{collected} of {SCRAPES} scrapes were of their own");
        for target in &mut scraped {
            target.end()?;
        }
    }
    daemon.stop()?;
    let [ours, theirs] = scraped.map(Target::scraped);
    Ok([ours?, theirs?])
}

/// Who is scraped, and what was measured of it.
struct Target {
    who: &'static str,
    pid: u32,
    address: String,
    /// CPU time when the round began, in ns.
    began: u64,
    /// Wall time of this round's scrapes.
    taken: Duration,
    /// The last one.
    seen: Scrape,
    /// By round, ms a scrape.
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Target {
    const fn new(who: &'static str, pid: u32, address: String) -> Self {
        let seen = Scrape(String::new());
        Self { who, pid, address, began: 0, taken: Duration::ZERO, seen, wall: Vec::new(), cpu: Vec::new() }
    }

    /// One scrape, which reads what those after it may have cached, and begins to measure.
    fn begin(&mut self) -> Result<()> {
        self.scrape()?;
        (self.began, self.taken) = (kernel::cpu_nanos(self.pid)?, Duration::ZERO);
        Ok(())
    }

    fn scrape(&mut self) -> Result<()> {
        let watch = Stopwatch::start();
        self.seen = Scrape::over_tcp(&self.address)?;
        self.taken += watch.elapsed();
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let used = Duration::from_nanos(kernel::cpu_nanos(self.pid)? - self.began);
        for (each, whole) in [(&mut self.wall, self.taken), (&mut self.cpu, used)] {
            each.push(whole.as_secs_f64() * 1e3 / f64::from(SCRAPES));
        }
        Ok(())
    }

    fn scraped(self) -> Result<Scraped> {
        let samples = |by_round| Samples::new(by_round).context("a round");
        Ok(Scraped { who: self.who, wall: samples(self.wall)?, cpu: samples(self.cpu)? })
    }
}
