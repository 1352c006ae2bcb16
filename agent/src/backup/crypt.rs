//! Encryption of archives with age: to recipients when one is written, with an identity when it is read. Never shows
//! anything of a key.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::error::BackupError;
use crate::effect::webhook::secret;

/// How a file that age wrote begins (age-encryption.org/v1).
const MAGIC: &[u8] = b"age-encryption.org/";

/// Reads recipients, one a line, `#` begins a comment.
///
/// # Errors
/// When a line is none.
pub(super) fn recipients<'a>(
    lines: impl Iterator<Item = &'a str>,
) -> Result<Vec<age::x25519::Recipient>, BackupError> {
    let lines = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            line.parse().map_err(|why: &str| {
                // A private key in the wrong file must not be shown.
                let shown = if line.starts_with("age1") { line } else { "a line that is none" };
                BackupError::Key(format!("{shown} is no age recipient: {why}"))
            })
        })
        .collect()
}

/// Where an archive is written to.
pub(super) enum Sink {
    /// As it is.
    Plain(File),
    /// Encrypted.
    Age(age::stream::StreamWriter<File>),
}

impl Sink {
    /// Begins; without recipients nothing is encrypted.
    pub(super) fn new(file: File, recipients: &[age::x25519::Recipient]) -> Result<Self, BackupError> {
        if recipients.is_empty() {
            return Ok(Self::Plain(file));
        }
        let list = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(list)
            .map_err(|error| BackupError::Key(format!("encrypt: {error}")))?;
        let writer =
            encryptor.wrap_output(file).map_err(|error| BackupError::Key(format!("encrypt: {error}")))?;
        Ok(Self::Age(writer))
    }

    /// Ends what was written.
    pub(super) fn finish(self) -> io::Result<File> {
        match self {
            Self::Plain(file) => Ok(file),
            Self::Age(writer) => writer.finish(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Age(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Age(writer) => writer.flush(),
        }
    }
}

/// Whether age wrote what begins with these bytes.
pub(super) fn is_encrypted(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// The plain bytes of an encrypted archive.
pub(super) fn decrypt<R: Read + 'static>(
    input: BufReader<R>,
    path: &Path,
    identity: Option<&Path>,
) -> Result<Box<dyn Read>, BackupError> {
    let Some(identity) = identity else {
        return Err(BackupError::Key(format!("{} is encrypted and needs an identity", path.display())));
    };
    let keys = secret::identities(identity)
        .map_err(|error| BackupError::Key(format!("identity: {}", crate::model::chain::chain(&error))))?;
    let refused = |error: age::DecryptError| BackupError::Key(format!("decrypt {}: {error}", path.display()));
    let decryptor = age::Decryptor::new_buffered(input).map_err(refused)?;
    let keys = keys.iter().map(|key| key.as_ref() as &dyn age::Identity);
    Ok(Box::new(decryptor.decrypt(keys).map_err(refused)?))
}
