//! `backup create`: by the daemon where one runs, because it has the state open; else here.

use std::path::PathBuf;

use clap::Args;

use super::{configured, recipients_of, told};
use crate::backup::{BackupError, Database};
use crate::cli::bar::Bar;
use crate::cli::error::{CliResult, usage};
use crate::cli::globals::Context;
use crate::cli::offline;
use crate::cli::output::View;
use crate::cli::page::{Page, size};
use crate::control::proto::{BackUp, BackedUp, Request};
use crate::daemon::backups::Job;
use crate::model::id::Name;
use crate::store::check;

/// Arguments of `backup create`.
#[derive(Args, Debug)]
pub(super) struct Create {
    /// Its name [default: auto- and the time]
    name: Option<Name>,
    /// Encrypt it to this age recipient, such as age1…; may be given several times
    #[arg(long, value_name = "KEY")]
    recipient: Vec<String>,
    /// Encrypt it to the age recipients in this file, one a line
    #[arg(long, value_name = "FILE")]
    recipients_file: Option<PathBuf>,
    /// Do not encrypt it, whatever is configured; secrets are left out
    #[arg(long, conflicts_with_all = ["recipient", "recipients_file"])]
    plain: bool,
    /// Afterwards delete all but the newest N of the backups that got their names from the program
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    keep: Option<u32>,
}

impl Create {
    pub(super) fn run(self, context: &Context, directory: Option<PathBuf>) -> CliResult {
        let mut recipients = self.recipient;
        if let Some(path) = &self.recipients_file {
            recipients.extend(recipients_of(path)?);
            if recipients.is_empty() {
                // It would be written in clear.
                return Err(usage(format!("{} names no recipient", path.display())).into());
            }
        }
        let asked = BackUp {
            name: self.name,
            directory,
            recipients: (self.plain || !recipients.is_empty()).then_some(recipients),
            keep: self.keep.and_then(|keep| usize::try_from(keep).ok()),
            dry_run: context.dry_run,
        };
        let done: BackedUp = match context.ask_if_running(&Request::BackUp(asked.clone()))? {
            Some(done) => done,
            None => here(context, asked)?,
        };
        for line in &done.left_out {
            context.output.message(&format!("Left out: {line}"));
        }
        context.output.show(&done)
    }
}

/// Without a daemon, and keeping one out meanwhile.
fn here(context: &Context, asked: BackUp) -> CliResult<BackedUp> {
    let job = Job::new(&context.dirs, &configured(context), asked)?;
    if context.dry_run {
        return Ok(job.foretell()?);
    }
    let _lock = offline::lock(context)?;
    let draft = job.begin(&context.dirs)?;
    let mut total = 0;
    for database in Database::ALL {
        let path = context.dirs.state.join(database.file_name());
        if let Ok(meta) = std::fs::metadata(&path) {
            total += meta.len();
            check::copy(&path, &draft.database(database)).map_err(|error| told(&BackupError::from(error)))?;
        }
    }
    let bar = Bar::bytes(context, "backup", total);
    Ok(job.finish(draft, &mut |bytes| bar.advance(bytes))?)
}

impl View for BackedUp {
    const KIND: &'static str = "Backup";

    fn page(&self, page: &mut Page) {
        let verb = if self.dry_run { "would be written to" } else { "written to" };
        page.line(format!("backup {} {verb} {}", self.name, self.path.display()));
        if let Some(bytes) = self.size {
            page.field("Size", size(bytes));
            page.field("Files", self.files);
        }
        page.field("Encrypted", if self.encrypted { "yes" } else { "no, and without secrets" });
        for name in &self.deleted {
            page.field(if self.dry_run { "Would delete" } else { "Deleted" }, name);
        }
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    use crate::cli::gallery::name;
    let done = |size, encrypted, dry_run| BackedUp {
        name: name("nightly"),
        path: PathBuf::from("/var/backups/nightly.tar.gz"),
        size,
        encrypted,
        files: 7,
        left_out: vec!["webhook.secret: it may hold a secret".to_owned()],
        deleted: vec![name("auto-1")],
        dry_run,
    };
    gallery.show("backup create nightly --recipient age1x", &done(Some(2_048), true, false));
    gallery.show("backup create nightly --dry-run", &done(None, false, true));
}
