//! Stories of endpoints that are there later than the alerts, each told as what they are owed.

use std::time::Duration;

use crate::alert::rig::{Rig, endpoint};
use crate::model::alert::AlertState;
use crate::model::notice::Severity;
use crate::model::notice::testing::{applied, down, stopped};

#[test]
fn whoever_is_added_is_told_once_of_what_stands() {
    let mut rig = Rig::new(vec![endpoint("a", Severity::Info)]);
    rig.watch(&[("web", &["db"]), ("db", &[]), ("mail", &[]), ("nginx", &[])]);
    for name in ["db", "web", "mail", "nginx"] {
        rig.tell(&down(name, 0));
    }
    rig.ledger.over("critical_process_down", "nginx", rig.at());
    rig.acknowledge("mail", Some(600));
    rig.tell(&stopped());
    rig.tell(&applied("x"));
    rig.owed();
    let mut never = endpoint("never", Severity::Critical);
    never.noise.repeat_interval = Duration::ZERO;
    never.events = vec!["critical_process_down".to_owned()];
    let mut picky = endpoint("picky", Severity::Info);
    picky.events = vec!["throttle_conflict".to_owned()];
    rig.endpoints = vec![endpoint("a", Severity::Info), never, picky];
    rig.ledger.route(rig.endpoints.clone(), rig.at());
    rig.commit();
    rig.pass(0);
    let db = "critical_process_down:db@h";
    assert_eq!(
        rig.owed(),
        [format!("never e1_1: {db} firing of 1")],
        "not what is over, held back or cared for"
    );
    assert_eq!(rig.disk.alerts[db].alert.state, AlertState::Firing);
    // Again, as with any reload.
    rig.ledger.route(rig.endpoints.clone(), rig.at());
    rig.commit();
    rig.pass(599);
    assert!(!rig.owed().iter().any(|line| line.starts_with("never")), "once");
    rig.pass(1);
    let mail = "never e3_2: critical_process_down:mail@h firing of 1";
    assert!(rig.owed().iter().any(|line| line == mail), "nobody looks after it any more");
    rig.ledger.over("critical_process_down", "db", rig.at());
    rig.commit();
    assert!(rig.owed().contains(&format!("never e1_3: {db} resolved of 1")));
    // Who is switched off, or gone for a while, was told.
    rig.endpoints[1].enabled = false;
    rig.ledger.route(rig.endpoints.clone(), rig.at());
    rig.endpoints[1].enabled = true;
    rig.ledger.route(rig.endpoints.clone(), rig.at());
    rig.commit();
    rig.pass(1);
    assert_eq!(rig.owed(), Vec::<String>::new());
    // In the time of another agent: there is time to see who is back.
    rig.endpoints.push(endpoint("late", Severity::Critical));
    rig.die(5);
    rig.pass(29);
    assert!(!rig.owed().iter().any(|line| line.starts_with("late")));
    rig.ledger.alive(&["mail".parse().unwrap()], rig.at());
    rig.commit();
    rig.pass(1);
    let told = rig.owed();
    let late: Vec<&String> = told.iter().filter(|line| line.starts_with("late")).collect();
    assert!(late.iter().any(|line| line.contains("emergency_stop@h firing")), "{told:?}");
    assert!(!late.iter().any(|line| line.contains("mail")), "{told:?}");
}

#[test]
fn whoever_is_added_hears_of_it_only_when_nothing_holds_it_back() {
    let mut rig = Rig::new(vec![endpoint("ops", Severity::Warning)]);
    rig.watch(&[("web", &["db"]), ("db", &[])]);
    rig.tell(&down("web", 0));
    rig.tell(&down("db", 0));
    rig.owed();
    rig.endpoints.push(endpoint("late", Severity::Critical));
    rig.ledger.route(rig.endpoints.clone(), rig.at());
    rig.commit();
    rig.pass(100);
    assert_eq!(rig.owed(), ["late e2_1: critical_process_down:db@h firing of 1"]);
    rig.ledger.over("critical_process_down", "db", rig.at());
    rig.commit();
    rig.owed();
    rig.pass(30);
    assert_eq!(rig.owed(), ["late e1_1: critical_process_down:web@h firing of 1"]);
}
