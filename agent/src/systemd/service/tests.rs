//! Restarts and programs by way of a systemd that answers as the real one does.

use super::*;
use crate::systemd::Sockets;
use crate::systemd::fake::{FakeSystemd, FakeUnit};

const PATIENCE: Duration = Duration::from_secs(5);
const UNIT: &str = "web.service";

fn systemd(name: &str, unit: FakeUnit) -> (FakeSystemd, Bus) {
    let systemd = FakeSystemd::start(name);
    systemd.state().units.insert(UNIT.to_owned(), unit);
    let bus = Bus::new(Sockets::below(&systemd.path().join("run")));
    (systemd, bus)
}

fn program() -> Program {
    Program {
        command: vec!["/bin/web".to_owned(), "a b $HOME".to_owned()],
        user: "nobody".to_owned(),
        group: Some("adm".to_owned()),
        cwd: Some("/srv".to_owned()),
        env: vec![("A".to_owned(), "1=2".to_owned())],
    }
}

#[test]
fn a_unit_that_failed_is_restarted() {
    let failed = FakeUnit { state: "failed", ..FakeUnit::default() };
    let (systemd, bus) = systemd("pt-test-service-failed", failed);
    let restarted = restart(&bus, UNIT, false, PATIENCE).unwrap();
    assert!(matches!(&restarted, Restarted::Done { how } if how.contains(UNIT)), "{restarted:?}");
    assert_eq!(systemd.state().restarted, [UNIT]);
    systemd.state().fate = Some(("failed", "exit-code", 1, 3));
    let error = restart(&bus, UNIT, true, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("it is failed afterwards, result exit-code"), "{error}");
}

#[test]
fn what_systemd_or_somebody_else_has_in_hand_is_left_alone() {
    for state in ["activating", "deactivating"] {
        let unit = FakeUnit { state, ..FakeUnit::default() };
        let (systemd, bus) = systemd("pt-test-service-busy", unit);
        assert!(matches!(restart(&bus, UNIT, false, PATIENCE), Ok(Restarted::Pending { .. })), "{state}");
        assert!(systemd.state().restarted.is_empty());
    }
    let times = |left: u64, ended: u64| {
        let of = |name: &str, at| (name.to_owned(), at);
        let times = [of("ActiveExitTimestampMonotonic", left), of("ExecMainExitTimestampMonotonic", ended)];
        FakeUnit { properties: times.into(), ..FakeUnit::default() }
    };
    // The state was left before the process ended: somebody asked for it.
    let (stopped, bus) = systemd("pt-test-service-stopped", times(10, 20));
    assert!(matches!(restart(&bus, UNIT, false, PATIENCE), Ok(Restarted::Declined { .. })));
    assert!(stopped.state().restarted.is_empty());
    assert!(matches!(restart(&bus, UNIT, true, PATIENCE), Ok(Restarted::Done { .. })), "by hand it is");
    let (_ended, bus) = systemd("pt-test-service-ended", times(20, 10));
    assert!(matches!(restart(&bus, UNIT, false, PATIENCE), Ok(Restarted::Done { .. })));
    let masked = FakeUnit { load: "masked", ..FakeUnit::default() };
    let (_masked, bus) = systemd("pt-test-service-masked", masked);
    assert!(matches!(restart(&bus, UNIT, true, PATIENCE), Ok(Restarted::Declined { .. })));
    let error = restart(&bus, "other.service", true, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("not-found"), "{error}");
}

#[test]
fn what_systemd_has_not_seen_to_yet_is_left_to_it() {
    let own = std::process::id();
    let started = |ago: Duration| {
        let at = clock::monotonic().saturating_sub(ago).as_micros();
        [("ExecMainStartTimestampMonotonic".to_owned(), u64::try_from(at).unwrap())].into()
    };
    let active = |main_pid, ago| FakeUnit {
        state: "active",
        main_pid,
        properties: started(ago),
        ..FakeUnit::default()
    };
    let long = APPEARS_WITHIN * 2;
    // No kernel has a process of this number (PID_MAX_LIMIT of proc(5) is 2^22).
    let (_dead, bus) = systemd("pt-test-service-dead", active(i32::MAX.cast_unsigned(), long));
    let restarted = restart(&bus, UNIT, false, PATIENCE).unwrap();
    assert!(
        matches!(&restarted, Restarted::Pending { why } if why.contains("not seen yet")),
        "{restarted:?}"
    );
    let (fresh, bus) = systemd("pt-test-service-fresh", active(own, Duration::from_secs(1)));
    let restarted = restart(&bus, UNIT, false, PATIENCE).unwrap();
    assert!(matches!(&restarted, Restarted::Pending { why } if why.contains("has started")), "{restarted:?}");
    assert!(fresh.state().restarted.is_empty());
    assert!(matches!(restart(&bus, UNIT, true, PATIENCE), Ok(Restarted::Done { .. })), "by hand it is");
    // One of its processes is missing while it runs on.
    let (_old, bus) = systemd("pt-test-service-old", active(own, long));
    assert!(matches!(restart(&bus, UNIT, false, PATIENCE), Ok(Restarted::Done { .. })));
    let (_none, bus) = systemd("pt-test-service-none", active(0, long));
    assert!(matches!(restart(&bus, UNIT, false, PATIENCE), Ok(Restarted::Done { .. })));
}

#[test]
fn a_program_becomes_a_service_of_its_own() {
    let (systemd, bus) = systemd("pt-test-service-start", FakeUnit::default());
    let name = "process-throttler-restart:web.service";
    start(&bus, name, "why", &program()).unwrap();
    // What is left of it is ended first.
    start(&bus, name, "why", &program()).unwrap();
    let started = systemd.state().started.clone();
    assert_eq!(started.len(), 2);
    let has = |key: &str, value: &str| started[0].1.get(key).is_some_and(|found| found.contains(value));
    for (key, value) in [
        ("ExecStart", "a b $$HOME"),
        ("User", "nobody"),
        ("Group", "adm"),
        ("WorkingDirectory", "/srv"),
        ("Environment", "A=1=2"),
        ("Type", "exec"),
        ("CollectMode", "inactive-or-failed"),
    ] {
        assert!(has(key, value), "{key}: {:?}", started[0].1);
    }
    systemd.state().fate = Some(("failed", "exit-code", 1, 203));
    assert!(start(&bus, name, "why", &program()).is_err());
}

#[test]
fn a_program_is_run_to_its_end_and_nothing_is_left() {
    let (systemd, bus) = systemd("pt-test-service-run", FakeUnit::default());
    let name = "process-throttler-check:web.service";
    let go = || run(&bus, name, "why", &program(), Path::new("/run/x"), PATIENCE).unwrap();
    assert_eq!(go(), Ended::Well);
    for (result, code, status, said) in [
        ("exit-code", 1, 3, "exit code 3"),
        ("signal", 2, 9, "signal 9"),
        ("core-dump", 3, 11, "signal 11"),
        ("timeout", 2, 9, "longer than 5s"),
    ] {
        systemd.state().fate = Some(("failed", result, code, status));
        let ended = go();
        assert!(matches!(&ended, Ended::Badly(how) if how.contains(said)), "{ended:?}");
    }
    for (result, status) in [("exit-code", 217), ("resources", 0)] {
        systemd.state().fate = Some(("failed", result, 1, status));
        let ended = go();
        assert!(matches!(&ended, Ended::NotStarted(_)), "{ended:?}");
    }
    assert!(!systemd.state().units.contains_key(name), "its failure is forgotten");
    // What an agent that was killed has left is replaced.
    systemd.state().fate = None;
    systemd.state().units.insert(name.to_owned(), FakeUnit { active: true, ..FakeUnit::default() });
    assert_eq!(go(), Ended::Well);
    let first = &systemd.state().started[0].1;
    assert!(first["KillSignal"].contains('9') && first["StandardOutputFile"].contains("/run/x"), "{first:?}");
}
