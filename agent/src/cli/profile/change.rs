//! Changes of profiles' files, as transactions: noted in the history before the file is touched and settled after,
//! and taken over by the daemon where they concern what is in force.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{known_active, refused, warn};
use crate::cli::audit::recorded;
use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::cli::offline::{self, store_failure};
use crate::cli::output::View;
use crate::cli::page::{Always, Page};
use crate::cli::takeover::Daemon;
use crate::clock;
use crate::config::predecessor::MigrationNote;
use crate::config::profiles::{Draft, ProfileStore, StoreError};
use crate::effect::fail_point::{FailPoints, Point};
use crate::model::id::Name;
use crate::store::Store;
use crate::store::history::{Act, Actor, FileChange, Outcome};

/// A change of one profile's file.
#[derive(Debug)]
pub(super) struct Change {
    /// What is done.
    pub act: Act,
    /// To which profile.
    pub name: Name,
    /// What the file has; nothing when there must be none.
    pub before: Option<String>,
    /// What it is to have.
    pub after: Option<String>,
    /// Rules and critical processes of the new content.
    pub counts: (usize, usize),
    /// What became of each key of a file in the predecessor's format.
    pub migration: Vec<MigrationNote>,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Changed {
    name: Name,
    action: &'static str,
    path: String,
    /// Whether the file says anything else than before.
    differs: bool,
    rules: usize,
    critical: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    migration: Vec<MigrationNote>,
    /// Number of the entry in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<i64>,
    daemon: Daemon,
    dry_run: bool,
}

impl Change {
    /// A draft that becomes a profile, in place of `before`.
    pub(super) fn of_draft(act: Act, draft: Draft, before: Option<String>) -> Self {
        Self {
            act,
            counts: (draft.profile.rules.len(), draft.profile.critical.len()),
            name: draft.profile.name,
            before,
            after: Some(draft.text),
            migration: draft.notes,
        }
    }

    /// Carries it out and shows what came of it.
    ///
    /// # Errors
    /// When nothing was changed; and, as partly done, when the daemon does not take it over.
    pub(super) fn apply(self, context: &Context, store: &ProfileStore) -> CliResult {
        let Self { act, name, before, after, counts: (rules, critical), migration } = self;
        let differs = before != after;
        let path = store.path(&name);
        let (mut change, mut daemon) = (None, Daemon::NotAsked);
        if before.is_none() && path.symlink_metadata().is_ok() {
            return Err(refused(StoreError::Exists { name, path }));
        }
        if differs && !context.dry_run {
            let file = FileChange { act, profile: &name, before: before.as_deref(), after: after.as_deref() };
            let subject = format!("profile {name}");
            let id = recorded(context, audit_type(act), subject, || transact(context, store, &file))?;
            change = Some(id);
            if concerns_active(context, store, &name)? {
                daemon = Daemon::reload(context)?;
            }
        }
        let refusal = daemon.refusal();
        context.output.show(&Changed {
            name,
            action: act.word(),
            path: path.display().to_string(),
            differs,
            rules,
            critical,
            migration,
            change,
            daemon,
            dry_run: context.dry_run,
        })?;
        refusal
    }
}

/// The type of the change in the audit log.
const fn audit_type(act: Act) -> &'static str {
    match act {
        Act::Create => "profile.created",
        Act::Import => "profile.imported",
        Act::Edit => "profile.edited",
        Act::Clone => "profile.cloned",
        Act::Delete => "profile.deleted",
        Act::Rollback => "profile.rolled_back",
        Act::Activate => "profile.activated",
        Act::Deactivate => "profile.deactivated",
    }
}

/// Shows warnings about a draft and gives it back.
pub(super) fn warned(context: &Context, draft: Draft) -> Draft {
    warn(context, &draft.findings);
    draft
}

/// The change on disk and in the history. Whoever dies in between leaves an entry that the next change settles by
/// what the file has then.
fn transact(context: &Context, store: &ProfileStore, change: &FileChange<'_>) -> CliResult<i64> {
    let mut book = offline::journal(context)?;
    let actor = Actor { uid: Some(nix::unistd::getuid().as_raw()), by: "command" };
    let at = clock::unix_millis(clock::wall());
    let begun = book.write(|tables| {
        tables.settle_leftovers(change.profile, change.before)?;
        tables.begin_file_change(at, &actor, change)
    });
    let id = begun.map_err(|error| store_failure(&error))?;
    let points = FailPoints::from_environment();
    points.pass(Point::ProfileNoted);
    let swapped = store.swap(change.profile, change.before, change.after);
    points.pass(Point::ProfileChanged);
    let outcome = if swapped.is_ok() { Outcome::Done } else { Outcome::Undone };
    settle(context, &mut book, id, outcome);
    swapped.map(|_path| id).map_err(refused)
}

fn settle(context: &Context, book: &mut Store, id: i64, outcome: Outcome) {
    if let Err(error) = book.write(|tables| tables.settle_file_change(id, outcome)) {
        let word = outcome.word();
        let message = format!("Warning: the history does not say yet that change {id} is {word}: {error}");
        context.output.message(&message);
    }
}

/// Whether the profile in force is this one, or is built upon it.
fn concerns_active(context: &Context, store: &ProfileStore, name: &Name) -> CliResult<bool> {
    let Some(active) = known_active(context)? else { return Ok(false) };
    let mut reached = BTreeSet::from([name.clone()]);
    let mut next = vec![name.clone()];
    while let Some(one) = next.pop() {
        let dependents = store.dependents(&one).map_err(refused)?;
        next.extend(dependents.into_iter().filter(|other| reached.insert(other.clone())));
    }
    Ok(reached.contains(&active))
}

impl View for Changed {
    const KIND: &'static str = "ProfileChange";

    fn page(&self, page: &mut Page) {
        let Self { name, action, path, differs, rules, critical, migration, change: _, daemon, dry_run } =
            self;
        let done = match *action {
            "create" => "created",
            "import" => "imported",
            "clone" => "cloned",
            "delete" => "deleted",
            "rollback" => "rolled back",
            _ => "changed",
        };
        let would = if *dry_run { "would be " } else { "" };
        if *differs {
            page.line(format!("profile {name} {would}{done}: {path}"));
        } else {
            page.line(format!("profile {name}: nothing to change in {path}"));
        }
        if *action != "delete" {
            page.line(format!("rules: {rules}, critical processes: {critical}"));
        }
        if !migration.is_empty() {
            page.gap();
            page.table(
                [Always("LINE"), Always("KEY"), Always("CARRIED"), Always("OUTCOME")],
                migration.iter().map(|note| {
                    let carried = if note.carried { "yes" } else { "no" };
                    [note.line.to_string(), note.key.clone(), carried.to_owned(), note.outcome.clone()]
                }),
            );
        }
        daemon.tell(page);
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    let note = |key: &str, carried, outcome: &str| MigrationNote {
        key: key.to_owned(),
        line: 4,
        column: 3,
        carried,
        outcome: outcome.to_owned(),
    };
    for (line, action, differs, migration, daemon, dry_run) in [
        ("create web", "create", true, vec![], Daemon::NotRunning, false),
        ("create web --dry-run", "create", true, vec![], Daemon::NotAsked, true),
        (
            "import old.yaml",
            "import",
            true,
            vec![note("cpu_quota", true, "limits.cpu: 30%"), note("author", false, "there is no such key")],
            Daemon::NotAsked,
            false,
        ),
        ("edit web", "edit", true, vec![], Daemon::Reloaded { detail: "profile web".to_owned() }, false),
        ("edit web", "edit", false, vec![], Daemon::NotAsked, false),
        ("clone web night", "clone", true, vec![], Daemon::NotAsked, false),
        ("rollback 7", "rollback", true, vec![], Daemon::Refused { why: "no user www".to_owned() }, false),
        ("delete web", "delete", true, vec![], Daemon::NotAsked, false),
    ] {
        let changed = Changed {
            name: crate::cli::gallery::name("web"),
            action,
            path: "/etc/process-throttler/profiles/web.yaml".to_owned(),
            differs,
            rules: 2,
            critical: 1,
            migration,
            change: (!dry_run).then_some(7),
            daemon,
            dry_run,
        };
        gallery.show(&format!("profile {line}"), &changed);
    }
}
