//! A receiver of OTLP over HTTP. The body of a log record is the record's line as it stands in the audit log, so that the
//! receiver can check the chain.

use std::io;

use super::rfc5424::{WARNING, severity};
use super::{Parcel, Wire};
use crate::model::notice::Severity;
use crate::telemetry::courier::Courier;
use crate::telemetry::otlp::Value;
use crate::telemetry::otlp::logs::LogRecord;

/// The name by which these log records are told from those of events.
const NAME: &str = "process_throttler.audit";

/// The receiver.
#[derive(Debug)]
pub(super) struct Otlp(pub(super) Courier);

impl Wire for Otlp {
    fn send(&mut self, parcels: &[Parcel]) -> io::Result<()> {
        let records: Vec<LogRecord> = parcels.iter().map(record).collect();
        self.0.bring(&records)
    }
}

fn record(Parcel { line, record }: &Parcel) -> LogRecord {
    let body = &record.body;
    let at_ns = u64::try_from(body.time.as_nanosecond()).unwrap_or(0);
    let text = |text: &str| Value::Text(text.to_owned());
    LogRecord {
        name: NAME.to_owned(),
        at_ns,
        observed_ns: at_ns,
        severity: if severity(body.outcome) <= WARNING { Severity::Warning } else { Severity::Info },
        body: String::from_utf8_lossy(line).into_owned(),
        attributes: vec![
            ("process_throttler.audit.seq".into(), Value::Whole(body.seq.cast_signed())),
            ("process_throttler.audit.type".into(), text(&body.kind)),
            ("process_throttler.audit.actor".into(), Value::Text(body.actor.to_string())),
            ("process_throttler.audit.subject".into(), text(&body.subject)),
            ("process_throttler.audit.outcome".into(), text(body.outcome.as_str())),
            ("process_throttler.audit.hash".into(), text(&record.hash)),
        ],
        trace: None,
    }
}
