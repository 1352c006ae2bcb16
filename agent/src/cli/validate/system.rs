//! `validate system`: the configuration as it is installed. What the kernel and the machine can do is not asked here.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::cli::globals::Context;
use crate::config::error::{Finding, Findings, Severity};
use crate::config::{ProfileStore, Settings};

const UNIT: &str = "process-throttler.service";
/// Where units are looked for (systemd.unit(5), "Unit File Load Path").
const UNIT_DIRS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Mode bits by which group and others may write.
const WRITE: u32 = 0o022;

/// Everything that is found wrong.
pub(super) fn check(context: &Context) -> Findings {
    let mut findings = Findings::new();
    let dirs = &context.dirs;
    if !dirs.config.exists() {
        let message = "there is no such directory: the defaults hold".to_owned();
        let fix = Some("create it, and in it config.yaml".to_owned());
        findings.push(Finding::about_file(Severity::Warning, &dirs.config, message, fix));
    }
    let (parts, profiles) = (dirs.config_parts(), dirs.profiles());
    for dir in [&dirs.config, &parts, &profiles, &dirs.state, &dirs.runtime, &dirs.log] {
        findings.append(ownership(dir));
    }
    match Settings::load(dirs) {
        Ok((_settings, warnings)) => findings.append(warnings),
        Err(errors) => findings.append(errors),
    }
    findings.append(of_profiles(context));
    findings.append(unit(context));
    findings.sorted()
}

/// A directory in which others could lay or replace files.
fn ownership(dir: &Path) -> Findings {
    let error = |message: String, fix: Option<String>| {
        Findings::from(Finding::about_file(Severity::Error, dir, message, fix))
    };
    let meta = match dir.metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Findings::new(),
        Err(source) => return error(format!("cannot look at it: {source}"), None),
    };
    if !meta.is_dir() {
        return error("not a directory".to_owned(), Some("move it away".to_owned()));
    }
    match objection(&meta, rustix::process::geteuid().as_raw()) {
        Some((message, fix)) => error(message, Some(fix)),
        None => Findings::new(),
    }
}

fn objection(meta: &Metadata, euid: u32) -> Option<(String, String)> {
    let mode = meta.mode() & 0o7777;
    if meta.uid() != euid && meta.uid() != 0 {
        let message = format!("owned by uid {}, who can replace every file in it", meta.uid());
        return Some((message, format!("chown {euid} it, after looking at what is in it")));
    }
    (mode & WRITE != 0)
        .then(|| (format!("mode {mode:04o} lets others replace files in it"), "chmod go-w it".to_owned()))
}

fn of_profiles(context: &Context) -> Findings {
    match ProfileStore::new(&context.dirs).list() {
        Ok(entries) => entries.into_iter().fold(Findings::new(), |mut all, entry| {
            all.append(entry.findings);
            all
        }),
        Err(error) => {
            let dir = context.dirs.profiles();
            Finding::about_file(Severity::Error, &dir, error.to_string(), None).into()
        }
    }
}

/// Where systemd runs the host, the daemon of the system's own directories is to be its service.
fn unit(context: &Context) -> Findings {
    let is_system = context.dirs.config == Path::new("/etc/process-throttler");
    let runs_host = Path::new("/run/systemd/system").is_dir();
    let is_installed = || UNIT_DIRS.iter().any(|dir| Path::new(dir).join(UNIT).exists());
    if !is_system || !runs_host || is_installed() {
        return Findings::new();
    }
    let message = format!("{UNIT} is not installed: nobody starts the daemon at boot");
    let fix = "install the package, or what is in packaging/systemd and packaging/sysusers.d, and: systemctl enable --now \
               process-throttler";
    Finding::about_file(Severity::Warning, Path::new(UNIT_DIRS[0]), message, Some(fix.to_owned())).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn directories_that_others_could_write_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let chmod =
            |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        for (mode, errors) in [(0o755, 0), (0o700, 0), (0o775, 1), (0o757, 1)] {
            chmod(mode);
            assert_eq!(ownership(dir.path()).errors(), errors, "{mode:o}");
        }
        assert!(ownership(&dir.path().join("gone")).is_empty());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(ownership(&file).errors(), 1);
    }
}
