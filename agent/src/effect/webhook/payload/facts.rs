//! What every format tells, taken from an event once: times as text, free text cleaned, details bounded.

use jiff::Timestamp as Wall;
use serde_json::{Value, json};

use super::text::{clean, cut};
use crate::model::alert::{Alert, AlertState, Told};
use crate::model::notice::Severity;
use crate::model::notice::table::EventType;
use crate::model::trace::TraceContext;

/// Most UTF-16 units of the message.
const MESSAGE_MAX: usize = 2_000;
/// Most UTF-16 units of a host's name: `HOST_NAME_MAX` is 64, DNS has 255.
const HOST_MAX: usize = 255;
/// Most bytes of the details, of [`super::BODY_MAX`]; the message may take 6 000.
const DETAILS_MAX: usize = 11_000;

/// The facts of one delivery.
pub(super) struct Facts<'a> {
    pub(super) id: &'a str,
    /// Type of the event.
    pub(super) kind: &'static str,
    /// What it is about: a critical process, a group, a profile. Empty: the host.
    pub(super) subject: String,
    pub(super) severity: Severity,
    pub(super) host: String,
    pub(super) unix_ms: i64,
    /// One or a few sentences, without control characters except line breaks.
    pub(super) message: String,
    /// The event's own fields.
    pub(super) details: Value,
    pub(super) alert: Option<&'a Alert>,
    pub(super) alike: u64,
    pub(super) trace: Option<TraceContext>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(told: &Told<'a>) -> Self {
        let Told { id, notice, unix_ms, host, alert, alike, trace } = *told;
        let mut details = serde_json::to_value(notice).unwrap_or(Value::Null);
        if let Some(map) = details.as_object_mut() {
            map.remove("type");
        }
        let named = ["name", "group", "profile"].iter().find_map(|key| details.get(key)?.as_str());
        let subject = named.unwrap_or_default().to_owned();
        let more = match alike.saturating_sub(1) {
            0 => String::new(),
            1 => " (and one more like it)".to_owned(),
            more => format!(" (and {more} more like it)"),
        };
        let room = MESSAGE_MAX - more.len();
        Self {
            id,
            kind: notice.kind(),
            subject,
            severity: notice.severity(),
            host: cut(&host.replace('\n', " "), HOST_MAX, clean),
            unix_ms,
            message: cut(&notice.to_string(), room, clean) + &more,
            details: bounded(details, DETAILS_MAX),
            alert,
            alike,
            trace,
        }
    }

    /// When it happened, RFC 3339.
    pub(super) fn time(&self) -> String {
        rfc3339(self.unix_ms)
    }

    /// One line: what, about whom, where.
    pub(super) fn title(&self) -> String {
        let Self { kind, subject, host, .. } = self;
        let about = if subject.is_empty() { String::new() } else { format!(" ({subject})") };
        let state = match self.alert.map(|alert| alert.state) {
            Some(AlertState::Resolved) => "resolved: ",
            Some(AlertState::Acknowledged) => "acknowledged: ",
            Some(AlertState::Repeated) => "still: ",
            Some(AlertState::Firing) | None => "",
        };
        format!("{state}{kind}{about} on {host}")
    }

    /// The event's id, for people, and that of its trace.
    pub(super) fn ids(&self) -> String {
        match self.trace {
            None => self.id.to_owned(),
            Some(context) => format!("{} · trace {}", self.id, context.trace),
        }
    }

    /// Whether it tells that something is over.
    pub(super) fn is_over(&self) -> bool {
        self.alert.is_some_and(|alert| alert.state == AlertState::Resolved)
    }

    /// Type of the alert, which is the same from its beginning to its end; without one, that of the event. Keys
    /// begin with it.
    pub(super) fn alert_kind(&self) -> &str {
        let of_key = self.alert.and_then(|alert| alert.key.split([':', '@']).next());
        of_key.filter(|kind| EventType::named(kind).is_some()).unwrap_or(self.kind)
    }

    /// How bad the alert is, likewise; its end is not bad by itself.
    pub(super) fn alert_severity(&self) -> Severity {
        let of_alert = self.alert.and_then(|_| EventType::named(self.alert_kind()));
        of_alert.map_or(self.severity, |row| row.severity)
    }

    /// The data of the formats that programs read.
    pub(super) fn data(&self) -> Value {
        let mut data = json!({
            "severity": severity(self.severity),
            "host": self.host,
            "message": self.message,
            "details": self.details,
        });
        if let (Some(map), Some(alert)) = (data.as_object_mut(), self.alert) {
            map.insert("alert".to_owned(), alert_data(alert));
        }
        if let Some(map) = data.as_object_mut()
            && self.alike > 1
        {
            map.insert("alike".to_owned(), self.alike.into());
        }
        if let (Some(map), Some(context)) = (data.as_object_mut(), self.trace) {
            map.insert("trace_id".to_owned(), context.trace.to_string().into());
        }
        data
    }
}

fn alert_data(alert: &Alert) -> Value {
    let Alert { key, state, since, until, events } = alert;
    let mut data = json!({
        "key": key,
        "state": state.as_str(),
        "since": rfc3339(*since),
        "events": events,
    });
    if let (Some(map), Some(until)) = (data.as_object_mut(), until) {
        map.insert("until".to_owned(), rfc3339(*until).into());
    }
    data
}

/// The word for a severity.
pub(super) const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// A time in RFC 3339, UTC.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    Wall::from_millisecond(unix_ms).unwrap_or(Wall::UNIX_EPOCH).to_string()
}

/// A value of at most so many bytes as JSON: long texts and lists are cut until it is, and that is marked.
fn bounded(mut value: Value, most: usize) -> Value {
    let fits = |value: &Value| value.to_string().len() <= most;
    let mut texts = 4_096;
    while !fits(&value) {
        if texts < 16 {
            return json!({ "truncated": true });
        }
        shorten(&mut value, texts);
        if let Some(map) = value.as_object_mut() {
            map.insert("truncated".to_owned(), true.into());
        }
        texts /= 2;
    }
    value
}

fn shorten(value: &mut Value, texts: usize) {
    match value {
        Value::String(text) => *text = cut(text, texts, |c, out| out.push(c)),
        Value::Array(items) => {
            items.truncate(texts / 16);
            items.iter_mut().for_each(|item| shorten(item, texts));
        }
        Value::Object(map) => map.values_mut().for_each(|item| shorten(item, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
