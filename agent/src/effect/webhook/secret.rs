//! Signing keys: read where the configuration says, read again when they change, never printed.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::signature::Ed25519KeyPair;
use sha2::Sha256;

use crate::model::endpoint::SecretSource;
use crate::sealed::{credential, decrypt, failed, read_private};

pub use crate::sealed::{SecretError, identities};

/// Secret sizes that Standard Webhooks allows, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A Standard Webhooks key and the text it was written as.
pub struct Secret {
    key: Key,
    text: String,
}

enum Key {
    Symmetric(Vec<u8>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Secret {
    /// From the text `whsec_<base64>` or `whsk_<base64>`; `None` when it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let key = if let Some(key) = text.strip_prefix("whsec_") {
            let key = STANDARD.decode(key).ok()?;
            KEY_BYTES.contains(&key.len()).then_some(Key::Symmetric(key))?
        } else {
            let key = STANDARD.decode(text.strip_prefix("whsk_")?).ok()?;
            // The seed alone, or followed by the public key, which must belong to it.
            let pair = match key.split_at_checked(32)? {
                (seed, []) => Ed25519KeyPair::from_seed_unchecked(seed),
                (seed, public) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            };
            Key::Ed25519(Box::new(pair.ok()?))
        };
        Some(Self { key, text: text.to_owned() })
    }

    /// One signature of a message, with its scheme (Standard Webhooks 1.0.0).
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let head = format!("{id}.{timestamp}.");
        match &self.key {
            Key::Symmetric(key) => {
                let tag = mac(key, &[head.as_bytes(), body])?;
                Some(format!("v1,{}", STANDARD.encode(tag)))
            }
            Key::Ed25519(pair) => {
                let signature = pair.sign(&[head.as_bytes(), body].concat());
                Some(format!("v1a,{}", STANDARD.encode(signature)))
            }
        }
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Option<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac.finalize().into_bytes().into())
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The keys of an endpoint.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<(SecretSource, Option<(Stamp, Secret)>)>,
}

impl KeyRing {
    /// Keys from these sources. Nothing is read yet.
    #[must_use]
    pub fn new(sources: Vec<SecretSource>) -> Self {
        Self { keys: sources.into_iter().map(|source| (source, None)).collect() }
    }

    /// The `webhook-signature` header: a signature with each key. `None` when there is no key.
    ///
    /// # Errors
    /// When a key cannot be had: a delivery is signed with all of them or not sent.
    pub fn sign(&mut self, id: &str, timestamp: i64, body: &[u8]) -> Result<Option<String>, SecretError> {
        let mut signatures = Vec::with_capacity(self.keys.len());
        for (source, kept) in &mut self.keys {
            let secret = current(source, kept)?;
            signatures.push(secret.sign(id, timestamp, body).ok_or(SecretError::Sign)?);
        }
        Ok((!signatures.is_empty()).then(|| signatures.join(" ")))
    }

    /// GitHub's `X-Hub-Signature-256` header, made with the text of the first key as it is written in its file,
    /// because that is what such receivers are configured with. `None` when there is no key.
    ///
    /// # Errors
    /// When the key cannot be had.
    pub fn hub_signature(&mut self, body: &[u8]) -> Result<Option<String>, SecretError> {
        let Some((source, kept)) = self.keys.first_mut() else { return Ok(None) };
        let secret = current(source, kept)?;
        let tag = mac(secret.text.as_bytes(), &[body]).ok_or(SecretError::Sign)?;
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Some(format!("sha256={hex}")))
    }
}

/// The key as it is now: read again when its file is another.
fn current<'a>(
    source: &SecretSource,
    kept: &'a mut Option<(Stamp, Secret)>,
) -> Result<&'a Secret, SecretError> {
    let stamp = Stamp::of(source)?;
    let fresh = kept.take().filter(|(of, _)| *of == stamp);
    let (_, secret) = match fresh {
        Some(fresh) => kept.insert(fresh),
        None => kept.insert((stamp, read(source)?)),
    };
    Ok(secret)
}

/// What tells one version of a source's files from another.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Vec<(u64, u64, u64, i64, i64)>);

impl Stamp {
    fn of(source: &SecretSource) -> Result<Self, SecretError> {
        let files = match source {
            SecretSource::File(path) => vec![path.clone()],
            SecretSource::Credential(name) => vec![credential(name)?],
            SecretSource::Age { file, identity } => vec![file.clone(), identity.clone()],
        };
        let stamp = |path: &PathBuf| {
            let found = fs::metadata(path).map_err(failed("look at", path))?;
            Ok((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
        };
        files.iter().map(stamp).collect::<Result<_, _>>().map(Self)
    }
}

/// Reads a key.
///
/// # Errors
/// When it cannot be read, may have been seen or written by others, or is no key.
pub fn read(source: &SecretSource) -> Result<Secret, SecretError> {
    let (path, bytes) = read_source(source)?;
    std::str::from_utf8(&bytes).ok().and_then(Secret::parse).ok_or(SecretError::NoKey(path))
}

/// Reads a secret that is sent as it is.
///
/// # Errors
/// When it cannot be read, may have been seen or written by others, or is no text of one line.
pub fn read_text(source: &SecretSource) -> Result<String, SecretError> {
    let (path, bytes) = read_source(source)?;
    let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(SecretError::Refused { path, why: "it is not one line of text".to_owned() });
    }
    Ok(text.to_owned())
}

fn read_source(source: &SecretSource) -> Result<(PathBuf, Vec<u8>), SecretError> {
    Ok(match source {
        SecretSource::File(path) => (path.clone(), read_private(path)?),
        SecretSource::Credential(name) => {
            let path = credential(name)?;
            let bytes = read_private(&path)?;
            (path, bytes)
        }
        SecretSource::Age { file, identity } => (file.clone(), decrypt(file, identity)?),
    })
}

#[cfg(test)]
mod tests;
