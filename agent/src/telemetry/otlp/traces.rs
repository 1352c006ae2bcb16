//! Spans of OTLP (opentelemetry/proto/trace/v1/trace.proto).

use super::super::wire::Message;
use super::{Attributes, attributes, cut};
use crate::model::trace::{SpanId, TraceContext};

/// `SpanFlags`: the trace is recorded; whether the parent is remote is known: it is not.
const FLAGS: u32 = 0x101;
/// `StatusCode` of a failure.
const ERROR: u64 = 2;

/// Whom a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// The agent itself.
    Internal,
    /// Somebody else's answer was waited for.
    Client,
}

/// A part of the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its trace and its own id.
    pub context: TraceContext,
    /// The span that it follows from.
    pub parent: Option<SpanId>,
    /// What kind of part.
    pub name: &'static str,
    /// Whom it is about.
    pub kind: SpanKind,
    /// When it began, in ns since 1970.
    pub begun_ns: u64,
    /// When it ended, likewise.
    pub ended_ns: u64,
    /// In single facts.
    pub attributes: Attributes,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// As it stands in a request.
#[must_use]
pub fn encode(span: &Span) -> Vec<u8> {
    let Span { context, parent, name, kind, begun_ns, ended_ns, attributes: facts, error } = span;
    let mut out = Message::default();
    out.bytes(1, &context.trace.bytes());
    out.bytes(2, &context.span.bytes());
    if let Some(parent) = parent {
        out.bytes(4, &parent.bytes());
    }
    out.text(5, name);
    out.varint(
        6,
        match kind {
            SpanKind::Internal => 1,
            SpanKind::Client => 3,
        },
    );
    out.fixed64(7, *begun_ns);
    // One that ends before it begins is refused by some.
    out.fixed64(8, *(ended_ns.max(begun_ns)));
    attributes(&mut out, 9, facts);
    if let Some(error) = error {
        out.message(15, |status| {
            status.text(2, cut(error));
            status.varint(3, ERROR);
        });
    }
    out.fixed32(16, FLAGS);
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message as _;

    use super::super::{Origin, batch};
    use super::*;
    use crate::model::trace::Step;

    #[test]
    fn others_read_the_same() {
        let context: TraceContext =
            "00-0190a1b2c3d47e5f8091a2b3c4d5e6f7-00f067aa0ba902b7-01".parse().unwrap();
        let root = Span {
            context: context.at(Step::Cause),
            parent: None,
            name: "exec",
            kind: SpanKind::Internal,
            begun_ns: 9,
            ended_ns: 7,
            attributes: vec![("process.pid".into(), 7_u32.into())],
            error: None,
        };
        let last = Span {
            context,
            parent: Some(root.context.span),
            name: "deliver",
            kind: SpanKind::Client,
            error: Some("no".to_owned()),
            ..root.clone()
        };
        let origin = Origin { host: "web-1".to_owned(), instance: "a".to_owned(), since_ns: 40 };
        let spans = [encode(&root), encode(&last)];
        let bytes = batch(&origin, spans.iter().map(Vec::as_slice));

        let read = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(read.encoded_len(), bytes.len());
        let [exec, deliver] = &read.resource_spans[0].scope_spans[0].spans[..] else { panic!("{read:?}") };
        assert_eq!((exec.name.as_str(), exec.kind, exec.parent_span_id.len()), ("exec", 1, 0));
        assert_eq!((exec.start_time_unix_nano, exec.end_time_unix_nano), (9, 9));
        assert_eq!((exec.flags, &exec.status), (0x101, &None));
        assert_eq!(exec.attributes[0].key, "process.pid");
        assert_eq!((deliver.kind, &deliver.parent_span_id), (3, &exec.span_id));
        assert_eq!(
            (&deliver.trace_id, deliver.trace_id.as_slice()),
            (&exec.trace_id, &context.trace.bytes()[..])
        );
        let status = deliver.status.as_ref().unwrap();
        assert_eq!((status.code, status.message.as_str()), (2, "no"));
    }
}
