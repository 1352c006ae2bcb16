//! Which files of the configuration hold secrets, and so may not be in a backup that anybody could read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::file::{self, Trust};
use crate::config::{Dirs, Settings};
use crate::model::endpoint::SecretSource;

/// Why a file may not be in a backup that is not encrypted; `None` when it may.
///
/// The URL of a receiver is often all that posting there takes, and so counts as a secret wherever it is written.
pub(super) fn objection(rest: &str, path: &Path) -> Option<&'static str> {
    if rest == "webhooks.yaml" {
        return Some("the URLs of endpoints are secrets; only an encrypted backup holds it");
    }
    if rest != "config.yaml" && !rest.starts_with("config.d/") {
        return None;
    }
    let parsed = file::read::read(path, Trust::Anyone).ok().and_then(|source| file::parse(&source).ok());
    match parsed {
        Some(node) if node.get("webhook").is_none() => None,
        Some(_) => Some("its webhook has a URL, which is a secret; only an encrypted backup holds it"),
        None => Some(
            "it cannot be read, so nobody can tell whether it holds secrets; only an encrypted backup holds it",
        ),
    }
}

/// The files that the configuration names as secrets. An invalid configuration names none.
pub(super) fn files(dirs: &Dirs) -> BTreeSet<PathBuf> {
    let Ok((settings, _warnings)) = Settings::load(dirs) else { return BTreeSet::new() };
    let mut files = BTreeSet::new();
    for endpoint in settings.endpoints {
        for source in endpoint.secrets.into_iter().chain(endpoint.routing_key) {
            match source {
                SecretSource::File(path) => files.extend([path]),
                SecretSource::Age { file, identity } => files.extend([file, identity]),
                // systemd's to keep.
                SecretSource::Credential(_) => {}
            }
        }
    }
    files
}
