//! PagerDuty's Events API v2 (developer.pagerduty.com/docs/events-api-v2, "Trigger, Acknowledge, Resolve"). The
//! routing key is a secret and comes in when the body is sent.

use serde_json::{Value, json};

use super::facts::{Facts, severity};
use super::text::{clean, cut};
use crate::model::alert::AlertState;

/// Of `summary`.
const SUMMARY_MAX: usize = 1_024;
/// Of `dedup_key`.
const KEY_MAX: usize = 255;

pub(super) fn body(facts: &Facts<'_>) -> Value {
    let action = match facts.alert.map(|alert| alert.state) {
        Some(AlertState::Firing | AlertState::Repeated) | None => "trigger",
        Some(AlertState::Acknowledged) => "acknowledge",
        Some(AlertState::Resolved) => "resolve",
    };
    let key = facts.alert.map_or(facts.id, |alert| alert.key.as_str());
    let mut event = json!({
        "event_action": action,
        "dedup_key": cut(key, KEY_MAX, clean),
        "client": "process-throttler",
    });
    if let Some(map) = event.as_object_mut()
        && action == "trigger"
    {
        map.insert("payload".to_owned(), payload(facts));
    }
    event
}

fn payload(facts: &Facts<'_>) -> Value {
    json!({
        "summary": cut(&facts.message, SUMMARY_MAX, clean),
        "source": facts.host,
        "severity": severity(facts.severity),
        "timestamp": facts.time(),
        "component": if facts.subject.is_empty() { "host" } else { facts.subject.as_str() },
        "group": "process-throttler",
        "class": facts.kind,
        "custom_details": facts.data(),
    })
}

/// A stored body with the key in it; as it is when it is no body of this format.
pub(super) fn with_routing_key(body: Vec<u8>, key: &str) -> Vec<u8> {
    let Some(rest) = body.strip_prefix(b"{") else { return body };
    let mut whole = format!("{{\"routing_key\":{},", Value::from(key)).into_bytes();
    whole.extend_from_slice(rest);
    whole
}
