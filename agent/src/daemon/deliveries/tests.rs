//! The tasks against receivers on the loopback interface, with a database of their own.

use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::clock::patience;
use crate::effect::webhook::deliver::breaker::OPENS_AFTER;
use crate::effect::webhook::deliver::testing::endpoint;
use crate::effect::webhook::fake::{Fake, Play, status};
use crate::store::attempts::{AttemptRow, Fate};
use crate::store::outbox::DeliveryFilter;
use crate::store::{Durability, StoreError};

const FAR: i64 = 3_600_000;

struct Rig {
    _dir: TempDir,
    store: Store,
    due: Arc<Notify>,
    dispatcher: Dispatcher,
}

impl Rig {
    /// With what `owe` puts there before the tasks are started.
    fn start(endpoints: Vec<Endpoint>, owe: impl FnOnce(&Tables) -> Result<(), StoreError>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("journal.db"), Durability::Power).unwrap().store;
        store.write(owe).unwrap();
        let due = Arc::new(Notify::new());
        let own = store.again().unwrap();
        let dispatcher =
            Dispatcher::start(own, endpoints, Arc::clone(&due), None, "host-1".to_owned()).unwrap();
        Self { _dir: dir, store, due, dispatcher }
    }

    fn count(&self, state: DeliveryState) -> u64 {
        let filter = DeliveryFilter { state: Some(state), ..DeliveryFilter::default() };
        self.store.read(|tables| tables.count_deliveries(&filter)).unwrap()
    }

    async fn settled(&self, delivered: u64) {
        until("deliveries are settled", || self.count(DeliveryState::Delivered) == delivered).await;
    }

    fn add(&mut self, event: &str, endpoint: &str) {
        self.store.write(|tables| tables.enqueue(event, endpoint, b"{}", now())).unwrap();
        self.due.notify_one();
    }
}

fn now() -> i64 {
    clock::unix_millis(clock::wall())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let (started, most) = (clock::now(), patience(Duration::from_secs(10)));
    while !holds() {
        assert!(clock::now().since(started) < most, "{what}: not within {most:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn named(name: &str, url: String) -> Endpoint {
    Endpoint { name: name.parse().unwrap(), ..endpoint(url) }
}

fn failed(at: i64) -> AttemptRow {
    AttemptRow { at, status: None, latency_ms: 1, error: Some("no".to_owned()), answer: Vec::new() }
}

fn ids(fake: &Fake) -> Vec<String> {
    fake.seen().iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn everything_owed_arrives_in_order_over_one_connection() {
    let fake = Fake::start(|_| status(200)).await;
    let expected: Vec<String> = (0..100).map(|number| format!("evt_{number}")).collect();
    let owed = expected.clone();
    let mut rig = Rig::start(vec![named("ops", fake.url())], move |tables| {
        owed.iter().try_for_each(|event| tables.enqueue(event, "ops", b"{}", 0))
    });
    rig.settled(100).await;
    assert_eq!((ids(&fake), fake.connections()), (expected, 1));
    rig.add("late", "ops");
    rig.settled(101).await;
    let attempts = rig.store.read(|tables| tables.attempts(101)).unwrap();
    assert_eq!((attempts.len(), attempts[0].status, attempts[0].error.as_deref()), (1, Some(200), None));
    let gauge = rig.dispatcher.gauges().remove(&"ops".parse().unwrap()).unwrap();
    assert_eq!((gauge.delivered, gauge.failed, gauge.last_status), (101, 0, Some(200)));
}

#[tokio::test]
async fn a_dead_endpoint_delays_no_other() {
    let (dead, live) = (Fake::start(|_| Play::Hang).await, Fake::start(|_| status(200)).await);
    let mut rig = Rig::start(vec![named("dead", dead.url()), named("live", live.url())], |tables| {
        (0..50).try_for_each(|number| tables.enqueue(&format!("old-{number}"), "dead", b"{}", 0))
    });
    until("the dead one is asked", || dead.seen().len() == 1).await;
    for number in 0..20 {
        let started = clock::now();
        rig.add(&format!("evt_{number}"), "live");
        until("it arrives", || live.seen().len() > number).await;
        let took = clock::now().since(started);
        assert!(took < patience(Duration::from_secs(1)), "{took:?}");
    }
    assert_eq!(dead.seen().len(), 1);
    rig.settled(20).await;
}

#[tokio::test]
async fn a_failure_keeps_the_line_waiting_and_a_replay_ends_the_wait() {
    let fake = Fake::start(|number| status(if number == 0 { 503 } else { 200 })).await;
    let mut rig = Rig::start(vec![named("ops", fake.url())], |tables| {
        ["a", "b"].iter().try_for_each(|event| tables.enqueue(event, "ops", b"{}", 0))
    });
    until("the failure is noted", || {
        rig.store.read(|tables| tables.pending("ops", 1)).unwrap().iter().any(|head| head.attempts == 1)
    })
    .await;
    let head = rig.store.read(|tables| tables.pending("ops", 2)).unwrap();
    let wait = head[0].next_attempt - now();
    assert!((1_000..=6_000).contains(&wait), "five seconds, a fifth more or less: {wait}");
    assert_eq!((ids(&fake), head.len()), (vec!["a".to_owned()], 2));
    rig.store.write(|tables| tables.replay(head[0].id, now())).unwrap();
    rig.dispatcher.look_again();
    rig.settled(2).await;
    assert_eq!(ids(&fake), ["a", "a", "b"]);
}

#[tokio::test]
async fn what_is_rejected_three_times_is_dead_and_frees_the_line() {
    let fake = Fake::start(|number| status(if number == 0 { 422 } else { 200 })).await;
    let rig = Rig::start(vec![named("ops", fake.url())], |tables| {
        ["a", "b"].iter().try_for_each(|event| tables.enqueue(event, "ops", b"{}", 0))?;
        tables.settle(1, Fate::Later { attempts: 2, rejected: 2, next_attempt: 0 }, &failed(0))
    });
    rig.settled(1).await;
    let dead = rig.store.read(|tables| tables.delivery(1)).unwrap().unwrap();
    assert_eq!((dead.state, dead.attempts), (DeliveryState::Dead, 3));
    assert!(dead.last_error.unwrap().contains("422"));
    assert_eq!(ids(&fake), ["a", "b"]);
}

#[tokio::test]
async fn the_tenth_failure_is_the_last() {
    let fake = Fake::start(|number| status(if number == 0 { 500 } else { 200 })).await;
    let rig = Rig::start(vec![named("ops", fake.url())], |tables| {
        ["a", "b"].iter().try_for_each(|event| tables.enqueue(event, "ops", b"{}", 0))?;
        tables.settle(1, Fate::Later { attempts: 9, rejected: 0, next_attempt: 0 }, &failed(0))
    });
    rig.settled(1).await;
    assert_eq!(rig.count(DeliveryState::Dead), 1);
}

#[tokio::test]
async fn gone_disables_until_enabled_and_loses_nothing() {
    let fake = Fake::start(|number| status(if number == 0 { 410 } else { 200 })).await;
    let mut rig = Rig::start(vec![named("ops", fake.url())], |tables| {
        ["a", "b"].iter().try_for_each(|event| tables.enqueue(event, "ops", b"{}", 0))
    });
    until("it is disabled", || {
        rig.store.read(|tables| tables.endpoint_row("ops")).unwrap().disabled.is_some()
    })
    .await;
    rig.add("c", "ops");
    rig.dispatcher.look_again();
    until("the task has looked", || rig.store.read(|tables| tables.attempts(1)).unwrap().len() == 1).await;
    assert_eq!((ids(&fake), rig.count(DeliveryState::Pending)), (vec!["a".to_owned()], 3));
    assert!(rig.store.write(|tables| tables.enable_endpoint("ops")).unwrap());
    rig.dispatcher.look_again();
    rig.settled(3).await;
    assert_eq!(ids(&fake), ["a", "a", "b", "c"]);
}

#[tokio::test]
async fn an_open_breaker_is_remembered_and_probes_before_the_schedule_would() {
    let fake = Fake::start(|number| status(if number == 0 { 503 } else { 200 })).await;
    let mut rig = Rig::start(vec![named("ops", fake.url())], |tables| {
        tables.enqueue("a", "ops", b"{}", 0)?;
        tables.settle(1, Fate::Later { attempts: 5, rejected: 0, next_attempt: now() + FAR }, &failed(0))?;
        tables.remember_failures("ops", OPENS_AFTER, Some(now()))
    });
    until("the probe fails", || rig.store.read(|tables| tables.attempts(1)).unwrap().len() == 2).await;
    let row = rig.store.read(|tables| tables.endpoint_row("ops")).unwrap();
    let head = rig.store.read(|tables| tables.delivery(1)).unwrap().unwrap();
    assert_eq!((row.failures, head.attempts), (OPENS_AFTER + 1, 5), "a probe does not count");
    assert!(head.next_attempt > now() + FAR / 2 && row.not_before > Some(now() + 100_000), "{row:?}");
    // Its next probe, now.
    rig.store.write(|tables| tables.remember_failures("ops", row.failures, Some(now()))).unwrap();
    rig.dispatcher.look_again();
    rig.settled(1).await;
    assert_eq!(rig.store.read(|tables| tables.endpoint_row("ops")).unwrap().failures, 0);
}

#[tokio::test]
async fn a_stop_delivers_what_is_due_and_waits_for_nobody_who_hangs() {
    let fake = Fake::start(|number| if number < 3 { status(200) } else { Play::Hang }).await;
    let mut rig = Rig::start(vec![named("ops", fake.url())], |_| Ok(()));
    for event in ["a", "b", "c", "d"] {
        rig.add(event, "ops");
    }
    until("one hangs", || fake.seen().len() == 4).await;
    let started = clock::now();
    rig.dispatcher.stop(Duration::from_millis(200)).await;
    assert!(clock::now().since(started) < patience(Duration::from_secs(2)));
    assert_eq!((rig.count(DeliveryState::Delivered), rig.count(DeliveryState::Pending)), (3, 1));
}

#[tokio::test]
async fn changed_endpoints_get_what_is_owed_and_unknown_ones_keep_it() {
    let (old, new) = (Fake::start(|_| status(503)).await, Fake::start(|_| status(200)).await);
    let mut rig = Rig::start(vec![named("ops", old.url())], |tables| {
        tables.enqueue("a", "ops", b"{}", 0)?;
        tables.enqueue("b", "removed", b"{}", 0)
    });
    until("the failure is noted", || rig.store.read(|tables| tables.attempts(1)).unwrap().len() == 1).await;
    rig.store.write(|tables| tables.replay(1, now())).unwrap();
    let off = Endpoint { enabled: false, ..named("off", old.url()) };
    rig.dispatcher.route(vec![named("ops", new.url()), off]).unwrap();
    rig.settled(1).await;
    // On a slow machine the old task may have got as far as a second attempt, which failed as the first did.
    assert_eq!((old.seen().is_empty(), ids(&new)), (false, vec!["a".to_owned()]));
    assert_eq!(rig.count(DeliveryState::Pending), 1);
    rig.dispatcher.route(Vec::new()).unwrap();
    rig.add("c", "ops");
    rig.dispatcher.stop(Duration::from_secs(1)).await;
    assert_eq!((new.seen().len(), rig.count(DeliveryState::Pending)), (1, 2));
}

#[tokio::test]
async fn a_test_event_goes_past_the_queue() {
    let fake = Fake::start(|_| Play::Answer(202, "", b"ok".to_vec())).await;
    let rig = Rig::start(vec![named("ops", fake.url())], |_| Ok(()));
    let (id, attempt) = rig.dispatcher.test(&"ops".parse().unwrap(), "hello").await.unwrap();
    assert_eq!((attempt.status, attempt.answer.as_slice()), (Some(202), b"ok".as_slice()));
    assert_eq!(ids(&fake), [id]);
    let body: serde_json::Value = serde_json::from_slice(&fake.seen()[0].body).unwrap();
    assert_eq!((&body["type"], &body["data"]["host"]), (&"test".into(), &"host-1".into()));
    assert!(rig.dispatcher.test(&"none".parse().unwrap(), "hello").await.is_none());
}

#[tokio::test]
async fn a_clock_that_was_set_keeps_nobody_waiting() {
    const YEAR: i64 = 365 * 24 * 3_600_000;
    let fake = Fake::start(|_| status(200)).await;
    let (ahead, behind) = (now() + YEAR, now() - YEAR);
    let rig = Rig::start(vec![named("ops", fake.url()), named("shy", fake.url())], |tables| {
        // Written down while the clock was a year ahead: attempts that were put off, an open breaker, new ones.
        tables.enqueue("a", "ops", b"{}", ahead)?;
        tables.settle(1, Fate::Later { attempts: 3, rejected: 0, next_attempt: ahead }, &failed(ahead))?;
        tables.enqueue("b", "ops", b"{}", behind)?;
        tables.enqueue("c", "shy", b"{}", ahead)?;
        tables.remember_failures("shy", OPENS_AFTER, Some(ahead))
    });
    rig.settled(3).await;
    let mut seen = ids(&fake);
    seen.retain(|id| id != "c");
    assert_eq!(seen, ["a", "b"], "in their order");
    // The signature's time is that of the attempt, whatever the clock said before.
    let sent: i64 = fake.seen()[0].header("webhook-timestamp").unwrap().parse().unwrap();
    assert!((sent - now() / 1_000).abs() < 300, "{sent}");
}
