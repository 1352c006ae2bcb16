//! Samples: what is limited, why, and what profiles would do.

use serde_json::{Value, json};

use super::Gallery;
use crate::cli::dynamic::policies;
use crate::cli::status::Limited;
use crate::control::proto::{
    Activated, DynamicApplied, DynamicRemoved, DynamicStatus, EventRecord, Explanation, GroupStatus, Plan,
    Released, Throttled,
};
use crate::model::process::Comm;
use crate::model::time::Timestamp;
use crate::procfs::listing::Row;

pub(super) fn fill(gallery: &mut Gallery) {
    limited(gallery);
    by_hand(gallery);
    profiles(gallery);
    dynamics(gallery);
    explained(gallery);
    gallery.reply::<Vec<EventRecord>>("events", events());
    gallery.reply::<Vec<EventRecord>>("events --since 1m", json!([]));
    processes(gallery);
}

fn limited(gallery: &mut Gallery) {
    let groups = |all: Value| serde_json::from_value(all).unwrap();
    let critical = serde_json::from_value(json!([super::critical::down(), super::critical::up()])).unwrap();
    gallery.show("status", &Limited { groups: groups(json!([builds(), by_rule()])), critical });
    let critical = Vec::new();
    gallery.show("status", &Limited { groups: groups(json!([single()])), critical: critical.clone() });
    gallery.show("status", &Limited { groups: Vec::new(), critical });
    gallery.reply::<GroupStatus>("status --group backups", by_rule());
    gallery.reply::<GroupStatus>("status --group builds", builds());
}

fn by_rule() -> Value {
    json!({
        "group": "backups",
        "rule": "backups",
        "limits": { "cpu": "30%", "memory_high": "1G", "io_weight": 20, "nice": 10 },
        "scope": "group",
        "how": "by moving: not in place because other processes share their cgroup",
        "conflicts": [{ "at": "/sys/fs/cgroup/a/cpu.max", "ours": "30000 100000", "found": "max 100000" }],
        "members": [
            { "key": { "pid": 4711, "start": 12 }, "comm": "rsync" },
            { "key": { "pid": 4712, "start": 13 }, "comm": "\\x1b[31m\\xff" },
        ],
        "throttled_periods": 120,
        "throttled_us": 5_250_000,
        "cpu_delay": {
            "held": { "over_ms": 2_000, "held_us": 1_100_000, "share": 5_500 },
            "not_measured": "the scheduler's probes are off; set scheduler_probes: { mode: auto } in config.yaml",
        },
        "reason": { "cause": "rule", "profile": "web", "rule": "backups", "matched": "comm is rsync" },
        "since": "2025-03-01T12:00:00Z",
    })
}

/// What fits a terminal of 80 columns.
fn single() -> Value {
    let mut single = by_rule();
    single["limits"] = json!({ "cpu": "30%" });
    single["cpu_delay"] = delay();
    single
}

/// Of a group whose quota holds it back and that waits as well.
fn delay() -> Value {
    json!({
        "held": { "over_ms": 2_000, "held_us": 1_100_000, "share": 5_500 },
        "waited": {
            "over_ms": 2_000, "waited_us": 1_200_000, "share": 6_000, "count": 120, "p99_us": 70_000,
            "longest_us": 72_500,
        },
    })
}

fn builds() -> Value {
    json!({
        "group": "builds",
        "limits": { "cpu": "150%" },
        "scope": "process",
        "how": "in place",
        "members": [],
        "policy": {
            "policy": { "type": "gradual", "from": "100%", "over_ms": 300_000, "interval_ms": 1_000 },
            "written": { "cpu": "50%" },
            "readings": [{ "what": "time", "value": "10%", "threshold": "of the ramp" }],
            "changed": "2025-03-01T12:00:30Z",
        },
        "reason": { "cause": "operator", "uid": 0, "request": "throttle --pid 4800" },
        "since": "2025-03-01T12:00:00Z",
        "until": "2025-03-01T12:10:00Z",
    })
}

fn by_hand(gallery: &mut Gallery) {
    let throttled = |refused: Value, dry_run: bool| {
        json!({
            "group": "pid-4711",
            "limits": { "cpu": "30%", "pids": 100 },
            "how": "by moving: not in place because other processes share their cgroup",
            "members": [{ "key": { "pid": 4711, "start": 12 }, "comm": "rsync" }],
            "refused": refused,
            "until": "2025-03-01T12:10:00Z",
            "dry_run": dry_run,
        })
    };
    gallery.reply::<Throttled>(
        "throttle --pid 4711 --cpu 30% --pids 100 --for 10m",
        throttled(json!([]), false),
    );
    let left_out = json!([{ "pid": 2, "why": "a kernel thread" }]);
    gallery.reply::<Throttled>(
        "throttle --pid 2,4711 --cpu 30% --pids 100 --dry-run",
        throttled(left_out, true),
    );
    let released = |dry_run: bool| json!({ "groups": ["backups", "builds"], "processes": [{ "pid": 4711, "start": 12 }], "dry_run": dry_run });
    gallery.reply::<Released>("release --all", released(false));
    gallery.reply::<Released>("release --all --dry-run", released(true));
    gallery.reply::<Released>("release --all", json!({ "groups": [], "dry_run": false }));
}

fn profiles(gallery: &mut Gallery) {
    let plan = || {
        let member = |pid: u32| json!({ "key": { "pid": pid, "start": 1 }, "comm": "rsync" });
        json!({
            "profile": "web",
            "rules": [
                {
                    "rule": "backups", "limits": { "cpu": "30%" }, "scope": "group",
                    "processes": (1..=6).map(member).collect::<Vec<_>>(),
                    "how": ["by moving: not in place because other processes share their cgroup"],
                },
                { "rule": "old", "limits": { "nice": 5 }, "scope": "process", "processes": [], "note": "disabled" },
            ],
            "critical": [{
                "name": "nginx",
                "protection": { "level": "high", "oom_score_adj": -800, "nice": -5 },
                "reservation": { "cpu": { "weight": 400, "stated": true }, "memory_low": "512M" },
                "how": ["on the unit nginx.service"],
                "processes": [member(80)],
            }],
            "released": ["builds"],
        })
    };
    gallery.reply::<Plan>("profile plan web", plan());
    let activated = |profile: Value, previous: Value, plan: Value, dry_run: bool| json!({ "profile": profile, "previous": previous, "plan": plan, "dry_run": dry_run });
    gallery
        .reply::<Activated>("profile activate web", activated(json!("web"), json!("night"), plan(), false));
    gallery.reply::<Activated>(
        "profile activate web --dry-run",
        activated(json!("web"), Value::Null, plan(), true),
    );
    gallery
        .reply::<Activated>("profile deactivate", activated(Value::Null, json!("web"), Value::Null, false));
    gallery.reply::<Activated>("profile deactivate", activated(Value::Null, Value::Null, Value::Null, false));
}

fn dynamics(gallery: &mut Gallery) {
    let adaptive = || {
        json!({
            "type": "adaptive", "target": { "cpu": "40%" }, "min": "10%", "max": "100%", "interval_ms": 5_000,
            "cooldown_ms": 10_000, "deadband_permille": 50,
        })
    };
    gallery.reply::<Vec<DynamicStatus>>(
        "dynamic list",
        json!([
            {
                "name": "backups", "rule": "backups", "what": { "policy": adaptive() }, "overridden": true,
                "active": true, "limits": { "cpu": "25%" },
                "readings": [{ "what": "group cpu", "value": "38%", "threshold": "40%" }],
                "since": "2025-03-01T12:00:00Z",
            },
            { "name": "mail", "rule": "mail", "what": "conditions", "overridden": false, "active": false, "readings": [] },
        ]),
    );
    let applied = |dry_run: bool| {
        json!({
            "target": "backups", "limits": { "cpu": "40%" }, "policy": adaptive(), "groups": ["backups"],
            "dry_run": dry_run,
        })
    };
    gallery.reply::<DynamicApplied>("dynamic apply backups --policy adaptive --hold cpu=40%", applied(false));
    gallery.reply::<DynamicApplied>(
        "dynamic apply backups --policy adaptive --hold cpu=40% --dry-run",
        applied(true),
    );
    for (released, dry_run) in [(true, false), (true, true), (false, false), (false, true)] {
        let removed =
            json!({ "target": "backups", "groups": ["backups"], "released": released, "dry_run": dry_run });
        let dry = if dry_run { " --dry-run" } else { "" };
        gallery.reply::<DynamicRemoved>(&format!("dynamic remove backups{dry}"), removed);
    }
    gallery.show("dynamic policies", &policies());
}

fn explained(gallery: &mut Gallery) {
    gallery.reply::<Explanation>(
        "explain 4711",
        json!({
            "key": { "pid": 4711, "start": 12 }, "comm": "rsync", "ppid": 1, "uid": 0,
            "facts": { "exe": "/usr/bin/rsync", "cmdline": "rsync -a \\x1b[31m x", "cgroup_path": "/docker/0123" },
            "container": { "runtime": "docker", "id": "0123" },
            "profile": "web",
            "rules": [
                { "rule": "nginx", "matched": false, "why": "exe is /usr/bin/rsync" },
                { "rule": "backups", "priority": 1, "matched": true, "why": "comm is rsync" },
            ],
            "group": by_rule(),
            "history": events(),
        }),
    );
    gallery.reply::<Explanation>(
        "explain 1",
        json!({
            "key": { "pid": 1, "start": 1 }, "comm": "init", "ppid": 0, "uid": 0, "facts": {},
            "ended": { "signal": { "number": 9, "core": false } },
            "protected": "pid 1", "protection": "high: oom_score_adj=-800", "reservation": "cpu_weight=400",
            "cpu_delay": super::critical::delay(),
            "profile": null, "rules": [], "history": [],
        }),
    );
}

/// One of each form of text.
fn events() -> Value {
    let event = |seq: u32, severity: &str, text: &str, mut notice: Value| {
        let record = json!({
            "seq": seq, "at": format!("2025-03-01T12:00:{seq:02}Z"), "severity": severity, "text": text,
        });
        if let (Value::Object(notice), Value::Object(record)) = (&mut notice, record) {
            notice.extend(record);
        }
        notice
    };
    let reason = json!({ "cause": "rule", "profile": "web", "rule": "backups", "matched": "comm is rsync" });
    json!([
        event(1, "info", "profile web is active", json!({ "type": "profile_activated", "profile": "web" })),
        event(
            2,
            "info",
            "group backups is limited to cpu=30%",
            json!({
                "type": "throttle_applied", "group": "backups", "limits": { "cpu": "30%" },
                "processes": [[{ "pid": 4711, "start": 12 }, "rsync"]], "how": "in place", "reason": reason,
                "latency_ns": 1_500_000,
            })
        ),
        event(
            3,
            "critical",
            "nginx is down\nand \u{1b}[31mhostile",
            json!({
                "type": "critical_process_down", "name": "nginx", "remaining": 0, "wanted": 1,
                "exit": {
                    "process": {
                        "key": { "pid": 5, "start": 7 }, "started": 0, "ppid": 1, "uid": 0, "gid": 0, "cgroup": 0,
                        "comm": "nginx",
                    },
                    "at": 1_000_000_000, "status": { "signal": { "number": 11, "core": true } },
                },
            })
        ),
    ])
}

fn processes(gallery: &mut Gallery) {
    let row = |pid: u32, comm: &[u8], cmdline: &[u8]| Row {
        key: crate::model::id::ProcKey { pid, start: 1 },
        ppid: 1,
        uid: 0,
        gid: 0,
        comm: Comm::from_bytes(comm),
        cmdline: cmdline.to_vec(),
        exe: Some(b"/usr/bin/rsync".to_vec()),
        state: 'R',
        cpu_percent: 99.95,
        rss: 5 << 20,
        nice: -5,
        threads: 2,
        cgroup: Some(b"/system.slice".to_vec()),
        started: Timestamp::default(),
        kthread: false,
    };
    let long = b"rsync --archive --delete --exclude=/proc --exclude=/sys / backup:/srv/host";
    let mut kernel = row(2, b"kthreadd", b"");
    (kernel.kthread, kernel.exe, kernel.cgroup) = (true, None, None);
    gallery.show("list", &vec![row(4711, b"rsync", long), kernel]);
    gallery.show("discover rsync", &vec![row(4712, b"\x1b[31m\xff", b"\x1b]0;owned\x07\n")]);
}
