//! `audit verify`: whether the log is as it was written.

use super::{place, unreadable};
use crate::audit::verify::{Bad, Verified, verify};
use crate::cli::error::{CliError, CliResult};
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::Page;
use crate::control::failure::FailureKind;
use crate::model::plural::counted;

pub(super) fn run(context: &Context) -> CliResult {
    let place = place(context);
    let verified = verify(&place).map_err(|error| unreadable(&place, &error))?;
    let intact = verified.intact;
    context.output.show(&verified)?;
    if intact { Ok(()) } else { Err(CliError::Exit(FailureKind::Failed)) }
}

impl View for Verified {
    const KIND: &'static str = "AuditVerification";

    fn page(&self, page: &mut Page) {
        let Self { intact: _, records, files, first, last, head, bad } = self;
        if let Some(Bad { file, line, why }) = bad {
            page.line(format!("{file}:{line}: {why}"));
            page.line(counted(*records, "record before it is good", "records before it are good"));
            return;
        }
        let (files, are) = (counted(*files, "file", "files"), if *records == 1 { "is" } else { "are" });
        page.line(format!("{} in {files} {are} good", counted(*records, "record", "records")));
        if let (Some(first), Some(last), Some(head)) = (first, last, head) {
            page.line(format!("numbers {first} to {last}, the last with the hash {head}"));
        }
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    let verified = |intact, bad| Verified {
        intact,
        records: 3,
        files: 2,
        first: Some(1),
        last: Some(3),
        head: Some("1".repeat(64)),
        bad,
    };
    gallery.show("audit verify", &verified(true, None));
    let bad =
        Bad { file: "audit.jsonl".to_owned(), line: 4, why: "its hash is not that of its text".to_owned() };
    gallery.show("audit verify", &verified(false, Some(bad)));
}
