//! Deliveries arrive whatever happens: the agent dies at every point, receivers fail, keys change. Signatures are
//! checked by an implementation that is not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::receiver::{Receiver, Request, SECRET};
use integration_tests::reference;
use serde_json::Value;

/// The first retry comes after five seconds, a fifth more or less; then there may be a second one to wait for.
const RETRIED: Duration = Duration::from_secs(30);
/// Another key of the right form.
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The points of a delivery, how often each is passed before the death, and what the receiver answers until then.
const POINTS: [(&str, u16); 12] = [
    ("delivery-taken", 200),
    ("delivery-taken:1", 200),
    ("delivery-answered", 200),
    ("delivery-answered:1", 200),
    ("delivery-answered:2", 200),
    ("delivery-settling", 200),
    ("delivery-settling:1", 200),
    ("delivery-settled", 200),
    ("delivery-settled:1", 200),
    ("delivery-answered", 503),
    ("delivery-settling", 503),
    ("delivery-settled", 503),
];

/// Events that go to every endpoint.
const KINDS: [&str; 2] = ["emergency_stop", "emergency_resumed"];

/// Makes events, as long as there is somebody to make them.
fn make_events(places: &Places) -> Result<()> {
    for _ in 0..3 {
        // Either may meet an agent that is dying.
        run(places, &["emergency", "stop", "a test of deliveries"])?;
        run(places, &["emergency", "resume"])?;
    }
    Ok(())
}

fn deliveries(daemon: &Daemon<'_>) -> Result<Vec<Value>> {
    let data = daemon.data(&["webhook", "deliveries", "--limit", "1000"])?;
    Ok(data.as_array().context("deliveries are a list")?.clone())
}

fn id_of(request: &Request) -> Result<String> {
    request.header("webhook-id").map(str::to_owned)
}

#[test]
fn killed_at_every_point_nothing_is_lost_and_what_comes_twice_has_the_same_id() -> Result<()> {
    let _turn = Turn::take()?;
    let (mut events, mut duplicates) = (0, 0);
    for (point, status) in POINTS {
        let (places, receiver) = (Places::new()?, Receiver::start()?);
        places.write_webhook(&receiver.url(), SECRET)?;
        receiver.answer_with(status);
        let variable = format!("PROCESS_THROTTLER_DIE_AT={point}");
        let dying = Daemon::start_under(&places, &["env", &variable])?;
        make_events(&places)?;
        dying.died().with_context(|| format!("at {point}"))?;
        receiver.answer_with(200);

        let daemon = Daemon::start(&places)?;
        wait_until("everything is delivered", RETRIED, || {
            Ok(deliveries(&daemon)?.iter().all(|delivery| delivery["state"] == "delivered"))
        })
        .with_context(|| format!("killed at {point}"))?;

        let told: usize = KINDS.iter().map(|kind| Ok(daemon.events(kind)?.len())).sum::<Result<usize>>()?;
        let owed: BTreeSet<String> = deliveries(&daemon)?
            .iter()
            .map(|delivery| delivery["event"].as_str().map(str::to_owned).context("an id"))
            .collect::<Result<_>>()?;
        // The end of an alert that no event tells has the id of its beginning and a number.
        let of_events = owed.iter().filter(|id| id.matches('_').count() == 1).count();
        ensure!(told > 0 && of_events == told, "{point}: {told} events and {of_events} deliveries of them");
        let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for request in receiver.requests() {
            request.verify(SECRET)?;
            let body = bodies.entry(id_of(&request)?).or_insert_with(|| request.body.clone());
            ensure!(*body == request.body, "{point}: two bodies under one id");
        }
        let arrived: BTreeSet<String> = bodies.keys().cloned().collect();
        ensure!(arrived == owed, "{point}: arrived {arrived:?}, owed {owed:?}");
        events += owed.len();
        duplicates += receiver.requests().len() - arrived.len();
        daemon.stop()?;
    }
    // With `--nocapture`: what the specification says of it.
    println!(
        "{} kill points, {events} events, 0 lost, {duplicates} sent twice under their ids",
        POINTS.len()
    );
    Ok(())
}

#[test]
fn the_reference_implementation_accepts_signatures_also_of_a_new_key() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    places.write_webhook(&receiver.url(), SECRET)?;
    let daemon = Daemon::start(&places)?;
    make_events(&places)?;
    wait_until("all arrive", SOON, || Ok(receiver.requests().len() == 6))?;
    reference::verify(&receiver.requests(), SECRET)?;
    ensure!(reference::verify(&receiver.requests(), OTHER).is_err(), "any key will do");

    // In place of the old one, as an editor saves it; nobody tells the agent.
    places.write_webhook(&receiver.url(), OTHER)?;
    let tested = daemon.data(&["webhook", "test", "default"])?;
    ensure!(tested["delivered"] == true && tested["status"] == 200, "{tested}");
    let request = receiver.wait_for("the test event", SOON, |body| body["type"] == "test")?;
    reference::verify(&[request], OTHER)?;
    daemon.stop()
}

#[test]
fn while_keys_are_changed_either_one_verifies_and_then_only_the_new_one() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    let daemon = Daemon::start(&places)?;
    daemon.ask(&["webhook", "add", "ops", &receiver.url(), "--generate-secret"])?;
    let key = |name: &str| -> Result<String> {
        let path = places.config().join("secrets").join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    };
    // An event and a test, which go different ways.
    let sent = || -> Result<Vec<Request>> {
        let before = receiver.requests().len();
        daemon.ask(&["emergency", "stop"])?;
        daemon.ask(&["emergency", "resume"])?;
        daemon.ask(&["webhook", "test", "ops"])?;
        wait_until("they arrive", SOON, || {
            let fresh = receiver.requests().split_off(before);
            let has = |kind: &str| fresh.iter().any(|one| one.json().is_ok_and(|body| body["type"] == kind));
            Ok(has("test") && has(KINDS[0]))
        })?;
        Ok(receiver.requests().split_off(before))
    };
    let old = key("ops.key")?;
    reference::verify(&sent()?, &old)?;

    daemon.ask(&["webhook", "edit", "ops", "--rotate-secret"])?;
    let new = key("ops-2.key")?;
    ensure!(old != new, "it is the same key");
    let meanwhile = sent()?;
    reference::verify(&meanwhile, &old).context("with the old key, during the change")?;
    reference::verify(&meanwhile, &new).context("with the new key, during the change")?;

    daemon.ask(&["webhook", "edit", "ops", "--unset", "previous-secret"])?;
    let afterwards = sent()?;
    reference::verify(&afterwards, &new)?;
    ensure!(reference::verify(&afterwards, &old).is_err(), "the old key still verifies");
    daemon.stop()
}

#[test]
fn dead_letters_and_tests_work_with_and_without_a_daemon() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    places.write_webhook(&receiver.url(), SECRET)?;
    receiver.answer_with(500);
    let daemon = Daemon::start(&places)?;
    run(&places, &["emergency", "stop"])?.expect(0)?;
    wait_until("the failure is known", SOON, || {
        Ok(deliveries(&daemon)?.iter().any(|delivery| delivery["attempts"] == 1))
    })?;
    let number = deliveries(&daemon)?[0]["id"].clone();
    let detail = daemon.data(&["webhook", "deliveries", &number.to_string()])?;
    ensure!(detail["history"][0]["status"] == 500 && detail["state"] == "pending", "{detail}");
    ensure!(detail["body"].as_str().is_some_and(|body| body.contains("emergency_stop")), "{detail}");
    let failed = run(&places, &["webhook", "test", "default"])?.expect(1)?;
    ensure!(failed.stdout.contains("500"), "{failed:?}");
    run(&places, &["webhook", "test", "nobody"])?.expect(4)?;
    run(&places, &["webhook", "replay", "999"])?.expect(4)?;
    daemon.stop()?;

    run(&places, &["webhook", "test", "nobody"])?.expect(4)?;
    run(&places, &["webhook", "replay", "999"])?.expect(4)?;
    receiver.answer_with(200);
    let tested = run(&places, &["webhook", "test", "default", "-o", "json"])?.expect(0)?.json()?;
    ensure!(tested["data"]["delivered"] == true, "{tested}");
    let listed = run(&places, &["webhook", "deliveries", "default", "-o", "json"])?.expect(0)?.json()?;
    ensure!(listed["data"][0]["state"] == "pending", "{listed}");
    let replay = ["webhook", "replay", "--endpoint", "default", "--state", "pending", "--yes", "-o", "json"];
    let dry = run(&places, &[&replay[..], &["--dry-run"]].concat())?.expect(0)?.json()?;
    ensure!(dry["data"]["deliveries"] == 1 && dry["data"]["dry_run"] == true, "{dry}");
    run(&places, &replay)?.expect(0)?;

    let daemon = Daemon::start(&places)?;
    wait_until("it is delivered", SOON, || {
        Ok(deliveries(&daemon)?
            .iter()
            .any(|delivery| delivery["id"] == number && delivery["state"] == "delivered"))
    })?;
    run(&places, &["emergency", "resume"])?.expect(0)?;
    daemon.stop()
}

#[test]
fn a_replay_can_wait_until_each_delivery_was_tried() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    run(&places, &["webhook", "add", "ops", &receiver.url(), "--generate-secret"])?.expect(0)?;
    let daemon = Daemon::start(&places)?;
    run(&places, &["emergency", "stop"])?.expect(0)?;
    let is_delivered =
        |daemon: &Daemon<'_>| Ok(deliveries(daemon)?.iter().all(|one| one["state"] == "delivered"));
    wait_until("it is delivered", SOON, || Ok(!deliveries(&daemon)?.is_empty() && is_delivered(&daemon)?))?;
    let number = deliveries(&daemon)?[0]["id"].to_string();
    let arrived = receiver.requests().len();

    // Both ways to name it; what is said comes after the attempt, and not before.
    for which in [&[number.as_str()][..], &["--endpoint", "ops", "--state", "delivered", "--yes"]] {
        let before = receiver.requests().len();
        let replay =
            run(&places, &[&["webhook", "replay", "--wait", "-o", "json"], which].concat())?.expect(0)?;
        ensure!(replay.json()?["data"]["deliveries"] == 1 && replay.stderr.is_empty(), "{replay:?}");
        ensure!(receiver.requests().len() == before + 1, "it did not wait");
        wait_until("it is delivered again", SOON, || is_delivered(&daemon))?;
    }
    ensure!(id_of(&receiver.requests()[arrived])? == id_of(&receiver.requests()[0])?, "another id");

    // Nothing is sent to an endpoint that is switched off: that is said, and not waited for.
    daemon.ask(&["webhook", "disable", "ops"])?;
    let parked = run(&places, &["webhook", "replay", "--wait", &number])?.expect(0)?;
    ensure!(parked.stderr.contains("1 delivery is kept"), "{parked:?}");
    daemon.stop()?;

    // Nobody tries anything without a daemon: told before anything is changed.
    let before = run(&places, &["webhook", "deliveries", &number, "-o", "json"])?.expect(0)?.json()?;
    run(&places, &["webhook", "replay", "--wait", &number])?.expect(3)?;
    let after = run(&places, &["webhook", "deliveries", &number, "-o", "json"])?.expect(0)?.json()?;
    ensure!(before == after, "{before} {after}");
    Ok(())
}

#[test]
fn a_reload_sends_what_is_owed_to_the_new_address() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, old, new) = (Places::new()?, Receiver::start()?, Receiver::start()?);
    places.write_webhook(&old.url(), SECRET)?;
    old.answer_with(503);
    let daemon = Daemon::start(&places)?;
    run(&places, &["emergency", "stop"])?.expect(0)?;
    wait_until("the old one refuses", SOON, || Ok(old.requests().len() == 1))?;

    places.write_webhook(&new.url(), SECRET)?;
    daemon.ask(&["daemon", "reload"])?;
    run(&places, &["emergency", "resume"])?.expect(0)?;

    wait_until("both events arrive at the new one", RETRIED, || Ok(new.requests().len() == 2))?;
    ensure!(id_of(&old.requests()[0])? == id_of(&new.requests()[0])?, "another id");
    ensure!(new.requests()[0].json()?["type"] == "emergency_stop", "out of order");
    daemon.stop()
}

#[test]
fn a_key_that_the_service_manager_passes_signs_and_is_nowhere_else() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    let credentials = places.root().join("credentials");
    std::fs::create_dir(&credentials)?;
    std::fs::write(credentials.join("ops"), SECRET)?;
    std::fs::set_permissions(credentials.join("ops"), std::fs::Permissions::from_mode(0o400))?;
    let endpoint = serde_json::json!({ "name": "ops", "url": receiver.url(), "secret_credential": "ops" });
    places.write_webhooks(&[endpoint])?;
    let variable = format!("CREDENTIALS_DIRECTORY={}", credentials.display());
    let daemon = Daemon::start_under(&places, &["env", &variable])?;
    daemon.ask(&["webhook", "test", "ops"])?;
    let requests = receiver.requests();
    ensure!(!requests.is_empty(), "nothing arrived");
    reference::verify(&requests, SECRET)?;
    daemon.stop()?;
    // Without it nothing is sent unsigned.
    let daemon = Daemon::start(&places)?;
    let refused = run(&places, &["webhook", "test", "ops"])?;
    ensure!(refused.code != 0 && receiver.requests().len() == requests.len(), "{refused:?}");
    let told = format!("{}{}", refused.stdout, refused.stderr);
    ensure!(told.contains("systemd has passed none") && !told.contains(SECRET), "{refused:?}");
    daemon.stop()
}
