//! What commands do when no daemon runs: with the store and the kernel directly, under the lock that a daemon
//! would hold.

mod emergency;
mod groups;
mod release;
mod throttle;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::error::{CliError, CliResult, failed};
use super::globals::Context;
use crate::cgroup::Roots;
use crate::control::failure::{Failure, FailureKind};
use crate::daemon::lock::{LockError, PidLock};
use crate::effect::{EffectError, Kernel, Step, Throttle};
use crate::engine::action::{Action, ActionId, What};
use crate::engine::input::Outcome;
use crate::model::plural::counted;
use crate::model::reason::Reason;
use crate::store::{Durability, Store, StoreError};

pub(super) use emergency::emergency;
pub(super) use groups::groups;
pub(super) use release::{release, release_as_on_stop};
pub(super) use throttle::throttle;

/// The kernel's interfaces where the configuration says. A configuration that is broken must not keep anyone
/// from releasing.
fn kernel(context: &Context) -> CliResult<Kernel> {
    let host = &context.dirs.host;
    let mut roots = Roots::of_agent(host.cgroup.clone(), host.proc.clone(), &context.dirs.state);
    let mut allow_containers = false;
    let instead = format!("cgroups are looked for in {}", roots.cgroup.display());
    if let Some(settings) = context.settings_or(&instead) {
        roots.cgroup = settings.cgroup_root;
        allow_containers = settings.allow_containers;
    }
    let kernel = Kernel::open(roots).map_err(|error| effect_failure(&error))?;
    Ok(Kernel { allow_containers, ..kernel })
}

/// Keeps daemons and other commands out until dropped.
pub(super) fn lock(context: &Context) -> CliResult<PidLock> {
    make_dir(&context.dirs.runtime, 0o755)?;
    PidLock::take(&context.dirs.pid_file()).map_err(|error| {
        let kind = match &error {
            LockError::Held { .. } => FailureKind::Conflict,
            LockError::Io { source, .. } if is_denied(source) => FailureKind::Denied,
            LockError::Io { .. } => FailureKind::Failed,
        };
        Failure::from_error(kind, &error).into()
    })
}

/// Opens the store, and makes it if there is none yet.
fn store(context: &Context) -> CliResult<Store> {
    make_dir(&context.dirs.state, 0o700)?;
    open_store(context)
}

/// Opens the store if there is one.
fn existing_store(context: &Context) -> CliResult<Option<Store>> {
    if is_there(&context.dirs.state_db())? { open_store(context).map(Some) } else { Ok(None) }
}

fn open_store(context: &Context) -> CliResult<Store> {
    let opened =
        Store::open(&context.dirs.state_db(), Durability::Process).map_err(|error| store_failure(&error))?;
    if let Some((aside, kept)) = opened.set_aside {
        context.output.message(&format!(
            "Warning: the state was damaged and set aside as {}; {} could be read, and kept",
            aside.display(),
            counted(kept, "change", "changes")
        ));
    }
    Ok(opened.store)
}

/// Opens the journal, and makes it if there is none yet. A daemon may have it open, too.
///
/// # Errors
/// When it cannot be opened or made.
pub(super) fn journal(context: &Context) -> CliResult<Store> {
    make_dir(&context.dirs.state, 0o700)?;
    let opened =
        Store::open(&context.dirs.journal_db(), Durability::Power).map_err(|error| store_failure(&error))?;
    if let Some((aside, _)) = opened.set_aside {
        let aside = aside.display();
        context.output.message(&format!("Warning: the journal was damaged and set aside as {aside}"));
    }
    Ok(opened.store)
}

/// Opens the journal if there is one.
///
/// # Errors
/// When it cannot be opened.
pub(super) fn existing_journal(context: &Context) -> CliResult<Option<Store>> {
    if is_there(&context.dirs.journal_db())? { journal(context).map(Some) } else { Ok(None) }
}

/// Whether there is such a file of the state. Not being allowed to look is no answer: nothing would look like nothing
/// having happened.
///
/// # Errors
/// When this user may not read it.
pub(super) fn is_there(path: &Path) -> CliResult<bool> {
    // Not opened: to close it would drop the locks that this process has on it (fcntl(2), "Advisory record locking").
    match rustix::fs::access(path, rustix::fs::Access::READ_OK) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(store_failure(&StoreError::io("read", path, errno.into()))),
    }
}

pub(super) fn make_dir(path: &Path, mode: u32) -> CliResult {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| {
        let kind = if is_denied(&error) { FailureKind::Denied } else { FailureKind::Failed };
        Failure::new(kind, format!("create {}: {error}", path.display())).into()
    })
}

fn is_denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}

pub(super) fn store_failure(error: &StoreError) -> CliError {
    if error.is_full() {
        let failure = Failure::from_error(FailureKind::Failed, error);
        return failure.with_hint("the disk is full: see df -h, and make room").into();
    }
    if error.is_busy() {
        let failure = Failure::from_error(FailureKind::Conflict, error);
        return failure
            .with_hint("an agent that starts or stops has it to itself: try again in a moment")
            .into();
    }
    match error {
        StoreError::Io { source, .. } if is_denied(source) => Failure::from_error(FailureKind::Denied, error)
            .with_hint("become root, or the user whose state it is")
            .into(),
        StoreError::Io { .. }
        | StoreError::Sql { .. }
        | StoreError::Newer { .. }
        | StoreError::Migrate { .. }
        | StoreError::Malformed { .. }
        | StoreError::Taken { .. } => failed(error),
    }
}

fn effect_failure(error: &EffectError) -> CliError {
    match error {
        EffectError::Store(error) => store_failure(error),
        EffectError::Stands { .. } => Failure::from_error(FailureKind::Partial, error).into(),
        EffectError::Refused(_) => Failure::from_error(FailureKind::Conflict, error).into(),
        EffectError::Cgroup(_)
        | EffectError::Systemd(_)
        | EffectError::ReadAttribute { .. }
        | EffectError::SetAttribute { .. } => failed(error),
    }
}

/// Carries out one action to its end.
fn carry_out(executor: &Throttle, what: What) -> CliResult<Outcome> {
    let action = Action { id: ActionId(1), at: crate::clock::now(), what };
    // Without a daemon no profile is in force, and so no process is critical.
    let outcome = match executor.execute(&action, &std::collections::BTreeSet::new()) {
        Some(Step::Done(outcome)) => outcome,
        Some(Step::Moves(batch)) => batch.run(),
        None => return Err(Failure::new(FailureKind::Failed, "no executor for this action").into()),
    };
    match outcome {
        Outcome::Failed { error } | Outcome::Entangled { why: error } => {
            Err(Failure::new(FailureKind::Failed, error).into())
        }
        Outcome::Applied { .. } | Outcome::Released | Outcome::Busy => Ok(outcome),
    }
}

/// Who asks, for the record.
fn operator(request: String) -> Reason {
    Reason::Operator { uid: nix::unistd::getuid().as_raw(), request }
}
