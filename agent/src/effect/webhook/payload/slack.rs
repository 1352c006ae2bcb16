//! Slack's incoming webhooks: blocks, with a text for notifications (docs.slack.dev/reference/block-kit and
//! /messaging/formatting-message-text). All text is `plain_text`, so no markup in it means anything, and `&<>`
//! are escaped, so that no link or mention begins.

use serde_json::{Value, json};

use super::facts::{Facts, severity};
use super::text::{clean, cut};

/// Of a header's text.
const HEADER_MAX: usize = 150;
/// Of a section's text.
const SECTION_MAX: usize = 3_000;

pub(super) fn body(facts: &Facts<'_>) -> Value {
    let foot = format!("{} · {} · {}", severity(facts.severity), facts.time(), facts.ids());
    json!({
        "text": cut(&facts.title(), SECTION_MAX, escape),
        "mrkdwn": false,
        "unfurl_links": false,
        "unfurl_media": false,
        "blocks": [
            { "type": "header", "text": plain(&facts.title(), HEADER_MAX) },
            { "type": "section", "text": plain(&facts.message, SECTION_MAX) },
            { "type": "context", "elements": [plain(&foot, SECTION_MAX)] },
        ],
    })
}

fn plain(text: &str, most: usize) -> Value {
    json!({ "type": "plain_text", "text": cut(text, most, escape), "emoji": false })
}

fn escape(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => clean(c, out),
    }
}
