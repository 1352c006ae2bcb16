//! What an endpoint did since the start of the agent, for metrics and for people.

use std::time::Duration;

use crate::effect::webhook::deliver::client::Attempt;
use crate::effect::webhook::deliver::judge::Verdict;

/// Counters of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// Attempts that were accepted.
    pub delivered: u64,
    /// Attempts that failed, or were put off by the receiver.
    pub failed: u64,
    /// Attempts that the receiver rejected (4xx).
    pub rejected: u64,
    /// Deliveries that were given up.
    pub dead: u64,
    /// How long the last attempt took.
    pub last_latency: Option<Duration>,
    /// The status of the last answer.
    pub last_status: Option<u16>,
    /// Why the last attempt failed; none when it was accepted.
    pub last_error: Option<String>,
}

impl Gauge {
    /// Counts an attempt.
    pub(super) fn count(&mut self, attempt: &Attempt) {
        match attempt.verdict {
            Verdict::Delivered => self.delivered += 1,
            Verdict::Later { .. } => self.failed += 1,
            Verdict::Rejected | Verdict::Gone => self.rejected += 1,
        }
        self.last_latency = Some(attempt.latency);
        self.last_status = attempt.status;
        self.last_error.clone_from(&attempt.error);
    }
}
