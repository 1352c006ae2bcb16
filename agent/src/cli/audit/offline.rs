//! Records of what a command does by itself. A change is made even if it cannot be recorded, and that is said.

use super::place;
use crate::audit::{Actor, Entry, Log};
use crate::cli::error::{CliError, CliResult};
use crate::cli::globals::Context;
use crate::clock;
use crate::config::Settings;
use crate::control::proto::Request;
use crate::daemon::audited::{change, failed};
use crate::model::audit::Rotation;
use crate::model::chain::chain;

/// Does what a request asks for without a daemon, and records it with its end.
///
/// # Errors
/// Those of `act`.
pub(in crate::cli) fn audited<T>(
    context: &Context,
    request: &Request,
    act: impl FnOnce() -> CliResult<T>,
) -> CliResult<T> {
    match change(request, Actor::myself()) {
        Some(entry) => record(context, entry.with("daemon", "not running"), act),
        None => act(),
    }
}

/// Does something that changes files of the configuration, and records it with its end.
///
/// # Errors
/// Those of `act`.
pub(in crate::cli) fn recorded<T>(
    context: &Context,
    kind: &'static str,
    subject: String,
    act: impl FnOnce() -> CliResult<T>,
) -> CliResult<T> {
    if context.dry_run {
        return act();
    }
    let now = clock::unix_millis(clock::wall());
    record(context, Entry::new(now, kind, Actor::myself(), subject), act)
}

fn record<T>(context: &Context, entry: Entry, act: impl FnOnce() -> CliResult<T>) -> CliResult<T> {
    let result = act();
    let entry = match &result {
        Err(CliError::Failed(failure) | CliError::Unstarted { failure, .. }) => failed(entry, failure),
        // All was done before the output ended.
        Ok(_) | Err(CliError::Exit(_) | CliError::PipeClosed) => entry,
    };
    // A configuration that is broken must not keep anything from being recorded.
    let rotation = Settings::load_own(&context.dirs)
        .map_or(Rotation::DEFAULT, |(settings, _warnings)| settings.audit.rotation);
    if let Err(error) = Log::new(place(context), rotation).append(&[entry]) {
        context.output.message(&format!("Warning: this is not in the audit log: {}", chain(&error)));
    }
    result
}
