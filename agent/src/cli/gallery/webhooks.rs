//! Samples: deliveries.

use serde_json::{Value, json};

use super::Gallery;
use crate::control::proto::{DeliveryDetail, DeliveryStatus, WebhookReplayed, WebhookTested};

pub(super) fn fill(gallery: &mut Gallery) {
    gallery.reply::<Vec<DeliveryStatus>>("webhook deliveries", json!([pending(), delivered()]));
    gallery.reply::<Vec<DeliveryStatus>>("webhook deliveries --state dead", json!([]));
    let mut detail = pending();
    detail["body"] = json!("{\"type\":\"test\"}");
    detail["history"] = json!([
        { "at": "2025-03-01T12:00:00Z", "latency_ms": 5_000, "error": "timed out" },
        { "at": "2025-03-01T12:00:05Z", "status": 503, "latency_ms": 12, "error": "503", "answer": "\u{1b}[31mbusy\n" },
    ]);
    gallery.reply::<DeliveryDetail>("webhook deliveries 42", detail);
    gallery.reply::<WebhookTested>(
        "webhook test ops",
        json!({
            "endpoint": "ops", "event": "evt_1", "delivered": true, "at": "2025-03-01T12:00:00Z", "status": 200,
            "latency_ms": 12, "answer": "ok\n",
        }),
    );
    gallery.reply::<WebhookTested>(
        "webhook test ops",
        json!({
            "endpoint": "ops", "event": "evt_2", "delivered": false, "at": "2025-03-01T12:00:00Z",
            "latency_ms": 1, "error": "connect to 127.0.0.1:1: connection refused",
        }),
    );
    gallery.reply::<WebhookReplayed>(
        "webhook replay --endpoint ops --dry-run",
        json!({ "deliveries": 7, "dry_run": true }),
    );
    gallery.reply::<WebhookReplayed>(
        "webhook replay --endpoint ops",
        json!({ "deliveries": 7, "dry_run": false }),
    );
}

fn pending() -> Value {
    json!({
        "id": 42, "event": "evt_1", "endpoint": "ops", "state": "pending", "created": "2025-03-01T12:00:00Z",
        "attempts": 2, "next_attempt": "2025-03-01T12:05:05Z", "last_error": "503", "bytes": 512,
    })
}

fn delivered() -> Value {
    json!({
        "id": 41, "event": "evt_0", "endpoint": "chat", "state": "delivered", "created": "2025-03-01T11:00:00Z",
        "attempts": 1, "bytes": 2_048,
    })
}
