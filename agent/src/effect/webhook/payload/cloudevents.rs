//! CloudEvents 1.0.2 in structured JSON (github.com/cloudevents/spec, cloudevents/spec.md and
//! formats/json-format.md), with the extension for distributed tracing (extensions/distributed-tracing.md).

use serde_json::{Value, json};

use super::facts::Facts;

pub(super) fn body(facts: &Facts<'_>) -> Value {
    let mut event = json!({
        "specversion": "1.0",
        "id": facts.id,
        "source": format!("//{}/process-throttler", percent_encoded(&facts.host)),
        "type": format!("process_throttler.{}", facts.kind),
        "time": facts.time(),
        "datacontenttype": "application/json",
        "data": facts.data(),
    });
    // Optional, and not to be empty.
    if let Some(map) = event.as_object_mut()
        && !facts.subject.is_empty()
    {
        map.insert("subject".to_owned(), facts.subject.as_str().into());
    }
    if let (Some(map), Some(context)) = (event.as_object_mut(), facts.trace) {
        map.insert("traceparent".to_owned(), context.to_string().into());
    }
    event
}

/// A host's name as RFC 3986 wants it in a reference: all but the unreserved characters as `%NN`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
