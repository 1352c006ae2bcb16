//! The body of a delivery in each format, minified once and kept as bytes, so that what is signed is what is
//! sent on every attempt. The same event gives the same bytes.
//!
//! Whatever a process, a person or another program named stays text: it is escaped for the receiver's markup and
//! cut, with a mark, to the receiver's limits. Sends nothing and knows no secret.

mod alertmanager;
mod cloudevents;
mod discord;
mod facts;
mod pagerduty;
mod slack;
mod standard;
mod teams;
mod text;

use crate::model::alert::Told;
use crate::model::endpoint::Format;

use facts::Facts;

/// Most bytes of a body that programs read; Standard Webhooks 1.0.0 recommends 20 kB.
pub const BODY_MAX: usize = 20_000;

/// A body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Its bytes: JSON in UTF-8.
    pub body: Vec<u8>,
    /// What the `Content-Type` header says.
    pub content_type: &'static str,
}

/// Puts into words and bytes what an endpoint of this format is told.
#[must_use]
pub fn render(format: Format, told: &Told<'_>) -> Rendered {
    let facts = Facts::of(told);
    let body = match format {
        Format::Standard => standard::body(&facts),
        Format::CloudEvents => cloudevents::body(&facts),
        Format::Alertmanager => alertmanager::message(&facts),
        Format::PostableAlerts => alertmanager::postable(&facts),
        Format::Slack => slack::body(&facts),
        Format::PagerDuty => pagerduty::body(&facts),
        Format::Discord => discord::body(&facts),
        Format::Teams => teams::body(&facts),
    };
    Rendered { body: body.to_string().into_bytes(), content_type: content_type(format) }
}

/// What the `Content-Type` header of a delivery says.
#[must_use]
pub const fn content_type(format: Format) -> &'static str {
    match format {
        Format::CloudEvents => "application/cloudevents+json",
        Format::Standard
        | Format::Alertmanager
        | Format::PostableAlerts
        | Format::Slack
        | Format::PagerDuty
        | Format::Discord
        | Format::Teams => "application/json",
    }
}

/// The bytes to send: the stored body, with the secret that some receivers want in it. To be signed after this.
#[must_use]
pub fn finish(format: Format, body: Vec<u8>, routing_key: Option<&str>) -> Vec<u8> {
    match (format, routing_key) {
        (Format::PagerDuty, Some(key)) => pagerduty::with_routing_key(body, key),
        (Format::PagerDuty, None)
        | (
            Format::Standard
            | Format::CloudEvents
            | Format::Alertmanager
            | Format::PostableAlerts
            | Format::Slack
            | Format::Discord
            | Format::Teams,
            _,
        ) => body,
    }
}

#[cfg(test)]
mod tests;
