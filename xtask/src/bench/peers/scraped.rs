//! What a scrape costs beside prometheus-process-exporter, which reads all of /proc for each.

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, Stopwatch, wait_until};
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
const SCRAPES: u32 = 50;

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
    let mut found = [(daemon.pid(), ours), (exporter.pid(), theirs)].map(|(pid, address)| {
        let (wall, cpu) = (Vec::new(), Vec::new());
        (pid, address, wall, cpu)
    });
    for _ in 0..setting.rounds {
        for (pid, address, wall, cpu) in &mut found {
            // The first reads what those after it may have cached.
            ensure!(Scrape::over_tcp(address)?.0.len() > 1_000, "{address} tells little");
            let (watch, before) = (Stopwatch::start(), kernel::cpu_nanos(*pid)?);
            for _ in 0..SCRAPES {
                Scrape::over_tcp(address)?;
            }
            wall.push(watch.elapsed().as_secs_f64() * 1e3 / f64::from(SCRAPES));
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds far below 2^52")]
            let nanos = (kernel::cpu_nanos(*pid)? - before) as f64;
            cpu.push(nanos / 1e6 / f64::from(SCRAPES));
        }
    }
    daemon.stop()?;
    let [ours, theirs] = found.map(|(_, _, wall, cpu)| (Samples::new(wall), Samples::new(cpu)));
    let scraped = |who, (wall, cpu): (Option<Samples>, Option<Samples>)| -> Result<Scraped> {
        Ok(Scraped { who, wall: wall.context("a round")?, cpu: cpu.context("a round")? })
    };
    Ok([scraped("process-throttler", ours)?, scraped(Peer::ProcessExporter.name(), theirs)?])
}
