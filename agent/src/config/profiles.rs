//! The profiles of an installation: a directory of `NAME.yaml` files. Activates nothing.
//!
//! Files are read anew each time; one that is malformed is listed as such and hides none of the others.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{Finding, Findings, Severity};
use super::fields::Cursor;
use super::file::{self, ReadError, Source, Trust, WriteError};
use super::host::Host;
use super::paths::Dirs;
use super::predecessor::{self, MigrationNote};
use super::{export, profile};
use crate::model::id::Name;
use crate::model::rule::Profile;

/// Most files listed.
const LIST_MAX: usize = 1_024;
/// Mode of a new profile: no secrets in it.
const FILE_MODE: u32 = 0o644;

/// The profiles below a configuration directory.
#[derive(Clone, Debug)]
pub struct ProfileStore {
    dir: PathBuf,
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

/// How to import.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions {
    /// Replace a profile of the same name.
    pub replace: bool,
    /// Do everything but write.
    pub dry_run: bool,
}

/// What was imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The profile.
    pub profile: Profile,
    /// Its file in the store.
    pub path: PathBuf,
    /// Warnings about it.
    pub findings: Findings,
    /// What became of each key, when the file was in the predecessor's format.
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
        Self { dir: dirs.profiles(), trust: Trust::of_this_process(), host: Host::detect() }
    }

    /// All profiles in the order of their names, invalid ones with what is wrong with them.
    ///
    /// # Errors
    /// When the directory exists and cannot be listed.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for path in self.files()? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let (profile, findings) = self.check(&path, &name);
            entries.push(Entry { name, path, profile, findings });
        }
        Ok(entries)
    }

    /// One profile, and warnings about it.
    ///
    /// # Errors
    /// When there is none of that name, or it has errors.
    pub fn load(&self, name: &Name) -> Result<(Profile, Findings), StoreError> {
        let (profile, findings) = profile::parse(&self.read(name)?, Some(name.as_str()), &self.host);
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
        let (profile, findings) = profile::parse(&source, Some(name.as_str()), &self.host);
        let Some(profile) = profile else { return Err(StoreError::Invalid(findings)) };
        match format {
            Format::Yaml => Ok(source.into_text()),
            Format::Json => {
                export::to_json(&profile).map_err(|source| StoreError::Json { name: name.clone(), source })
            }
        }
    }

    /// Takes a profile from a file anywhere: YAML (kept as it is, with its comments), JSON, or either in the
    /// predecessor's format.
    ///
    /// # Errors
    /// When the file cannot be read or has errors, or a profile of its name exists and was not to be replaced.
    pub fn import(&self, path: &Path, options: ImportOptions) -> Result<Imported, StoreError> {
        let source = file::read::read(path, Trust::Anyone)?;
        let node = file::parse(&source).map_err(|finding| StoreError::Invalid((*finding).into()))?;
        let mut notes = Vec::new();
        let (profile, findings, text) = if predecessor::is_predecessor(&node) {
            let mut findings = Findings::new();
            let (profile, written) =
                predecessor::convert(&Cursor::root(&source, &node), &self.host, &mut findings);
            notes = written;
            let profile = profile.ok_or_else(|| StoreError::Invalid(findings.clone().sorted()))?;
            // What was converted must satisfy the same rules as what was written by hand.
            let converted = Source::new(path.to_owned(), export::to_yaml(&profile));
            let awaited = profile::Siblings::Awaited(&self.dir);
            let stem = Some(profile.name.as_str());
            let (checked, more) = profile::parse_among(&converted, stem, awaited, &self.host);
            findings.append(more);
            (checked, findings, converted.into_text())
        } else {
            let awaited = profile::Siblings::Awaited(&self.dir);
            let (profile, findings) = profile::parse_among(&source, None, awaited, &self.host);
            // YAML's flow style at the top level is JSON, or near it: written anew.
            let is_json = source.text().trim_start().starts_with('{');
            let text = match &profile {
                Some(profile) if is_json => export::to_yaml(profile),
                Some(_) | None => source.into_text(),
            };
            (profile, findings, text)
        };
        let Some(profile) = profile else { return Err(StoreError::Invalid(findings)) };
        let path = self.write(&profile.name, &text, options)?;
        Ok(Imported { profile, path, findings, notes })
    }

    fn write(&self, name: &Name, text: &str, options: ImportOptions) -> Result<PathBuf, StoreError> {
        let path = self.path(name);
        let exists = || StoreError::Exists { name: name.clone(), path: path.clone() };
        if options.dry_run {
            if !options.replace && std::fs::symlink_metadata(&path).is_ok() {
                return Err(exists());
            }
            return Ok(path);
        }
        std::fs::create_dir_all(&self.dir).map_err(|source| StoreError::Directory {
            operation: "create",
            path: self.dir.clone(),
            source,
        })?;
        match file::write::write(&path, text.as_bytes(), FILE_MODE, options.replace) {
            Ok(()) => Ok(path),
            Err(WriteError::Exists(_)) => Err(exists()),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, name: &Name) -> Result<Source, StoreError> {
        file::read::read(&self.path(name), self.trust).map_err(|error| {
            if error.is_not_found() {
                StoreError::NotFound { name: name.clone(), dir: self.dir.clone(), near: self.nearest(name) }
            } else {
                StoreError::Invalid(error.into_finding().into())
            }
        })
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(format!("{name}.yaml"))
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
            Ok(source) => profile::parse(&source, Some(stem), &self.host),
            Err(error) => (None, error.into_finding().into()),
        }
    }

    /// The files that are, or look as if they were meant to be, profiles, in the order of their names.
    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let failed = |source| StoreError::Directory { operation: "list", path: self.dir.clone(), source };
        let entries = match std::fs::read_dir(&self.dir) {
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
                paths.push(self.dir.join(name));
            }
            if paths.len() > LIST_MAX {
                return Err(failed(io::Error::other(format!("more than {LIST_MAX} profiles"))));
            }
        }
        paths.sort();
        Ok(paths)
    }
}
