//! Commands' access to `webhooks.yaml`: listing, and changes under a lock that reach the disk whole or not at
//! all. A file with errors is reported and left as it is, byte for byte.

use std::io;
use std::path::{Path, PathBuf};

use super::edit::{self, Setting, Unfit};
use super::{Look, Reader, parse, sealed};
use crate::config::error::{Finding, Findings, Severity};
use crate::config::file::{ReadError, Source, Trust, WriteError, write};
use crate::config::paths::Dirs;
use crate::model::endpoint::Endpoint;
use crate::model::id::Name;
use crate::sealed::SecretError;

/// First lines of a file that a command makes.
const HEAD: &str = "# Webhook endpoints; docs/configuration.md explains the keys.\n";

/// What to change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new endpoint with these settings.
    Add(Vec<Setting>),
    /// Other settings for one that is there.
    Edit(Vec<Setting>),
    /// Take one out.
    Remove,
}

/// What a change came to.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The endpoint as it is now; when it was removed, as it was.
    pub endpoint: Endpoint,
    /// Whether the file says anything else than before.
    pub differs: bool,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is no such endpoint.
    #[error("no webhook {name} in {path:?}")]
    NotFound {
        /// The name.
        name: Name,
        /// The file.
        path: PathBuf,
        /// An endpoint whose name is like it.
        near: Option<String>,
    },
    /// An endpoint of that name exists.
    #[error("webhook {name} exists already in {path:?}")]
    Exists {
        /// The name.
        name: Name,
        /// The file.
        path: PathBuf,
    },
    /// The file has errors.
    #[error("{0}")]
    Invalid(Findings),
    /// What was to be written is wrong.
    #[error("{}", told(.0))]
    Refused(Findings),
    /// The entry is written in a way that is not understood well enough to be changed.
    #[error("webhook {name} in {path:?} is written in a form that commands cannot change")]
    Unfit {
        /// The name.
        name: Name,
        /// The file.
        path: PathBuf,
    },
    /// The directory cannot be made.
    #[error("cannot create {path:?}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The file cannot be encrypted again.
    #[error(transparent)]
    Sealed(#[from] SecretError),
}

/// Findings about values that no file holds: without places.
fn told(findings: &Findings) -> String {
    let one = |finding: &Finding| {
        let key = finding.key.rsplit_once('.').map_or(finding.key.as_str(), |(_, key)| key);
        let fix = finding.fix.as_ref().map(|fix| format!(" ({fix})")).unwrap_or_default();
        format!("{key}: {}{fix}", finding.message)
    };
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(one).collect::<Vec<_>>().join("\n")
}

/// The `webhooks.yaml` of an installation.
#[derive(Clone, Debug)]
pub struct WebhookFile {
    path: PathBuf,
    dir: PathBuf,
    trust: Trust,
}

impl WebhookFile {
    /// The file of these directories, as this process sees it.
    #[must_use]
    pub fn new(dirs: &Dirs) -> Self {
        Self { path: dirs.webhooks_file(), dir: dirs.config.clone(), trust: Trust::of_this_process() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The endpoints in the order of the file, whatever became of the files of their secrets. None at all when
    /// there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or has errors.
    pub fn list(&self) -> Result<Vec<Endpoint>, WebhookError> {
        self.endpoints(&self.read(&self.path)?)
    }

    /// Changes the file, or with `dry_run` only finds out what would become of it.
    ///
    /// # Errors
    /// When the file has errors already or would have afterwards, and when it cannot be written. Nothing has
    /// changed then.
    pub fn change(&self, name: &Name, change: &Change, dry_run: bool) -> Result<Changed, WebhookError> {
        if dry_run {
            return self.changed(&self.read(&self.path)?, name, change).map(|(_, changed)| changed);
        }
        std::fs::create_dir_all(&self.dir)
            .map_err(|source| WebhookError::Directory { path: self.dir.clone(), source })?;
        let mut outcome = None;
        let written = write::update(&self.path, |path| {
            let (text, changed) = self.changed(&self.read(path)?, name, change)?;
            let differs = changed.differs;
            outcome = Some(changed);
            if !differs {
                return Err(Halt::Same);
            }
            sealed::text_of(&self.dir, path, text).map_err(|error| Halt::Error(error.into()))
        });
        match (written, outcome) {
            (Ok(()) | Err(Halt::Same), Some(changed)) => Ok(changed),
            (Err(Halt::Error(error)), _) => Err(error),
            (Ok(()) | Err(Halt::Same), None) => {
                Err(WebhookError::Unfit { name: name.clone(), path: self.path.clone() })
            }
        }
    }

    /// The text after a change, and what the change came to.
    fn changed(
        &self,
        source: &Source,
        name: &Name,
        change: &Change,
    ) -> Result<(String, Changed), WebhookError> {
        let present = self.endpoints(source)?;
        let found = present.iter().find(|endpoint| endpoint.name == *name);
        let unfit = |Unfit| WebhookError::Unfit { name: name.clone(), path: self.path.clone() };
        let text = match (change, found) {
            (Change::Add(_), Some(_)) => {
                return Err(WebhookError::Exists { name: name.clone(), path: self.path.clone() });
            }
            (Change::Add(settings), None) => edit::append(source, name, settings).map_err(unfit)?,
            (Change::Edit(_) | Change::Remove, None) => return Err(self.not_found(name, &present)),
            (Change::Edit(settings), Some(_)) => edit::change(source, name, settings).map_err(unfit)?,
            (Change::Remove, Some(endpoint)) => {
                let changed = Changed { endpoint: endpoint.clone(), differs: true };
                return Ok((edit::remove(source, name).map_err(unfit)?, changed));
            }
        };
        let mut findings = Findings::new();
        let reader = Reader { dir: &self.dir, trust: self.trust, look: Look::At(name) };
        let fresh = Source::new(self.path.clone(), text.clone());
        let endpoint = parse(&fresh, reader, &mut findings)
            .into_iter()
            .map(|(endpoint, _)| endpoint)
            .find(|endpoint| endpoint.name == *name);
        match endpoint {
            Some(endpoint) if !findings.has_errors() => {
                Ok((text, Changed { endpoint, differs: fresh.text() != source.text() }))
            }
            Some(_) | None => Err(WebhookError::Refused(findings.sorted())),
        }
    }

    fn endpoints(&self, source: &Source) -> Result<Vec<Endpoint>, WebhookError> {
        let mut findings = Findings::new();
        let reader = Reader { dir: &self.dir, trust: self.trust, look: Look::Nowhere };
        let endpoints = parse(source, reader, &mut findings);
        if findings.has_errors() {
            return Err(WebhookError::Invalid(findings.sorted()));
        }
        Ok(endpoints.into_iter().map(|(endpoint, _)| endpoint).collect())
    }

    /// That there is no endpoint of this name among those that there are.
    #[must_use]
    pub fn not_found(&self, name: &Name, present: &[Endpoint]) -> WebhookError {
        let near = present
            .iter()
            .map(|endpoint| endpoint.name.as_str())
            .min_by_key(|other| strsim::damerau_levenshtein(other, name.as_str()))
            .filter(|other| strsim::damerau_levenshtein(other, name.as_str()) <= 2);
        WebhookError::NotFound { name: name.clone(), path: self.path.clone(), near: near.map(str::to_owned) }
    }

    fn read(&self, path: &Path) -> Result<Source, WebhookError> {
        match sealed::read(&self.dir, path, self.trust) {
            Ok(source) => Ok(source),
            Err(error) if error.is_not_found() => Ok(Source::new(path.to_owned(), HEAD.to_owned())),
            Err(ReadError::Refused(finding)) => Err(WebhookError::Invalid((*finding).into())),
            Err(error @ ReadError::Io { .. }) => Err(error.into()),
        }
    }
}

/// Why nothing is written.
enum Halt {
    /// The file says so already.
    Same,
    Error(WebhookError),
}

impl From<WebhookError> for Halt {
    fn from(error: WebhookError) -> Self {
        Self::Error(error)
    }
}

impl From<WriteError> for Halt {
    fn from(error: WriteError) -> Self {
        Self::Error(error.into())
    }
}
