//! The files that settings are made of: `config.yaml` and what is merged over it. Knows none of their keys.

use std::path::{Path, PathBuf};

use super::error::{Finding, Findings, Severity};
use super::file::{self, Node, Source, Trust};
use super::paths::Dirs;

/// Most files in `config.d`.
const PARTS_MAX: usize = 64;

/// The files in the order in which they are merged, those that can be read and parsed.
pub(super) fn parse(dirs: &Dirs, trust: Trust, findings: &mut Findings) -> Vec<(Source, Node)> {
    let main = dirs.config_file();
    let mut paths = vec![main.clone()];
    match list(&dirs.config_parts()) {
        Ok(parts) if parts.len() > PARTS_MAX => {
            let message = format!("{} files are more than {PARTS_MAX}", parts.len());
            findings.push(Finding::about_file(Severity::Error, &dirs.config_parts(), message, None));
        }
        Ok(parts) => paths.extend(parts),
        Err(error) => {
            let message = format!("cannot list it: {error}");
            findings.push(Finding::about_file(Severity::Error, &dirs.config_parts(), message, None));
        }
    }
    let mut files = Vec::new();
    for path in paths {
        let source = match file::read::read(&path, trust) {
            Ok(source) => source,
            Err(error) if error.is_not_found() && path == main => continue,
            Err(error) => {
                findings.push(error.into_finding());
                continue;
            }
        };
        match file::parse(&source) {
            Ok(node) => files.push((source, node)),
            Err(finding) => findings.push(*finding),
        }
    }
    files
}

/// The `*.yaml` files of a directory in lexical order, hidden ones left out.
fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.ends_with(b".yaml") && !bytes.starts_with(b".") {
            paths.push(dir.join(name));
        }
    }
    paths.sort();
    Ok(paths)
}
