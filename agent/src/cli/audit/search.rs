//! `audit search`: records by who, what and when.

use std::collections::VecDeque;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::{place, unreadable};
use crate::audit::query::{Filter, Found, search};
use crate::audit::{Outcome, Record};
use crate::cli::error::CliResult;
use crate::cli::events::{Since, parse_since};
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::{Always, Page, Wide, dash, moment};
use crate::model::plural::counted;

/// Most records that are shown.
const LIMIT_MAX: i64 = 100_000;

/// Which records.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// By this actor: daemon, rule, "rule NAME", or a uid, also of the login it came from
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Of this type, such as throttle.applied, or of all types that begin so, such as request
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// With this text in the subject
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// With this outcome
    #[arg(long, value_name = "OUTCOME", value_parser = outcomes())]
    outcome: Option<Outcome>,
}

fn outcomes() -> impl clap::builder::TypedValueParser<Value = Outcome> {
    PossibleValuesParser::new(Outcome::ALL.map(Outcome::as_str)).try_map(|word| {
        let found = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word);
        found.ok_or_else(|| format!("{word:?} is no outcome"))
    })
}

impl Which {
    pub(super) fn filter(self) -> Filter {
        let Self { actor, kind, subject, outcome } = self;
        Filter { since: None, until: None, actor, kind, subject, outcome }
    }
}

/// Arguments of `audit search`.
#[derive(Args, Debug)]
pub(super) struct Search {
    /// Not older than this: a duration such as 2h, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
    /// Not younger than this
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    until: Option<Since>,
    #[command(flatten)]
    which: Which,
    /// The newest N only
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=LIMIT_MAX))]
    limit: u32,
}

impl Search {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Self { since, until, which, limit } = self;
        let filter = Filter {
            since: since.map(Since::unix_millis),
            until: until.map(Since::unix_millis),
            ..which.filter()
        };
        show(context, &filter, usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

/// Shows the newest records that are meant.
///
/// # Errors
/// When the log cannot be read.
pub(super) fn show(context: &Context, filter: &Filter, limit: usize) -> CliResult {
    let place = place(context);
    let Found { records, unreadable: broken } =
        search(&place, filter, limit).map_err(|error| unreadable(&place, &error))?;
    if broken > 0 {
        let hint = "process-throttler audit verify tells more";
        context.output.message(&format!(
            "Warning: {}; {hint}",
            counted(broken, "line of the log is no record", "lines of the log are no records")
        ));
    }
    context.output.show(&records)
}

impl View for VecDeque<Record> {
    const KIND: &'static str = "AuditRecordList";

    fn page(&self, page: &mut Page) {
        page.table(
            [
                Wide("SEQ"),
                Always("TIME"),
                Always("ACTOR"),
                Always("TYPE"),
                Always("OUTCOME"),
                Always("SUBJECT"),
                Always("DETAIL"),
                Wide("FACTS"),
            ],
            self.iter().map(|record| {
                let body = &record.body;
                let facts: Vec<String> =
                    body.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
                [
                    body.seq.to_string(),
                    moment(body.time),
                    body.actor.to_string(),
                    body.kind.clone(),
                    body.outcome.to_string(),
                    dash(body.subject.clone()),
                    dash(body.detail.clone()),
                    dash(facts.join(" ")),
                ]
            }),
        );
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    let record = |seq: u64, actor: serde_json::Value, kind: &str, outcome: &str, detail: &str| -> Record {
        let record = serde_json::json!({
            "v": 1, "seq": seq, "time": "2025-03-01T12:00:00Z", "type": kind, "actor": actor,
            "subject": "group backups", "outcome": outcome, "detail": detail, "event": "evt_1",
            "facts": { "cpu": "30%" }, "prev": "0".repeat(64), "hash": "1".repeat(64),
        });
        serde_json::from_value(record).unwrap()
    };
    let user = serde_json::json!({ "kind": "user", "uid": 0, "gid": 0, "pid": 700, "loginuid": 1000 });
    let rule = serde_json::json!({ "kind": "rule", "rule": "backups" });
    let daemon = serde_json::json!({ "kind": "daemon" });
    let records = VecDeque::from([
        record(1, user, "request.throttle", "denied", "no role\n\u{1b}[31m"),
        record(2, rule, "throttle.applied", "success", ""),
        record(3, daemon, "audit.repaired", "observed", "a torn line was cut off"),
    ]);
    gallery.show("audit search --since 1h", &records);
    gallery.show("audit tail -n 0", &VecDeque::<Record>::new());
}
