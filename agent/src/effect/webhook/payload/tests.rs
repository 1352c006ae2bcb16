//! Every body is JSON within its receiver's limits, whatever text is in the event. That they satisfy the
//! published schemas is tested in `tests/formats.rs`.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::alert::{Alert, AlertState};
use crate::model::notice::Notice;
use crate::model::process::Comm;
use crate::model::trace::TraceContext;

const FORMATS: [Format; 8] = [
    Format::Standard,
    Format::CloudEvents,
    Format::Alertmanager,
    Format::PostableAlerts,
    Format::Slack,
    Format::PagerDuty,
    Format::Discord,
    Format::Teams,
];

fn told<'a>(notice: &'a Notice, alert: Option<&'a Alert>) -> Told<'a> {
    Told { id: "evt_1", notice, unix_ms: 1_700_000_000_123, host: "host-1", alert, alike: 1, trace: None }
}

fn alert(state: AlertState) -> Alert {
    let until = (state == AlertState::Resolved).then_some(1_700_000_060_000);
    Alert {
        key: "critical_process_down:nginx@host-1".to_owned(),
        state,
        since: 1_700_000_000_000,
        until,
        events: 2,
    }
}

fn test(detail: &str) -> Notice {
    Notice::Test { detail: detail.to_owned() }
}

/// A notice that is told of many processes with this name.
fn applied(comm: &[u8], count: u32) -> Notice {
    let comm = serde_json::to_value(Comm::from_bytes(comm)).unwrap();
    let process = |pid| json!([{ "pid": pid, "start": u64::MAX }, comm]);
    serde_json::from_value(json!({
        "type": "throttle_applied",
        "group": "backups",
        "limits": {},
        "processes": (0..count).map(process).collect::<Vec<_>>(),
        "how": "in place",
        "reason": { "cause": "operator", "uid": 0, "request": "throttle" },
        "latency_ns": null,
    }))
    .unwrap()
}

fn body(format: Format, told: &Told<'_>) -> Value {
    serde_json::from_slice(&render(format, told).body).unwrap()
}

fn trace() -> TraceContext {
    "00-0190a1b2c3d47e5f8091a2b3c4d5e6f7-00f067aa0ba902b7-01".parse().unwrap()
}

#[test]
fn a_trace_is_told_where_there_is_one_and_nowhere_else() {
    let (notice, id) = (test("x"), trace().trace.to_string());
    for format in FORMATS {
        let traced = body(format, &Told { trace: Some(trace()), ..told(&notice, None) });
        assert!(traced.to_string().contains(&id), "{format:?}: {traced}");
        assert!(!body(format, &told(&notice, None)).to_string().contains("trace"), "{format:?}");
    }
    let traced = Told { trace: Some(trace()), ..told(&notice, None) };
    assert_eq!(body(Format::Standard, &traced)["data"]["trace_id"], id);
    // The distributed tracing extension of CloudEvents.
    assert_eq!(body(Format::CloudEvents, &traced)["traceparent"], trace().to_string());
    let alert = &body(Format::Alertmanager, &traced)["alerts"][0];
    assert_eq!((&alert["annotations"]["trace_id"], &alert["labels"]["trace_id"]), (&json!(id), &Value::Null));
}

#[test]
fn the_envelope_is_complete_and_minified() {
    let profile = Notice::ProfileActivated { profile: Some("web".parse().unwrap()) };
    let plain = concat!(
        r#"{"data":{"details":{"profile":"web"},"host":"host-1","message":"profile web is active","#,
        r#""severity":"info"},"timestamp":"2023-11-14T22:13:20.123Z","type":"profile_activated"}"#
    );
    let rendered = render(Format::Standard, &told(&profile, None));
    assert_eq!(String::from_utf8(rendered.body).unwrap(), plain);
    let over = alert(AlertState::Resolved);
    let body = body(Format::Standard, &Told { alike: 3, ..told(&profile, Some(&over)) });
    assert_eq!(
        body["data"]["alert"],
        json!({
            "key": "critical_process_down:nginx@host-1", "state": "resolved", "events": 2,
            "since": "2023-11-14T22:13:20Z", "until": "2023-11-14T22:14:20Z",
        })
    );
    assert_eq!(body["data"]["alike"], 3);
    assert_eq!(body["data"]["message"], "profile web is active (and 2 more like it)");
}

#[test]
fn an_alert_is_the_same_one_until_its_end() {
    let begun = test("x");
    // What ends it is an event of another type.
    let ended = Notice::ProfileActivated { profile: None };
    let (firing, over) = (alert(AlertState::Firing), alert(AlertState::Resolved));
    let (first, last) = (told(&begun, Some(&firing)), told(&ended, Some(&over)));
    let posted = [body(Format::PostableAlerts, &first), body(Format::PostableAlerts, &last)];
    assert_eq!(posted[0][0]["labels"], posted[1][0]["labels"]);
    assert_eq!(posted[0][0]["labels"]["alertname"], "critical_process_down");
    assert_eq!(posted[0][0]["labels"]["severity"], "critical");
    assert_eq!(posted[1][0]["endsAt"], "2023-11-14T22:14:20Z");
    assert_eq!(posted[0][0]["endsAt"], "2023-11-15T22:13:20.123Z", "a day, unless it is told again");
    let sent = [body(Format::Alertmanager, &first), body(Format::Alertmanager, &last)];
    assert_eq!([&sent[0]["status"], &sent[1]["status"]], ["firing", "resolved"]);
    assert_eq!(sent[0]["alerts"][0]["fingerprint"], sent[1]["alerts"][0]["fingerprint"]);
    assert_eq!(sent[0]["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    for (state, action) in [
        (AlertState::Firing, "trigger"),
        (AlertState::Repeated, "trigger"),
        (AlertState::Acknowledged, "acknowledge"),
        (AlertState::Resolved, "resolve"),
    ] {
        let alert = alert(state);
        let body = body(Format::PagerDuty, &told(&begun, Some(&alert)));
        assert_eq!((&body["event_action"], &body["dedup_key"]), (&action.into(), &alert.key.clone().into()));
    }
    let alone = body(Format::PagerDuty, &told(&begun, None));
    assert_eq!([&alone["event_action"], &alone["dedup_key"]], ["trigger", "evt_1"]);
}

#[test]
fn the_routing_key_comes_in_last() {
    let event = test("x");
    let stored = render(Format::PagerDuty, &told(&event, None)).body;
    assert!(!stored.windows(11).any(|part| part == b"routing_key"));
    let sent = finish(Format::PagerDuty, stored.clone(), Some("k\"1"));
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["routing_key"], "k\"1");
    assert_eq!(sent["payload"], serde_json::from_slice::<Value>(&stored).unwrap()["payload"]);
    for format in FORMATS {
        let body = render(format, &told(&event, None)).body;
        assert_eq!(finish(format, body.clone(), None), body);
        assert_eq!(finish(format, body.clone(), Some("k")) == body, format != Format::PagerDuty);
    }
}

#[test]
fn markup_in_names_means_nothing() {
    let hostile = test("<!channel> & *_~`@everyone [x](https://evil) \u{202e}\u{7}");
    let at = |format| body(format, &told(&hostile, None));
    let slack = at(Format::Slack);
    let section = &slack["blocks"][1]["text"];
    assert_eq!(section["type"], "plain_text");
    assert_eq!(
        section["text"],
        "test: &lt;!channel&gt; &amp; *_~`@everyone [x](https://evil) \u{fffd}\u{fffd}"
    );
    let discord = at(Format::Discord);
    assert_eq!(
        discord["embeds"][0]["description"],
        "test\\: \\<!channel\\> \\& \\*\\_\\~\\`\\@everyone \\[x\\]\\(https\\://evil\\) \u{fffd}\u{fffd}"
    );
    assert_eq!(discord["allowed_mentions"], json!({ "parse": [] }));
    for block in at(Format::Teams)["attachments"][0]["content"]["body"].as_array().unwrap() {
        assert_eq!(
            (&block["type"], &block["inlines"][0]["type"]),
            (&"RichTextBlock".into(), &"TextRun".into())
        );
    }
}

#[test]
fn what_is_too_long_is_cut_with_a_mark() {
    let long = test(&"<&>".repeat(100_000));
    for format in FORMATS {
        let bytes = render(format, &told(&long, None)).body;
        assert!(bytes.len() <= BODY_MAX, "{format:?}: {}", bytes.len());
        assert!(String::from_utf8(bytes).unwrap().contains('…'), "{format:?}");
    }
    let many = applied(b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5\xf4\xf3\xf2\xf1", 20_000);
    let body = body(Format::Standard, &told(&many, None));
    assert_eq!(body["data"]["details"]["truncated"], true);
    assert!(!body["data"]["details"]["processes"].as_array().unwrap().is_empty());
    assert_eq!(body["data"]["details"]["group"], "backups");
}

#[test]
fn a_cut_is_within_the_limit_and_never_within_an_escape() {
    let amp = |c: char, out: &mut String| out.push_str(if c == '&' { "&amp;" } else { "x" });
    for (text, most, expected) in [
        ("", 0, ""),
        ("ab", 2, "xx"),
        ("abc", 2, "x…"),
        ("a&", 6, "x&amp;"),
        ("a&", 5, "x…"),
        ("&&", 9, "&amp;…"),
        ("ab", 1, "…"),
        ("ab", 0, ""),
    ] {
        assert_eq!(text::cut(text, most, amp), expected, "{text:?} {most}");
    }
    assert_eq!(text::cut("😀😀", 3, |c, out| out.push(c)), "😀…", "as UTF-16 counts");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn arbitrary_text_gives_valid_bodies(
        comm in proptest::collection::vec(any::<u8>(), 0..16),
        count in 0_u32..400,
        detail in any::<String>(),
        times in 1_usize..400,
        host in any::<String>(),
        unix_ms in any::<i64>(),
        alike in any::<u64>(),
    ) {
        let alert = Alert { key: host.chars().take(60).collect(), ..alert(AlertState::Firing) };
        for notice in [applied(&comm, count), test(&detail.repeat(times))] {
            for alert in [None, Some(&alert)] {
                let trace = alike.is_multiple_of(2).then(trace);
                let told = Told { id: "evt_1", notice: &notice, unix_ms, host: &host, alert, alike, trace };
                for format in FORMATS {
                    let once = render(format, &told);
                    prop_assert!(once.body.len() <= BODY_MAX, "{:?}: {}", format, once.body.len());
                    prop_assert!(serde_json::from_slice::<Value>(&once.body).is_ok());
                    prop_assert_eq!(&once, &render(format, &told));
                }
            }
        }
    }
}
