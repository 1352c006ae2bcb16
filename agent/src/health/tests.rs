//! The report as a whole: its order, its verdict, and what is said when something is missing.

use serde_json::json;

use super::*;

fn status(change: impl FnOnce(&mut serde_json::Value)) -> Told<Box<DaemonStatus>> {
    let mut status = json!({
        "pid": 7, "state": "running", "uptime_ms": 1, "version": env!("CARGO_PKG_VERSION"), "profile": null,
        "source": { "name": "ebpf", "degraded": [], "produced": 5, "sent": 5, "dropped": 0, "malformed": 0,
            "wakeups": 1, "exact": true },
        "cgroups": "v2", "features": [], "processes": 1, "groups": 0, "throttled": 0, "rss": 1, "cpu_ms": 1,
    });
    change(&mut status);
    Told::This(serde_json::from_value(status).unwrap())
}

fn worst(checks: &[Check]) -> Status {
    checks.iter().map(|check| check.status).max().unwrap()
}

fn named<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap()
}

#[tokio::test]
async fn the_order_is_always_the_same_and_a_bad_file_is_an_error_of_that_file() {
    let root = tempfile::tempdir().unwrap();
    let dirs = Dirs::below(root.path());
    let report = || async {
        check(&Inputs { dirs: &dirs, daemon: Told::NotRunning, critical: Told::NotRunning, all: false }).await
    };
    let order = |report: &Report| -> Vec<(Category, String)> {
        report.checks.iter().map(|check| (check.category, check.name.clone())).collect()
    };
    let (first, second) = (report().await, report().await);
    assert_eq!(order(&first), order(&second));
    let categories: Vec<_> = first.checks.iter().map(|check| check.category).collect();
    assert!(categories.is_sorted(), "{categories:?}");
    assert_eq!(named(&first.checks, "config.yaml").message, "not there: the defaults hold");
    assert_eq!(first.ok + first.warnings + first.errors, first.checks.len());

    std::fs::create_dir_all(dirs.config_parts()).unwrap();
    std::fs::create_dir_all(dirs.profiles()).unwrap();
    std::fs::write(dirs.config_file(), "on_stop: keep\n").unwrap();
    std::fs::write(dirs.config_parts().join("bad.yaml"), "no_such: 1\n").unwrap();
    std::fs::write(dirs.profile_file(&"web".parse().unwrap()), "name: web\nrules: 1\n").unwrap();
    let report = report().await;
    assert_eq!(report.status, Status::Error);
    assert_eq!(named(&report.checks, "config.yaml").status, Status::Ok);
    let bad = named(&report.checks, "config.d/bad.yaml");
    assert_eq!(
        (bad.status, bad.command.as_deref()),
        (Status::Error, Some("process-throttler validate config"))
    );
    assert!(bad.message.contains("unknown key \"no_such\""), "{}", bad.message);
    assert_eq!(named(&report.checks, "profiles/web.yaml").status, Status::Error);
    let endpoints = report.checks.iter().find(|check| check.category == Category::Webhooks).unwrap();
    assert_eq!(endpoints.message, "not checked: the configuration has errors");
}

#[test]
fn the_daemon_s_own_account() {
    assert_eq!(worst(&daemon::check(&status(|_| ()))), Status::Ok);
    let degraded = status(|status| status["source"]["degraded"] = json!(["ebpf: not permitted"]));
    assert!(named(&daemon::check(&degraded), "source").message.contains("not permitted"));
    let lossy = daemon::check(&status(|status| status["source"]["dropped"] = json!(3)));
    assert_eq!(named(&lossy, "losses").details["dropped"], "3");
    assert_eq!(worst(&lossy), Status::Warning);
    let other = daemon::check(&status(|status| status["version"] = json!("0.0.0")));
    assert_eq!(named(&other, "state").command.as_deref(), Some("process-throttler daemon restart"));
    let stopped = daemon::check(&status(|status| status["emergency"] = json!("fire")));
    assert_eq!(named(&stopped, "emergency").status, Status::Warning);
    let feature = json!({ "name": "webhooks", "state": "degraded", "requires_daemon": true, "why": "full" });
    let broken = daemon::check(&status(|status| status["features"] = json!([feature])));
    assert_eq!(named(&broken, "features").message, "degraded: webhooks (full)");
}

#[test]
fn nothing_is_said_of_a_daemon_that_tells_nothing() {
    for told in [Told::NotRunning, Told::Nothing("it is starting".to_owned())] {
        let checks = daemon::check(&told);
        assert_eq!(checks.len(), 6);
        assert!(checks.iter().skip(1).all(|check| check.message.starts_with("not checked: ")), "{checks:?}");
        assert_eq!(worst(&checks), Status::Warning);
    }
}

#[test]
fn critical_processes_that_are_not_up_are_errors() {
    let one = |state: &str, instances: usize| -> CriticalStatus {
        let member = json!({ "key": { "pid": 5, "start": 7 }, "comm": "x" });
        serde_json::from_value(json!({
            "name": "web", "state": state, "instances": vec![member; instances], "wanted": 1,
            "flapping": false, "deaths": 2,
        }))
        .unwrap()
    };
    for (state, instances, expected) in [
        ("up", 1, Status::Ok),
        ("down", 0, Status::Error),
        ("unhealthy", 1, Status::Error),
        ("given_up", 0, Status::Error),
        ("restarting", 0, Status::Warning),
    ] {
        let checks = critical::check(&Told::This(vec![one(state, instances)]));
        assert_eq!((checks[0].status, checks[0].name.as_str()), (expected, "web"), "{state}");
    }
    assert_eq!(critical::check(&Told::This(Vec::new()))[0].status, Status::Ok);
    assert!(critical::check(&Told::NotRunning)[0].message.starts_with("not checked"));
}

#[test]
fn directories_missing_full_and_read_only() {
    let missing = std::path::Path::new("/nonexistent-of-pt-test/state");
    let dirs = Dirs { log: "/proc/self".into(), ..Dirs::all_at(missing) };
    let checks = resources::check(&dirs, &Told::NotRunning);
    assert!(named(&checks, "config directory").message.contains("the defaults hold"));
    assert_eq!(named(&checks, "log directory").status, Status::Error, "nothing can be written to /proc");
}
