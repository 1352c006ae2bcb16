//! `critical ack`: somebody looks after it.

use std::time::Duration;

use clap::Args;

use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::{Always, Page, Wide, moment, or_dash};
use crate::control::feature;
use crate::control::proto::{Acknowledge, Acknowledged, Request};
use crate::model::id::Name;
use crate::model::time::millis;

/// Arguments of `critical ack`.
#[derive(Args, Debug)]
pub(super) struct Ack {
    /// Critical process
    name: Name,
    /// Lapse after this time, such as 2h, instead of with the alert
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// What else there is to say
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

impl Ack {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Self { name, time, comment } = self;
        let for_ms = time.map(millis);
        let request = Request::Acknowledge(Acknowledge { name, for_ms, comment, dry_run: context.dry_run });
        let acknowledged: Acknowledged = context.ask(feature::CRITICAL, &request)?;
        context.output.show(&acknowledged)
    }
}

impl View for Acknowledged {
    const KIND: &'static str = "Acknowledged";

    fn page(&self, page: &mut Page) {
        let columns = [Always("ALERT"), Always("SINCE"), Always("ACK UNTIL"), Wide("COMMENT"), Wide("TEXT")];
        page.table(
            columns,
            self.alerts.iter().map(|alert| {
                let by = alert.acknowledged.as_ref();
                [
                    format!("{} {}", alert.kind, alert.subject),
                    moment(alert.since),
                    by.and_then(|by| by.until).map_or_else(|| "its end".to_owned(), moment),
                    or_dash(by.and_then(|by| by.comment.as_ref())),
                    alert.text.clone(),
                ]
            }),
        );
        if self.dry_run {
            page.line("Nothing was changed.");
        }
    }
}
