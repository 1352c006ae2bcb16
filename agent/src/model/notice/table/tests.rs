//! The table against the notices there are, and `docs/events.md` against the table.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::model::absence::{Absence, Revival};
use crate::model::circumstances::QuotaUse;
use crate::model::critical::RestartResult;
use crate::model::id::ProcKey;
use crate::model::last_seconds::Held;
use crate::model::latency::{CpuHolder, HeldBy, SloEnd};
use crate::model::limits::Limits;
use crate::model::notice::Response;
use crate::model::notice::part::Part;
use crate::model::notice::testing::{applied, conflict, down, removed, stopped};
use crate::model::reason::Reason;
use crate::model::signal::Hundredths;
use crate::model::unit::{CpuPercent, Weight};

const HEAD: &str = "\
# Events

Generated from the table of event types; do not edit. Events are in the event stream (`process-throttler events`), and go to
the webhook endpoints that want them. A *critical* one goes out at once. Of those told *together*, an endpoint gets one delivery
for all of a type and subject that come within its `group_wait`, with their number.

An *alert* begins, may be told again after `repeat_interval`, and ends. Its key is type, subject and host. The same condition told
again while it stands is counted, not sent. Types that this version does not give yet are listed last.
";

fn violated(at_floor: bool) -> Notice {
    Notice::LatencySloViolated {
        name: "nginx".parse().unwrap(),
        p99_us: 7_300,
        objective_us: 5_000,
        lasted_ms: 500,
        held_by: vec![HeldBy {
            group: "backups".parse().unwrap(),
            cpu_weight: Weight::new(10).unwrap(),
            cpu: CpuPercent::from_millis(5_000),
            at_floor,
        }],
        candidates: 1,
        at_floor,
        holders: Vec::new(),
        held: None,
    }
}

#[test]
fn violations_are_told_in_words() {
    assert_eq!(
        violated(true).to_string(),
        "critical process nginx waits too long for a CPU for 0.5 s: p99 7.30 ms, objective 5.00 ms; nobody can \
         give way any further, gives way: backups at cpu=5% cpu_weight=10 (its floor)"
    );
    let mut told = violated(true);
    if let Notice::LatencySloViolated { holders, held, .. } = &mut told {
        let holder = |path: Option<&str>, group: Option<&str>, share| CpuHolder {
            cgroup: 42,
            path: path.map(str::to_owned),
            group: group.map(|group| group.parse().unwrap()),
            share: Hundredths(share),
        };
        *holders = vec![
            holder(Some("/a"), Some("backups"), 7_200),
            holder(Some("/user.slice"), None, 1_100),
            holder(None, None, 30),
        ];
        *held = Some(Box::new(Held {
            cgroup: "/web".to_owned(),
            group: None,
            share: Hundredths(1_000),
            quota: QuotaUse { periods: 10, throttled: 4, throttled_ns: 5 },
        }));
    }
    assert!(
        told.to_string().ends_with(
            "(its floor); meanwhile group backups 72.00 %, /user.slice 11.00 %, cgroup 42 0.30 % had the CPUs; held \
             back 10 % by the quota of /web in 4 of 10 periods of the last seconds"
        ),
        "{told}"
    );
    let json = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), told);
}

/// One or more of each variant.
fn samples() -> Vec<Notice> {
    let group = || "backups".parse().unwrap();
    vec![
        down("nginx", 0),
        down("nginx", 2),
        Notice::CriticalProcessMissing {
            name: group(),
            instances: 0,
            wanted: 1,
            absent: Duration::from_secs(30),
            why: Absence::NeverStarted,
        },
        Notice::CriticalProcessRecovered {
            name: group(),
            how: Revival::NotRequired,
            instances: 1,
            absent: Duration::from_secs(1),
        },
        Notice::CriticalProcessRestart {
            name: group(),
            result: RestartResult::GivenUp,
            by: "unit x.service".into(),
            attempt: 5,
            detail: "5 times in 10 m".into(),
        },
        Notice::CriticalProcessRestart {
            name: group(),
            result: RestartResult::Restarted,
            by: "unit x.service".into(),
            attempt: 1,
            detail: "it is there again".into(),
        },
        Notice::HealthCheckFailed { name: group(), failures: 3, error: "no answer".into() },
        Notice::HealthCheckRecovered { name: group(), lasted_ms: 1 },
        violated(false),
        violated(true),
        Notice::LatencySloRecovered {
            name: group(),
            p99_us: Some(200),
            objective_us: 5_000,
            lasted_ms: 900,
            held_by: Vec::new(),
            how: SloEnd::Held,
        },
        Notice::ProtectionFailed { name: group(), process: ProcKey { pid: 1, start: 1 }, error: "no".into() },
        Notice::WebhookDisabled { endpoint: group(), why: "410".into() },
        applied("backups"),
        Notice::ThrottleAdjusted {
            group: group(),
            from: Limits::default(),
            to: Limits::default(),
            reason: Reason::Empty,
        },
        Notice::ThrottleFailed { group: group(), error: "no".into(), reason: Reason::Empty },
        removed("backups"),
        conflict("backups", Response::Yielded),
        conflict("backups", Response::Reasserted),
        conflict("backups", Response::GaveUp),
        stopped(),
        Notice::SecurityViolation {
            uid: 7,
            gid: 7,
            pid: None,
            request: "throttle".into(),
            why: "no role".into(),
            times: 1,
        },
        Notice::EmergencyResumed { uid: 0 },
        Notice::EventsLost { dropped: 1, missed_exits: 0 },
        Notice::ProbesShed { cost: Hundredths(90), budget: Hundredths(50) },
        Notice::ProfileActivated { profile: None },
        Notice::ConfigurationChanged { detail: "x".into(), accepted: true },
        Notice::ConfigurationChanged { detail: "x".into(), accepted: false },
        Notice::BackupCreated { name: group(), path: "/b.tar.gz".into(), size: 1, encrypted: false },
        Notice::Test { detail: "x".into() },
    ]
}

#[test]
fn names_are_told_apart() {
    let mut names = BTreeSet::new();
    let mut metrics = BTreeSet::new();
    let mut audits = BTreeSet::new();
    for row in EVENT_TYPES {
        assert!(names.insert(row.name) && metrics.insert(row.metric) && audits.insert(row.audit), "{row:?}");
        assert!(row.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{row:?}");
        if let Stage::Ends(types) = row.stage {
            for ended in types {
                assert_eq!(EventType::named(ended).map(|row| row.stage), Some(Stage::Begins), "{ended}");
            }
        }
    }
    assert!(
        OUTAGES.iter().all(|name| EventType::named(name).is_some_and(|row| row.about == About::Critical))
    );
}

#[test]
fn a_type_is_given_when_there_is_a_notice_of_it() {
    let given: BTreeSet<&str> = EVENT_TYPES.iter().filter(|row| row.given).map(|row| row.name).collect();
    let sampled: BTreeSet<&str> = samples().iter().map(Notice::kind).collect();
    assert_eq!(sampled, given, "a notice needs a row that says so, and a sample here");
    for row in EVENT_TYPES {
        let empty = serde_json::json!({ "type": row.name });
        let known = match serde_json::from_value::<Notice>(empty) {
            Ok(_) => true,
            Err(error) => !error.to_string().contains("unknown variant"),
        };
        assert_eq!(known, row.given, "{}: whether Notice has it", row.name);
    }
}

#[test]
fn notices_are_what_their_row_says() {
    for notice in samples() {
        let row = notice.event_type().unwrap();
        let about_host = notice.subject().is_empty();
        assert_eq!(about_host, row.about == About::Host, "{notice:?}");
        let harmless = matches!(notice, Notice::ThrottleConflict { response: Response::Reasserted, .. });
        match (notice.part(), row.stage) {
            (Part::Event, Stage::Event) | (Part::Begins { .. }, Stage::Begins) => assert!(!harmless),
            (Part::Ends(part), Stage::Ends(row)) => assert_eq!(part, row),
            (Part::Event, Stage::Begins) => assert!(harmless, "{notice:?}"),
            (part, stage) => panic!("{notice:?}: {part:?}, {stage:?}"),
        }
    }
}

#[test]
fn the_severity_of_a_type_is_one_that_it_has() {
    for row in EVENT_TYPES.iter().filter(|row| row.given) {
        let samples = samples();
        let mut of_type = samples.iter().filter(|notice| notice.kind() == row.name);
        assert!(of_type.any(|notice| notice.severity() == row.severity), "{row:?}");
    }
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    for (given, title) in [(true, "Given"), (false, "Names that are taken")] {
        write!(
            text,
            "\n## {title}\n\n| type | severity | about | told | alert | audit | metric | meaning |\n\
             |---|---|---|---|---|---|---|---|\n"
        )
        .unwrap();
        for row in EVENT_TYPES.iter().filter(|row| row.given == given) {
            let severity = format!("{:?}", row.severity).to_lowercase();
            let about = match row.about {
                About::Critical => "critical process",
                About::Group => "group",
                About::Endpoint => "endpoint",
                About::Host => "host",
            };
            let pace = match row.pace {
                Pace::AtOnce => "at once",
                Pace::Together => "together",
            };
            let alert = match row.stage {
                Stage::Event => String::new(),
                Stage::Begins => "begins".to_owned(),
                Stage::Ends(types) => {
                    let types: Vec<String> = types.iter().map(|name| format!("`{name}`")).collect();
                    format!("ends {}", types.join(", "))
                }
            };
            let EventType { name, audit, metric, meaning, .. } = row;
            writeln!(
                text,
                "| `{name}` | {severity} | {about} | {pace} | {alert} | `{audit}` | `{metric}` | {meaning} |"
            )
            .unwrap();
        }
    }
    text
}

/// Set `UPDATE_REFERENCE` to write the file anew.
#[test]
fn reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
    let now = reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == now, "docs/events.md is stale: run this test with UPDATE_REFERENCE=1");
}
