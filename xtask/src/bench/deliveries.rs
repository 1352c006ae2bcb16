//! Webhook deliveries: how fast a long queue is worked off and in what memory, and how long an event is on its way to
//! a receiver.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::binary;
use integration_tests::clock::{SOON, Stopwatch, wait_until};
use integration_tests::command::{run as run_agent, run_command};
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::receiver::SECRET;
use integration_tests::sink::Sink;
use serde_json::json;

use crate::bench::Setting;
use crate::bench::report::Row;
use crate::bench::stats::Samples;

/// Deliveries that are owed when the agent starts.
const QUEUED: u32 = 100_000;
/// Time for them: four times what is promised.
const WORKED_OFF_WITHIN: Duration = Duration::from_secs(10 * 60 * 4);
/// Events of a round.
const EVENTS: usize = 100;

/// Runs all.
///
/// # Errors
/// When the agent fails, or a delivery is lost.
pub(crate) fn run(setting: &Setting) -> Result<Vec<Row>> {
    let mut rows = queue(setting)?;
    rows.extend(latency(setting)?);
    Ok(rows)
}

/// Puts deliveries of about a kilobyte into the outbox of an agent that does not run.
fn owe(places: &Places, count: u32) -> Result<()> {
    Daemon::start(places)?.stop()?;
    let mut python = Command::new(binary::python()?);
    python.args([
        "-c",
        "import sqlite3, sys\n\
         db = sqlite3.connect(sys.argv[1])\n\
         body = b'{\"data\":\"' + b'x' * 1000 + b'\"}'\n\
         rows = ((f'evt_{i:032x}', body) for i in range(int(sys.argv[2])))\n\
         db.executemany(\"INSERT INTO outbox (event, endpoint, body, created, next_attempt, state) \"\n\
                        \"VALUES (?, 'default', ?, 0, 0, 'pending')\", rows)\n\
         db.commit()\n",
    ]);
    python.arg(places.state().join("journal.db")).arg(count.to_string());
    run_command(python)?.expect(0).map(drop)
}

#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn queue(setting: &Setting) -> Result<Vec<Row>> {
    let (places, sink) = (Places::for_agent(setting.agent.clone())?, Sink::start()?);
    places.write_webhook(&sink.url(), SECRET)?;
    owe(&places, QUEUED)?;
    let watch = Stopwatch::start();
    let daemon = Daemon::start(&places)?;
    let wanted = usize::try_from(QUEUED).context("a count")?;
    wait_until("the queue is worked off", WORKED_OFF_WITHIN, || Ok(sink.count() >= wanted))?;
    let seconds = watch.elapsed().as_secs_f64();
    let peak = kernel::status_field(daemon.pid(), "VmHWM")? as f64 / 1_024.0;
    daemon.stop()?;
    let mut ids: Vec<String> = sink.take().into_iter().map(|arrival| arrival.id).collect();
    let sent = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == wanted, "{} of {QUEUED} arrived", ids.len());
    let a_minute = f64::from(QUEUED) / seconds * 60.0;
    Ok(vec![
        Row {
            what: "webhook deliveries a minute to one endpoint, 100,000 queued",
            promise: "≥ 10,000",
            measured: format!("{a_minute:.0}, {} sent twice", sent - ids.len()),
            kept: a_minute >= 10_000.0,
        },
        Row {
            what: "peak of resident memory meanwhile",
            promise: "≤ 50 MiB",
            measured: format!("{peak:.1} MiB"),
            kept: peak <= 50.0,
        },
    ])
}

/// From the event to its arrival, over the journal and its disk flush, and what another endpoint that is dead adds.
fn latency(setting: &Setting) -> Result<Vec<Row>> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        alone.extend(round(setting, false)?);
        beside.extend(round(setting, true)?);
    }
    let (alone, beside) = (Samples::new(alone).context("samples")?, Samples::new(beside).context("samples")?);
    let more = (beside.percentile(99) / alone.percentile(99) - 1.0) * 100.0;
    Ok(vec![
        Row {
            what: "event to its arrival at a webhook receiver, p99",
            promise: "≤ 50 ms",
            measured: format!("{:.1} ms, median {alone:.1} ms", alone.percentile(99)),
            kept: alone.percentile(99) <= 50.0,
        },
        Row {
            what: "what a second endpoint that is dead adds to that p99",
            promise: "< 5 %",
            measured: format!("{more:+.1} %, median {beside:.1} ms"),
            kept: more < 5.0,
        },
    ])
}

/// Milliseconds of each event of a new agent. An event is a configuration that is refused: each is told by itself.
fn round(setting: &Setting, beside_a_dead_one: bool) -> Result<Vec<f64>> {
    let (places, sink) = (Places::for_agent(setting.agent.clone())?, Sink::start()?);
    let key = places.write_secret("key", SECRET)?;
    let mut endpoints = vec![("live", sink.url())];
    if beside_a_dead_one {
        // Nobody listens on this port.
        endpoints.push(("dead", "http://127.0.0.1:1/".to_owned()));
    }
    let endpoints = endpoints.into_iter().map(|(name, url)| {
        json!({ "name": name, "url": url, "secret_file": key, "events": ["configuration_changed"] })
    });
    places.write_webhooks(&endpoints.collect::<Vec<_>>())?;
    let daemon = Daemon::start(&places)?;
    places.write_config("nonsense: 1\n")?;
    for event in 1..=EVENTS {
        run_agent(&places, &["daemon", "reload"])?.expect(6)?;
        wait_until("it arrives", SOON, || Ok(sink.count() >= event))?;
    }
    places.write_config("")?;
    daemon.stop()?;
    let times = sink.take().into_iter().filter_map(|arrival| arrival.on_the_way);
    Ok(times.map(|time| time.as_secs_f64() * 1_000.0).collect())
}
