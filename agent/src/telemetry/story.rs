//! An event as others tell it: a log record, and the spans of how it came about. Names are OpenTelemetry's where it has
//! one, and below `process_throttler.` otherwise. Nothing is read for it: all is in the notice.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::catalogue::NAMESPACE;
use super::otlp::logs::LogRecord;
use super::otlp::traces::{Span, SpanKind};
use super::otlp::{Attributes, Value, cut};
use crate::model::absence::Revival;
use crate::model::critical::RestartResult;
use crate::model::event::{Status, signal_name};
use crate::model::notice::Notice;
use crate::model::notice::table::About;
use crate::model::process::Comm;
use crate::model::time::{Timestamp, nanos};
use crate::model::trace::{Cause, Course, Step, TraceContext};

/// The attribute with the event's id.
pub(super) const EVENT_ID: &str = "process_throttler.event.id";
/// Most attributes. OpenTelemetry's limit is 128.
const ATTRIBUTES_MAX: usize = 100;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// The event's id.
    pub id: &'a str,
    /// What.
    pub notice: &'a Notice,
    /// When, on the engine thread's clock.
    pub at: Timestamp,
    /// The same in ns since 1970.
    pub at_ns: u64,
    /// When the journal took it, likewise.
    pub observed_ns: u64,
    /// How the action went that it tells of, where that is known.
    pub course: Option<Course>,
    /// The span on whose account others are told, if it is traced.
    pub trace: Option<TraceContext>,
}

impl Happened<'_> {
    /// A moment in ns since 1970.
    fn wall(&self, moment: Timestamp) -> u64 {
        let (before, after) = (nanos(self.at.since(moment)), nanos(moment.since(self.at)));
        self.at_ns.saturating_sub(before).saturating_add(after)
    }
}

/// As a log record.
#[must_use]
pub fn record(happened: &Happened<'_>) -> LogRecord {
    let Happened { id, notice, at_ns, observed_ns, trace, .. } = *happened;
    let mut attributes = process(notice);
    attributes.push((EVENT_ID.into(), id.into()));
    let mut facts = serde_json::to_value(notice).unwrap_or(Json::Null);
    if let Some(map) = facts.as_object_mut() {
        map.remove("type");
        // As metrics call it.
        if is_critical(notice)
            && let Some(name) = map.remove("name")
        {
            map.insert("critical".to_owned(), name);
        }
    }
    flatten(NAMESPACE, &facts, &mut attributes);
    LogRecord {
        name: format!("{NAMESPACE}.{}", notice.kind()),
        at_ns,
        observed_ns,
        severity: notice.severity(),
        body: cut(&notice.to_string()).to_owned(),
        attributes,
        trace,
    }
}

/// How it came about; nothing when it is not traced. Each span follows from the one before.
#[must_use]
pub fn spans(happened: &Happened<'_>) -> Vec<Span> {
    let Some(context) = happened.trace else { return Vec::new() };
    let Happened { id, notice, at_ns, observed_ns, course, .. } = *happened;
    let mut steps = Vec::with_capacity(3);
    match course {
        Some(Course { cause, decided, begun, ended }) => {
            let [decided, begun, ended] = [decided, begun, ended].map(|moment| happened.wall(moment));
            if let Some((cause, at)) = cause {
                let name = match cause {
                    Cause::Exec => "exec",
                    Cause::Rules => "rules",
                    Cause::Exit => "exit",
                    Cause::Unhealthy => "unhealthy",
                };
                steps.push((Step::Cause, name, happened.wall(at), decided));
            }
            steps.push((Step::Decide, "decide", decided, begun));
            steps.push((Step::Act, "act", begun, ended));
        }
        None => {
            if let Notice::CriticalProcessDown { exit, .. } = notice {
                steps.push((Step::Cause, "exit", happened.wall(exit.at), at_ns));
            }
            steps.push((Step::Decide, "decide", at_ns, observed_ns));
            if Step::last(notice) == Step::Act {
                steps.push((Step::Act, "act", observed_ns, observed_ns));
            }
        }
    }
    let mut parent = None;
    let span = |(step, name, begun_ns, ended_ns)| {
        let context = context.at(step);
        let mut attributes = about(notice);
        attributes.push((EVENT_ID.into(), id.into()));
        if step == Step::Cause {
            attributes.extend(process(notice));
        }
        let error = failure(notice).filter(|_| step == Step::Act).map(str::to_owned);
        let span =
            Span { context, parent, name, kind: SpanKind::Internal, begun_ns, ended_ns, attributes, error };
        parent = Some(context.span);
        span
    };
    steps.into_iter().map(span).collect()
}

/// Why what was done failed, if it did.
fn failure(notice: &Notice) -> Option<&str> {
    if let Notice::ThrottleFailed { error, .. }
    | Notice::CriticalProcessRestart { result: RestartResult::Failed, detail: error, .. } = notice
    {
        return Some(error);
    }
    None
}

fn is_critical(notice: &Notice) -> bool {
    notice.event_type().is_some_and(|row| row.about == About::Critical)
}

/// What kind of event it is, and about whom.
fn about(notice: &Notice) -> Attributes {
    let mut attributes = vec![("process_throttler.event.type".into(), notice.kind().into())];
    let key = match notice.event_type().map(|row| row.about) {
        Some(About::Critical) => "process_throttler.critical",
        Some(About::Group) => "process_throttler.group",
        Some(About::Endpoint) => "process_throttler.endpoint",
        Some(About::Host) | None => return attributes,
    };
    attributes.push((key.into(), notice.subject().into()));
    attributes
}

/// The process that it tells of, if that is one, by OpenTelemetry's conventions.
fn process(notice: &Notice) -> Attributes {
    let mut attributes = Attributes::new();
    let mut put = |key: &'static str, value: Value| attributes.push((Cow::Borrowed(key), value));
    let name = |comm: &Comm| Value::Text(comm.to_string());
    if let Notice::CriticalProcessDown { exit, .. } = notice {
        put("process.pid", exit.process.key.pid.into());
        put("process.parent_pid", exit.process.ppid.into());
        put("process.executable.name", name(&exit.process.comm));
        put("process.real_user.id", exit.process.uid.into());
        match exit.status {
            Some(Status::Code(code)) => put("process.exit.code", u32::from(code).into()),
            Some(Status::Signal { number, .. }) => {
                let text = signal_name(number).map_or_else(|| number.to_string(), str::to_owned);
                put("process_throttler.exit.signal", Value::Text(text));
            }
            None => {}
        }
    }
    if let Notice::CriticalProcessRecovered { how: Revival::ByOthers { key, comm, parent }, .. } = notice {
        put("process.pid", key.pid.into());
        put("process.parent_pid", (*parent).into());
        put("process.executable.name", name(comm));
    }
    if let Notice::ThrottleApplied { processes, .. } = notice
        && let [(key, comm)] = &processes[..]
    {
        put("process.pid", key.pid.into());
        put("process.executable.name", name(comm));
    }
    if let Notice::ProtectionFailed { process, .. } = notice {
        put("process.pid", process.pid.into());
    }
    if let Notice::EmergencyStop { uid, .. }
    | Notice::EmergencyResumed { uid }
    | Notice::SecurityViolation { uid, .. } = notice
    {
        put("user.id", Value::Text(uid.to_string()));
    }
    attributes
}

/// The fields of an object, one attribute each; those of objects in it behind a dot, lists as JSON.
fn flatten(prefix: &str, json: &Json, out: &mut Attributes) {
    if let Json::Object(map) = json {
        for (key, value) in map {
            flatten(&format!("{prefix}.{key}"), value, out);
        }
        return;
    }
    let value = match json {
        Json::Null | Json::Object(_) => return,
        Json::Bool(flag) => Value::Flag(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Whole(whole),
            (None, Some(real)) => Value::Real(real),
            (None, None) => Value::Text(number.to_string()),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(_) => Value::Text(json.to_string()),
    };
    if out.len() < ATTRIBUTES_MAX {
        out.push((Cow::Owned(prefix.to_owned()), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::notice::testing::{applied, down, restarted, stopped};
    use crate::model::signal::Hundredths;

    const ID: &str = "evt_0190a1b2c3d47e5f8091a2b3c4d5e6f7";

    fn happened(notice: &Notice) -> Happened<'_> {
        Happened {
            id: ID,
            notice,
            at: Timestamp::from_nanos(1_000),
            at_ns: 501_000,
            observed_ns: 501_700,
            course: None,
            trace: TraceContext::of_event(ID, notice, Hundredths(10_000)),
        }
    }

    fn of<'a>(attributes: &'a Attributes, key: &str) -> &'a Value {
        attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value).unwrap()
    }

    #[test]
    fn a_record_has_the_sentence_and_the_facts() {
        let notice = down("nginx", 1);
        let record = record(&happened(&notice));
        assert_eq!(record.name, "process_throttler.critical_process_down");
        assert_eq!((record.body, record.at_ns), (notice.to_string(), 501_000));
        let Notice::CriticalProcessDown { exit, .. } = &notice else { panic!("{notice:?}") };
        assert_eq!(*of(&record.attributes, "process.pid"), exit.process.key.pid.into());
        assert_eq!(*of(&record.attributes, "process_throttler.critical"), "nginx".into());
        assert_eq!(*of(&record.attributes, EVENT_ID), ID.into());
        assert_eq!(*of(&record.attributes, "process_throttler.remaining"), 1_u32.into());
        let mut keys: Vec<_> = record.attributes.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|two| two[0] != two[1]), "a key is there twice: {keys:?}");
        assert_eq!(record.trace.unwrap().span, happened(&notice).trace.unwrap().at(Step::Decide).span);
        let stopped = stopped();
        let record = super::record(&Happened { trace: None, ..happened(&stopped) });
        assert_eq!((of(&record.attributes, "user.id"), record.trace), (&"0".into(), None));
    }

    #[test]
    fn spans_go_from_the_exec_to_the_limit() {
        let notice = applied("backups");
        let moment = Timestamp::from_nanos;
        let cause = Some((Cause::Exec, moment(100)));
        let course = Course { cause, decided: moment(300), begun: moment(310), ended: moment(900) };
        let traced = Happened { course: Some(course), ..happened(&notice) };
        let spans = spans(&traced);
        let told: Vec<_> = spans.iter().map(|span| (span.name, span.begun_ns, span.ended_ns)).collect();
        assert_eq!(
            told,
            [("exec", 500_100, 500_300), ("decide", 500_300, 500_310), ("act", 500_310, 500_900)]
        );
        let parents: Vec<_> = spans.iter().map(|span| span.parent).collect();
        assert_eq!(parents, [None, Some(spans[0].context.span), Some(spans[1].context.span)]);
        assert_eq!(Some(spans[2].context), traced.trace, "who is told is told on account of the act");
        assert_eq!(*of(&spans[0].attributes, "process_throttler.group"), "backups".into());
        assert!(super::spans(&Happened { trace: None, ..traced }).is_empty());
    }

    #[test]
    fn a_death_and_what_has_no_course() {
        let death = down("nginx", 0);
        let names =
            |notice: &Notice| spans(&happened(notice)).iter().map(|span| span.name).collect::<Vec<_>>();
        assert_eq!(names(&death), ["exit", "decide"]);
        assert_eq!(names(&applied("x")), ["decide", "act"], "the last one is there for deliveries");
        let reason = crate::model::reason::Reason::Empty;
        let group = "x".parse().unwrap();
        let failed = Notice::ThrottleFailed { group, error: "no".to_owned(), reason };
        let errors: Vec<_> = spans(&happened(&failed)).into_iter().map(|span| span.error).collect();
        assert_eq!(errors, [None, Some("no".to_owned())]);
        assert_eq!(names(&restarted("nginx", RestartResult::GivenUp, 1)), ["decide"], "nothing is done");
        for (result, error) in
            [(RestartResult::Failed, Some("that is how".to_owned())), (RestartResult::Restarted, None)]
        {
            let restart = restarted("nginx", result, 1);
            assert_eq!(spans(&happened(&restart)).pop().unwrap().error, error, "{result:?}");
        }
    }
}
