//! Teams' workflows, "Post to a channel when a webhook request is received": a message with an Adaptive Card 1.4
//! (learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using and
//! adaptivecards.io/explorer). All text is in `TextRun`s, which have no markup.

use serde_json::{Value, json};

use super::facts::{Facts, severity};
use super::text::{clean, cut};
use crate::model::notice::Severity;

/// Of the title; a message may have 28 kB as a whole.
const TITLE_MAX: usize = 500;
/// Of the message.
const MESSAGE_MAX: usize = 4_000;

pub(super) fn body(facts: &Facts<'_>) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card(facts),
        }],
    })
}

fn card(facts: &Facts<'_>) -> Value {
    let foot = format!("{} · {} · {}", severity(facts.severity), facts.time(), facts.ids());
    let mut title = run(&facts.title(), TITLE_MAX);
    if let Some(map) = title.as_object_mut() {
        map.extend([
            ("weight".to_owned(), "Bolder".into()),
            ("size".to_owned(), "Medium".into()),
            ("color".to_owned(), color(facts).into()),
        ]);
    }
    json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": { "width": "Full" },
        "body": [
            { "type": "RichTextBlock", "inlines": [title] },
            { "type": "RichTextBlock", "inlines": [run(&facts.message, MESSAGE_MAX)] },
            { "type": "RichTextBlock", "inlines": [run(&foot, TITLE_MAX)] },
        ],
    })
}

fn run(text: &str, most: usize) -> Value {
    json!({ "type": "TextRun", "text": cut(text, most, clean) })
}

fn color(facts: &Facts<'_>) -> &'static str {
    if facts.is_over() {
        return "Good";
    }
    match facts.severity {
        Severity::Info => "Accent",
        Severity::Warning => "Warning",
        Severity::Critical => "Attention",
    }
}
