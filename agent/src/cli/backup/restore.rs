//! `backup restore`: with the daemon's lock held, so that nothing reads what is being replaced.

use std::path::PathBuf;

use serde::Serialize;

use super::{Which, told};
use crate::backup::{Change, Fate, Prepared, Shelf, foresee};
use crate::cli::bar::Bar;
use crate::cli::error::{CliError, CliResult, failed};
use crate::cli::globals::Context;
use crate::cli::offline;
use crate::cli::output::View;
use crate::cli::page::{Always, Page};
use crate::clock;
use crate::control::failure::FailureKind;
use crate::effect::fail_point::FailPoints;

pub(super) fn run(context: &Context, which: &Which, shelf: &Shelf) -> CliResult {
    if context.dry_run {
        let archive = which.open(shelf)?;
        let scratch =
            std::env::temp_dir().join(format!("process-throttler-{}", uuid::Uuid::now_v7().simple()));
        let bar = Bar::bytes(context, "check", archive.manifest().total());
        let changes = foresee(&context.dirs, archive, &scratch, &mut |bytes| bar.advance(bytes));
        drop(bar);
        let changes = changes.map_err(|error| told(&error))?;
        return context.output.show(&Shown { changes, before: Vec::new(), dry_run: true });
    }
    // Before anybody is asked.
    drop(which.open(shelf)?);
    let question = format!("Replace configuration and state by backup {}?", which.backup);
    context.confirm(&question)?;
    let _lock = offline::lock(context).map_err(stop_first)?;
    let archive = which.open(shelf)?;
    let at = jiff::Timestamp::try_from(clock::wall()).map_err(|error| failed(&error))?;
    let bar = Bar::bytes(context, "restore", archive.manifest().total());
    let prepared = Prepared::new(&context.dirs, archive, at, &mut |bytes| bar.advance(bytes));
    drop(bar);
    let prepared = prepared.map_err(|error| told(&error))?;
    let restored = prepared.commit(&FailPoints::from_environment()).map_err(|error| told(&error))?;
    context.output.show(&Shown { changes: restored.changes, before: restored.before, dry_run: false })
}

fn stop_first(error: CliError) -> CliError {
    match error {
        CliError::Failed(failure) if failure.kind == FailureKind::Conflict => {
            failure.with_hint("a restore needs the daemon stopped: process-throttler daemon stop").into()
        }
        CliError::Failed(_) | CliError::Unstarted { .. } | CliError::Exit(_) | CliError::PipeClosed => error,
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Shown {
    changes: Vec<Change>,
    before: Vec<PathBuf>,
    dry_run: bool,
}

impl View for Shown {
    const KIND: &'static str = "Restore";

    fn page(&self, page: &mut Page) {
        let rows = self.changes.iter().map(|change| {
            let fate = match change.fate {
                Fate::Create => "create",
                Fate::Replace => "replace",
                Fate::Unchanged => "unchanged",
                Fate::Remove => "remove",
                Fate::Keep => "keep",
            };
            [
                fate.to_owned(),
                change.path.display().to_string(),
                change.why.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        });
        page.table([Always("CHANGE"), Always("FILE"), Always("WHY")], rows);
        page.gap();
        if self.dry_run {
            page.line("nothing was changed; the configuration would be valid");
            return;
        }
        page.line(if self.before.is_empty() { "nothing had to be changed" } else { "restored" });
        for path in &self.before {
            page.field("Old files", path.display());
        }
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    let fates = [
        (Fate::Create, None),
        (Fate::Replace, None),
        (Fate::Unchanged, None),
        (Fate::Remove, None),
        (Fate::Keep, Some("it has gone on since the backup")),
    ];
    let place = |name: &str| PathBuf::from("/etc").join(name);
    let change = |(index, (fate, why)): (usize, (Fate, Option<&str>))| {
        Change::of(place("process-throttler").join(format!("{index}.yaml")), fate, why.map(str::to_owned))
    };
    let changes: Vec<Change> = fates.into_iter().enumerate().map(change).collect();
    gallery.show(
        "backup restore nightly --dry-run",
        &Shown { changes: changes.clone(), before: Vec::new(), dry_run: true },
    );
    let before = vec![place("process-throttler.before")];
    gallery.show("backup restore nightly", &Shown { changes, before, dry_run: false });
    gallery
        .show("backup restore nightly", &Shown { changes: Vec::new(), before: Vec::new(), dry_run: false });
}
