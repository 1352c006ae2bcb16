//! What others are told of events and deliveries by OTLP: log records, and spans of those that are traced. The journal
//! thread and the tasks of endpoints put it in; they wait for nobody.

use std::sync::atomic::{AtomicU32, Ordering};

use super::lane::Lane;
use super::otlp::traces::{Span, SpanKind};
use super::otlp::{Value, logs, traces};
use super::story::{self, Happened};
use crate::model::notice::Notice;
use crate::model::signal::Hundredths;
use crate::model::telemetry::{Otlp, Signal};
use crate::model::trace::TraceContext;

/// See the module.
#[derive(Debug)]
pub struct Outlet {
    /// Log records.
    pub logs: Lane,
    /// Spans.
    pub traces: Lane,
    /// How many events are traced, in hundredths of a percent; [`NONE`]: not even those of critical processes.
    ratio: AtomicU32,
}

const NONE: u32 = u32::MAX;

/// An attempt to deliver that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a> {
    /// The span that caused it.
    pub cause: TraceContext,
    /// Its own.
    pub context: TraceContext,
    /// The event's id.
    pub event: &'a str,
    /// The endpoint.
    pub endpoint: &'a str,
    /// Its host and port; never the rest of its URL, which may hold a secret.
    pub server: Option<(&'a str, u16)>,
    /// When it began and ended, in ns since 1970.
    pub time_ns: (u64, u64),
    /// Attempts before this one.
    pub before: u32,
    /// The answer's status, if there was an answer.
    pub status: Option<u16>,
    /// What went wrong, if anything did.
    pub error: Option<&'a str>,
}

impl Default for Outlet {
    fn default() -> Self {
        Self { logs: Lane::new(Signal::Logs), traces: Lane::new(Signal::Traces), ratio: AtomicU32::new(NONE) }
    }
}

impl Outlet {
    /// Tells this receiver from now on, or nobody.
    pub fn open(&self, otlp: Option<&Otlp>) {
        let has = |signal| otlp.is_some_and(|otlp| otlp.urls.of(signal).is_some());
        self.logs.open(has(Signal::Logs));
        self.traces.open(has(Signal::Traces));
        let ratio = otlp.filter(|_| has(Signal::Traces)).map_or(NONE, |otlp| otlp.trace_ratio.0);
        self.ratio.store(ratio, Ordering::Relaxed);
    }

    /// Whether anything is traced. Costs a load.
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.ratio.load(Ordering::Relaxed) != NONE
    }

    /// The span on whose account somebody is told of an event, if it is traced.
    #[must_use]
    pub fn context(&self, id: &str, notice: &Notice) -> Option<TraceContext> {
        let ratio = self.ratio.load(Ordering::Relaxed);
        if ratio == NONE { None } else { TraceContext::of_event(id, notice, Hundredths(ratio)) }
    }

    /// An event.
    pub fn happened(&self, happened: &Happened<'_>) {
        self.logs.add(|| logs::encode(&story::record(happened)));
        for span in story::spans(happened) {
            self.traces.add(|| traces::encode(&span));
        }
    }

    /// An attempt to deliver.
    pub fn delivered(&self, delivered: &Delivered<'_>) {
        self.traces.add(|| traces::encode(&delivery(delivered)));
    }
}

/// By OpenTelemetry's conventions for clients of HTTP.
fn delivery(delivered: &Delivered<'_>) -> Span {
    let Delivered { cause, context, event, endpoint, server, time_ns, before, status, error } = *delivered;
    let mut attributes = vec![
        ("http.request.method".into(), "POST".into()),
        (story::EVENT_ID.into(), event.into()),
        ("process_throttler.endpoint".into(), endpoint.into()),
    ];
    if let Some((host, port)) = server {
        attributes.push(("server.address".into(), host.into()));
        attributes.push(("server.port".into(), u32::from(port).into()));
    }
    if let Some(status) = status {
        attributes.push(("http.response.status_code".into(), u32::from(status).into()));
    }
    if before > 0 {
        attributes.push(("http.request.resend_count".into(), before.into()));
    }
    if error.is_some() {
        let kind = status.map_or_else(|| "no_answer".to_owned(), |status| status.to_string());
        attributes.push(("error.type".into(), Value::Text(kind)));
    }
    Span {
        context,
        parent: Some(cause.span),
        name: "deliver",
        kind: SpanKind::Client,
        begun_ns: time_ns.0,
        ended_ns: time_ns.1,
        attributes,
        error: error.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::notice::testing::{applied, down};
    use crate::telemetry::testing::receiver;

    const ID: &str = "evt_0190a1b2c3d47e5f8091a2b3c4d5e6f7";

    #[test]
    fn nothing_is_traced_or_made_without_a_receiver() {
        let outlet = Outlet::default();
        let (down, applied) = (down("nginx", 0), applied("x"));
        assert!(!outlet.is_tracing() && outlet.context(ID, &down).is_none());
        outlet.logs.add(|| panic!("it is made"));
        outlet.open(Some(&receiver("http://127.0.0.1:1", 0)));
        assert!(outlet.is_tracing() && outlet.context(ID, &down).is_some());
        assert_eq!(outlet.context(ID, &applied), None, "a ratio of 0");
        outlet.open(Some(&receiver("http://127.0.0.1:1", 10_000)));
        assert!(outlet.context(ID, &applied).is_some());
        outlet.open(None);
        assert!(!outlet.is_tracing() && !outlet.logs.is_open() && !outlet.traces.is_open());
    }

    #[test]
    fn a_delivery_is_a_call_of_a_client_that_follows_from_the_event() {
        let outlet = Outlet::default();
        outlet.open(Some(&receiver("http://127.0.0.1:1", 0)));
        let cause = outlet.context(ID, &down("nginx", 0)).unwrap();
        let context = cause.attempt("ops", 5);
        let failed = Delivered {
            cause,
            context,
            event: ID,
            endpoint: "ops",
            server: Some(("h", 443)),
            time_ns: (5, 9),
            before: 1,
            status: None,
            error: Some("post: refused"),
        };
        let span = delivery(&failed);
        assert_eq!((span.parent, span.context, span.kind), (Some(cause.span), context, SpanKind::Client));
        assert_eq!((span.begun_ns, span.ended_ns, span.error.as_deref()), (5, 9, Some("post: refused")));
        let of =
            |key: &str| span.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        assert_eq!(of("error.type"), Some("no_answer".into()));
        assert_eq!(
            (of("http.request.resend_count"), of("server.port")),
            (Some(1_u32.into()), Some(443_u32.into()))
        );
        let span = delivery(&Delivered { status: Some(204), error: None, before: 0, ..failed });
        assert!(span.error.is_none() && span.attributes.iter().all(|(name, _)| name != "error.type"));
    }
}
