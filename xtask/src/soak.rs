//! `cargo xtask soak`: the agent under everything at once for as long as asked, looked at every ten seconds: short lives at
//! a bounded rate, groups that come and go, a critical process that dies and is there again, deliveries, scrapes.
//!
//! The verdict is on what grows: memory, descriptors, threads, tables; and on what is lost. It goes into
//! docs/SPECIFICATION.md like a kept promise, whichever it is.

mod load;
mod trend;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use integration_tests::binary;
use integration_tests::clock::{SOON, Stopwatch, pause, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::receiver::SECRET;
use integration_tests::scrape::Scrape;
use integration_tests::sink::Sink;
use serde_json::json;

use crate::bench::machine;
use crate::cargo::{cargo, target_dir};
use crate::marked;
use crate::soak::load::{Done, Load};
use crate::soak::trend::Trend;

const FILE: &str = "docs/SPECIFICATION.md";
const MARK: &str = "results of cargo xtask soak";
const PACE: Duration = Duration::from_secs(10);
/// What every run needs once is had by then.
const WARM_UP_SHARE: u32 = 4;
const MIB: f64 = 1_048_576.0;

/// How long, and of which build.
#[derive(Args)]
pub(crate) struct Options {
    /// How long the load lasts.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_080))]
    minutes: u32,
    /// The release build of the agent.
    #[arg(long)]
    release: bool,
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    rss: f64,
    fds: f64,
    threads: f64,
    /// Processes that it knows, less those that there are.
    surplus: f64,
    groups: f64,
    pending: f64,
}

/// A thing that was judged.
struct Row {
    what: &'static str,
    bound: &'static str,
    found: String,
    kept: bool,
}

/// Runs it.
///
/// # Errors
/// When the agent or the load fails, or the verdict is bad.
pub(crate) fn run(options: &Options) -> Result<()> {
    binary::require_root()?;
    let profile = if options.release { "release" } else { "debug" };
    let mut build = vec!["build", "--quiet", "--package", "process-throttler"];
    build.extend(options.release.then_some("--release"));
    cargo(&build)?;
    let _turn = Turn::take()?;
    let places = Places::for_agent(target_dir()?.join(profile).join("process-throttler"))?;
    let sink = Sink::start()?;
    let key = places.write_secret("key", SECRET)?;
    places.write_webhooks(&[json!({
        "name": "soak", "url": sink.url(), "secret_file": key, "events": ["critical_process_down"],
        "group_wait": "0s",
    })])?;
    places.write_config("metrics: { listen: '127.0.0.1:0' }\n")?;
    let load = Load::new(&places)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&load.profile())?;
    let length = Duration::from_secs(60) * options.minutes;
    let (samples, done) = std::thread::scope(|scope| -> Result<(Vec<Sample>, Done)> {
        let running = scope.spawn(|| load.run(&daemon, length));
        let samples = watch(&daemon, length);
        let done = running.join().map_err(|_panic| anyhow::anyhow!("the load panicked"))??;
        Ok((samples?, done))
    })?;
    let rows = judge(&daemon, &sink, &samples, &done)?;
    daemon.stop()?;
    let minutes = options.minutes;
    let machine = machine::describe(&format!("cargo xtask soak --minutes {minutes}"), profile)?;
    let table = table(&machine, &done, &rows);
    println!("{table}");
    marked::replace(FILE, MARK, &table)?;
    let bad: Vec<&str> = rows.iter().filter(|row| !row.kept).map(|row| row.what).collect();
    ensure!(bad.is_empty(), "not kept: {}", bad.join("; "));
    Ok(())
}

fn watch(daemon: &Daemon<'_>, length: Duration) -> Result<Vec<Sample>> {
    let (watch, mut samples) = (Stopwatch::start(), Vec::new());
    while watch.elapsed() + PACE <= length {
        pause(PACE);
        let sample = sample(daemon, watch.elapsed().as_secs_f64())?;
        let Sample { seconds, rss, fds, threads, surplus, groups, pending } = sample;
        println!(
            "{seconds:>6.0} s  RSS {:.2} MiB  fds {fds}  threads {threads}  processes {surplus:+}  groups {groups}  \
             pending {pending}",
            rss / MIB
        );
        samples.push(sample);
    }
    Ok(samples)
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^52")]
fn sample(daemon: &Daemon<'_>, seconds: f64) -> Result<Sample> {
    let scrape = Scrape::over_socket(&daemon.places().socket())?;
    let known = scrape.figure("process_throttler_processes")?;
    let there = kernel::processes()?.len() as f64;
    let dir = format!("/proc/{}/fd", daemon.pid());
    let fds = fs::read_dir(&dir).with_context(|| format!("list {dir}"))?.count() as f64;
    let queue = "process_throttler_webhook_queue_size{endpoint=\"soak\",state=\"pending\"}";
    Ok(Sample {
        seconds,
        rss: kernel::rss(daemon.pid())? as f64,
        fds,
        threads: kernel::status_field(daemon.pid(), "Threads")? as f64,
        surplus: known - there,
        groups: daemon.data(&["status"])?.as_array().context("a list")?.len() as f64,
        pending: scrape.get(queue).unwrap_or(0.0),
    })
}

fn judge(daemon: &Daemon<'_>, sink: &Sink, samples: &[Sample], done: &Done) -> Result<Vec<Row>> {
    let measured = samples.get(samples.len() / WARM_UP_SHARE as usize..).unwrap_or(samples);
    let grown = |what, bound, most: f64, unit: f64, name: &str, of: fn(&Sample) -> f64| -> Result<Row> {
        let points = measured.iter().map(|sample| (sample.seconds, of(sample) / unit));
        let trend = Trend::of(&points.collect::<Vec<_>>()).context("samples")?;
        Ok(Row { what, bound, found: format!("{trend:.2}{name}"), kept: trend.growth <= most })
    };
    let rows = [
        grown("growth of resident memory after the first quarter", "≤ 2 MiB", 2.0, MIB, " MiB", |s| s.rss)?,
        grown("growth of open descriptors", "≤ 2", 2.0, 1.0, "", |s| s.fds)?,
        grown("growth of threads", "≤ 1", 1.0, 1.0, "", |s| s.threads)?,
        grown("growth of known processes over those that there are", "≤ 5", 5.0, 1.0, "", |s| s.surplus)?,
        grown("growth of groups", "≤ 2", 2.0, 1.0, "", |s| s.groups)?,
        grown("growth of pending deliveries", "≤ 2", 2.0, 1.0, "", |s| s.pending)?,
    ];
    let mut rows = Vec::from(rows);
    rows.push(losses(daemon, done)?);
    rows.push(deaths(daemon, sink, done)?);
    Ok(rows)
}

fn losses(daemon: &Daemon<'_>, done: &Done) -> Result<Row> {
    let source = daemon.data(&["daemon", "status"])?["source"].clone();
    let number = |field: &str| source[field].as_u64().with_context(|| format!("{field} in {source}"));
    let (produced, sent, dropped) = (number("produced")?, number("sent")?, number("dropped")?);
    Ok(Row {
        what: "records: sent + dropped = produced, at least one a life",
        bound: "exactly",
        found: format!("{sent} + {dropped} = {produced} over {} lives", done.lives),
        kept: sent + dropped == produced && produced >= done.lives,
    })
}

/// Every death is counted, and whatever is owed of it arrives, each time under an id of its own: one that dies again and
/// again is not alerted each time.
fn deaths(daemon: &Daemon<'_>, sink: &Sink, done: &Done) -> Result<Row> {
    let figure = |name: &str| -> Result<f64> {
        let scrape = Scrape::over_socket(&daemon.places().socket())?;
        Ok(scrape.get(&format!("process_throttler_{name}")).unwrap_or(0.0))
    };
    let counted = "critical_deaths_total{cause=\"signal\",critical=\"pt-soak-vital\"}";
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let wanted = done.deaths as f64;
    let complete = wait_until("every death is counted and nothing is pending", SOON, || {
        let pending = figure("webhook_queue_size{endpoint=\"soak\",state=\"pending\"}")?;
        Ok(figure(counted)? == wanted && pending == 0.0)
    });
    let (counted, given_up) = (figure(counted)?, figure("webhook_given_up_total{endpoint=\"soak\"}")?);
    let arrived = sink.take();
    let ids: BTreeSet<&str> = arrived.iter().map(|arrival| arrival.id.as_str()).collect();
    let twice = arrived.len() - ids.len();
    Ok(Row {
        what: "deaths of a critical process: each is counted, what is owed of them arrives",
        bound: "all, each once, none given up",
        found: format!(
            "{counted} of {wanted} counted; {} deliveries arrived, {twice} twice, {given_up} given up",
            ids.len()
        ),
        kept: complete.is_ok() && given_up == 0.0 && twice == 0 && !ids.is_empty(),
    })
}

fn table(machine: &str, done: &Done, rows: &[Row]) -> String {
    let Done { lives, groups, deaths } = done;
    let mut table = format!(
        "{machine} {lives} lives, {groups} groups that came and went, {deaths} deaths of a critical process.\n\n\
         | judged | bound | found | kept |\n|---|---|---|---|\n"
    );
    for Row { what, bound, found, kept } in rows {
        let kept = if *kept { "yes" } else { "**no**" };
        table.push_str(&format!("| {what} | {bound} | {found} | {kept} |\n"));
    }
    table
}
