//! Making a backup: everything is first copied into a private directory beside the archives, with its digest, so that
//! what changes meanwhile does not matter; then it is packed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use sha2::{Digest as _, Sha256};

use super::error::{BackupError, io};
use super::inside::{Database, Inside, Place};
use super::manifest::{FILES_MAX, FORMAT, FileRecord, LeftOut, Manifest, hex};
use super::shelf::{Entry, Shelf};
use super::{Progress, crypt, room, secrets, write};
use crate::config::Dirs;
use crate::config::file::read::MAX_BYTES;
use crate::model::id::Name;

/// What is to be backed up.
#[derive(Clone, Debug)]
pub struct Order {
    /// The name of the backup.
    pub name: Name,
    /// The directory of the archive.
    pub directory: PathBuf,
    /// To whom it is encrypted, `age1…`; nobody: it is not, and holds no secrets.
    pub recipients: Vec<String>,
    /// Now.
    pub at: jiff::Timestamp,
    /// The machine.
    pub host: String,
}

/// A backup in the making. The databases are the caller's to copy, because it knows who has them open. Dropping it
/// removes what was copied.
#[derive(Debug)]
pub struct Draft {
    dirs: Dirs,
    order: Order,
    recipients: Vec<age::x25519::Recipient>,
    staging: PathBuf,
    /// Held while it is made.
    _lock: File,
}

impl Draft {
    /// Begins: checks all that can be checked, and takes the directory's lock.
    ///
    /// # Errors
    /// When such a backup exists, a recipient is none, or the directory cannot be used or has no room.
    pub fn begin(dirs: &Dirs, order: Order) -> Result<Self, BackupError> {
        let recipients = crypt::recipients(order.recipients.iter().map(String::as_str))?;
        let dir = &order.directory;
        let shelf = Shelf::new(dir.clone());
        if shelf.list()?.iter().any(|entry| entry.name == order.name) {
            return Err(BackupError::Exists(order.name.to_string()));
        }
        private_dir(dir)?;
        let lock = File::open(dir).map_err(io("open", dir))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(BackupError::Busy(dir.clone())),
            Err(errno) => return Err(io("lock", dir)(errno.into())),
        }
        let staging = dir.join(".draft");
        // Of whoever was killed while it made one: the lock says that nobody does now.
        remove(&staging)?;
        room::check(dirs, dir)?;
        private_dir(&staging)?;
        private_dir(&staging.join(Place::State.as_str()))?;
        Ok(Self { dirs: dirs.clone(), order, recipients, staging, _lock: lock })
    }

    /// Where the copy of a database is to be. There is no file yet; one that stays absent is not in the backup.
    #[must_use]
    pub fn database(&self, database: Database) -> PathBuf {
        self.staged(&database.inside())
    }

    /// Copies the other files and packs everything.
    ///
    /// # Errors
    /// When a file cannot be read or the archive not be written. Then there is none.
    pub fn finish(self, progress: Progress<'_>) -> Result<(Entry, Manifest), BackupError> {
        let encrypted = !self.recipients.is_empty();
        let mut gathered = Gathered { draft: &self, files: Vec::new(), left_out: Vec::new() };
        gathered.configuration(encrypted)?;
        gathered.databases()?;
        gathered.audit()?;
        let Gathered { files, left_out, .. } = gathered;
        if files.len() > FILES_MAX {
            let why = format!("{} files are more than {FILES_MAX}", files.len());
            return Err(BackupError::Unfit { path: self.dirs.config.clone(), why });
        }
        let manifest = Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.order.name.clone(),
            created: self.order.at,
            host: self.order.host.clone(),
            encrypted,
            files,
            left_out,
        };
        let shelf = Shelf::new(self.order.directory.clone());
        let archive = shelf.archive(&manifest.name, encrypted);
        let temporary = self.staging.join("archive");
        write::write(&archive, &temporary, &manifest, &self.recipients, &|path| self.staged(path), progress)?;
        Ok((shelf.find(&manifest.name)?, manifest))
    }

    fn staged(&self, path: &Inside) -> PathBuf {
        self.staging.join(path.to_string())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.staging) {
            tracing::warn!("left behind, and removed with the next backup: {error}");
        }
    }
}

/// Makes a directory for root's eyes only.
pub(super) fn private_dir(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create", path))
}

/// Removes a directory and all below it, if it exists.
pub(super) fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The digest and size of a file.
pub(super) fn digest(path: &Path) -> Result<(String, u64), BackupError> {
    copy(open(path)?, path, None)
}

struct Gathered<'a> {
    draft: &'a Draft,
    files: Vec<FileRecord>,
    left_out: Vec<LeftOut>,
}

impl Gathered<'_> {
    fn configuration(&mut self, encrypted: bool) -> Result<(), BackupError> {
        let config = &self.draft.dirs.config;
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for name in ["config.yaml", "webhooks.yaml", "webhooks.yaml.age"] {
            found.push((name.to_owned(), config.join(name)));
        }
        for dir in ["config.d", "profiles"] {
            for name in names(&config.join(dir))? {
                let path = config.join(dir).join(&name);
                let name = name.into_string().map_err(|_name| BackupError::Unfit {
                    path: path.clone(),
                    why: "its name is not UTF-8; rename it".to_owned(),
                })?;
                found.push((format!("{dir}/{name}"), path));
            }
        }
        for (rest, path) in found {
            if !path.is_file() {
                continue;
            }
            match secrets::objection(&rest, &path) {
                Some(why) if !encrypted => self.leave_out(format!("config/{rest}"), why),
                Some(_) | None => self.add(Place::Config, &rest, &path)?,
            }
        }
        for path in secrets::files(&self.draft.dirs) {
            let rest = path.strip_prefix(config).ok().and_then(Path::to_str).map(ToOwned::to_owned);
            let held = rest.and_then(|rest| Inside::new(Place::Config, &rest).ok());
            match held {
                Some(inside) if self.files.iter().any(|file| file.path == inside) => {}
                Some(inside) if encrypted => self.add(Place::Config, inside.rest(), &path)?,
                Some(inside) => self.leave_out(inside.to_string(), "it holds a secret"),
                None => self
                    .leave_out(path.display().to_string(), "it holds a secret outside of the configuration"),
            }
        }
        Ok(())
    }

    fn databases(&mut self) -> Result<(), BackupError> {
        for database in Database::ALL {
            let path = self.draft.database(database);
            if path.exists() {
                let (sha256, size) = digest(&path)?;
                self.files.push(FileRecord { path: database.inside(), size, sha256, mode: 0o600 });
            }
        }
        Ok(())
    }

    fn audit(&mut self) -> Result<(), BackupError> {
        let log = &self.draft.dirs.log;
        for name in names(log)? {
            let Some(name) = name.to_str().filter(|name| name.starts_with("audit")) else { continue };
            let path = log.join(name);
            // Directories and links are nobody's of ours.
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
                self.add(Place::Log, name, &path)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, place: Place, rest: &str, path: &Path) -> Result<(), BackupError> {
        let unfit = |why: String| BackupError::Unfit { path: path.to_owned(), why };
        let inside = Inside::new(place, rest).map_err(unfit)?;
        let input = open(path)?;
        let meta = input.metadata().map_err(io("look at", path))?;
        if place == Place::Config && meta.len() > MAX_BYTES {
            return Err(unfit(format!("{} bytes are more than {MAX_BYTES}", meta.len())));
        }
        let target = self.draft.staged(&inside);
        if let Some(parent) = target.parent() {
            private_dir(parent)?;
        }
        let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target);
        let mut out = out.map_err(io("create", &target))?;
        // What is appended meanwhile belongs to the next backup.
        let (sha256, size) = copy(input, path, Some((&mut out, &target)))?;
        self.files.push(FileRecord { path: inside, size, sha256, mode: meta.mode() & 0o777 });
        Ok(())
    }

    fn leave_out(&mut self, path: String, why: &str) {
        self.left_out.push(LeftOut { path, why: why.to_owned() });
    }
}

/// The names in a directory, sorted, hidden ones left out; none when it does not exist.
pub(super) fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, BackupError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io("list", dir))?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn open(path: &Path) -> Result<File, BackupError> {
    // NONBLOCK: opening a FIFO must not wait for a writer.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io("open", path))?;
    if file.metadata().map_err(io("look at", path))?.is_file() {
        return Ok(file);
    }
    Err(BackupError::Unfit { path: path.to_owned(), why: "it is no regular file".to_owned() })
}

/// Reads a file as far as it goes now, and returns its digest and size.
fn copy(input: File, path: &Path, mut out: Option<(&mut File, &Path)>) -> Result<(String, u64), BackupError> {
    let mut input = {
        let size = input.metadata().map_err(io("look at", path))?.len();
        input.take(size)
    };
    let (mut digest, mut size) = (Sha256::new(), 0);
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = input.read(&mut chunk).map_err(io("read", path))?;
        if read == 0 {
            return Ok((hex(&digest.finalize()), size));
        }
        let bytes = &chunk[..read];
        digest.update(bytes);
        if let Some((out, target)) = out.as_mut() {
            out.write_all(bytes).map_err(io("write", target))?;
        }
        size += read as u64;
    }
}
