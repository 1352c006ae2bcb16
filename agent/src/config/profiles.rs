//! The profiles of an installation: directories of `NAME.yaml` files, of which the strongest that has a name decides,
//! and only the first is written. Activates nothing.
//!
//! Files are read anew each time; one that is malformed is listed as such and hides none of the others.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{Finding, Findings, Severity};
use super::fields::Cursor;
use super::file::{self, Node, ReadError, Source, Trust, Value, WriteError};
use super::host::Host;
use super::paths::Dirs;
use super::predecessor::{self, MigrationNote};
use super::revise::{ReviseError, Revision, revise};
use super::{export, extends, profile};
use crate::model::id::Name;
use crate::model::rule::Profile;

/// Most files listed.
const LIST_MAX: usize = 1_024;
/// Mode of a new profile: no secrets in it.
const FILE_MODE: u32 = 0o644;

/// The profiles of a configuration and those shared by everybody.
#[derive(Clone, Debug)]
pub struct ProfileStore {
    /// That of the configuration.
    dir: PathBuf,
    /// All of them, strongest first.
    dirs: Vec<PathBuf>,
    trust: Trust,
    host: Host,
}

/// One file of the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name of the file without its ending; a valid name unless there are errors.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The profile, if there are no errors.
    pub profile: Option<Profile>,
    /// What is wrong with it.
    pub findings: Findings,
    /// Whether it is of a directory that commands only read.
    pub is_shared: bool,
    /// Files of the same name in weaker directories, which therefore do not count.
    pub hides: Vec<PathBuf>,
}

/// Text formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// YAML.
    #[default]
    Yaml,
    /// JSON.
    Json,
}

/// A text that may become a profile of the store.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The profile, its bases merged in.
    pub profile: Profile,
    /// Its text as it would be written.
    pub text: String,
    /// Warnings about it.
    pub findings: Findings,
    /// What became of each key, when the text was in the predecessor's format.
    pub notes: Vec<MigrationNote>,
}

/// Why the store did not do something. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such profile.
    #[error("no profile {name} in {dir:?}")]
    NotFound {
        /// The name.
        name: Name,
        /// The directory.
        dir: PathBuf,
        /// A profile whose name is like it.
        near: Option<String>,
    },
    /// The profile is in a directory that commands only read.
    #[error("profile {name} is shared by everybody: {path:?}")]
    Shared {
        /// The name.
        name: Name,
        /// Its file.
        path: PathBuf,
    },
    /// The profile has errors.
    #[error("{0}")]
    Invalid(Findings),
    /// A profile of that name exists.
    #[error("profile {name} exists already: {path:?}")]
    Exists {
        /// The name.
        name: Name,
        /// Its file.
        path: PathBuf,
    },
    /// The directory cannot be listed or made.
    #[error("cannot {operation} {path:?}: {source}")]
    Directory {
        /// What was tried.
        operation: &'static str,
        /// The directory.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A named file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A value of a text cannot be changed.
    #[error(transparent)]
    Revise(#[from] ReviseError),
    /// The JSON serialiser failed.
    #[error("cannot write profile {name} as JSON: {source}")]
    Json {
        /// The profile.
        name: Name,
        /// The error.
        #[source]
        source: serde_json::Error,
    },
}

impl ProfileStore {
    /// The store of these directories, as this process on this machine sees it.
    #[must_use]
    pub fn new(dirs: &Dirs) -> Self {
        Self {
            dir: dirs.profiles(),
            dirs: dirs.all_profiles(),
            trust: Trust::of_this_process(),
            host: Host::detect(),
        }
    }

    /// All profiles in the order of their names, invalid ones with what is wrong with them.
    ///
    /// # Errors
    /// When the directory exists and cannot be listed.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        for path in self.files()? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_shared = !path.starts_with(&self.dir);
            let is_hidden = |entry: &&mut Entry| is_shared && entry.path.file_name() == path.file_name();
            if let Some(stronger) = entries.iter_mut().find(is_hidden) {
                stronger.hides.push(path);
                continue;
            }
            let (profile, findings) = self.check(&path, &name);
            entries.push(Entry { name, path, profile, findings, is_shared, hides: Vec::new() });
        }
        entries.sort_by(|one, other| one.path.file_name().cmp(&other.path.file_name()));
        Ok(entries)
    }

    /// One profile, and warnings about it.
    ///
    /// # Errors
    /// When there is none of that name, or it has errors.
    pub fn load(&self, name: &Name) -> Result<(Profile, Findings), StoreError> {
        let (profile, findings) = self.parse(&self.read(name)?, name.as_str());
        match profile {
            Some(profile) => Ok((profile, findings)),
            None => Err(StoreError::Invalid(findings)),
        }
    }

    /// A profile as text; YAML is the file's own, with its comments.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn export(&self, name: &Name, format: Format) -> Result<String, StoreError> {
        let source = self.read(name)?;
        let (profile, findings) = self.parse(&source, name.as_str());
        let Some(profile) = profile else { return Err(StoreError::Invalid(findings)) };
        match format {
            Format::Yaml => Ok(source.into_text()),
            Format::Json => {
                export::to_json(&profile).map_err(|source| StoreError::Json { name: name.clone(), source })
            }
        }
    }

    /// The text of a profile's file as it is, valid or not.
    ///
    /// # Errors
    /// When there is none of that name, or its file cannot be read.
    pub fn text(&self, name: &Name) -> Result<Source, StoreError> {
        self.read(name)
    }

    /// As [`Self::text`], of a profile that may be changed.
    ///
    /// # Errors
    /// As [`Self::text`], and when it is shared by everybody.
    pub fn own_text(&self, name: &Name) -> Result<Source, StoreError> {
        let source = self.read(name)?;
        if source.path().starts_with(&self.dir) {
            return Ok(source);
        }
        Err(StoreError::Shared { name: name.clone(), path: source.path().to_owned() })
    }

    /// Makes a profile of a text from anywhere: YAML (kept as it is, with its comments), JSON, or either in the
    /// predecessor's format. `name` takes the place of the one in the text.
    ///
    /// # Errors
    /// When the text has errors.
    pub fn draft(&self, source: Source, name: Option<&Name>) -> Result<Draft, StoreError> {
        let node = file::parse(&source).map_err(|finding| StoreError::Invalid((*finding).into()))?;
        if !predecessor::is_predecessor(&node) {
            return self.checked(source, name, Findings::new(), Vec::new());
        }
        let mut findings = Findings::new();
        let (profile, notes) = predecessor::convert(&Cursor::root(&source, &node), &self.host, &mut findings);
        let profile = profile.ok_or_else(|| StoreError::Invalid(findings.clone().sorted()))?;
        // What was converted must satisfy the same rules as what was written by hand.
        let converted = Source::new(source.path().to_owned(), export::to_yaml(&profile));
        self.checked(converted, name, findings, notes)
    }

    fn checked(
        &self,
        source: Source,
        name: Option<&Name>,
        mut findings: Findings,
        notes: Vec<MigrationNote>,
    ) -> Result<Draft, StoreError> {
        let path = source.path().to_owned();
        let source = match name {
            Some(name) => Source::new(path, revise(&source, &[Revision::text("name", name.as_str())])?),
            None => source,
        };
        let awaited = profile::Siblings::Awaited(&self.dirs);
        let (profile, more) = profile::parse_among(&source, None, awaited, &self.host);
        findings.append(more);
        let Some(profile) = profile else { return Err(StoreError::Invalid(findings.sorted())) };
        // YAML's flow style at the top level is JSON, or near it: written anew.
        let is_json = source.text().trim_start().starts_with('{');
        let text = if is_json { export::to_yaml(&profile) } else { source.into_text() };
        Ok(Draft { profile, text, findings, notes })
    }

    /// Checks a text that is to be the profile of this name, and stands in a file of any other.
    ///
    /// # Errors
    /// When it has errors.
    pub fn check_as(&self, source: &Source, name: &Name) -> Result<(Profile, Findings), StoreError> {
        let (profile, findings) = self.parse(source, name.as_str());
        profile.map(|profile| (profile, findings.clone())).ok_or(StoreError::Invalid(findings))
    }

    /// Replaces the text of a profile by another, if it still is what it was; no text is no profile. Checks neither.
    ///
    /// # Errors
    /// When it is something else by now, or cannot be written; then nothing has changed.
    pub fn swap(
        &self,
        name: &Name,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<PathBuf, StoreError> {
        let path = self.path(name);
        std::fs::create_dir_all(&self.dir).map_err(|source| StoreError::Directory {
            operation: "create",
            path: self.dir.clone(),
            source,
        })?;
        match file::write::swap(&path, before.map(str::as_bytes), after.map(str::as_bytes), FILE_MODE) {
            Ok(()) => Ok(path),
            Err(WriteError::Exists(_)) => Err(StoreError::Exists { name: name.clone(), path }),
            Err(error) => Err(error.into()),
        }
    }

    /// The file that commands write for a profile, whether it is there or not.
    #[must_use]
    pub fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(format!("{name}.yaml"))
    }

    /// The profiles that extend this one or name it in their schedules, directly. Those with errors are not asked.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn dependents(&self, name: &Name) -> Result<Vec<Name>, StoreError> {
        let mut found = Vec::new();
        for path in self.files()? {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let Some(other) = stem.and_then(|stem| stem.parse::<Name>().ok()).filter(|other| other != name)
            else {
                continue;
            };
            let Ok(source) = file::read::read(&path, self.trust) else { continue };
            let Ok(node) = file::parse(&source) else { continue };
            if extends::named(&node).as_ref() == Some(name) || schedules(&node, name) {
                found.push(other);
            }
        }
        Ok(found)
    }

    fn parse(&self, source: &Source, stem: &str) -> (Option<Profile>, Findings) {
        profile::parse_among(source, Some(stem), profile::Siblings::In(&self.dirs), &self.host)
    }

    fn read(&self, name: &Name) -> Result<Source, StoreError> {
        let path = profile::Siblings::In(&self.dirs).file(name).unwrap_or_else(|| self.path(name));
        file::read::read(&path, self.trust).map_err(|error| {
            if error.is_not_found() {
                StoreError::NotFound { name: name.clone(), dir: self.dir.clone(), near: self.nearest(name) }
            } else {
                StoreError::Invalid(error.into_finding().into())
            }
        })
    }

    fn nearest(&self, name: &Name) -> Option<String> {
        let files = self.files().ok()?;
        let stems = files.iter().filter_map(|path| path.file_stem()?.to_str());
        let distance = |stem: &&str| strsim::damerau_levenshtein(stem, name.as_str());
        stems.min_by_key(distance).filter(|stem| distance(stem) <= 2).map(str::to_owned)
    }

    fn check(&self, path: &Path, stem: &str) -> (Option<Profile>, Findings) {
        let refuse = |message: String, fix: &str| {
            let finding = Finding::about_file(Severity::Error, path, message, Some(fix.to_owned()));
            (None, Findings::from(finding))
        };
        if path.extension().is_none_or(|ending| ending != "yaml") {
            return refuse("profiles are files named NAME.yaml".to_owned(), "rename or import it");
        }
        if let Err(error) = stem.parse::<Name>() {
            return refuse(error.to_string(), "rename the file");
        }
        match file::read::read(path, self.trust) {
            Ok(source) => self.parse(&source, stem),
            Err(error) => (None, error.into_finding().into()),
        }
    }

    /// The files that are, or look as if they were meant to be, profiles: of the strongest directory first, and in it in
    /// the order of their names.
    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut paths = Vec::new();
        for dir in &self.dirs {
            paths.append(&mut files_of(dir)?);
        }
        Ok(paths)
    }
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |source| StoreError::Directory { operation: "list", path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let bytes = name.as_encoded_bytes();
        let looks_meant = [&b".yaml"[..], b".yml", b".json"].iter().any(|end| bytes.ends_with(end));
        if !bytes.starts_with(b".") && looks_meant {
            paths.push(dir.join(name));
        }
        if paths.len() > LIST_MAX {
            return Err(failed(io::Error::other(format!("more than {LIST_MAX} profiles"))));
        }
    }
    paths.sort();
    Ok(paths)
}

fn schedules(node: &Node, name: &Name) -> bool {
    let Some(Value::List(turns)) = node.get("schedule").map(|list| &list.value) else { return false };
    turns.iter().any(|turn| turn.get("profile").and_then(Node::text) == Some(name.as_str()))
}
