//! Stories of alerts, each told as what the endpoints are owed.

use std::time::Duration;

use crate::alert::rig::{Rig, endpoint};
use crate::alert::{ALERTS_MAX, bundle};
use crate::model::endpoint::Noise;
use crate::model::notice::testing::{applied, conflict, down, removed, stopped};
use crate::model::notice::{Notice, Response, Severity};

const HOUR: u64 = 3_600;
const NGINX: &str = "critical_process_down:nginx@h";

fn ops() -> Rig {
    Rig::new(vec![endpoint("ops", Severity::Warning)])
}

fn nothing() -> Vec<String> {
    Vec::new()
}

fn resumed() -> Notice {
    Notice::EmergencyResumed { uid: 0 }
}

#[test]
fn an_alert_is_told_once_then_again_then_its_end() {
    let mut rig = ops();
    rig.tell(&stopped());
    assert_eq!(rig.owed(), ["ops e1: emergency_stop@h firing of 1"]);
    rig.tell(&stopped());
    rig.pass(4 * HOUR - 1);
    assert_eq!(rig.owed(), nothing(), "the same condition is counted, not sent");
    rig.pass(1);
    assert_eq!(rig.owed(), ["ops e1_1: emergency_stop@h repeated of 2"]);
    rig.pass(8 * HOUR);
    assert_eq!(rig.owed().len(), 2);
    rig.tell(&resumed());
    assert_eq!(rig.owed(), ["ops e3: emergency_stop@h resolved of 2"], "the end is told by its event, once");
    rig.pass(24 * HOUR);
    assert_eq!(rig.owed(), nothing());
    assert!(rig.disk.alerts.is_empty(), "what is over is forgotten");
    assert_eq!(rig.ledger.due(), None, "an idle agent sleeps");
}

#[test]
fn each_endpoint_has_its_own_interval_and_taste() {
    let mut often = endpoint("often", Severity::Critical);
    often.noise = Noise { repeat_interval: Duration::from_secs(60), send_resolved: false, ..Noise::DEFAULT };
    let mut never = endpoint("never", Severity::Info);
    never.noise.repeat_interval = Duration::ZERO;
    let mut other = endpoint("other", Severity::Info);
    other.events = vec!["profile_activated".to_owned(), "emergency_resumed".to_owned()];
    let off = {
        let mut off = endpoint("off", Severity::Info);
        off.enabled = false;
        off
    };
    let mut rig = Rig::new(vec![often, never, other, off]);
    rig.tell(&stopped());
    rig.pass(120);
    assert_eq!(
        rig.owed(),
        [
            "often e1: emergency_stop@h firing of 1",
            "never e1: emergency_stop@h firing of 1",
            "often e1_1: emergency_stop@h repeated of 1",
            "often e1_2: emergency_stop@h repeated of 1",
        ]
    );
    rig.tell(&resumed());
    assert_eq!(
        rig.owed(),
        ["never e2: emergency_stop@h resolved of 1", "other e2: emergency_resumed x1"],
        "who was not told of the beginning gets the event as such"
    );
}

#[test]
fn an_alert_that_gets_worse_is_told_once_more() {
    let mut rig = ops();
    rig.watch(&[("nginx", &[])]);
    rig.tell(&down("nginx", 2));
    rig.tell(&down("nginx", 1));
    assert_eq!(rig.acknowledge("nginx", None), 1);
    rig.tell(&down("nginx", 0));
    rig.tell(&down("nginx", 0));
    assert_eq!(
        rig.owed(),
        [
            format!("ops e1: {NGINX} firing of 1"),
            format!("ops e1_1: {NGINX} acknowledged of 2"),
            format!("ops e3: {NGINX} firing of 3"),
        ]
    );
    assert_eq!(rig.disk.alerts[NGINX].acknowledged, None, "whoever looks after it does not know");
}

#[test]
fn acknowledged_is_not_repeated_until_it_lapses() {
    let mut rig = ops();
    rig.watch(&[("nginx", &[])]);
    assert_eq!(rig.acknowledge("nginx", None), 0, "nothing stands");
    rig.tell(&down("nginx", 0));
    rig.acknowledge("nginx", Some(10 * HOUR));
    rig.owed();
    rig.die(60);
    rig.watch(&[("nginx", &[])]);
    rig.pass(10 * HOUR - 61);
    assert_eq!(rig.owed(), nothing());
    rig.pass(1);
    assert_eq!(rig.owed(), [format!("ops e1_2: {NGINX} repeated of 1")], "overdue by then");
    rig.acknowledge("nginx", None);
    rig.owed();
    rig.pass(1_000 * HOUR);
    assert_eq!(rig.owed(), nothing());
}

#[test]
fn events_of_a_kind_are_told_together() {
    let mut rig = Rig::new(vec![endpoint("all", Severity::Info)]);
    for _ in 0..1_000 {
        rig.tell(&applied("backups"));
    }
    rig.tell(&applied("builds"));
    assert_eq!(rig.owed(), nothing());
    rig.pass(30);
    assert_eq!(rig.owed(), ["all e1: throttle_applied x1000", "all e1001: throttle_applied x1"]);
    rig.tell(&applied("backups"));
    rig.pass(299);
    assert_eq!(rig.owed(), nothing(), "at most one in five minutes");
    rig.pass(1);
    assert_eq!(rig.owed(), ["all e1002: throttle_applied x1"]);
    rig.pass(HOUR);
    rig.tell(&applied("backups"));
    rig.pass(30);
    assert_eq!(rig.owed(), ["all e1003: throttle_applied x1"]);
    rig.pass(HOUR);
    assert_eq!((rig.ledger.due(), rig.disk.bundles.len()), (None, 0));
}

#[test]
fn what_is_critical_or_asked_for_waits_for_nobody() {
    let mut rig = ops();
    rig.tell(&down("nginx", 0));
    rig.tell(&Notice::Test { detail: "x".to_owned() });
    rig.tell(&Notice::ConfigurationChanged { detail: "x".to_owned(), accepted: false });
    assert_eq!(
        rig.owed(),
        [
            format!("ops e1: {NGINX} firing of 1"),
            "ops e2: test x1".into(),
            "ops e3: configuration_changed x1".into()
        ]
    );
}

#[test]
fn a_bundle_survives_the_agent() {
    let mut rig = Rig::new(vec![endpoint("all", Severity::Info)]);
    rig.tell(&applied("backups"));
    rig.tell(&applied("backups"));
    rig.die(10);
    rig.pass(19);
    assert_eq!(rig.owed(), nothing());
    rig.tell(&applied("backups"));
    rig.pass(1);
    assert_eq!(rig.owed(), ["all e1: throttle_applied x3"]);
    rig.die(10);
    rig.tell(&applied("backups"));
    rig.pass(100);
    assert_eq!(rig.owed(), nothing(), "the interval holds across a restart");
    rig.die(1_000);
    rig.pass(0);
    assert_eq!(rig.owed(), ["all e4: throttle_applied x1"]);
}

#[test]
fn dependents_are_held_back() {
    let mut rig = ops();
    let needs: [(&str, &[&str]); 4] = [("web", &["app"]), ("app", &["db"]), ("db", &["app"]), ("mail", &[])];
    rig.watch(&needs);
    rig.tell(&down("db", 1));
    rig.tell(&down("app", 0));
    assert_eq!(rig.owed().len(), 2, "one of several databases is no outage");
    rig.ledger.over("critical_process_down", "app", rig.at());
    rig.tell(&down("db", 0));
    rig.owed();
    rig.tell(&down("web", 0));
    rig.tell(&down("mail", 0));
    assert_eq!(
        rig.owed(),
        ["ops e5: critical_process_down:mail@h firing of 1"],
        "needs nothing that is down"
    );
    let web = &rig.disk.alerts["critical_process_down:web@h"];
    assert_eq!(web.held_back_by.as_ref().map(ToString::to_string).as_deref(), Some("db"), "two steps away");
    rig.pass(8 * HOUR);
    assert!(!rig.owed().iter().any(|line| line.contains("web")));
    rig.die(5);
    rig.watch(&needs);
    rig.pass(HOUR);
    assert_eq!(rig.owed(), nothing(), "held back across a restart");
    rig.ledger.over("critical_process_down", "db", rig.at());
    rig.commit();
    rig.pass(29);
    assert!(!rig.owed().iter().any(|line| line.contains("web")), "it has time to come back as well");
    rig.pass(1);
    assert_eq!(rig.owed(), ["ops e4: critical_process_down:web@h firing of 1"]);
}

#[test]
fn a_dependent_that_comes_back_is_never_told() {
    let mut rig = ops();
    rig.watch(&[("web", &["db"]), ("db", &[])]);
    rig.tell(&down("db", 0));
    rig.tell(&down("web", 0));
    rig.ledger.over("critical_process_down", "db", rig.at());
    rig.pass(10);
    rig.ledger.over("critical_process_down", "web", rig.at());
    rig.commit();
    rig.pass(HOUR);
    assert!(!rig.owed().iter().any(|line| line.contains("web")));
}

#[test]
fn what_comes_and_goes_ends_when_it_has_been_calm() {
    let mut rig = ops();
    for _ in 0..50 {
        rig.tell(&stopped());
        rig.pass(1);
        rig.tell(&resumed());
        rig.pass(1);
    }
    let told = rig.owed();
    assert_eq!(told.len(), 2 * 3 + 1, "three times both, then only its beginning: {told:?}");
    rig.die(10);
    rig.pass(288);
    assert_eq!(rig.owed().len(), 0);
    rig.pass(1);
    let last = rig.owed();
    assert!(last.len() == 1 && last[0].contains("resolved of 47"), "{last:?}");
}

#[test]
fn what_a_dead_agent_told_is_over_when_the_process_is_seen() {
    let mut rig = ops();
    let names = ["nginx".parse().unwrap(), "db".parse().unwrap()];
    rig.watch(&[("nginx", &[]), ("db", &[])]);
    rig.tell(&down("nginx", 0));
    rig.ledger.alive(&names, rig.at());
    rig.commit();
    assert_eq!(rig.owed().len(), 1, "an agent that saw it die knows better when it is back");
    rig.die(60);
    assert!(rig.ledger.awaits_life());
    rig.ledger.alive(&names, rig.at());
    rig.commit();
    assert_eq!(rig.owed(), [format!("ops e1_1: {NGINX} resolved of 1")]);
    assert!(!rig.ledger.awaits_life());
}

#[test]
fn a_new_agent_finds_anew_what_is_wrong_with_limits() {
    let mut rig = ops();
    rig.tell(&conflict("hogs", Response::Yielded));
    rig.owed();
    rig.die(60);
    rig.commit();
    assert_eq!(rig.owed(), ["ops e1_1: throttle_conflict:hogs@h resolved of 1"]);
}

#[test]
fn a_change_that_was_written_over_is_an_event() {
    let mut rig = ops();
    rig.tell(&conflict("hogs", Response::Reasserted));
    rig.tell(&conflict("hogs", Response::Reasserted));
    rig.pass(30);
    assert_eq!(rig.owed(), ["ops e1: throttle_conflict x2"]);
    rig.tell(&conflict("hogs", Response::GaveUp));
    rig.tell(&removed("hogs"));
    assert_eq!(
        rig.owed(),
        ["ops e3: throttle_conflict:hogs@h firing of 1", "ops e4: throttle_conflict:hogs@h resolved of 1"]
    );
}

#[test]
fn who_is_no_longer_watched_alerts_no_longer() {
    let mut rig = ops();
    rig.watch(&[("nginx", &[]), ("db", &[])]);
    rig.tell(&down("nginx", 0));
    rig.tell(&down("db", 0));
    rig.tell(&stopped());
    rig.owed();
    rig.watch(&[("db", &[])]);
    assert_eq!(rig.owed(), [format!("ops e1_1: {NGINX} resolved of 1")]);
}

#[test]
fn endpoints_come_and_go() {
    let mut rig = Rig::new(vec![endpoint("a", Severity::Info), endpoint("b", Severity::Info)]);
    rig.tell(&stopped());
    rig.tell(&applied("x"));
    rig.owed();
    rig.endpoints = vec![endpoint("b", Severity::Info), endpoint("c", Severity::Info)];
    rig.endpoints[0].noise.repeat_interval = Duration::from_secs(60);
    rig.ledger.route(rig.endpoints.clone(), rig.at());
    rig.commit();
    rig.pass(60);
    assert_eq!(
        rig.owed(),
        [
            "c e1_1: emergency_stop@h firing of 1",
            "b e2: throttle_applied x1",
            "b e1_2: emergency_stop@h repeated of 1"
        ]
    );
    rig.endpoints[0].events = vec!["throttle_applied".to_owned()];
    rig.ledger.route(rig.endpoints.clone(), rig.at());
    rig.commit();
    rig.pass(600);
    assert_eq!(rig.owed(), nothing(), "what it does not want any more is not repeated");
    rig.endpoints[0].enabled = false;
    rig.ledger.route(rig.endpoints.clone(), rig.at());
    rig.commit();
    rig.tell(&resumed());
    assert_eq!(rig.owed(), ["c e3: emergency_stop@h resolved of 1"]);
}

#[test]
fn a_clock_that_is_set_neither_floods_nor_silences() {
    const YEAR: i64 = 365 * 24 * 3_600_000;
    for step in [-YEAR, YEAR] {
        let mut rig = ops();
        rig.tell(&stopped());
        rig.tell(&conflict("x", Response::Reasserted));
        rig.owed();
        rig.wall += step;
        rig.pass(30);
        assert_eq!(rig.owed(), ["ops e2: throttle_conflict x1"]);
        rig.pass(4 * HOUR - 30);
        assert_eq!(rig.owed(), ["ops e1_1: emergency_stop@h repeated of 1"], "waiting follows no wall clock");
        rig.wall -= 2 * step;
        rig.die(1);
        rig.pass(4 * HOUR);
        let told = rig.owed();
        // At most the wait is cut short once: how long the agent was away is not known.
        assert!((1..=2).contains(&told.len()), "{step}: {told:?}");
    }
}

#[test]
fn a_reboot_loses_no_repetition() {
    let mut rig = ops();
    rig.tell(&stopped());
    rig.owed();
    rig.wall += 5 * 3_600_000;
    rig.now = 20_000;
    rig.die(0);
    rig.pass(0);
    assert_eq!(rig.owed(), ["ops e1_1: emergency_stop@h repeated of 1"]);
}

#[test]
fn memory_is_bounded() {
    let mut rig = Rig::new(vec![endpoint("all", Severity::Info)]);
    for index in 0..ALERTS_MAX + 10 {
        rig.hear(&down(&format!("p{index}"), 0));
        rig.hear(&applied(&format!("g{index}")));
    }
    let changes = rig.ledger.take();
    assert_eq!(changes.alerts.len(), ALERTS_MAX);
    assert_eq!(changes.bundles.len(), bundle::BUNDLES_MAX + 1);
    assert_eq!(changes.bundles.values().flatten().map(|bundle| bundle.count).sum::<u64>(), 1_034);
    assert_eq!(changes.owed.len(), ALERTS_MAX + 10, "none of the critical ones was kept from anybody");
}
