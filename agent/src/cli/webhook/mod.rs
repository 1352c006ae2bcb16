//! `webhook`: the endpoints that are told of events, and what was sent to them. They are kept in a file, so that
//! keeping them works without a daemon; one that runs is asked to read it again. Never prints a secret.

mod add;
mod change;
mod deliveries;
mod edit;
mod enable;
mod list;
mod remove;
mod replay;
mod secret;
mod settings;
mod show;
mod test;

use clap::{Args, Subcommand};

use super::error::{CliError, CliResult, usage};
use super::globals::Context;
use crate::config::webhooks::WebhookError;
use crate::control::failure::{Failure, FailureKind};
use crate::store::Store;

/// Arguments of `webhook`.
#[derive(Args, Debug)]
pub(super) struct Webhook {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Add an endpoint
    Add(add::Add),
    /// List the endpoints
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show an endpoint
    Show(show::Show),
    /// Change an endpoint
    Edit(edit::Edit),
    /// Send to an endpoint again
    Enable(enable::Enable),
    /// Send nothing to an endpoint, and keep it
    Disable(enable::Disable),
    /// Remove an endpoint
    #[command(visible_alias = "rm")]
    Remove(remove::Remove),
    /// Send a test event to an endpoint and tell what came of it
    Test(test::Test),
    /// Show deliveries and every attempt at them
    Deliveries(deliveries::Deliveries),
    /// Send deliveries again, under the same ids
    Replay(replay::Replay),
}

impl Webhook {
    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            Command::Add(command) => command.run(context),
            Command::List(command) => command.run(context),
            Command::Show(command) => command.run(context),
            Command::Edit(command) => command.run(context),
            Command::Enable(command) => command.run(context),
            Command::Disable(command) => command.run(context),
            Command::Remove(command) => command.run(context),
            Command::Test(command) => command.run(context),
            Command::Deliveries(command) => command.run(context),
            Command::Replay(command) => command.run(context),
        }
    }
}

/// What a refusal means to scripts.
fn refused(error: WebhookError) -> CliError {
    let failure = match &error {
        WebhookError::NotFound { near, .. } => {
            let failure = Failure::from_error(FailureKind::NotFound, &error);
            match near {
                Some(near) => failure.with_hint(format!("did you mean {near}?")),
                None => failure.with_hint("see: process-throttler webhook list"),
            }
        }
        WebhookError::Exists { name, .. } => Failure::from_error(FailureKind::Conflict, &error)
            .with_hint(format!("change it with: process-throttler webhook edit {name}")),
        WebhookError::Invalid(findings) => {
            let count = findings.errors();
            let noun = if count == 1 { "error" } else { "errors" };
            let message = format!("{count} {noun} in the webhooks, nothing was changed\n{findings}");
            Failure::new(FailureKind::Invalid, message)
        }
        WebhookError::Refused(_) => usage(error.to_string()),
        WebhookError::Unfit { .. } => {
            Failure::from_error(FailureKind::Failed, &error).with_hint("change it with an editor")
        }
        WebhookError::Directory { source, .. } => of_system(&error, source),
        WebhookError::Read(crate::config::file::ReadError::Io { source, .. })
        | WebhookError::Write(crate::config::file::WriteError::Io { source, .. }) => {
            of_system(&error, source)
        }
        WebhookError::Read(_) | WebhookError::Write(_) | WebhookError::Sealed(_) => {
            Failure::from_error(FailureKind::Failed, &error)
        }
    };
    failure.into()
}

fn of_system(error: &WebhookError, source: &std::io::Error) -> Failure {
    let denied = source.kind() == std::io::ErrorKind::PermissionDenied;
    Failure::from_error(if denied { FailureKind::Denied } else { FailureKind::Failed }, error)
}

/// The outbox, when no daemon answers for it; `None` where none was ever written.
fn outbox(context: &Context) -> CliResult<Option<Store>> {
    super::offline::existing_journal(context)
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    show::samples(gallery);
    list::samples(gallery);
    change::samples(gallery);
}
