//! The webhook endpoints of `webhooks.yaml`: read and validated here, changed by commands through [`store`].
//! Contacts nobody, and never holds a secret.

mod edit;
mod entry;
mod sealed;
mod secrets;
pub mod store;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::error::{Finding, Findings, Severity};
use super::fields::Cursor;
use super::file::{self, Place, Source, Trust, Value};
use super::paths::Dirs;
use super::{profile, webhook};
use crate::model::endpoint::Endpoint;
use crate::model::id::Name;

pub use edit::{Setting, Written};
pub use secrets::Purpose;
pub use store::{Change, Changed, WebhookError, WebhookFile};

/// The key of the list.
const LIST: &str = "webhooks";
/// Format of the file that this version reads.
const VERSION: i128 = 1;

/// Whose files, those that hold secrets and certificates, are looked at.
#[derive(Clone, Copy, Debug)]
enum Look<'a> {
    /// Nobody's: the endpoint is not going to be used.
    Nowhere,
    /// That endpoint's.
    At(&'a Name),
    /// Everybody's.
    Everywhere,
}

/// What reading needs to know besides the text.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    /// Relative paths are below this.
    dir: &'a Path,
    /// Who may have written what the agent acts upon.
    trust: Trust,
    /// Which files are looked at.
    look: Look<'a>,
}

/// Reads the file of an installation; there may be none. With `has_default` the name of the endpoint of
/// `config.yaml` is taken.
pub(super) fn read(dirs: &Dirs, trust: Trust, has_default: bool, findings: &mut Findings) -> Vec<Endpoint> {
    let path = dirs.webhooks_file();
    let source = match sealed::read(&dirs.config, &path, trust) {
        Ok(source) => source,
        Err(error) if error.is_not_found() => return Vec::new(),
        Err(error) => {
            findings.push(error.into_finding());
            return Vec::new();
        }
    };
    if trust != Trust::Anyone && !sealed::is_sealed(&path) {
        warn_if_readable(&path, findings);
    }
    let reader = Reader { dir: &dirs.config, trust, look: Look::Everywhere };
    let taken = has_default.then_some(webhook::NAME);
    parse(&source, reader, findings)
        .into_iter()
        .filter_map(|(endpoint, at)| {
            if taken != Some(endpoint.name.as_str()) {
                return Some(endpoint);
            }
            let message = format!("the name \"{}\" is taken by webhook: in config.yaml", endpoint.name);
            findings.push(at.error(message).with_fix("choose another name, or remove webhook: there"));
            None
        })
        .collect()
}

/// Whoever knows the URL of many services may post there.
fn warn_if_readable(path: &Path, findings: &mut Findings) {
    let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o7777);
    if mode & 0o077 != 0 {
        let message = format!("mode {mode:04o} lets others read it, and URLs often hold tokens");
        let fix = Some("chmod 0600 it".to_owned());
        findings.push(Finding::about_file(Severity::Warning, path, message, fix));
    }
}

/// The endpoints of a text in its order, each with where its name stands; what is wrong goes to `findings`.
fn parse(source: &Source, reader: Reader<'_>, findings: &mut Findings) -> Vec<(Endpoint, At)> {
    let node = match file::parse(source) {
        Ok(node) => node,
        Err(finding) => {
            findings.push(*finding);
            return Vec::new();
        }
    };
    let root = Cursor::root(source, &node);
    if *root.value() == Value::Null {
        return Vec::new();
    }
    let Some(map) = root.map(&["version", LIST], &[], findings) else { return Vec::new() };
    if let Some(at) = map.get("version") {
        at.integer(VERSION..=VERSION, "a version of this format that is known: 1", findings);
    }
    let Some(list) = map.get(LIST).filter(|at| *at.value() != Value::Null) else { return Vec::new() };
    let mut names: Vec<(Name, Place)> = Vec::new();
    let mut all = Vec::new();
    for item in list.list(findings).unwrap_or_default() {
        let Some(map) = item.map(&entry::keys(), &[], findings) else { continue };
        let Some(at) = map.required("name", findings) else { continue };
        let Some(name) = profile::unique(at, &mut names, findings) else { continue };
        let place = At(at.error(""));
        if let Some(endpoint) = entry::read(name, &map, reader, findings) {
            all.push((endpoint, place));
        }
    }
    all
}

/// A place for a finding to be made later.
#[derive(Debug)]
struct At(Finding);

impl At {
    fn error(self, message: String) -> Finding {
        Finding { message, ..self.0 }
    }
}

#[cfg(test)]
mod tests;
