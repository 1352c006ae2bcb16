//! What a scrape costs beside many processes: ours, and that of an exporter which reads all of /proc for it.

use anyhow::{Context as _, Result};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, Stopwatch, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::scrape::{Scrape, address};
use integration_tests::tool::free_ports;
use integration_tests::workload::Workload;
use serde_json::json;

use super::tools::Peer;
use crate::bench::Setting;
use crate::bench::stats::Samples;

pub(super) const PROCESSES: usize = 1_000;
pub(super) const GROUPS: usize = 50;
/// Scrapes of each in a round.
const SCRAPES: usize = 3;

/// One who is scraped.
pub(super) struct Scraped {
    pub(super) who: &'static str,
    /// From the connection to the whole answer, ms.
    pub(super) wall: Samples,
    /// CPU time of the program meanwhile, ms.
    pub(super) cpu: Samples,
}

/// Scrapes both in turn: the agent first.
///
/// # Errors
/// When one does not answer.
pub(super) fn run(setting: &Setting) -> Result<[Scraped; 2]> {
    let places = Places::for_agent(setting.agent.clone())?;
    let cgroup = TestCgroup::new("scraped")?;
    let mut profile = ProfileText::new("scraped");
    let mut processes = Vec::with_capacity(PROCESSES);
    for group in 0..GROUPS {
        let comm = format!("pt-group-{group}");
        let program = Program::Wait.write(&places.bin(), &comm)?;
        profile = profile.rule(&format!("group-{group}"), &comm, &json!({ "cpu": "50%" }));
        for _ in 0..PROCESSES / GROUPS {
            processes.push(Workload::spawn_in(&program, &cgroup)?);
        }
    }
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile)?;
    wait_until("all groups are limited", SOON, || {
        let limited = daemon.data(&["status"])?.as_array().map_or(0, Vec::len);
        Ok(limited == GROUPS)
    })?;
    let [port] = free_ports()?;
    let exporter = Peer::ProcessExporter.start(places.root(), port, "")?;
    let (ours, theirs) = (address(&daemon)?, format!("127.0.0.1:{port}"));
    let (mut first, mut second) = (Costs::default(), Costs::default());
    // The first ones read what is kept from then on.
    Costs::default().scrape(daemon.pid(), &ours)?;
    Costs::default().scrape(exporter.pid(), &theirs)?;
    for _ in 0..setting.rounds as usize * SCRAPES {
        first.scrape(daemon.pid(), &ours)?;
        second.scrape(exporter.pid(), &theirs)?;
    }
    drop(exporter);
    daemon.stop()?;
    Ok([first.of("process-throttler")?, second.of("prometheus-process-exporter, as packaged")?])
}

#[derive(Default)]
struct Costs {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Costs {
    fn scrape(&mut self, pid: u32, address: &str) -> Result<()> {
        let before = kernel::cpu_nanos(pid)?;
        let watch = Stopwatch::start();
        Scrape::over_tcp(address)?;
        self.wall.push(watch.elapsed().as_secs_f64() * 1_000.0);
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
        self.cpu.push(kernel::cpu_nanos(pid)?.saturating_sub(before) as f64 / 1e6);
        Ok(())
    }

    fn of(self, who: &'static str) -> Result<Scraped> {
        let all = |values| Samples::new(values).context("at least one scrape");
        Ok(Scraped { who, wall: all(self.wall)?, cpu: all(self.cpu)? })
    }
}
