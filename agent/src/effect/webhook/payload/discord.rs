//! Discord's webhooks: an embed (discord.com/developers/docs, resources/webhook "Execute Webhook" and
//! resources/message "Embed Limits"). Markdown is escaped and mentions are off.

use serde_json::{Value, json};

use super::facts::{Facts, severity};
use super::text::{cut, markdown};
use crate::model::notice::Severity;

/// Of the content.
const CONTENT_MAX: usize = 2_000;
/// Of an embed's title.
const TITLE_MAX: usize = 256;
/// Of an embed's description; the embeds of a message may have 6000 together.
const DESCRIPTION_MAX: usize = 4_096;

pub(super) fn body(facts: &Facts<'_>) -> Value {
    json!({
        "content": cut(&facts.title(), CONTENT_MAX, markdown),
        "embeds": [{
            "title": cut(&format!("{} {}", severity(facts.severity), facts.kind), TITLE_MAX, markdown),
            "description": cut(&facts.message, DESCRIPTION_MAX, markdown),
            "color": color(facts),
            "timestamp": facts.time(),
            "footer": { "text": facts.ids() },
        }],
        "allowed_mentions": { "parse": [] },
    })
}

/// 24 bits of red, green and blue.
const fn color_of(severity: Severity) -> u32 {
    match severity {
        Severity::Info => 0x34_98_db,
        Severity::Warning => 0xf1_c4_0f,
        Severity::Critical => 0xe7_4c_3c,
    }
}

fn color(facts: &Facts<'_>) -> u32 {
    const OVER: u32 = 0x2e_cc_71;
    if facts.is_over() { OVER } else { color_of(facts.severity) }
}
