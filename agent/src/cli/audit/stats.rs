//! `audit stats`: how much is in the log, of what, and how far it has been shipped.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;

use super::{place, unreadable};
use crate::audit::query::{self, Stats};
use crate::audit::ship::Cursor;
use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::{Always, Page, moment, size};
use crate::model::plural::counted;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Shown {
    #[serde(flatten)]
    stats: Stats,
    /// Number of the last record that each destination has taken.
    shipped: BTreeMap<String, u64>,
}

pub(super) fn run(context: &Context) -> CliResult {
    let place = place(context);
    let stats = query::stats(&place).map_err(|error| unreadable(&place, &error))?;
    let cursors = Cursor::all(&place).map_err(|error| unreadable(&place, &error))?;
    let shipped = cursors.into_iter().map(|(name, cursor)| (name, cursor.seq)).collect();
    context.output.show(&Shown { stats, shipped })
}

impl View for Shown {
    const KIND: &'static str = "AuditStats";

    fn page(&self, page: &mut Page) {
        let Self { stats, shipped } = self;
        page.field("Records", stats.records);
        page.field("Files", format!("{}, {}", stats.files, size(stats.bytes)));
        if let (Some(oldest), Some(newest)) = (stats.oldest, stats.newest) {
            page.field("Oldest", moment(oldest));
            page.field("Newest", moment(newest));
        }
        if stats.missing > 0 {
            page.field(
                "Missing",
                format!("{} could not be written", counted(stats.missing, "record", "records")),
            );
        }
        if stats.unreadable > 0 {
            page.field("Unreadable", counted(stats.unreadable, "line is no record", "lines are no records"));
        }
        counts(page, "TYPE", stats.types.iter());
        counts(page, "OUTCOME", stats.outcomes.iter());
        counts(page, "ACTOR", stats.actors.iter());
        if !shipped.is_empty() {
            page.gap();
            let rows = shipped.iter().map(|(name, seq)| [name.clone(), seq.to_string()]);
            page.table([Always("DESTINATION"), Always("SHIPPED UP TO")], rows);
        }
    }
}

fn counts<'a, K: Display + 'a>(
    page: &mut Page,
    name: &'static str,
    counts: impl Iterator<Item = (&'a K, &'a u64)>,
) {
    page.gap();
    page.table(
        [Always(name), Always("RECORDS")],
        counts.map(|(key, count)| [key.to_string(), count.to_string()]),
    );
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    use crate::audit::Outcome;
    let count = |name: &str, number| (name.to_owned(), number);
    let stats = Stats {
        records: 3,
        unreadable: 1,
        files: 2,
        bytes: 4_096,
        oldest: Some(crate::cli::gallery::moment("11:00:00")),
        newest: Some(crate::cli::gallery::moment("12:00:00")),
        missing: 2,
        types: BTreeMap::from([count("request.throttle", 1), count("throttle.applied", 2)]),
        outcomes: BTreeMap::from([(Outcome::Success, 2), (Outcome::Denied, 1)]),
        actors: BTreeMap::from([count("daemon", 2), count("uid 0", 1)]),
    };
    gallery.show("audit stats", &Shown { stats, shipped: BTreeMap::from([count("journald", 3)]) });
    gallery.show("audit stats", &Shown { stats: Stats::default(), shipped: BTreeMap::new() });
}
