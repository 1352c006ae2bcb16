//! Making a signing key: written once to a file of its own, never printed.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::control::failure::{Failure, FailureKind};
use crate::model::id::Name;

/// Standard Webhooks allows 24 to 64 bytes.
const BYTES: usize = 32;
/// Keys of one endpoint that may lie beside each other.
const MOST: u32 = 1_000;

/// A file that was made, and goes again unless it is kept: what it was for may be refused.
pub(super) struct Made {
    path: PathBuf,
    keep: bool,
}

impl Made {
    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// It is in use now.
    pub(super) fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.keep && std::fs::remove_file(&self.path).is_err() {
            tracing::warn!(path = %self.path.display(), "a key that is not used is left behind");
        }
    }
}

/// Makes a key for an endpoint.
///
/// # Errors
/// When it cannot be written.
pub(super) fn make(context: &Context, name: &Name) -> CliResult<Made> {
    let dir = context.dirs.config.join("secrets");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| at("create", &dir, &error))?;
    let text = format!("whsec_{}\n", STANDARD.encode(random()?));
    for number in 1..MOST {
        let file = if number == 1 { format!("{name}.key") } else { format!("{name}-{number}.key") };
        let path = dir.join(file);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                let made = Made { path: path.clone(), keep: false };
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                // The entry in the directory has to survive a power cut as well: the endpoint will name it.
                let written = written.and_then(|()| std::fs::File::open(&dir)?.sync_all());
                written.map_err(|error| at("write", &path, &error))?;
                return Ok(made);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at("create", &path, &error).into()),
        }
    }
    let message = format!("{} keys of {name} are in {}", MOST - 1, dir.display());
    Err(Failure::new(FailureKind::Conflict, message).into())
}

/// From the kernel's generator, which never runs dry (random(4)).
fn random() -> CliResult<[u8; BYTES]> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; BYTES];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| at("read", path, &error))?;
    Ok(bytes)
}

fn at(operation: &str, path: &Path, error: &std::io::Error) -> Failure {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let kind = if denied { FailureKind::Denied } else { FailureKind::Failed };
    Failure::new(kind, format!("cannot {operation} {path:?}: {error}"))
}
