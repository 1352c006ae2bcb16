//! `profile diff`: what two profiles say differently.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::named;
use crate::cli::error::{CliError, CliResult, failed};
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::{Always, Page};
use crate::config::diff::{Difference, diff};
use crate::control::failure::FailureKind;

/// Arguments of `profile diff`.
#[derive(Args, Debug)]
#[command(
    after_help = "Profiles are compared as they come into force, their bases merged in: comments, the order of \
keys, and the order of entries where it decides nothing are no difference."
)]
pub(super) struct Diff {
    /// A profile's name, or a file if it has a slash or an ending
    before: PathBuf,
    /// The other one
    after: PathBuf,
    /// End with 1 when there is a difference
    #[arg(long)]
    exit_code: bool,
}

impl Diff {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let (before, after) = (named(context, &self.before)?, named(context, &self.after)?);
        let differences = diff(&before, &after).map_err(|error| failed(&error))?;
        let differ = !differences.is_empty();
        context.output.show(&Shown {
            before: self.before.display().to_string(),
            after: self.after.display().to_string(),
            differences,
        })?;
        if differ && self.exit_code { Err(CliError::Exit(FailureKind::Failed)) } else { Ok(()) }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Shown {
    before: String,
    after: String,
    differences: Vec<Difference>,
}

impl View for Shown {
    const KIND: &'static str = "ProfileDiff";

    fn page(&self, page: &mut Page) {
        if self.differences.is_empty() {
            page.line(format!("{} and {} say the same", self.before, self.after));
            return;
        }
        let value = |value: &Option<Value>| match value {
            None => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        page.table(
            [Always("WHAT"), Always("BEFORE"), Always("AFTER")],
            self.differences.iter().map(|one| [one.path.clone(), value(&one.before), value(&one.after)]),
        );
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    let shown = |differences| Shown { before: "web".to_owned(), after: "night".to_owned(), differences };
    gallery.show("profile diff web night", &shown(Vec::new()));
    let one = |path: &str, before: Option<Value>, after: Option<Value>| Difference {
        path: path.to_owned(),
        before,
        after,
    };
    gallery.show(
        "profile diff web night",
        &shown(vec![
            one("version", Some("1.0".into()), Some("2.0".into())),
            one("throttling_rules.backups.limits.pids", None, Some(100.into())),
            one("throttling_rules.mail", Some(serde_json::json!({ "match": { "comm": "mail" } })), None),
        ]),
    );
}
