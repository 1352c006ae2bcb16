//! `profile edit`: in an editor, or single values by their path. Nothing is saved that has errors.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::change::Change;
use super::{refused, warn};
use crate::cli::error::{CliResult, usage};
use crate::cli::globals::Context;
use crate::cli::output::Output;
use crate::config::ProfileStore;
use crate::config::file::{self, Source, Trust};
use crate::config::profiles::StoreError;
use crate::config::revise::{Revision, revise};
use crate::control::failure::{Failure, FailureKind};
use crate::model::id::Name;
use crate::model::rule::Profile;
use crate::store::history::Act;

const AFTER_HELP: &str = "\
A path is made of keys, of names of rules and critical processes, and of positions in other lists: \
throttling_rules.backups.limits.cpu, critical_processes.nginx.restart.unit, schedule[0].profile. Comments stay.

Without --set and --unset, the profile is opened in $VISUAL or $EDITOR. It is saved when it has no errors; else the \
draft is kept, and its path is told.";

/// Arguments of `profile edit`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Edit {
    /// Its name
    name: Name,
    /// Set a value; may be given several times
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Take a key, or an entry of a list, out; may be given several times
    #[arg(long, value_name = "PATH")]
    unset: Vec<String>,
}

impl Edit {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let store = ProfileStore::new(&context.dirs);
        let before = store.own_text(&self.name).map_err(refused)?;
        if self.set.is_empty() && self.unset.is_empty() {
            return in_editor(context, &store, &self.name, before);
        }
        let revisions = self
            .set
            .iter()
            .map(|text| Revision::set(text))
            .chain(self.unset.iter().map(|path| Revision::unset(path)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refused(error.into()))?;
        let text = revise(&before, &revisions).map_err(|error| refused(error.into()))?;
        let after = Source::new(before.path().to_owned(), text);
        let (profile, findings) = store.check_as(&after, &self.name).map_err(refused)?;
        warn(context, &findings);
        change(self.name, before, after, &profile).apply(context, &store)
    }
}

fn change(name: Name, before: Source, after: Source, profile: &Profile) -> Change {
    Change {
        act: Act::Edit,
        name,
        before: Some(before.into_text()),
        after: Some(after.into_text()),
        counts: (profile.rules.len(), profile.critical.len()),
        migration: Vec::new(),
    }
}

fn in_editor(context: &Context, store: &ProfileStore, name: &Name, before: Source) -> CliResult {
    let editor = editor()?;
    let draft = Draft::new(context, name, before.text())?;
    loop {
        open(&editor, &draft.path)?;
        let after = file::read::read(&draft.path, Trust::Anyone).map_err(|error| refused(error.into()))?;
        match store.check_as(&after, name) {
            Ok((profile, findings)) => {
                warn(context, &findings);
                let applied = change(name.clone(), before, after, &profile).apply(context, store);
                // Kept only where its content would be lost.
                if applied.is_ok() || store.text(name).is_ok_and(|now| draft.is(now.text())) {
                    draft.remove()?;
                }
                return applied;
            }
            Err(StoreError::Invalid(findings)) => {
                let count = findings.errors();
                let noun = if count == 1 { "error" } else { "errors" };
                let message = format!("{count} {noun}, profile {name} is as before\n{findings}");
                if io::stdin().is_terminal() {
                    Output::failure(&Failure::new(FailureKind::Invalid, message.clone()));
                    if Output::confirm("Edit it again?")? {
                        continue;
                    }
                }
                let hint = format!("the draft is kept: {}", draft.path.display());
                return Err(Failure::new(FailureKind::Invalid, message).with_hint(hint).into());
            }
            Err(error) => return Err(refused(error)),
        }
    }
}

/// The user's editor, as a command of the shell: it may have arguments.
fn editor() -> CliResult<String> {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
    if let Some(editor) = set("VISUAL").or_else(|| set("EDITOR")) {
        return Ok(editor);
    }
    if io::stdin().is_terminal() {
        return Ok("vi".to_owned());
    }
    Err(usage("no editor is set").with_hint("set EDITOR, or change values with --set and --unset").into())
}

fn open(editor: &str, path: &Path) -> CliResult {
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    let status =
        status.map_err(|error| Failure::new(FailureKind::Failed, format!("run {editor:?}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let message = format!("the editor {editor:?} ended with {status}, nothing was changed");
    Err(Failure::new(FailureKind::Failed, message)
        .with_hint(format!("the draft is kept: {}", path.display()))
        .into())
}

/// A copy that only this user can read or change.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(context: &Context, name: &Name, text: &str) -> CliResult<Self> {
        // A directory of this user's own: in a shared one, others could lay files in the way.
        let dir = context.dirs.state.join("drafts");
        crate::cli::offline::make_dir(&dir, 0o700)?;
        let path = dir.join(format!("{name}.{}.yaml", std::process::id()));
        let fail = |error: io::Error| failed_at("write", &path, &error);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        file.write_all(text.as_bytes()).map_err(fail)?;
        Ok(Self { path })
    }

    fn is(&self, text: &str) -> bool {
        std::fs::read(&self.path).is_ok_and(|bytes| bytes == text.as_bytes())
    }

    fn remove(&self) -> CliResult {
        std::fs::remove_file(&self.path).map_err(|error| failed_at("remove", &self.path, &error))
    }
}

fn failed_at(operation: &str, path: &Path, error: &io::Error) -> crate::cli::error::CliError {
    let kind = if error.kind() == io::ErrorKind::PermissionDenied {
        FailureKind::Denied
    } else {
        FailureKind::Failed
    };
    Failure::new(kind, format!("{operation} {}: {error}", path.display())).into()
}
