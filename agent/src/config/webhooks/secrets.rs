//! Where an endpoint's secrets are, as written. Looks at the files' owners and modes, and never at what is in
//! them.

use std::path::{Path, PathBuf};

use crate::config::error::Findings;
use crate::config::fields::{Cursor, Map};
use crate::config::file::{ReadError, Trust, read};
use crate::model::endpoint::{Format, SecretSource};

/// Every key of a secret: what it is for, and where it is.
pub(super) const SECRET_KEYS: [&str; 9] = [
    "secret_file",
    "secret_credential",
    "secret_age",
    "previous_secret_file",
    "previous_secret_credential",
    "previous_secret_age",
    "routing_key_file",
    "routing_key_credential",
    "routing_key_age",
];

/// Longest name of a credential: it is a file name (systemd.exec(5), `LoadCredential=`).
const CREDENTIAL_MAX: usize = 255;

/// The three keys in which a secret can be written.
const fn forms(purpose: Purpose) -> [&'static str; 3] {
    match purpose {
        Purpose::Secret => ["secret_file", "secret_credential", "secret_age"],
        Purpose::Previous => ["previous_secret_file", "previous_secret_credential", "previous_secret_age"],
        Purpose::RoutingKey => ["routing_key_file", "routing_key_credential", "routing_key_age"],
    }
}

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To sign with.
    Secret,
    /// To sign with as well while receivers change over.
    Previous,
    /// PagerDuty's routing key.
    RoutingKey,
}

impl Purpose {
    /// The keys in which it can be written; one of them at a time.
    #[must_use]
    pub const fn keys(self) -> [&'static str; 3] {
        forms(self)
    }
}

/// How files are found and checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files<'a> {
    /// Relative paths are below this.
    pub(super) dir: &'a Path,
    /// Who is trusted; `None`: nothing is looked at.
    pub(super) trust: Option<Trust>,
}

impl Files<'_> {
    /// A path, of a file that can be used if it is looked at.
    pub(super) fn path(
        self,
        at: &Cursor<'_>,
        demand: impl FnOnce(Trust) -> Trust,
        findings: &mut Findings,
    ) -> Option<PathBuf> {
        let text = at.text(findings)?;
        if text.is_empty() {
            findings.push(at.error("is empty"));
            return None;
        }
        let path = self.dir.join(text);
        let Some(trust) = self.trust else { return Some(path) };
        let finding = match read::read_bytes(&path, demand(trust)) {
            Ok(bytes) if !bytes.is_empty() => return Some(path),
            Ok(_) => at.error(format!("{path:?} is empty")),
            Err(ReadError::Refused(finding)) => {
                let refused = at.error(format!("{path:?}: {}", finding.message));
                match finding.fix {
                    Some(fix) => refused.with_fix(fix),
                    None => refused,
                }
            }
            Err(error @ ReadError::Io { .. }) => at.error(error.to_string()),
        };
        findings.push(finding);
        None
    }
}

/// A file that holds a secret is nobody else's to read.
const fn secret(trust: Trust) -> Trust {
    match trust {
        Trust::Anyone => Trust::Anyone,
        Trust::Owner(euid) | Trust::Secret(euid) => Trust::Secret(euid),
    }
}

/// The keys to sign with, the present one first.
pub(super) fn signing(map: &Map<'_>, files: Files<'_>, findings: &mut Findings) -> Option<Vec<SecretSource>> {
    let present = source(map, Purpose::Secret, files, findings);
    let previous = source(map, Purpose::Previous, files, findings);
    let (present, previous) = (present?, previous?);
    if present.is_none()
        && let Some(at) = written(map, Purpose::Previous).next()
    {
        findings.push(at.error("a previous secret without a present one").with_fix("add secret_file: …"));
        return None;
    }
    Some(present.into_iter().chain(previous).collect())
}

/// PagerDuty's key, which it cannot do without and which means nothing to others.
pub(super) fn routing_key(
    map: &Map<'_>,
    format: Option<Format>,
    files: Files<'_>,
    findings: &mut Findings,
) -> Option<Option<SecretSource>> {
    let key = source(map, Purpose::RoutingKey, files, findings)?;
    let Some(format) = format else { return Some(key) };
    match (format == Format::PagerDuty, written(map, Purpose::RoutingKey).next()) {
        (true, None) => {
            let at = map.get("format")?;
            findings.push(at.error("pagerduty needs a routing key").with_fix("add routing_key_file: …"));
            None
        }
        (false, Some(at)) => {
            findings.push(at.error("only the format pagerduty has a routing key").with_fix("remove it"));
            None
        }
        (true, Some(_)) | (false, None) => Some(key),
    }
}

fn written<'m, 'a>(map: &'m Map<'a>, purpose: Purpose) -> impl Iterator<Item = &'m Cursor<'a>> {
    forms(purpose).into_iter().filter_map(|key| map.get(key))
}

/// Where one secret is; the outer `None` when it is written wrongly.
fn source(
    map: &Map<'_>,
    purpose: Purpose,
    files: Files<'_>,
    findings: &mut Findings,
) -> Option<Option<SecretSource>> {
    let [file, credential, age] = forms(purpose);
    if let Some(second) = written(map, purpose).nth(1) {
        let message = format!("only one of {file}, {credential} and {age} can be given");
        findings.push(second.error(message).with_fix("remove all but one"));
        return None;
    }
    if let Some(at) = map.get(file) {
        return files.path(at, secret, findings).map(|path| Some(SecretSource::File(path)));
    }
    if let Some(at) = map.get(credential) {
        return credential_name(at, findings).map(|name| Some(SecretSource::Credential(name)));
    }
    let Some(at) = map.get(age) else { return Some(None) };
    let parts = at.map(&["file", "identity"], &[], findings)?;
    let encrypted = |trust: Trust| trust;
    let file = parts.required("file", findings).and_then(|at| files.path(at, encrypted, findings));
    let identity = parts.required("identity", findings).and_then(|at| files.path(at, secret, findings));
    Some(Some(SecretSource::Age { file: file?, identity: identity? }))
}

fn credential_name(at: &Cursor<'_>, findings: &mut Findings) -> Option<String> {
    let text = at.text(findings)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !text.is_empty() && text.len() <= CREDENTIAL_MAX && !text.starts_with('.') && text.bytes().all(plain) {
        return Some(text.to_owned());
    }
    let finding = at.error(format!("{text:?} is no name of a credential"));
    findings.push(finding.with_fix("use the name that LoadCredential= gives it"));
    None
}
