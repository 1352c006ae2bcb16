//! The death of a critical process is told with its cause: in the event stream and to the webhook endpoint.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::{Receiver, Request, SECRET};
use integration_tests::workload::Workload;
use serde_json::{Value, json};

/// The schedule of retries is seconds; this is enough for two of them.
const RETRIED: Duration = Duration::from_secs(30);

const DOWN: &str = "critical_process_down";

fn webhook(places: &Places, receiver: &Receiver) -> Result<()> {
    places.write_webhook(&receiver.url(), SECRET)
}

fn wait_alert(receiver: &Receiver, name: &str, timeout: Duration) -> Result<Request> {
    receiver.wait_for("the alert", timeout, |body| {
        body["type"] == DOWN && body["data"]["details"]["name"] == name
    })
}

/// Killed by a signal and ended with a code: told for both, as far as the source of `config` can know.
pub(crate) fn deaths_are_told(config: &str, cause_known: bool) -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    places.write_config(config)?;
    webhook(&places, &receiver)?;
    let killed = Program::Wait.write(&places.bin(), "pt-killed")?;
    let ended = Program::ReadThenExit(7).write(&places.bin(), "pt-ended")?;
    let daemon = Daemon::start(&places)?;
    // One is there before its rule, the other starts after it.
    let mut first = Workload::spawn(&killed)?;
    daemon.activate(&ProfileText::new("vital").critical("killed", &killed).critical("ended", &ended))?;
    let mut second = Workload::spawn_reading(&ended)?;
    wait_known_critical(&daemon, &first)?;
    wait_known_critical(&daemon, &second)?;

    first.kill()?;
    second.finish()?;

    for (name, process, cause) in [
        ("killed", &first, json!({ "signal": { "number": 9, "core": false } })),
        ("ended", &second, json!({ "code": 7 })),
    ] {
        let event = daemon
            .wait_event(DOWN, |event| event["name"] == name)
            .with_context(|| format!("death of {name}"))?;
        ensure!(event["exit"]["process"]["key"]["pid"] == process.pid(), "{event}");
        let known = &event["exit"]["status"];
        ensure!(if cause_known { *known == cause } else { known.is_null() }, "{event}");
        let request = wait_alert(&receiver, name, SOON)?;
        request.verify(SECRET)?;
        let details = &request.json()?["data"]["details"];
        ensure!(details["exit"]["status"] == *known, "the alert differs from the event: {details}");
    }
    daemon.stop()
}

/// Waits until the agent counts this process as critical: `explain` says that it is never touched.
pub(crate) fn wait_known_critical(daemon: &Daemon<'_>, process: &Workload) -> Result<()> {
    wait_until("the process counts as critical", SOON, || {
        let explained = daemon.data(&["explain", &process.pid_text()])?;
        Ok(explained["protected"].as_str().is_some_and(|why| why.contains("critical")))
    })
}

fn death(daemon: &Daemon<'_>, places: &Places) -> Result<Value> {
    let program = Program::Wait.write(&places.bin(), "pt-vital")?;
    daemon.activate(&ProfileText::new("vital").critical("vital", &program))?;
    let mut process = Workload::spawn(&program)?;
    wait_known_critical(daemon, &process)?;
    process.kill()?;
    daemon.wait_event(DOWN, |event| event["name"] == "vital")
}

#[test]
fn deaths_are_told_with_their_cause() -> Result<()> {
    deaths_are_told("", true)
}

#[test]
fn a_critical_process_is_never_limited() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let program = Program::Wait.write(&places.bin(), "pt-never")?;
    let process = Workload::spawn(&program)?;
    let profile = ProfileText::new("vital").critical("never", &program).rule(
        "everything",
        "pt-never",
        &json!({ "nice": 19 }),
    );
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile)?;
    wait_known_critical(&daemon, &process)?;

    let refused = integration_tests::command::run(
        &places,
        &["throttle", "--pid", &process.pid_text(), "--nice", "10"],
    )?;

    ensure!(refused.code != 0 && refused.stderr.contains("critical"), "{refused:?}");
    ensure!(integration_tests::kernel::stat(process.pid())?.nice == 0, "it was limited");
    ensure!(daemon.group("everything")?.is_none(), "the rule has a group");
    daemon.stop()
}

#[test]
fn a_name_alone_earns_no_protection() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    // Anybody can give a process this comm; who could thereby escape a limit would.
    let process = Workload::spawn(&Program::Wait.write(&places.bin(), "pt-pretender")?)?;
    let profile = ProfileText::new("vital")
        .critical_matching("pretender", &json!({ "comm": "pt-pretender" }))
        .rule_matching(
            "everything",
            &json!({ "comm": { "prefix": "pt-pret" } }),
            &json!({ "nice": 11 }),
            "group",
        );
    let daemon = Daemon::start(&places)?;

    daemon.activate(&profile)?;

    wait_until("it is limited", SOON, || Ok(integration_tests::kernel::stat(process.pid())?.nice == 11))?;
    daemon.stop()
}

#[test]
fn an_alert_that_fails_is_sent_again_under_the_same_id() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    webhook(&places, &receiver)?;
    receiver.answer_with(503);
    let daemon = Daemon::start(&places)?;

    death(&daemon, &places)?;

    let first = wait_alert(&receiver, "vital", SOON)?;
    receiver.answer_with(204);
    let id = first.header("webhook-id")?.to_owned();
    let attempts = || -> Vec<Request> {
        let requests = receiver.requests().into_iter();
        requests.filter(|request| request.header("webhook-id").is_ok_and(|other| other == id)).collect()
    };
    wait_until("the alert is sent again", RETRIED, || Ok(attempts().len() >= 2))?;
    for attempt in attempts() {
        attempt.verify(SECRET)?;
        ensure!(attempt.body == first.body, "the body differs between attempts");
    }
    daemon.stop()
}

#[test]
fn an_alert_survives_the_sudden_death_of_the_agent() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    webhook(&places, &receiver)?;
    let port = receiver.port();
    drop(receiver);
    let daemon = Daemon::start(&places)?;
    death(&daemon, &places)?;
    daemon.kill()?;

    let receiver = Receiver::start_at(port).context("the port is still free")?;
    let daemon = Daemon::start(&places)?;

    wait_alert(&receiver, "vital", RETRIED)?.verify(SECRET)?;
    daemon.stop()
}
