//! The body of a delivery: the Standard Webhooks envelope, minified once and kept as bytes, so that what is
//! signed is what is sent on every attempt.

use jiff::Timestamp as Wall;
use serde_json::{Value, json};

use crate::model::notice::Notice;

/// Builds the body for a notice that happened at `unix_ms`.
#[must_use]
pub fn standard(notice: &Notice, unix_ms: i64, host: &str) -> Vec<u8> {
    let timestamp = Wall::from_millisecond(unix_ms).unwrap_or(Wall::UNIX_EPOCH);
    let mut details = serde_json::to_value(notice).unwrap_or(Value::Null);
    if let Some(map) = details.as_object_mut() {
        map.remove("type");
    }
    let body = json!({
        "type": notice.kind(),
        "timestamp": timestamp.to_string(),
        "data": {
            "severity": notice.severity(),
            "host": host,
            "message": notice.to_string(),
            "details": details,
        },
    });
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::Name;

    #[test]
    fn envelope_is_complete_and_minified() {
        let profile: Name = "web".parse().unwrap();
        let body =
            standard(&Notice::ProfileActivated { profile: Some(profile) }, 1_700_000_000_123, "host-1");
        assert_eq!(
            String::from_utf8(body).unwrap(),
            concat!(
                r#"{"data":{"details":{"profile":"web"},"host":"host-1","message":"profile web is active","#,
                r#""severity":"info"},"timestamp":"2023-11-14T22:13:20.123Z","type":"profile_activated"}"#
            )
        );
    }
}
