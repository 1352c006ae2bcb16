//! `backup list`, `show`, `verify` and `delete`.

use std::path::PathBuf;

use serde::Serialize;

use super::told;
use crate::backup::{Archive, Entry, Manifest, Shelf};
use crate::cli::bar::Bar;
use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::{Always, Page, Wide, moment, size};
use crate::model::id::Name;
use crate::model::plural::counted;

pub(super) fn list(context: &Context, shelf: &Shelf) -> CliResult {
    context.output.show(&Listed(shelf.list().map_err(|error| told(&error))?))
}

pub(super) fn show(context: &Context, archive: &Archive) -> CliResult {
    context.output.show(archive.manifest())
}

pub(super) fn verify(context: &Context, archive: Archive) -> CliResult {
    let manifest = verified(context, archive)?;
    let (files, bytes) = (manifest.files.len(), manifest.total());
    context.output.show(&Verified {
        name: manifest.name,
        created: manifest.created,
        files,
        bytes,
        verified: true,
    })
}

/// Reads all of an archive.
pub(super) fn verified(context: &Context, archive: Archive) -> CliResult<Manifest> {
    let bar = Bar::bytes(context, "verify", archive.manifest().total());
    archive.verify(&mut |bytes| bar.advance(bytes)).map_err(|error| told(&error))
}

pub(super) fn delete(context: &Context, shelf: &Shelf, name: &Name) -> CliResult {
    let entry = shelf.find(name).map_err(|error| told(&error))?;
    context.confirm(&format!("Delete backup {name}?"))?;
    if !context.dry_run {
        shelf.delete(&entry).map_err(|error| told(&error))?;
    }
    context.output.show(&Deleted { name: entry.name, path: entry.path, dry_run: context.dry_run })
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
struct Listed(Vec<Entry>);

impl View for Listed {
    const KIND: &'static str = "BackupList";

    fn page(&self, page: &mut Page) {
        let columns = [Always("NAME"), Always("CREATED"), Always("SIZE"), Always("ENCRYPTED"), Wide("FILE")];
        page.table(
            columns,
            self.0.iter().map(|entry| {
                [
                    entry.name.to_string(),
                    moment(entry.created),
                    size(entry.size),
                    yes_no(entry.encrypted),
                    entry.path.display().to_string(),
                ]
            }),
        );
    }
}

fn yes_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

impl View for Manifest {
    const KIND: &'static str = "BackupManifest";

    fn page(&self, page: &mut Page) {
        page.field("Name", &self.name);
        page.field("Created", moment(self.created));
        page.field("Host", &self.host);
        page.field("Version", &self.version);
        page.field("Encrypted", yes_no(self.encrypted));
        page.field("Size", size(self.total()));
        page.gap();
        let columns = [Always("FILE"), Always("SIZE"), Wide("SHA-256")];
        page.table(
            columns,
            self.files.iter().map(|file| [file.path.to_string(), size(file.size), file.sha256.clone()]),
        );
        if !self.left_out.is_empty() {
            page.gap();
            page.table(
                [Always("LEFT OUT"), Always("WHY")],
                self.left_out.iter().map(|file| [file.path.clone(), file.why.clone()]),
            );
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Verified {
    name: Name,
    created: jiff::Timestamp,
    files: usize,
    bytes: u64,
    verified: bool,
}

impl View for Verified {
    const KIND: &'static str = "BackupVerified";

    fn page(&self, page: &mut Page) {
        let Self { name, created, files, bytes, verified: _ } = self;
        let files = counted(*files, "file", "files");
        page.line(format!("backup {name} of {} is whole: {files}, {}", moment(*created), size(*bytes)));
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Deleted {
    name: Name,
    path: PathBuf,
    dry_run: bool,
}

impl View for Deleted {
    const KIND: &'static str = "BackupDeleted";

    fn page(&self, page: &mut Page) {
        let verb = if self.dry_run { "would be deleted" } else { "deleted" };
        page.line(format!("backup {} {verb}: {}", self.name, self.path.display()));
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    use crate::cli::gallery::{moment, name};
    let path = |name: &str| PathBuf::from(format!("/var/backups/{name}.tar.gz"));
    let entry = |text: &str, encrypted| Entry {
        name: name(text),
        created: moment("12:00:00"),
        size: 5 << 20,
        encrypted,
        path: path(text),
    };
    gallery.show("backup list", &Listed(vec![entry("nightly", true), entry("before-upgrade", false)]));
    gallery.show("backup list", &Listed(Vec::new()));
    let manifest = serde_json::json!({
        "format": 1, "version": "0.1.0", "name": "nightly", "created": "2025-03-01T12:00:00Z", "host": "web-1",
        "encrypted": false,
        "files": [{ "path": "config/config.yaml", "size": 120, "sha256": "0".repeat(64), "mode": 0o600 }],
        "left_out": [{ "path": "config/webhook.secret", "why": "it may hold a secret" }],
    });
    gallery.show::<Manifest>("backup show nightly", &serde_json::from_value(manifest).unwrap());
    let created = moment("12:00:00");
    gallery.show(
        "backup verify nightly",
        &Verified { name: name("nightly"), created, files: 7, bytes: 5 << 20, verified: true },
    );
    for dry_run in [false, true] {
        let line = if dry_run { "backup delete nightly --dry-run" } else { "backup delete nightly" };
        gallery.show(line, &Deleted { name: name("nightly"), path: path("nightly"), dry_run });
    }
}
