//! `validate`: checks files without loading them.

mod system;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::error::{CliError, CliResult};
use super::globals::Context;
use super::output::View;
use super::page::Page;
use crate::config::{Findings, Settings, validate_profile_file};
use crate::control::failure::{Failure, FailureKind};
use crate::model::id::Name;
use crate::model::plural::counted;

/// Arguments of `validate`.
#[derive(Args, Debug)]
pub(super) struct Validate {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Check a profile: all errors at once
    Profile {
        /// A profile's name, or a file
        profile: PathBuf,
    },
    /// Check config.yaml, config.d and webhooks.yaml: all errors at once
    Config,
    /// Check the installation: every file of the configuration, who may write them, and the service's unit
    System,
}

impl Validate {
    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            Command::Profile { profile } => self::profile(context, &profile),
            Command::Config => config(context),
            Command::System => {
                let findings = system::check(context);
                let valid = !findings.has_errors();
                tell(context, &context.dirs.config, valid, findings)
            }
        }
    }
}

/// Checks a profile by its name or file.
pub(super) fn profile(context: &Context, profile: &Path) -> CliResult {
    let path = file_of(context, profile)?;
    let (profile, findings) = validate_profile_file(&path, &context.dirs.shared_profiles);
    tell(context, &path, profile.is_some(), findings)
}

/// The file of a profile that is given by its name, or is a file itself.
///
/// # Errors
/// When there is neither.
pub(super) fn file_of(context: &Context, profile: &Path) -> CliResult<PathBuf> {
    let named =
        profile.to_str().filter(|text| !text.contains('/')).and_then(|text| text.parse::<Name>().ok());
    let stored = named.map(|name| context.dirs.existing_profile_file(&name)).filter(|file| file.exists());
    let path = stored.unwrap_or_else(|| profile.to_owned());
    if path.exists() {
        return Ok(path);
    }
    let message = format!("no profile or file {:?}", profile.display().to_string());
    let failure = Failure::new(FailureKind::NotFound, message);
    Err(failure.with_hint("see: process-throttler profile list").into())
}

fn config(context: &Context) -> CliResult {
    let (valid, findings) = match Settings::load(&context.dirs) {
        Ok((_settings, warnings)) => (true, warnings),
        Err(findings) => (false, findings),
    };
    tell(context, &context.dirs.config_file(), valid, findings)
}

fn tell(context: &Context, path: &Path, valid: bool, findings: Findings) -> CliResult {
    context.output.show(&Checked { path: path.display().to_string(), valid, findings })?;
    if valid { Ok(()) } else { Err(CliError::Exit(FailureKind::Invalid)) }
}

/// What was found.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Checked {
    path: String,
    valid: bool,
    #[cfg_attr(test, schemars(with = "Vec<crate::config::Finding>"))]
    findings: Findings,
}

impl View for Checked {
    const KIND: &'static str = "Validation";

    fn page(&self, page: &mut Page) {
        for finding in &self.findings {
            page.line(finding);
        }
        let (errors, warnings) = (self.findings.errors(), self.findings.warnings());
        let verdict = if self.valid { "valid" } else { "invalid" };
        let (errors, warnings) =
            (counted(errors, "error", "errors"), counted(warnings, "warning", "warnings"));
        page.line(format!("{} is {verdict}: {errors}, {warnings}", self.path));
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    use crate::config::error::{Finding, Severity};
    let path = Path::new("/etc/process-throttler/profiles/web.yaml");
    let mut findings = Findings::new();
    let line = "    limits: { cpu: 0% }";
    findings.push(
        Finding::at(Severity::Error, path, line, 5, 20, "0% is no CPU quota".to_owned())
            .with_key("throttling_rules[0].limits.cpu")
            .with_fix("write a percentage from 1%"),
    );
    findings.push(Finding::about_file(Severity::Warning, path, "others may write to it".to_owned(), None));
    let checked = |valid, findings| Checked { path: path.display().to_string(), valid, findings };
    gallery.show("validate profile web", &checked(false, findings));
    gallery.show("profile validate web", &checked(true, Findings::new()));
    gallery.show("validate config", &checked(true, Findings::new()));
    gallery.show("validate system", &checked(true, Findings::new()));
}
