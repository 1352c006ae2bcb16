//! `events`: what happened, and what happens.

use std::fmt;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;

use super::error::{CliResult, failed};
use super::globals::{Context, call, runtime};
use super::output::View;
use super::page::{Always, Page, Wide, moment};
use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::feature;
use crate::control::proto::{EVENTS_MAX, EventQuery, EventRecord, FollowQuery, Request, StreamEnd};
use crate::model::notice::Severity;
use crate::model::plural::counted;

/// Arguments of `events`.
#[derive(Args, Debug)]
pub(super) struct Events {
    /// Go on with what happens from now on: lines on a terminal, JSON lines into a pipe
    #[arg(short, long)]
    follow: bool,
    /// Not older than this: a duration such as 10m, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
    /// Of this kind only, such as throttle_applied
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The newest N only
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=EVENTS_MAX as i64))]
    limit: u32,
}

/// A moment as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Ago(Duration),
    At(jiff::Timestamp),
}

pub(super) fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.map(Since::At).map_err(|_neither| {
        "expected a duration such as 10m, or a time such as 2026-01-31T12:00:00Z".to_owned()
    })
}

impl Since {
    pub(super) fn unix_millis(self) -> i64 {
        match self {
            Self::At(at) => at.as_millisecond(),
            Self::Ago(ago) => {
                clock::unix_millis(clock::wall().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH))
            }
        }
    }
}

impl Events {
    pub(super) fn run(self, context: &Context) -> CliResult {
        if self.follow {
            return runtime()?.block_on(self.follow(context));
        }
        let events: Vec<EventRecord> = context.ask(feature::EVENTS, &self.query())?;
        context.output.show(&events)
    }

    fn query(&self) -> Request {
        Request::Events(EventQuery {
            since_ms: self.since.map(Since::unix_millis),
            kind: self.kind.clone(),
            limit: usize::try_from(self.limit).ok(),
        })
    }

    /// The stream is opened before the past is asked for, so that nothing falls in between.
    async fn follow(&self, context: &Context) -> CliResult {
        let request = Request::Follow(FollowQuery { kind: self.kind.clone() });
        let mut lines = context.follow(feature::EVENTS, &request).await?;
        let mut last_seq = None;
        if self.since.is_some() {
            let past = call::<Vec<EventRecord>>(&context.client(), &self.query()).await;
            let events = past.map_err(Failure::from)?;
            for event in events {
                last_seq = Some(event.seq);
                context.output.stream_item(&Shown(event))?;
            }
        }
        while let Some(line) = lines.next().await.map_err(Failure::from)? {
            if let Ok(StreamEnd::StreamCut { lost }) = serde_json::from_slice(&line) {
                let message = format!("{} lost: this reader was too slow", counted(lost, "event", "events"));
                return Err(Failure::new(FailureKind::Failed, message).into());
            }
            let event: EventRecord = serde_json::from_slice(&line).map_err(|error| failed(&error))?;
            if last_seq.is_none_or(|last| event.seq > last) {
                context.output.stream_item(&Shown(event))?;
            }
        }
        context.output.message("the daemon has ended the stream");
        Ok(())
    }
}

/// An event as a line.
#[derive(Serialize)]
#[serde(transparent)]
struct Shown(EventRecord);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(event) = self;
        write!(f, "{} {} {}", moment(event.at), severity(event.severity), event.text)
    }
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

impl View for Vec<EventRecord> {
    const KIND: &'static str = "EventList";

    fn page(&self, page: &mut Page) {
        page.table(
            [Wide("SEQ"), Always("TIME"), Always("SEVERITY"), Always("KIND"), Always("EVENT")],
            self.iter().map(|event| {
                [
                    event.seq.to_string(),
                    moment(event.at),
                    severity(event.severity).to_owned(),
                    event.notice.kind().to_owned(),
                    event.text.clone(),
                ]
            }),
        );
    }
}
