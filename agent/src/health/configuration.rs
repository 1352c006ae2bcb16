//! Each configuration file by itself: parsed, and what is wrong with it. Loads nothing into anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Category, Check, Status, Told};
use crate::config::error::Severity;
use crate::config::{Dirs, Finding, Findings, ProfileStore, Settings};
use crate::control::proto::DaemonStatus;

const ABOUT: Category = Category::Configuration;

/// The settings, if they have no errors, and a check for each file.
pub(super) fn check(dirs: &Dirs, daemon: &Told<Box<DaemonStatus>>) -> (Option<Settings>, Vec<Check>) {
    let (settings, findings) = match Settings::load(dirs) {
        Ok((settings, warnings)) => (Some(settings), warnings),
        Err(findings) => (None, findings),
    };
    let mut checks: Vec<Check> = settings_files(dirs, &findings)
        .into_iter()
        .map(|path| of_file(dirs, &path, &findings, "process-throttler validate config"))
        .collect();
    match ProfileStore::new(dirs).list() {
        Ok(entries) => {
            let command = |name: &str| format!("process-throttler validate profile {name}");
            checks.extend(
                entries
                    .iter()
                    .map(|entry| of_file(dirs, &entry.path, &entry.findings, &command(&entry.name))),
            );
        }
        Err(error) => checks.push(Check::not_made(ABOUT, "profiles", crate::model::chain::chain(&error))),
    }
    if let Told::This(status) = daemon {
        checks.push(in_force(status));
    }
    (settings, checks)
}

/// The files that there are, and those that something is wrong with. `config.yaml` always: without it the defaults hold.
fn settings_files(dirs: &Dirs, findings: &Findings) -> Vec<PathBuf> {
    let mut paths: BTreeSet<PathBuf> = BTreeSet::from([dirs.config_file()]);
    // What cannot be listed is among the findings.
    let parts = std::fs::read_dir(dirs.config_parts()).into_iter().flatten().flatten();
    paths.extend(parts.map(|part| part.path()).filter(|path| {
        path.extension().is_some_and(|ending| ending == "yaml")
            && !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    }));
    paths.extend(Some(dirs.webhooks_file()).filter(|path| path.exists()));
    paths.extend(findings.iter().map(|finding| finding.file.clone()));
    paths.into_iter().collect()
}

fn of_file(dirs: &Dirs, path: &Path, findings: &Findings, command: &str) -> Check {
    let name = path.strip_prefix(&dirs.config).unwrap_or(path).display().to_string();
    let of_this = || findings.iter().filter(|finding| finding.file == path);
    let worst = |severity| of_this().find(|finding| finding.severity == severity);
    let count = of_this().count();
    let told = |status, finding: &Finding| {
        let at = format!("{}:{}: {}", finding.line, finding.column, finding.message);
        let at = if count > 1 { format!("{at} (and {} more)", count - 1) } else { at };
        Check::new(ABOUT, name.clone(), status, at).run("see all of it, and mend the file", command)
    };
    let check = match (worst(Severity::Error), worst(Severity::Warning)) {
        (Some(error), _) => told(Status::Error, error),
        (None, Some(warning)) => told(Status::Warning, warning),
        (None, None) if path.exists() => Check::ok(ABOUT, name, "valid"),
        (None, None) => Check::ok(ABOUT, name, "not there: the defaults hold"),
    };
    check.detail("path", path.display())
}

fn in_force(status: &DaemonStatus) -> Check {
    const NAME: &str = "in force";
    match &status.config_error {
        None => Check::ok(ABOUT, NAME, "the daemon has no complaint about what it read last"),
        Some(error) => {
            let first = error.lines().next().unwrap_or_default();
            Check::warning(ABOUT, NAME, format!("the daemon keeps the last good configuration: {first}"))
                .run("mend it, then have it read again", "process-throttler daemon reload")
        }
    }
}
