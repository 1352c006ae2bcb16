//! The envelope of Standard Webhooks 1.0.0: `type`, `timestamp`, `data`
//! (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md, "Payload structure").

use serde_json::{Value, json};

use super::facts::Facts;

pub(super) fn body(facts: &Facts<'_>) -> Value {
    json!({ "type": facts.kind, "timestamp": facts.time(), "data": facts.data() })
}
