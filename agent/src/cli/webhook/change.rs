//! A change to the file, and what the daemon says to it.

use serde::Serialize;

use super::refused;
use super::secret::{self, Made};
use super::settings;
use super::show::Shown;
use crate::cli::audit::recorded;
use crate::cli::error::{CliError, CliResult};
use crate::cli::globals::Context;
use crate::cli::output::View;
use crate::cli::page::Page;
use crate::cli::takeover::Daemon;
use crate::config::webhooks::{Change, Purpose, Setting, WebhookFile, Written};
use crate::control::failure::{Failure, FailureKind};
use crate::model::id::Name;

/// What was done.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum Verb {
    Added,
    Changed,
    Enabled,
    Disabled,
    Removed,
}

impl Verb {
    /// The type of its record.
    const fn audit(self) -> &'static str {
        match self {
            Self::Added => "webhook.added",
            Self::Changed => "webhook.changed",
            Self::Enabled => "webhook.enabled",
            Self::Disabled => "webhook.turned_off",
            Self::Removed => "webhook.removed",
        }
    }
}

/// What became of an endpoint.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Changed {
    name: String,
    what: Verb,
    /// Whether the file says anything else than before.
    differs: bool,
    path: String,
    /// The key that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_file: Option<String>,
    endpoint: Shown,
    daemon: Daemon,
    dry_run: bool,
}

/// Changes an endpoint, has the daemon read it, and shows what came of it.
///
/// # Errors
/// When nothing was changed; and, as partly done, when the daemon does not take it over.
pub(super) fn apply(context: &Context, name: &Name, verb: Verb, change: &Change) -> CliResult {
    finish(context, name, verb, change, None, false)
}

/// As [`apply`], and the daemon looks again also when the file says so already.
///
/// # Errors
/// As [`apply`].
pub(super) fn apply_again(context: &Context, name: &Name, verb: Verb, change: &Change) -> CliResult {
    finish(context, name, verb, change, None, true)
}

/// As [`apply`] with a key made for it, which becomes the one to sign with.
///
/// # Errors
/// As [`apply`]; then no key is left behind.
pub(super) fn apply_with_secret(
    context: &Context,
    name: &Name,
    verb: Verb,
    change: impl FnOnce(Vec<Setting>) -> Change,
) -> CliResult {
    if context.dry_run {
        // A credential of any name stands for the file that would be there.
        let value = Written::Text("generated".to_owned());
        let change = change(settings::replace(Purpose::Secret, "secret_credential", value).collect());
        return finish(context, name, verb, &change, None, false);
    }
    let made = secret::make(context, name)?;
    let value = settings::path(made.path())?;
    let change = change(settings::replace(Purpose::Secret, "secret_file", value).collect());
    finish(context, name, verb, &change, Some(made), false)
}

fn finish(
    context: &Context,
    name: &Name,
    verb: Verb,
    change: &Change,
    made: Option<Made>,
    again: bool,
) -> CliResult {
    let file = WebhookFile::new(&context.dirs);
    let done = recorded(context, verb.audit(), format!("webhook {name}"), || {
        file.change(name, change, context.dry_run).map_err(refused)
    })?;
    let secret_file = made.as_ref().map(|made| made.path().display().to_string());
    if let Some(made) = made {
        made.keep();
    }
    let daemon =
        if context.dry_run || !(done.differs || again) { Daemon::NotAsked } else { Daemon::reload(context)? };
    let refusal = daemon.refusal();
    context.output.show(&Changed {
        name: name.to_string(),
        what: verb,
        differs: done.differs,
        path: file.path().display().to_string(),
        secret_file,
        endpoint: Shown::new(&done.endpoint, file.path()),
        daemon,
        dry_run: context.dry_run,
    })?;
    refusal
}

impl View for Changed {
    const KIND: &'static str = "WebhookChange";

    fn page(&self, page: &mut Page) {
        let Self { name, what, differs, path, secret_file, endpoint: _, daemon, dry_run } = self;
        let what = match what {
            Verb::Added => "added to",
            Verb::Changed => "changed in",
            Verb::Enabled => "enabled in",
            Verb::Disabled => "disabled in",
            Verb::Removed => "removed from",
        };
        match (dry_run, differs) {
            (_, false) => page.line(format!("webhook {name}: nothing to change in {path}")),
            (true, true) => page.line(format!("webhook {name} would be {what} {path}")),
            (false, true) => page.line(format!("webhook {name} {what} {path}")),
        }
        if let Some(secret) = secret_file {
            page.line(format!("signing key: {secret}"));
        }
        daemon.tell(page);
    }
}

/// A name that only `config.yaml` knows cannot be changed here.
///
/// # Errors
/// For the endpoint of its `webhook` key.
pub(super) fn not_the_single(context: &Context, name: &Name) -> CliResult {
    let single = super::list::single(context);
    if single.is_some_and(|endpoint| endpoint.name == *name) {
        let path = context.dirs.config_file();
        let message = format!("webhook {name} is the one of webhook: in {}", path.display());
        let failure = Failure::new(FailureKind::Conflict, message);
        return Err(CliError::from(failure.with_hint("change it there, or choose another name")));
    }
    Ok(())
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut crate::cli::gallery::Gallery) {
    for (line, what, differs, secret_file, daemon, dry_run) in [
        (
            "add chat https://h/ --generate-secret",
            Verb::Added,
            true,
            Some("/etc/pt/key"),
            Daemon::NotRunning,
            false,
        ),
        ("add chat https://h/ --dry-run", Verb::Added, true, None, Daemon::NotAsked, true),
        (
            "edit chat --rate 5",
            Verb::Changed,
            true,
            None,
            Daemon::Reloaded { detail: "webhooks".to_owned() },
            false,
        ),
        ("enable chat", Verb::Enabled, false, None, Daemon::NotAsked, false),
        (
            "disable chat",
            Verb::Disabled,
            true,
            None,
            Daemon::Refused { why: "config.yaml: 1 error".to_owned() },
            false,
        ),
        ("remove chat", Verb::Removed, true, None, Daemon::NotAsked, false),
    ] {
        let changed = Changed {
            name: "chat".to_owned(),
            what,
            differs,
            path: "/etc/process-throttler/webhooks.yaml".to_owned(),
            secret_file: secret_file.map(str::to_owned),
            endpoint: super::show::sample(true),
            daemon,
            dry_run,
        };
        gallery.show(&format!("webhook {line}"), &changed);
    }
}
