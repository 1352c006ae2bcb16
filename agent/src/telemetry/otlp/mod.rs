//! Requests of OTLP 1.x over HTTP, in protobuf (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP"), and what an answer to one
//! says. Sends nothing.

pub mod logs;
pub mod metrics;
pub mod traces;

use std::borrow::Cow;

use super::catalogue::NAMESPACE;
use super::wire::{Content, Message, fields};

/// The media type of requests and answers.
pub const CONTENT_TYPE: &str = "application/x-protobuf";
/// Of the names of resources and attributes that are used here.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";
/// Longest text in bytes; what is longer is cut.
const TEXT_MAX: usize = 4_096;

/// Who tells, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the host.
    pub host: String,
    /// What tells this run of the agent from others on the host.
    pub instance: String,
    /// When the agent was started, in ns since 1970.
    pub since_ns: u64,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Another number.
    Real(f64),
    /// Yes or no.
    Flag(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

/// Attributes, by name.
pub type Attributes = Vec<(Cow<'static, str>, Value)>;

/// A request with records of a signal, each as its encoder wrote it.
pub(super) fn batch<'a>(origin: &Origin, records: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    envelope(origin, |scope| records.into_iter().for_each(|record| scope.bytes(2, record)))
}

/// A request: the same for each signal but for what is in the scope.
fn envelope(origin: &Origin, records: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |signal| {
        signal.message(1, |resource| {
            for (key, value) in [
                ("service.name", "process-throttler"),
                ("service.version", env!("CARGO_PKG_VERSION")),
                ("service.instance.id", &origin.instance),
                ("host.name", &origin.host),
            ] {
                attribute(resource, 1, key, |any| any.text(1, value));
            }
        });
        signal.message(2, |scope| {
            scope.message(1, |scope| {
                scope.text(1, NAMESPACE);
                scope.text(2, env!("CARGO_PKG_VERSION"));
            });
            records(scope);
        });
        signal.text(3, SCHEMA_URL);
    });
    request.into_bytes()
}

/// A `KeyValue` whose `AnyValue` is written by `value`.
fn attribute(out: &mut Message, field: u64, key: &str, value: impl FnOnce(&mut Message)) {
    out.message(field, |out| {
        out.text(1, key);
        out.message(2, value);
    });
}

fn attributes(out: &mut Message, field: u64, all: &Attributes) {
    for (key, value) in all {
        attribute(out, field, key, |any| match value {
            Value::Text(text) => any.text(1, cut(text)),
            Value::Flag(flag) => any.varint(2, u64::from(*flag)),
            Value::Whole(number) => any.varint(3, number.cast_unsigned()),
            Value::Real(number) => any.double(4, *number),
        });
    }
}

pub(super) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or(text)
}

/// What a receiver that took a request says of it: how many points or records it rejected, and why.
#[must_use]
pub fn rejected(answer: &[u8]) -> (u64, String) {
    let mut said = (0, String::new());
    for (field, content) in fields(answer) {
        let (1, Content::Bytes(partial)) = (field, content) else { continue };
        for (field, content) in fields(partial) {
            match (field, content) {
                // An int64: a receiver that says less than none says nothing.
                (1, Content::Number(records)) => said.0 = u64::try_from(records.cast_signed()).unwrap_or(0),
                (2, Content::Bytes(why)) => said.1 = String::from_utf8_lossy(why).into_owned(),
                (_, Content::Number(_) | Content::Bytes(_)) => {}
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
    };
    use prost::Message as _;

    use super::*;

    #[test]
    fn what_is_rejected_is_read_of_their_answer() {
        let partial =
            ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "too old".to_owned() };
        let answer = ExportMetricsServiceResponse { partial_success: Some(partial) };
        assert_eq!(rejected(&answer.encode_to_vec()), (3, "too old".to_owned()));
        assert_eq!(rejected(&[]), (0, String::new()));
        assert_eq!(rejected(b"<html>"), (0, String::new()));
        let partial = ExportMetricsPartialSuccess { rejected_data_points: -1, error_message: String::new() };
        let answer = ExportMetricsServiceResponse { partial_success: Some(partial) };
        assert_eq!(rejected(&answer.encode_to_vec()).0, 0);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = "ä".repeat(TEXT_MAX);
        assert_eq!(cut(&text).len(), TEXT_MAX);
        assert_eq!(cut(&format!("x{text}")).len(), TEXT_MAX - 1);
        assert_eq!(cut("short"), "short");
    }
}
