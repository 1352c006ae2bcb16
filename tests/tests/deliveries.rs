//! Deliveries of a running agent under trouble: endpoints that are dead, a disk that is full, and endpoints
//! that are added when there is something to tell already.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, Stopwatch, patience, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::disk::{fill, start_on_small_disk};
use integration_tests::places::Places;
use integration_tests::receiver::{Receiver, SECRET};
use serde_json::{Value, json};

/// Less than any wait before a retry, and than the timeout of an endpoint that hangs.
const ON_TIME: Duration = Duration::from_secs(3);

/// Has the agent tell `configuration_changed`, a warning, `count` times; each is a delivery of its own.
fn make_warnings(places: &Places, count: usize) -> Result<()> {
    places.write_config("nonsense: 1\n")?;
    for _ in 0..count {
        run(places, &["daemon", "reload"])?.expect(6)?;
    }
    places.write_config("")
}

/// How a feature of the agent fares, and why.
fn feature(daemon: &Daemon<'_>, name: &str) -> Result<(String, String)> {
    let status = daemon.data(&["daemon", "status"])?;
    let features = status["features"].as_array().context("features are a list")?;
    let found = features.iter().find(|feature| feature["name"] == name);
    let found = found.with_context(|| format!("no feature {name} in {status}"))?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("why")))
}

#[test]
fn dead_endpoints_delay_no_other() -> Result<()> {
    const EVENTS: usize = 20;
    let _turn = Turn::take()?;
    let (places, live) = (Places::new()?, Receiver::start()?);
    // Connections are made to it, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let address = silent.local_addr().context("its address")?;
    let key = places.write_secret("key", SECRET)?;
    let (refuses, hangs) = ("http://127.0.0.1:1/".to_owned(), format!("http://{address}/"));
    let endpoints = [("refuses", refuses), ("hangs", hangs), ("live", live.url())].map(
        |(name, url)| json!({ "name": name, "url": url, "secret_file": key, "min_severity": "warning" }),
    );
    places.write_webhooks(&endpoints)?;
    let daemon = Daemon::start(&places)?;
    let mut slowest = Duration::ZERO;
    for number in 1..=EVENTS {
        let watch = Stopwatch::start();
        make_warnings(&places, 1)?;
        wait_until("it arrives", SOON, || Ok(live.requests().len() >= number))?;
        slowest = slowest.max(watch.elapsed());
    }
    ensure!(slowest < patience(ON_TIME), "one took {slowest:?}");
    for request in live.requests() {
        request.verify(SECRET)?;
    }
    ensure!(live.requests().len() == EVENTS, "{} arrived", live.requests().len());

    let deliveries = daemon.data(&["webhook", "deliveries", "--limit", "1000"])?;
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for delivery in deliveries.as_array().context("deliveries are a list")? {
        let text = |key: &str| delivery[key].as_str().unwrap_or_default();
        *counts.entry((text("endpoint"), text("state"))).or_default() += 1;
    }
    let owed = [(("hangs", "pending"), EVENTS), (("refuses", "pending"), EVENTS)];
    ensure!(owed.iter().all(|(key, count)| counts.get(key) == Some(count)), "{counts:?}");
    // With `--nocapture`: what the specification says of it.
    println!("{EVENTS} events, two of three endpoints dead: the slowest took {slowest:?}");
    daemon.stop()
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost_when_space_returns() -> Result<()> {
    const EVENTS: usize = 6;
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    places.write_webhook(&receiver.url(), SECRET)?;
    let daemon = start_on_small_disk(&places)?;
    make_warnings(&places, 1)?;
    wait_until("one is delivered", SOON, || {
        Ok(daemon.data(&["webhook", "deliveries"])?[0]["state"] == "delivered")
    })?;

    let ballast = fill(&daemon)?;
    make_warnings(&places, EVENTS)?;
    wait_until("the agent says so", SOON, || {
        let (state, why) = feature(&daemon, "event-stream")?;
        ensure!(state == "degraded" && why.contains("wait in memory"), "{state}: {why}");
        Ok(true)
    })?;
    ensure!(receiver.requests().len() == 1, "nothing is told that is not on record");
    ensure!(daemon.printed().contains("cannot write the journal"), "{}", daemon.printed());

    std::fs::remove_file(&ballast).context("make room")?;
    wait_until("all arrive", SOON, || Ok(receiver.requests().len() == EVENTS + 1))?;
    wait_until("the agent has recovered", SOON, || Ok(feature(&daemon, "event-stream")?.0 == "working"))?;
    let told = daemon.events("configuration_changed")?;
    let refusals = told.iter().filter(|event| event["accepted"] == false).count();
    ensure!(refusals == EVENTS + 1, "{refusals} of {} events", EVENTS + 1);
    let mut ids: Vec<String> = Vec::new();
    for request in receiver.requests() {
        request.verify(SECRET)?;
        ids.push(request.header("webhook-id")?.to_owned());
    }
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == EVENTS + 1, "one came twice");
    daemon.stop()
}

#[test]
fn an_endpoint_that_is_added_hears_what_stands_already() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, late, other) = (Places::new()?, Receiver::start()?, Receiver::start()?);
    let daemon = Daemon::start(&places)?;
    let (state, _) = feature(&daemon, "webhooks")?;
    ensure!(state == "disabled", "{state}");
    daemon.ask(&["emergency", "stop"])?;
    daemon.wait_event("emergency_stop", |_| true)?;

    daemon.ask(&["webhook", "add", "other", &other.url(), "--events", "critical_process_down"])?;
    daemon.ask(&["webhook", "add", "late", &late.url()])?;
    ensure!(feature(&daemon, "webhooks")?.0 == "working", "it has endpoints");
    let stands =
        |body: &Value| body["type"] == "emergency_stop" && body["data"]["alert"]["state"] == "firing";
    late.wait_for("what stands", SOON, stands)?;
    // Once: not with every reload.
    daemon.ask(&["daemon", "reload"])?;
    daemon.ask(&["emergency", "resume"])?;
    late.wait_for("its end", SOON, |body| body["data"]["alert"]["state"] == "resolved")?;

    let told = late.requests().iter().filter(|one| one.json().is_ok_and(|body| stands(&body))).count();
    ensure!(told == 1, "told {told} times");
    ensure!(other.requests().is_empty(), "it asked for something else: {:?}", other.requests());
    daemon.stop()
}
