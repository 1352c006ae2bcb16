//! Samples: who waits for a CPU.

use serde_json::{Value, json};

use super::Gallery;
use crate::control::proto::Latency;

pub(super) fn fill(gallery: &mut Gallery) {
    gallery.reply::<Latency>("latency", everybody());
    gallery.reply::<Latency>("latency nginx --for 100ms", nobody());
    let mut one = nobody();
    one["left_out"] = json!(1);
    one["totals"] = json!({
        "switches": 10, "skewed": 1, "overflows": 1, "collisions": 1, "suppressed": 1, "dropped": 1,
    });
    gallery.reply::<Latency>("latency 4711 --for 100ms", one);
}

fn everybody() -> Value {
    let mut counts = vec![0; 28];
    (counts[3], counts[5], counts[13]) = (1, 1_000, 12);
    let waits = json!({
        "counts": counts, "wait_ns": 90_500_000, "longest_ns": 7_250_000, "on_cpu_ns": 1_200_000_000,
    });
    let none = json!({ "counts": vec![0; 28], "wait_ns": 0, "longest_ns": 0, "on_cpu_ns": 950 });
    json!({
        "for_ms": 5_000, "armed_for_this": true, "armed_by": "a look", "cost": 103, "per_switch_ns": 143,
        "processes": [
            {
                "name": "nginx", "process": { "pid": 80, "start": 5 }, "comm": "nginx", "waits": waits,
                "count": 1_013, "p50_ns": 14_300, "p90_ns": 16_100, "p99_ns": 5_100_000, "p999_ns": 7_200_000,
            },
            {
                "name": "", "process": { "pid": 81, "start": 5 }, "comm": "\\x1b[31m", "waits": none, "count": 0,
            },
        ],
        "cgroups": [{
            "name": "/system.slice/nginx.service", "waits": waits, "count": 1_013, "p50_ns": 14_300,
            "p90_ns": 16_100, "p99_ns": 5_100_000, "p999_ns": 7_200_000, "throttled_ns": 250_000_000,
        }],
        "holders": [
            { "cgroup": "/process-throttler/backups", "group": "backups", "share": 9_050 },
            { "cgroup": "/", "share": 5 },
        ],
        "delays": [
            {
                "at": 1_000_000_000, "wait_ns": 7_250_000, "waiter": { "pid": 82, "tgid": 80, "comm": "nginx" },
                "holder": { "pid": 4_711, "tgid": 4_711, "comm": "rsync" }, "holder_cgroup": 7,
                "held_ns": 12_000_000, "cpu": 1, "suppressed": 2,
            },
            {
                "at": 2_000_000_000, "wait_ns": 5_000_000, "waiter": { "pid": 82, "tgid": 80, "comm": "nginx" },
                "holder": null, "holder_cgroup": 0, "held_ns": 0, "cpu": 0, "suppressed": 0,
            },
        ],
        "totals": {
            "switches": 40_000, "skewed": 2, "overflows": 3, "collisions": 4, "suppressed": 5, "dropped": 6,
        },
        "left_out": 7,
    })
}

fn nobody() -> Value {
    json!({
        "for_ms": 100, "armed_for_this": false, "armed_by": "pressure", "cost": 0, "per_switch_ns": 180, "processes": [],
        "cgroups": [], "holders": [], "delays": [],
        "totals": { "switches": 0, "skewed": 0, "overflows": 0, "collisions": 0, "suppressed": 0, "dropped": 0 },
        "left_out": 0,
    })
}
