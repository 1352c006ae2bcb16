//! Files that hold secrets, and files that are encrypted with age: read where nobody else can have seen or written them,
//! bounded, and never with anything of a secret in an error. Knows no configuration.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Largest file that is read, in bytes; a key has hundreds.
const FILE_MAX: u64 = 64 * 1_024;
/// Where systemd puts credentials (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Why a key cannot be used. Never with anything of the key in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The file as it is must not be used.
    #[error("{} is not used: {why}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is no key.
    #[error(
        "{} must hold whsec_ and base64 of 24 to 64 bytes, or whsk_ and base64 of an Ed25519 key",
        .0.display()
    )]
    NoKey(PathBuf),
    /// systemd passed no credentials.
    #[error("credential {0:?}: ${CREDENTIALS} is not set, so systemd has passed none")]
    NoCredentials(String),
    /// Decrypting failed.
    #[error("use {} with {}: {why}", file.display(), identity.display())]
    Age {
        /// The encrypted file.
        file: PathBuf,
        /// The identity.
        identity: PathBuf,
        /// Why.
        why: String,
    },
    /// The key cannot sign.
    #[error("the key cannot sign")]
    Sign,
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretError {
    let path = path.to_owned();
    move |source| SecretError::Io { operation, path, source }
}

/// Where systemd has put a credential.
///
/// # Errors
/// When it has passed none, or the name is no file name.
pub(crate) fn credential(name: &str) -> Result<PathBuf, SecretError> {
    let missing = || SecretError::NoCredentials(name.to_owned());
    let path = PathBuf::from(std::env::var_os(CREDENTIALS).ok_or_else(missing)?).join(name);
    if name.contains('/') || matches!(name, "" | "." | "..") {
        return Err(SecretError::Refused { path, why: "a credential's name is a file name".to_owned() });
    }
    Ok(path)
}

/// Reads a file that nobody but root and this user may have touched or seen.
///
/// # Errors
/// When it cannot be read, or somebody else may have.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, SecretError> {
    let file = open(path)?;
    // What was opened is checked, so that nobody can swap the file in between.
    let found = file.metadata().map_err(failed("look at", path))?;
    let euid = rustix::process::geteuid().as_raw();
    let why = if found.uid() != 0 && found.uid() != euid {
        Some(format!("it belongs to uid {}; chown root it", found.uid()))
    } else if found.mode() & 0o077 != 0 {
        Some(format!("others may access it by mode {:04o}; chmod 0600 it", found.mode() & 0o7777))
    } else {
        None
    };
    match why {
        Some(why) => Err(SecretError::Refused { path: path.to_owned(), why }),
        None => read_all(file, path),
    }
}

fn open(path: &Path) -> Result<File, SecretError> {
    // NONBLOCK: opening a FIFO must not wait for a writer.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed("open", path))?;
    if file.metadata().map_err(failed("look at", path))?.is_file() {
        return Ok(file);
    }
    Err(SecretError::Refused { path: path.to_owned(), why: "it is no regular file".to_owned() })
}

fn read_all(file: File, path: &Path) -> Result<Vec<u8>, SecretError> {
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_MAX {
        return Err(SecretError::Refused {
            path: path.to_owned(),
            why: format!("it is larger than {FILE_MAX} bytes"),
        });
    }
    Ok(bytes)
}

/// Reads the identities that `age-keygen` wrote to a file that nobody else may see.
///
/// # Errors
/// When the file cannot be read, may have been seen or written by others, or holds none.
pub fn identities(path: &Path) -> Result<Vec<Box<dyn age::Identity>>, SecretError> {
    identity_file(path)?.into_identities().map_err(|_unusable| no_identity(path))
}

fn identity_file(path: &Path) -> Result<age::IdentityFile<age::NoCallbacks>, SecretError> {
    let keys = read_private(path)?;
    // Its errors name no key, but they may quote a line of the file.
    age::IdentityFile::from_buffer(keys.as_slice()).map_err(|_unreadable| no_identity(path))
}

fn no_identity(path: &Path) -> SecretError {
    let why = "it is no identity that age-keygen has written".to_owned();
    SecretError::Refused { path: path.to_owned(), why }
}

/// Encrypts a text for whoever has this identity, as lines of text.
///
/// # Errors
/// When the identity cannot be read.
pub(crate) fn seal(text: &str, file: &Path, identity: &Path) -> Result<String, SecretError> {
    let wrong = |why: String| SecretError::Age { file: file.to_owned(), identity: identity.to_owned(), why };
    let recipients = identity_file(identity)?.to_recipients().map_err(|_unusable| no_identity(identity))?;
    let list = recipients.iter().map(|one| one.as_ref() as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(list).map_err(|error| wrong(error.to_string()))?;
    let mut armored = Vec::new();
    let write = || -> io::Result<()> {
        let armor = age::armor::ArmoredWriter::wrap_output(&mut armored, age::armor::Format::AsciiArmor)?;
        let mut writer = encryptor.wrap_output(armor)?;
        writer.write_all(text.as_bytes())?;
        writer.finish()?.finish()?;
        Ok(())
    };
    write().map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(armored).map_err(|error| wrong(error.to_string()))
}

/// Decrypts a file, which may be seen by anybody, with an identity, which may be seen by nobody.
///
/// # Errors
/// When one of them cannot be read, or the file is not for this identity.
pub(crate) fn decrypt(file: &Path, identity: &Path) -> Result<Vec<u8>, SecretError> {
    open_sealed(file, &read_all(open(file)?, file)?, identity, FILE_MAX)
}

/// Decrypts what was read of a file, at most `most` bytes.
///
/// # Errors
/// As [`decrypt`].
pub(crate) fn open_sealed(
    file: &Path,
    encrypted: &[u8],
    identity: &Path,
    most: u64,
) -> Result<Vec<u8>, SecretError> {
    let wrong = |why: String| SecretError::Age { file: file.to_owned(), identity: identity.to_owned(), why };
    let keys = identities(identity)?;
    let armored = age::armor::ArmoredReader::new(encrypted);
    let decryptor = age::Decryptor::new_buffered(armored).map_err(|error| wrong(error.to_string()))?;
    let mut plain = decryptor
        .decrypt(keys.iter().map(|key| key.as_ref() as &dyn age::Identity))
        .map_err(|error| wrong(error.to_string()))?
        .take(most.saturating_add(1));
    let mut bytes = Vec::new();
    plain.read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(wrong(format!("what is in it is larger than {most} bytes")));
    }
    Ok(bytes)
}
