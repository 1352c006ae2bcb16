//! Alerts in the words of Prometheus' Alertmanager: the message that it sends to webhook receivers, version 4
//! (prometheus.io/docs/alerting/latest/configuration, `webhook_config`), and the alerts that are posted to it
//! (github.com/prometheus/alertmanager, api/v2/openapi.yaml, `postableAlerts`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::facts::{Facts, rfc3339, severity};

/// The zero time of Go, which says that there is no end yet.
const NO_END: &str = "0001-01-01T00:00:00Z";
/// After this an event that is no alert is over.
const EVENT_LASTS_MS: i64 = 5 * 60 * 1_000;
/// An alert that nobody tells the end of is over after this; telling it again prolongs it.
const ALERT_LASTS_MS: i64 = 24 * 3_600 * 1_000;

/// What an Alertmanager would send.
pub(super) fn message(facts: &Facts<'_>) -> Value {
    let (labels, annotations) = (labels(facts), annotations(facts));
    let status = if facts.is_over() { "resolved" } else { "firing" };
    let ends = facts.alert.and_then(|alert| alert.until).filter(|_| facts.is_over());
    let kind = facts.alert_kind();
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alertname=\"{kind}\"}}"),
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "process-throttler",
        "groupLabels": { "alertname": kind },
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [{
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": rfc3339(begin(facts)),
            "endsAt": ends.map_or_else(|| NO_END.to_owned(), rfc3339),
            "generatorURL": "",
            "fingerprint": fingerprint(&labels),
        }],
    })
}

/// What Prometheus would post to an Alertmanager.
pub(super) fn postable(facts: &Facts<'_>) -> Value {
    let begin = begin(facts);
    let end = match facts.alert {
        None => begin.saturating_add(EVENT_LASTS_MS),
        Some(alert) if facts.is_over() => alert.until.unwrap_or(facts.unix_ms),
        Some(_) => facts.unix_ms.saturating_add(ALERT_LASTS_MS),
    };
    json!([{
        "labels": labels(facts),
        "annotations": annotations(facts),
        "startsAt": rfc3339(begin),
        // An end before the beginning is refused.
        "endsAt": rfc3339(end.max(begin)),
    }])
}

fn begin(facts: &Facts<'_>) -> i64 {
    facts.alert.map_or(facts.unix_ms, |alert| alert.since)
}

/// What makes it the same alert: nothing in here changes from its beginning to its end.
fn labels<'a>(facts: &'a Facts<'_>) -> BTreeMap<&'static str, &'a str> {
    let mut labels = BTreeMap::from([
        ("alertname", facts.alert_kind()),
        ("instance", facts.host.as_str()),
        ("job", "process-throttler"),
        ("severity", severity(facts.alert_severity())),
    ]);
    if !facts.subject.is_empty() {
        labels.insert("subject", &facts.subject);
    }
    labels
}

fn annotations(facts: &Facts<'_>) -> BTreeMap<&'static str, String> {
    let trace = facts.trace.map(|context| ("trace_id", context.trace.to_string()));
    [("summary", facts.title()), ("description", facts.message.clone())].into_iter().chain(trace).collect()
}

/// As `LabelSet.Fingerprint` of github.com/prometheus/common computes it: FNV-1a of the sorted names and values,
/// each followed by the byte 255.
fn fingerprint(labels: &BTreeMap<&'static str, &str>) -> String {
    let bytes = labels.iter().flat_map(|(name, value)| {
        name.bytes().chain(std::iter::once(255)).chain(value.bytes()).chain(std::iter::once(255))
    });
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}
