//! `webhooks.yaml.age`: the endpoints, encrypted with age. Opened in memory only, and sealed again for whoever could open
//! it, so that neither a copy of the directory nor a backup of it tells a URL.
//!
//! The identity is the systemd credential [`IDENTITY`], else the file of that name in the configuration directory, which
//! may be a link to a place that is not always there.

use std::path::{Path, PathBuf};

use crate::config::error::{Finding, Severity};
use crate::config::file::read::{self, MAX_BYTES};
use crate::config::file::{ReadError, Source, Trust};
use crate::sealed::{self, SecretError};

/// Name of the identity.
const IDENTITY: &str = "webhooks.identity";

/// Whether this is the encrypted form.
pub(super) fn is_sealed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "age")
}

/// Reads the file, whichever form it has. `dir` is the configuration directory.
pub(super) fn read(dir: &Path, path: &Path, trust: Trust) -> Result<Source, ReadError> {
    if !is_sealed(path) {
        return read::read(path, trust);
    }
    let refused = |message: String, fix: &str| {
        let finding = Finding::about_file(Severity::Error, path, message, Some(fix.to_owned()));
        ReadError::Refused(Box::new(finding))
    };
    let plain = path.with_extension("");
    if plain.exists() {
        let message = format!("there is {} as well, and nobody can tell which counts", plain.display());
        return Err(refused(message, "remove one of them"));
    }
    let encrypted = read::read_bytes(path, trust)?;
    let identity = identity(dir);
    let opened = sealed::open_sealed(path, &encrypted, &identity, MAX_BYTES).map_err(|error| {
        let fix =
            format!("put the identity into {}, mode 0600, or pass it as credential", identity.display());
        refused(crate::model::chain::chain(&error), &fix)
    })?;
    match String::from_utf8(opened) {
        Ok(text) if !text.contains('\0') => Ok(Source::new(path.to_owned(), text)),
        Ok(_) | Err(_) => Err(refused("what is in it is no text".to_owned(), "encrypt the right file")),
    }
}

/// What is written for a text, in the form that the file has.
pub(super) fn text_of(dir: &Path, path: &Path, text: String) -> Result<String, SecretError> {
    if is_sealed(path) { sealed::seal(&text, path, &identity(dir)) } else { Ok(text) }
}

fn identity(dir: &Path) -> PathBuf {
    let passed = sealed::credential(IDENTITY).ok().filter(|path| path.exists());
    passed.unwrap_or_else(|| dir.join(IDENTITY))
}
