//! How profiles of the configuration directory are shown.

use serde::Serialize;

use crate::cli::output::View;
use crate::cli::page::{Always, Page, Wide, dash};
use crate::config::export;
use crate::config::predecessor::MigrationNote;
use crate::config::profiles::{Entry, Imported as ImportedProfile};
use crate::model::id::Name;
use crate::model::rule::Profile;

/// The profiles, by name.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Listed(Vec<Item>);

#[derive(Debug, Serialize)]
struct Item {
    name: String,
    active: bool,
    valid: bool,
    version: String,
    rules: usize,
    critical: usize,
    description: String,
    errors: usize,
    path: String,
}

impl Listed {
    pub(super) fn new(entries: Vec<Entry>, active: Option<&Name>) -> Self {
        let item = |entry: Entry| {
            let profile = entry.profile.as_ref();
            Item {
                active: active.is_some_and(|active| active.as_str() == entry.name),
                valid: profile.is_some(),
                version: profile.map(|profile| profile.version.clone()).unwrap_or_default(),
                rules: profile.map_or(0, |profile| profile.rules.len()),
                critical: profile.map_or(0, |profile| profile.critical.len()),
                description: profile.map(|profile| profile.description.clone()).unwrap_or_default(),
                errors: entry.findings.errors(),
                path: entry.path.display().to_string(),
                name: entry.name,
            }
        };
        Self(entries.into_iter().map(item).collect())
    }
}

impl View for Listed {
    const KIND: &'static str = "ProfileList";

    fn page(&self, page: &mut Page) {
        page.table(
            [
                Always("NAME"),
                Always("STATE"),
                Always("VERSION"),
                Always("RULES"),
                Always("CRITICAL"),
                Always("DESCRIPTION"),
                Wide("FILE"),
            ],
            self.0.iter().map(|item| {
                let state = match (item.active, item.valid) {
                    (true, true) => "active".to_owned(),
                    (false, true) => "-".to_owned(),
                    // The daemon keeps what it read while the file was good.
                    (true, false) => format!("active, {} errors in its file", item.errors),
                    (false, false) => format!("{} errors", item.errors),
                };
                [
                    item.name.clone(),
                    state,
                    dash(item.version.clone()),
                    item.rules.to_string(),
                    item.critical.to_string(),
                    dash(item.description.clone()),
                    item.path.clone(),
                ]
            }),
        );
    }
}

/// A profile.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) Profile);

impl View for Shown {
    const KIND: &'static str = "Profile";

    fn page(&self, page: &mut Page) {
        for line in export::to_yaml(&self.0).lines() {
            page.line(line);
        }
    }
}

/// What was imported.
#[derive(Debug, Serialize)]
pub(super) struct Imported {
    name: Name,
    path: String,
    rules: usize,
    critical: usize,
    migration: Vec<MigrationNote>,
    dry_run: bool,
}

impl Imported {
    pub(super) fn new(imported: ImportedProfile, dry_run: bool) -> Self {
        Self {
            rules: imported.profile.rules.len(),
            critical: imported.profile.critical.len(),
            name: imported.profile.name,
            path: imported.path.display().to_string(),
            migration: imported.notes,
            dry_run,
        }
    }
}

impl View for Imported {
    const KIND: &'static str = "ImportedProfile";

    fn page(&self, page: &mut Page) {
        let verb = if self.dry_run { "would be imported" } else { "imported" };
        page.line(format!(
            "profile {} {verb} to {}: {} rules, {} critical processes",
            self.name, self.path, self.rules, self.critical
        ));
        if !self.migration.is_empty() {
            page.gap();
            page.table(
                [Always("LINE"), Always("KEY"), Always("CARRIED"), Always("OUTCOME")],
                self.migration.iter().map(|note| {
                    let carried = if note.carried { "yes" } else { "no" };
                    [note.line.to_string(), note.key.clone(), carried.to_owned(), note.outcome.clone()]
                }),
            );
        }
    }
}
