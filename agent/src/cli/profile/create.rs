//! `profile create`, `clone` and `import`: profiles that come from somewhere else.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::change::{Change, warned};
use super::refused;
use super::running::Running;
use crate::cli::error::{CliResult, failed, usage};
use crate::cli::globals::Context;
use crate::config::ProfileStore;
use crate::config::file::read::MAX_BYTES;
use crate::config::file::{self, Source, Trust};
use crate::config::profiles::StoreError;
use crate::config::templates::{self, TEMPLATES};
use crate::model::id::Name;
use crate::store::history::Act;

/// Arguments of `profile create`.
#[derive(Args, Debug)]
#[command(
    after_help = "Without any of these, a profile is made that does nothing yet. A profile that exists is \
never overwritten: see profile edit, or profile import --replace."
)]
pub(super) struct Create {
    /// Its name, whatever the text says
    name: Name,
    /// Take the text from a file in YAML, JSON or the predecessor's format; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["template", "from_running"])]
    from_file: Option<PathBuf>,
    /// Take a shipped example: batch, production-web or workstation
    #[arg(long, value_name = "EXAMPLE", conflicts_with = "from_running")]
    template: Option<String>,
    #[command(flatten)]
    running: Running,
}

/// Arguments of `profile clone`.
#[derive(Args, Debug)]
pub(super) struct CloneOf {
    /// The profile to copy, with its comments
    source: Name,
    /// Name of the copy
    target: Name,
}

/// Arguments of `profile import`.
#[derive(Args, Debug)]
pub(super) struct Import {
    /// The file; - is stdin
    file: PathBuf,
    /// Replace a profile of the same name
    #[arg(long)]
    replace: bool,
    /// Name to give it, in place of the one in the file
    #[arg(long = "as", value_name = "NAME")]
    name: Option<Name>,
}

impl Create {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Self { name, from_file, template, running } = self;
        let store = ProfileStore::new(&context.dirs);
        // Before anything is asked of the machine.
        let path = store.path(&name);
        if path.symlink_metadata().is_ok() {
            return Err(refused(StoreError::Exists { name, path }));
        }
        let source = match (from_file, template) {
            (Some(file), _) => read(&file)?,
            (None, Some(template)) => shipped(&template)?,
            (None, None) if running.is_asked() => Source::new(path, running.profile(context, &name)?),
            (None, None) => Source::new(path, templates::empty(&name)),
        };
        let draft = warned(context, store.draft(source, Some(&name)).map_err(refused)?);
        Change::of_draft(Act::Create, draft, None).apply(context, &store)
    }
}

impl CloneOf {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let store = ProfileStore::new(&context.dirs);
        let source = store.text(&self.source).map_err(refused)?;
        let draft = warned(context, store.draft(source, Some(&self.target)).map_err(refused)?);
        Change::of_draft(Act::Clone, draft, None).apply(context, &store)
    }
}

impl Import {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let store = ProfileStore::new(&context.dirs);
        let source = read(&self.file)?;
        let draft = warned(context, store.draft(source, self.name.as_ref()).map_err(refused)?);
        let before = if self.replace { existing(&store, &draft.profile.name)? } else { None };
        Change::of_draft(Act::Import, draft, before).apply(context, &store)
    }
}

/// The text of a profile that may not be there.
fn existing(store: &ProfileStore, name: &Name) -> CliResult<Option<String>> {
    match store.own_text(name) {
        Ok(source) => Ok(Some(source.into_text())),
        // One of one's own takes the place of a shared one.
        Err(StoreError::NotFound { .. } | StoreError::Shared { .. }) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

fn read(path: &Path) -> CliResult<Source> {
    if path != Path::new("-") {
        return file::read::read(path, Trust::Anyone).map_err(|error| refused(error.into()));
    }
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(usage(format!("stdin has more than {MAX_BYTES} bytes")).into());
    }
    let text = String::from_utf8(bytes).map_err(|error| usage(format!("stdin is no UTF-8 text: {error}")))?;
    Ok(Source::new("stdin".into(), text))
}

fn shipped(wanted: &str) -> CliResult<Source> {
    let Some(template) = TEMPLATES.iter().find(|template| template.name == wanted) else {
        let names: Vec<&str> = TEMPLATES.iter().map(|template| template.name).collect();
        let failure = usage(format!("no example is called {wanted:?}"));
        return Err(failure.with_hint(format!("there are {}", names.join(", "))).into());
    };
    Ok(Source::new(format!("example {}", template.name).into(), template.text.to_owned()))
}
