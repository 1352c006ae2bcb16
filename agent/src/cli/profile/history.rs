//! `profile history`: what became of profiles, by whom and when.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::error::{CliError, CliResult};
use crate::cli::globals::Context;
use crate::cli::offline::{self, store_failure};
use crate::cli::output::View;
use crate::cli::page::{Always, Page, Wide, moment, or_dash};
use crate::cli::processes::user_name;
use crate::control::failure::{Failure, FailureKind};
use crate::model::id::Name;
use crate::store::history::{HistoryRow, Outcome};
use crate::store::{Store, Tables};

/// Arguments of `profile history`.
#[derive(Args, Debug)]
#[command(
    after_help = "Changes made by commands are kept, and every profile that came into force: the last 1000, and \
at most 16 MiB of contents."
)]
pub(super) struct History {
    /// Only of this profile
    name: Option<Name>,
    /// Most entries, the latest first
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u64,
    /// Print the content that a profile had after this change
    #[arg(long, value_name = "ID", conflicts_with = "name")]
    content: Option<i64>,
}

impl History {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let book = offline::existing_journal(context)?;
        if let Some(id) = self.content {
            let book = book.ok_or_else(|| not_found(id))?;
            let text = content_after(&book, &entry(&book, id)?)?;
            return match text {
                Some(text) => context.output.raw(text.as_bytes()),
                None => {
                    Err(Failure::new(FailureKind::NotFound, format!("no profile after change {id}")).into())
                }
            };
        }
        let rows = match &book {
            Some(book) => book.read(|tables| tables.history(self.name.as_ref(), self.limit)),
            None => Ok(Vec::new()),
        };
        let mut names = BTreeMap::new();
        let rows = rows.map_err(|error| store_failure(&error))?;
        context.output.show(&Shown(rows.into_iter().map(|row| Item::new(row, &mut names)).collect()))
    }
}

/// An entry by its number.
///
/// # Errors
/// When there is none.
pub(super) fn entry(book: &Store, id: i64) -> CliResult<HistoryRow> {
    let row = book.read(|tables| tables.history_entry(id)).map_err(|error| store_failure(&error))?;
    row.ok_or_else(|| not_found(id))
}

/// The content that a file had after a change; nothing when there was no file.
///
/// # Errors
/// When it is not kept any more.
pub(super) fn content_after(book: &Store, row: &HistoryRow) -> CliResult<Option<String>> {
    // What was undone left what was before.
    let hash = if row.outcome == Outcome::Undone { &row.before } else { &row.after };
    content(book, hash.as_deref())
}

/// A content by its hash.
///
/// # Errors
/// When it is not kept any more.
pub(super) fn content(book: &Store, hash: Option<&str>) -> CliResult<Option<String>> {
    let Some(hash) = hash else { return Ok(None) };
    let found =
        book.read(|tables: &Tables| tables.profile_content(hash)).map_err(|error| store_failure(&error))?;
    match found {
        Some(text) => Ok(Some(text)),
        None => {
            Err(Failure::new(FailureKind::NotFound, format!("the content {hash} is not kept any more"))
                .into())
        }
    }
}

fn not_found(id: i64) -> CliError {
    let failure = Failure::new(FailureKind::NotFound, format!("no change {id} in the history"));
    failure.with_hint("see: process-throttler profile history").into()
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
struct Shown(Vec<Item>);

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Item {
    id: i64,
    at: Timestamp,
    uid: Option<u32>,
    user: Option<String>,
    by: String,
    action: &'static str,
    profile: Option<Name>,
    /// The profile that was in force before.
    previous: Option<Name>,
    /// SHA-256 of the content before and after.
    before: Option<String>,
    after: Option<String>,
    outcome: &'static str,
}

impl Item {
    fn new(row: HistoryRow, names: &mut BTreeMap<u32, Option<String>>) -> Self {
        let user = row.uid.and_then(|uid| names.entry(uid).or_insert_with(|| user_name(uid)).clone());
        Self {
            id: row.id,
            at: Timestamp::from_millisecond(row.at).unwrap_or_default(),
            uid: row.uid,
            user,
            by: row.by,
            action: row.act.word(),
            profile: row.profile,
            previous: row.previous,
            before: row.before,
            after: row.after,
            outcome: row.outcome.word(),
        }
    }

    fn who(&self) -> String {
        match (&self.user, self.uid) {
            (Some(user), _) => user.clone(),
            (None, Some(uid)) => format!("uid {uid}"),
            (None, None) => self.by.clone(),
        }
    }
}

fn short(hash: Option<&String>) -> String {
    or_dash(hash.map(|hash| hash.get(..12).unwrap_or(hash)))
}

impl View for Shown {
    const KIND: &'static str = "ProfileHistory";

    fn page(&self, page: &mut Page) {
        page.table(
            [
                Always("ID"),
                Always("WHEN"),
                Always("WHO"),
                Wide("BY"),
                Always("ACTION"),
                Always("PROFILE"),
                Always("PREVIOUS"),
                Always("BEFORE"),
                Always("AFTER"),
                Always("OUTCOME"),
            ],
            self.0.iter().map(|item| {
                [
                    item.id.to_string(),
                    moment(item.at),
                    item.who(),
                    item.by.clone(),
                    item.action.to_owned(),
                    or_dash(item.profile.as_ref()),
                    or_dash(item.previous.as_ref()),
                    short(item.before.as_ref()),
                    short(item.after.as_ref()),
                    item.outcome.to_owned(),
                ]
            }),
        );
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    use crate::cli::gallery::{moment, name};
    let item = |id, user: Option<&str>, uid, by: &str, action, outcome| Item {
        id,
        at: moment("12:00:00"),
        uid,
        user: user.map(str::to_owned),
        by: by.to_owned(),
        action,
        profile: Some(name("web")),
        previous: None,
        before: None,
        after: Some("0123456789abcdef".repeat(4)),
        outcome,
    };
    let mut activated = item(3, None, None, "schedule", "activate", "done");
    activated.previous = Some(name("night"));
    let items = vec![
        activated,
        item(2, None, Some(4_000_000), "command", "edit", "undone"),
        item(1, Some("root"), Some(0), "command", "create", "done"),
    ];
    gallery.show("profile history", &Shown(items));
    gallery.show("profile history web", &Shown(Vec::new()));
}
