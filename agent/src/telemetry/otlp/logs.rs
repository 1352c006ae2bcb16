//! Log records of OTLP (opentelemetry/proto/logs/v1/logs.proto).

use super::super::wire::Message;
use super::{Attributes, attributes};
use crate::model::notice::Severity;
use crate::model::trace::TraceContext;

/// `LogRecordFlags`: the trace is recorded.
const SAMPLED: u32 = 1;

/// An event as a log record.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// `EventName`: tells records of one kind.
    pub name: String,
    /// When it happened, in ns since 1970.
    pub at_ns: u64,
    /// When the record was made, likewise.
    pub observed_ns: u64,
    /// How bad.
    pub severity: Severity,
    /// In words, as long as they are.
    pub body: String,
    /// In single facts.
    pub attributes: Attributes,
    /// The span that it belongs to, if it is traced.
    pub trace: Option<TraceContext>,
}

/// As it stands in a request.
#[must_use]
pub fn encode(record: &LogRecord) -> Vec<u8> {
    let LogRecord { name, at_ns, observed_ns, severity, body, attributes: facts, trace } = record;
    let (number, word) = severity_of(*severity);
    let mut out = Message::default();
    out.fixed64(1, *at_ns);
    out.varint(2, number);
    out.text(3, word);
    out.message(5, |any| any.text(1, body));
    attributes(&mut out, 6, facts);
    if let Some(TraceContext { trace, span }) = trace {
        out.fixed32(8, SAMPLED);
        out.bytes(9, &trace.bytes());
        out.bytes(10, &span.bytes());
    }
    out.fixed64(11, *observed_ns);
    out.text(12, name);
    out.into_bytes()
}

/// `SeverityNumber` and `SeverityText`, as OpenTelemetry's data model has those of syslog.
const fn severity_of(severity: Severity) -> (u64, &'static str) {
    match severity {
        Severity::Info => (9, "info"),
        Severity::Warning => (13, "warning"),
        // ERROR2, which is what syslog's `critical` is.
        Severity::Critical => (18, "critical"),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Is;
    use prost::Message as _;

    use super::super::{Origin, Value, batch};
    use super::*;

    #[test]
    fn others_read_the_same() {
        let trace: TraceContext = "00-0190a1b2c3d47e5f8091a2b3c4d5e6f7-00f067aa0ba902b7-01".parse().unwrap();
        let record = LogRecord {
            name: "process_throttler.test".to_owned(),
            at_ns: 5,
            observed_ns: 6,
            severity: Severity::Critical,
            body: "nginx is down".to_owned(),
            attributes: vec![
                ("process.pid".into(), Value::Whole(-7)),
                ("a".into(), "b".into()),
                ("c".into(), Value::Flag(true)),
                ("d".into(), Value::Real(0.5)),
            ],
            trace: Some(trace),
        };
        let plain = LogRecord { trace: None, severity: Severity::Info, ..record.clone() };
        let origin = Origin { host: "web-1".to_owned(), instance: "a".to_owned(), since_ns: 40 };
        let records = [encode(&record), encode(&plain)];
        let bytes = batch(&origin, records.iter().map(Vec::as_slice));

        let read = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
        // Nothing in it that they do not know: written by them it is the same.
        assert_eq!(read.encoded_len(), bytes.len());
        let [logs] = &read.resource_logs[..] else { panic!("{read:?}") };
        let keys: Vec<&str> =
            logs.resource.as_ref().unwrap().attributes.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["service.name", "service.version", "service.instance.id", "host.name"]);
        let [critical, info] = &logs.scope_logs[0].log_records[..] else { panic!("{logs:?}") };
        assert_eq!((critical.time_unix_nano, critical.observed_time_unix_nano), (5, 6));
        assert_eq!((critical.severity_number, critical.severity_text.as_str()), (18, "critical"));
        assert_eq!(critical.event_name, "process_throttler.test");
        assert_eq!(critical.trace_id, trace.trace.bytes());
        assert_eq!((critical.span_id.as_slice(), critical.flags), (&trace.span.bytes()[..], 1));
        let body = critical.body.as_ref().unwrap().value.as_ref().unwrap();
        assert_eq!(*body, Is::StringValue("nginx is down".to_owned()));
        let values: Vec<_> = critical
            .attributes
            .iter()
            .map(|one| one.value.as_ref().unwrap().value.clone().unwrap())
            .collect();
        let expected =
            [Is::IntValue(-7), Is::StringValue("b".to_owned()), Is::BoolValue(true), Is::DoubleValue(0.5)];
        assert_eq!(values, expected);
        assert_eq!((info.severity_number, info.trace_id.len(), info.flags), (9, 0, 0));
    }
}
