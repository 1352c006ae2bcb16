//! Trace contexts by W3C's recommendation (w3.org/TR/trace-context, "traceparent Header"): which trace an event belongs
//! to. An event's ids follow from the event's own, so nothing has to be made or kept for one that is not traced, and
//! everybody who tells of an event tells the same.

use std::fmt;
use std::str::FromStr;

use crate::model::critical::RestartResult;
use crate::model::notice::Notice;
use crate::model::notice::table::About;
use crate::model::signal::Hundredths;
use crate::model::time::Timestamp;

/// What ids of events begin with. 32 hexadecimal digits follow, and after those, where an alert is told without an event
/// of its own, `_` and a number.
pub const EVENT_PREFIX: &str = "evt_";

/// Version and, at the end, the flag that says that the trace is recorded.
const VERSION: &str = "00";
const SAMPLED: &str = "01";

/// Id of a trace. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraceId(u128);

impl TraceId {
    /// The trace of an event: the event's own id, without what it begins with. `None` for what is no id of an event.
    #[must_use]
    pub fn of_event(id: &str) -> Option<Self> {
        let digits = id.strip_prefix(EVENT_PREFIX)?;
        let digits = digits.split_once('_').map_or(digits, |(digits, _serial)| digits);
        hexadecimal(digits, 32).filter(|number| *number != 0).map(Self)
    }

    /// As OTLP has it.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// A number that is as good as random, and the same for the same trace and purpose (splitmix64's finalizer).
    const fn mixed(self, purpose: u64) -> u64 {
        let mut mixed = (self.0 as u64) ^ ((self.0 >> 64) as u64).rotate_left(31) ^ purpose;
        mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Id of a span within a trace. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanId(u64);

impl SpanId {
    /// As OTLP has it.
    #[must_use]
    pub const fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A part of the way from what happened to whoever is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Until the agent took notice: an exec, an exit.
    Cause,
    /// Until the agent had decided.
    Decide,
    /// Until that was in force.
    Act,
}

impl Step {
    /// The last one for such a notice: what comes after is done on its account.
    #[must_use]
    pub const fn last(notice: &Notice) -> Self {
        match notice {
            Notice::ThrottleApplied { .. }
            | Notice::ThrottleAdjusted { .. }
            | Notice::ThrottleFailed { .. }
            | Notice::ThrottleRemoved { .. } => Self::Act,
            Notice::CriticalProcessRestart { result, .. } if !matches!(result, RestartResult::GivenUp) => {
                Self::Act
            }
            Notice::CriticalProcessDown { .. }
            | Notice::CriticalProcessMissing { .. }
            | Notice::CriticalProcessRecovered { .. }
            | Notice::CriticalProcessRestart { .. }
            | Notice::HealthCheckFailed { .. }
            | Notice::HealthCheckRecovered { .. }
            | Notice::LatencySloViolated { .. }
            | Notice::LatencySloRecovered { .. }
            | Notice::ThrottleConflict { .. }
            | Notice::ProtectionFailed { .. }
            | Notice::EmergencyStop { .. }
            | Notice::EmergencyResumed { .. }
            | Notice::EventsLost { .. }
            | Notice::ProbesShed { .. }
            | Notice::WebhookDisabled { .. }
            | Notice::ProfileActivated { .. }
            | Notice::ConfigurationChanged { .. }
            | Notice::BackupCreated { .. }
            | Notice::SecurityViolation { .. }
            | Notice::Test { .. } => Self::Decide,
        }
    }
}

/// A span of a trace that is recorded: what others refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
}

impl TraceContext {
    /// That of an event, if it is traced at this ratio: all that concern critical processes are, and of the others
    /// as many. The span is the last one before anybody is told.
    #[must_use]
    pub fn of_event(id: &str, notice: &Notice, ratio: Hundredths) -> Option<Self> {
        const SAMPLING: u64 = u64::MAX;
        let trace = TraceId::of_event(id)?;
        let critical = notice.event_type().is_some_and(|row| row.about == About::Critical);
        let sampled = critical || trace.mixed(SAMPLING) % 10_000 < u64::from(ratio.0);
        sampled.then(|| Self { trace, span: TraceId::span_of(trace, Step::last(notice)) })
    }

    /// The same trace at another step.
    #[must_use]
    pub fn at(self, step: Step) -> Self {
        Self { span: self.trace.span_of(step), ..self }
    }

    /// An attempt to deliver, which begins at this time in ns since 1970.
    #[must_use]
    pub fn attempt(self, endpoint: &str, begun_ns: u64) -> Self {
        // FNV-1a: which endpoint, of those that are tried at the same moment.
        let which = endpoint.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self { span: SpanId(self.trace.mixed(which ^ begun_ns).max(1)), ..self }
    }
}

impl TraceId {
    fn span_of(self, step: Step) -> SpanId {
        let purpose = match step {
            Step::Cause => 1,
            Step::Decide => 2,
            Step::Act => 3,
        };
        SpanId(self.mixed(purpose).max(1))
    }
}

impl fmt::Display for TraceContext {
    /// As the header `traceparent` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}-{}-{}-{SAMPLED}", self.trace, self.span)
    }
}

impl FromStr for TraceContext {
    type Err = ();

    /// From what [`fmt::Display`] wrote.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(());
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        let trace = hexadecimal(trace, 32).filter(|number| *number != 0).ok_or(())?;
        let span = hexadecimal(span, 16).filter(|number| *number != 0).ok_or(())?;
        if (version, flags) != (VERSION, SAMPLED) || parts.next().is_some() {
            return Err(());
        }
        let span = u64::try_from(span).map_err(|_too_long| ())?;
        Ok(Self { trace: TraceId(trace), span: SpanId(span) })
    }
}

fn hexadecimal(digits: &str, length: usize) -> Option<u128> {
    let all = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let number = u128::from_str_radix(digits, 16).ok()?;
    (digits.len() == length && all).then_some(number)
}

/// What an action answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A process replaced its program.
    Exec,
    /// Other rules came into force.
    Rules,
    /// A critical process ended.
    Exit,
    /// A critical process was found not to be healthy.
    Unhealthy,
}

/// How an action went, on the engine thread's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// What it answers to and when that was, if that was no request.
    pub cause: Option<(Cause, Timestamp)>,
    /// When it was decided.
    pub decided: Timestamp,
    /// When it was begun.
    pub begun: Timestamp,
    /// When it was in force, or had failed.
    pub ended: Timestamp,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::notice::testing::{applied, down};

    const ID: &str = "evt_0190a1b2c3d47e5f8091a2b3c4d5e6f7";

    #[test]
    fn the_trace_is_the_events_own_id() {
        let trace = TraceId::of_event(ID).unwrap();
        assert_eq!(trace.to_string(), "0190a1b2c3d47e5f8091a2b3c4d5e6f7");
        assert_eq!(TraceId::of_event(&format!("{ID}_12")), Some(trace), "told without an event of its own");
        let zero = format!("evt_{}", "0".repeat(32));
        for none in ["", "evt_", "evt_1", "0190a1b2c3d47e5f8091a2b3c4d5e6f7", &zero, &ID.to_uppercase()] {
            assert_eq!(TraceId::of_event(none), None, "{none:?}");
        }
    }

    #[test]
    fn contexts_are_headers_and_back() {
        let context = TraceContext::of_event(ID, &applied("x"), Hundredths(10_000)).unwrap();
        let text = context.to_string();
        assert!(text.starts_with("00-0190a1b2c3d47e5f8091a2b3c4d5e6f7-") && text.ends_with("-01"), "{text}");
        assert_eq!((text.len(), text.parse()), (55, Ok(context)));
        let steps = [Step::Cause, Step::Decide, Step::Act].map(|step| context.at(step).span);
        assert_eq!(steps[2], context.span, "limits are acts");
        let tries = [("a", 1), ("a", 2), ("b", 1)].map(|(name, begun)| context.attempt(name, begun).span);
        assert_eq!(steps.into_iter().chain(tries).collect::<BTreeSet<_>>().len(), 6);
        let zero = format!("00-{}-{}-01", "0".repeat(32), context.span);
        let zero_span = format!("00-{}-{}-01", context.trace, "0".repeat(16));
        let unsampled = text.replace("-01", "-00");
        for bad in
            ["", "00", &zero, &zero_span, &unsampled, &text[..54], &format!("{text}-1"), &text.to_uppercase()]
        {
            // All digits stay what they are.
            assert!(bad == text || bad.parse::<TraceContext>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_ratio_is_kept_and_critical_processes_are_always_traced() {
        let ids: Vec<String> =
            (0..4_000_u32).map(|_| format!("evt_{}", uuid::Uuid::now_v7().simple())).collect();
        let traced = |notice: &Notice, ratio| {
            let of = |id: &&String| TraceContext::of_event(id, notice, Hundredths(ratio)).is_some();
            ids.iter().filter(of).count()
        };
        let limits = applied("x");
        assert_eq!((traced(&limits, 0), traced(&limits, 10_000)), (0, 4_000));
        // A quarter of 4000: 1000, give or take six standard deviations of 27.
        let quarter = traced(&limits, 2_500);
        assert!((835..=1_165).contains(&quarter), "{quarter}");
        assert_eq!(traced(&down("nginx", 0), 0), 4_000);
    }
}
