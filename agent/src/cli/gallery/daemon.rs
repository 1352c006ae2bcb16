//! Samples: what the daemon and the host say of themselves.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Gallery;
use crate::control::proto::{DaemonStatus, EmergencyStatus, Reloaded};
use crate::health::{Category, Check, Report, Status};

pub(super) fn fill(gallery: &mut Gallery) {
    gallery.reply::<DaemonStatus>("daemon status", status());
    let mut degraded = status();
    degraded["state"] = json!("starting");
    degraded["profile"] = Value::Null;
    degraded["emergency"] = json!("disk is full (uid 0)");
    degraded["config_error"] = json!("config.yaml:3:1: unknown key");
    degraded["watchdog_ms"] = json!(30_000);
    degraded["audit_failed"] = json!(2);
    degraded["source"]["name"] = json!("netlink");
    degraded["source"]["degraded"] = json!(["BPF is not permitted: operation not permitted"]);
    degraded["source"]["exact"] = json!(false);
    gallery.reply::<DaemonStatus>("daemon status", degraded);
    gallery.reply::<Reloaded>("daemon reload", json!({ "detail": "profiles", "dry_run": false }));
    gallery.reply::<Reloaded>("daemon reload --dry-run", json!({ "detail": "nothing", "dry_run": true }));
    let stopped = |active: bool, released: Value, took_ms: Value, dry_run: bool| {
        json!({
            "active": active, "reason": "disk is full", "uid": 0, "user": "root", "since": "2025-03-01T12:00:00Z",
            "released": released, "took_ms": took_ms, "dry_run": dry_run,
        })
    };
    gallery
        .reply::<EmergencyStatus>("emergency stop 'disk is full'", stopped(true, json!(3), json!(12), false));
    gallery.reply::<EmergencyStatus>(
        "emergency stop 'disk is full' --dry-run",
        stopped(true, Value::Null, Value::Null, true),
    );
    gallery.reply::<EmergencyStatus>("emergency status", stopped(true, json!(1), Value::Null, false));
    gallery.reply::<EmergencyStatus>("emergency status", json!({ "active": false }));
    gallery.reply::<EmergencyStatus>("emergency resume", json!({ "active": false }));
    gallery
        .reply::<EmergencyStatus>("emergency resume --dry-run", stopped(false, json!(3), Value::Null, true));
    health(gallery);
}

fn status() -> Value {
    json!({
        "pid": 700, "state": "running", "uptime_ms": 3_723_000, "version": "0.1.0", "profile": "web",
        "source": {
            "name": "ebpf", "degraded": [], "produced": 10, "sent": 9, "dropped": 1, "malformed": 0, "wakeups": 3,
            "exact": true,
        },
        "cgroups": "v2 at /sys/fs/cgroup",
        "features": [
            { "name": "rule-throttling", "state": "working", "requires_daemon": true },
            { "name": "webhooks", "state": "disabled", "requires_daemon": true, "why": "no endpoint is configured" },
            { "name": "metrics-export", "state": "degraded", "requires_daemon": true, "why": "no exporter" },
            { "name": "manual-throttling", "state": "unavailable", "requires_daemon": false, "why": "no cgroups" },
        ],
        "processes": 240, "groups": 2, "throttled": 5, "rss": 19_922_944, "cpu_ms": 1_250,
    })
}

fn health(gallery: &mut Gallery) {
    let check = |category, name: &str, status, message: &str| Check {
        category,
        name: name.to_owned(),
        status,
        message: message.to_owned(),
        details: BTreeMap::from([("release", "6.12.0".to_owned()), ("machine", "x86_64".to_owned())]),
        recommendation: None,
        command: None,
    };
    let fine = check(Category::System, "kernel", Status::Ok, "Linux 6.12.0");
    gallery.show(
        "health",
        &Report { status: Status::Ok, ok: 1, warnings: 0, errors: 0, checks: vec![fine.clone()] },
    );
    let warned = Check {
        recommendation: Some("start the daemon".to_owned()),
        command: Some("process-throttler daemon start".to_owned()),
        ..check(Category::Daemon, "state", Status::Warning, "it does not run")
    };
    let broken = Check {
        recommendation: Some("write it anew".to_owned()),
        details: BTreeMap::new(),
        ..check(Category::Configuration, "config.yaml", Status::Error, "2 errors")
    };
    let checks = vec![fine, warned, broken];
    gallery
        .show("health --check-all", &Report { status: Status::Error, ok: 1, warnings: 1, errors: 1, checks });
}
