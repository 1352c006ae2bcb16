//! Receivers for tests.

use std::time::Duration;

use crate::model::signal::Hundredths;
use crate::model::telemetry::{Access, Otlp, Urls};

/// One that gets logs and traces, these hundredths of a percent of the latter.
pub(crate) fn receiver(base: &str, trace_ratio: u32) -> Otlp {
    let at = |signal: &str| Some(format!("{base}/v1/{signal}"));
    Otlp {
        urls: Urls { metrics: None, logs: at("logs"), traces: at("traces") },
        trace_ratio: Hundredths(trace_ratio),
        interval: Duration::from_secs(60),
        access: Access { timeout: Duration::from_secs(5), headers: Vec::new(), ca_file: None },
    }
}
