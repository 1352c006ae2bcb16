//! An alert is told when it begins and when it ends, once each, whatever becomes of the agent in between.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::{Receiver, Request, SECRET};
use integration_tests::workload::Workload;
use serde_json::{Value, json};

/// The deliveries that tell of an alert, as state and number of its events. One whose answer a killed agent did not
/// note is posted again under the same id: that is no other delivery.
fn told(receiver: &Receiver, key: &str) -> Result<Vec<(String, u64)>> {
    let mut told = Vec::new();
    let mut ids = BTreeSet::new();
    for request in receiver.requests() {
        request.verify(SECRET)?;
        if !ids.insert(request.header("webhook-id")?.to_owned()) {
            continue;
        }
        let alert = request.json()?["data"]["alert"].clone();
        if alert["key"].as_str().is_some_and(|found| found.starts_with(key)) {
            let state = alert["state"].as_str().context("an alert has a state")?.to_owned();
            told.push((state, alert["events"].as_u64().context("and a number of events")?));
        }
    }
    Ok(told)
}

fn wait_told(receiver: &Receiver, key: &str, state: &str) -> Result<Request> {
    receiver.wait_for(&format!("{key} {state}"), SOON, |body| {
        let alert = &body["data"]["alert"];
        alert["state"] == state && alert["key"].as_str().is_some_and(|found| found.starts_with(key))
    })
}

fn wait_critical(daemon: &Daemon<'_>, process: &Workload) -> Result<()> {
    wait_until("the process counts as critical", SOON, || {
        let explained = daemon.data(&["explain", &process.pid_text()])?;
        Ok(explained["protected"].as_str().is_some_and(|why| why.contains("critical")))
    })
}

fn count(receiver: &Receiver, key: &str, state: &str) -> Result<usize> {
    Ok(told(receiver, key)?.iter().filter(|(found, _)| found == state).count())
}

/// Has something else told from its beginning to its end. Posts of an endpoint come in order, so whatever was owed
/// before has come as well.
fn tell_something_else(daemon: &Daemon<'_>, receiver: &Receiver) -> Result<()> {
    const KEY: &str = "emergency_stop@";
    let before = count(receiver, KEY, "resolved")?;
    daemon.ask(&["emergency", "stop"])?;
    daemon.ask(&["emergency", "resume"])?;
    wait_until("the emergency is told", SOON, || Ok(count(receiver, KEY, "resolved")? > before))
}

fn configure(places: &Places, receiver: &Receiver, more: &Value) -> Result<()> {
    places.write_webhook(&receiver.url(), SECRET)?;
    let path = places.config().join("config.d/webhook.yaml");
    let text = std::fs::read_to_string(&path).context("read the endpoint")?;
    let mut config: Value = serde_json::from_str(&text).context("the endpoint is JSON")?;
    for (key, value) in more.as_object().context("more is an object")? {
        config["webhook"][key] = value.clone();
    }
    std::fs::write(&path, config.to_string()).context("write the endpoint")
}

#[test]
fn a_death_is_told_once_across_agents_and_so_is_the_return() -> Result<()> {
    const KEY: &str = "critical_process_down:vital@";
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    configure(&places, &receiver, &json!({}))?;
    let program = Program::Wait.write(&places.bin(), "pt-test-vital")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("vital").critical("vital", &program))?;
    let mut process = Workload::spawn(&program)?;
    wait_critical(&daemon, &process)?;

    process.kill()?;
    wait_told(&receiver, KEY, "firing")?;
    daemon.kill()?;
    let daemon = Daemon::start(&places)?;
    tell_something_else(&daemon, &receiver)?;
    ensure!(told(&receiver, KEY)? == [("firing".to_owned(), 1)], "{:?}", told(&receiver, KEY)?);

    let process = Workload::spawn(&program)?;
    wait_critical(&daemon, &process)?;
    wait_told(&receiver, KEY, "resolved")?;
    daemon.kill()?;
    let daemon = Daemon::start(&places)?;
    tell_something_else(&daemon, &receiver)?;
    let told = told(&receiver, KEY)?;
    ensure!(told == [("firing".to_owned(), 1), ("resolved".to_owned(), 1)], "{told:?}");
    daemon.stop()
}

#[test]
fn whoever_looks_after_it_is_left_alone() -> Result<()> {
    const KEY: &str = "critical_process_down:vital@";
    const OTHER: &str = "critical_process_down:other@";
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    configure(&places, &receiver, &json!({ "repeat_interval": "1s" }))?;
    let vital = Program::Wait.write(&places.bin(), "pt-test-vital")?;
    let other = Program::Wait.write(&places.bin(), "pt-test-other")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("vital").critical("vital", &vital).critical("other", &other))?;
    run(&places, &["critical", "ack", "vital"])?.expect(4)?;
    for program in [&vital, &other] {
        let mut process = Workload::spawn(program)?;
        wait_critical(&daemon, &process)?;
        process.kill()?;
    }
    wait_until("it is repeated", SOON, || Ok(count(&receiver, KEY, "repeated")? >= 2))?;

    let dry = daemon.data(&["critical", "ack", "vital", "--dry-run"])?;
    ensure!(dry["dry_run"] == true && dry["alerts"][0]["subject"] == "vital", "{dry}");
    let answer = daemon.data(&["critical", "ack", "vital", "--for", "1h", "--comment", "on my way"])?;
    let by = &answer["alerts"][0]["acknowledged"];
    ensure!(by["uid"] == 0 && by["comment"] == "on my way", "{answer}");

    wait_told(&receiver, KEY, "acknowledged")?;
    let before = told(&receiver, KEY)?;
    let mut daemon = daemon;
    for _ in 0..2 {
        // The other one goes on being told, also by the next agent: so the time for this one had come.
        let repeated = count(&receiver, OTHER, "repeated")?;
        wait_until("the other is repeated", SOON, || {
            Ok(count(&receiver, OTHER, "repeated")? >= repeated + 2)
        })?;
        ensure!(told(&receiver, KEY)? == before, "{:?}", told(&receiver, KEY)?);
        daemon.kill()?;
        daemon = Daemon::start(&places)?;
    }
    daemon.stop()
}

#[test]
fn an_emergency_is_told_from_its_beginning_to_its_end() -> Result<()> {
    const KEY: &str = "emergency_stop@";
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    configure(&places, &receiver, &json!({}))?;
    let daemon = Daemon::start(&places)?;
    daemon.ask(&["emergency", "stop", "too slow"])?;
    wait_told(&receiver, KEY, "firing")?;
    daemon.kill()?;
    let daemon = Daemon::start(&places)?;
    daemon.ask(&["emergency", "resume"])?;
    let last = wait_told(&receiver, KEY, "resolved")?.json()?;
    ensure!(last["type"] == "emergency_resumed", "{last}");

    // Resumed while no daemon runs: the next one tells.
    daemon.ask(&["emergency", "stop"])?;
    daemon.kill()?;
    run(&places, &["emergency", "resume"])?.expect(0)?;
    let daemon = Daemon::start(&places)?;
    wait_until("both ends are told", SOON, || Ok(told(&receiver, KEY)?.len() >= 4))?;
    let states: Vec<String> = told(&receiver, KEY)?.into_iter().map(|(state, _)| state).collect();
    ensure!(states == ["firing", "resolved", "firing", "resolved"], "{states:?}");
    daemon.stop()
}
