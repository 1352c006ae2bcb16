//! Samples: critical processes and what is done about them.

use serde_json::{Value, json};

use super::Gallery;
use crate::control::proto::{Acknowledged, CriticalRestarted, CriticalStatus};

pub(super) fn fill(gallery: &mut Gallery) {
    gallery.reply::<Vec<CriticalStatus>>("critical list", json!([down(), up()]));
    gallery.reply::<Vec<CriticalStatus>>("critical list", json!([]));
    gallery.reply::<CriticalStatus>("critical show nginx", down());
    gallery.reply::<CriticalStatus>("critical show postgres", up());
    for (how, under_way, dry_run) in [
        ("unit nginx.service was restarted", false, false),
        ("goes on: process-throttler events --follow tells how it ends", true, false),
        ("would be restarted by unit nginx.service", false, true),
    ] {
        let restarted = json!({
            "name": "nginx", "how": how, "under_way": under_way, "dry_run": dry_run,
        });
        let dry = if dry_run { " --dry-run" } else { "" };
        gallery.reply::<CriticalRestarted>(&format!("critical restart nginx{dry}"), restarted);
    }
    for dry_run in [false, true] {
        let dry = if dry_run { " --dry-run" } else { "" };
        let acknowledged = json!({ "alerts": [alert()], "dry_run": dry_run });
        gallery.reply::<Acknowledged>(&format!("critical ack nginx --for 2h{dry}"), acknowledged);
    }
}

pub(super) fn up() -> Value {
    json!({
        "name": "postgres", "state": "up", "wanted": 1, "flapping": false, "deaths": 0,
        "instances": [{ "key": { "pid": 900, "start": 5 }, "comm": "postgres" }],
        "reservation": {
            "values": { "cpu": { "weight": 400, "stated": true } }, "since": "2025-03-01T12:00:00Z",
            "how": "on the unit postgresql.service",
        },
        "cpu_delay": delay(),
    })
}

/// Of one that others keep from the CPUs.
pub(super) fn delay() -> Value {
    json!({
        "held": { "over_ms": 2_000, "held_us": 20_000, "share": 100, "cgroup": "/system.slice/postgresql.service" },
        "waited": {
            "over_ms": 2_000, "waited_us": 1_230_000, "share": 6_150, "count": 150, "p99_us": 17_300,
            "longest_us": 21_000,
            "holders": [
                { "cgroup": "/process-throttler/backups", "group": "backups", "share": 7_200 },
                { "cgroup": "/user.slice", "share": 1_100 },
                { "cgroup": "/", "share": 40 },
            ],
        },
    })
}

pub(super) fn down() -> Value {
    json!({
        "name": "nginx", "state": "down", "instances": [], "wanted": 2,
        "absent_since": "2025-03-01T12:00:00Z", "flapping": true, "deaths": 7,
        "last_death": {
            "process": { "key": { "pid": 80, "start": 5 }, "comm": "nginx" },
            "at": "2025-03-01T12:00:00Z",
            "status": { "signal": { "number": 9, "core": false } },
            "how": "was killed by signal 9 (SIGKILL), sent by pid 7 (uid 0, sh)",
            "lived_ms": 90_500,
            "circumstances": {
                "pressure": [1_234, 0, 10_000],
                "quota": { "periods": 10, "throttled": 3, "throttled_ns": 1 },
                "limited": [{ "group": "backups", "quota": { "periods": 1, "throttled": 0, "throttled_ns": 0 } }],
                "last_seconds": {
                    "window_ms": 5_000, "cpus": 2,
                    "waited": { "window_ms": 5_000, "ended_ms": 0, "threads": 1, "waited": 8_000, "ran": 1_000 },
                    "users": [{ "cgroup": "/backups", "group": "backups", "share": 9_000 }],
                },
            },
        },
        "health": {
            "check": "http http://127.0.0.1/health", "state": "unhealthy", "since": "2025-03-01T11:59:00Z",
            "failures": 3, "checked": "2025-03-01T11:59:30Z",
            "found": { "result": "unhealthy", "error": "connection refused" },
        },
        "restart": {
            "policy": "on-failure", "by": { "unit": "nginx.service" }, "state": "waits for postgres",
            "attempts": 2, "most": 5, "per_ms": 600_000, "next": "2025-03-01T12:00:10Z",
            "last": "2025-03-01T11:58:00Z", "last_result": "failed", "last_detail": "unit nginx.service is masked",
        },
        "dependencies": ["postgres"],
    })
}

fn alert() -> Value {
    json!({
        "key": "critical_process_down:nginx@web-1", "type": "critical_process_down", "subject": "nginx",
        "state": "acknowledged", "severity": "critical", "text": "nginx is down", "since": "2025-03-01T12:00:00Z",
        "events": 3, "held_back_by": "postgres",
        "acknowledged": {
            "uid": 0, "at": "2025-03-01T12:01:00Z", "until": "2025-03-01T14:01:00Z", "comment": "on it",
        },
        "told": [{ "endpoint": "ops", "at": "2025-03-01T12:00:00Z" }],
    })
}
