//! The configuration as it would be after a restore, as links, for the readers of configuration to judge.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::draft::private_dir;
use super::error::{BackupError, io};
use super::restore::Change;
use super::switch::Move;
use crate::config::{Dirs, Findings, Settings, validate_profile_file};

/// Checks the configuration as it would be; `dir` is made for it.
///
/// # Errors
/// When it would not be valid.
pub(super) fn check(dirs: &Dirs, dir: &Path, moves: &[Move], changes: &[Change]) -> Result<(), BackupError> {
    if !moves.iter().any(|step| step.target.starts_with(&dirs.config)) {
        return Ok(());
    }
    private_dir(dir)?;
    link_all(&dirs.config, dir, moves)?;
    let mut findings = Findings::new();
    let trial = Dirs { config: dir.to_owned(), ..dirs.clone() };
    if let Err(found) = Settings::load(&trial) {
        return Err(BackupError::Invalid(found));
    }
    for change in changes.iter().filter(|change| change.acts()) {
        let Ok(rest) = change.path.strip_prefix(dirs.profiles()) else { continue };
        let path = trial.profiles().join(rest);
        if path.extension().is_some_and(|extension| extension == "yaml") && path.exists() {
            let (_profile, found) = validate_profile_file(&path, &dirs.shared_profiles);
            let found = &found;
            found.into_iter().for_each(|finding| findings.push(finding.clone()));
        }
    }
    if findings.has_errors() { Err(BackupError::Invalid(findings)) } else { Ok(()) }
}

/// Links to what stays and to what comes.
fn link_all(from: &Path, to: &Path, moves: &[Move]) -> Result<(), BackupError> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => Some(entries),
        // A machine that had none of it so far.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(io("list", from)(error)),
    };
    for entry in entries.into_iter().flatten() {
        let name = entry.map_err(io("list", from))?.file_name();
        let (source, target) = (from.join(&name), to.join(&name));
        // Hidden files may hold secrets that the configuration names; our own directory is where this is.
        if to.starts_with(&source) {
            continue;
        }
        if moves.iter().any(|step| step.target == source) {
            continue;
        }
        if moves.iter().any(|step| step.target.starts_with(&source)) {
            private_dir(&target)?;
            link_all(&source, &target, moves)?;
        } else {
            symlink(&source, &target).map_err(io("link to", &source))?;
        }
    }
    for step in moves {
        let Some(new) = &step.new else { continue };
        let Ok(rest) = step.target.strip_prefix(from) else { continue };
        let target = to.join(rest);
        if let Some(parent) = target.parent() {
            private_dir(parent)?;
        }
        if fs::symlink_metadata(&target).is_err() {
            symlink(new, &target).map_err(io("link to", new))?;
        }
    }
    Ok(())
}
