//! `emergency stop` and `resume` without a daemon.

use super::{kernel, lock, make_dir, store, store_failure};
use crate::cli::audit::audited;
use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{Emergency, EmergencyOrder, EmergencyStatus, Request};
use crate::daemon::emergency::{record, told, would_resume};
use crate::effect::restore;
use crate::store::block::Block;

/// Lifts everything and keeps it so, or ends that.
pub(in crate::cli) fn emergency(context: &Context, spec: Emergency) -> CliResult<EmergencyStatus> {
    audited(context, &Request::Emergency(spec.clone()), || carry_out(context, spec))
}

fn carry_out(context: &Context, spec: Emergency) -> CliResult<EmergencyStatus> {
    let path = context.dirs.emergency_file();
    let uid = nix::unistd::getuid().as_raw();
    match spec.order {
        EmergencyOrder::Tell => {
            let block = Block::read(&path).map_err(|error| store_failure(&error))?;
            Ok(block.map(told).unwrap_or_default())
        }
        EmergencyOrder::Stop { reason } => {
            let block = record(reason, uid);
            if spec.dry_run {
                return Ok(EmergencyStatus { dry_run: true, ..told(block) });
            }
            stop(context, block)
        }
        EmergencyOrder::Resume => {
            if spec.dry_run {
                let block = Block::read(&path).map_err(|error| store_failure(&error))?;
                return Ok(would_resume(block));
            }
            Block::clear(&path).map_err(|error| store_failure(&error))?;
            Ok(EmergencyStatus::default())
        }
    }
}

fn stop(context: &Context, mut block: Block) -> CliResult<EmergencyStatus> {
    let began = clock::now();
    let path = context.dirs.emergency_file();
    make_dir(&context.dirs.state, 0o700)?;
    // First of all: a daemon that starts meanwhile limits nothing. But a disk that cannot be written must not keep
    // anything limited.
    let recorded = block.write(&path);
    let _lock = lock(context)?;
    let kernel = kernel(context)?;
    let mut store = store(context)?;
    let report = restore::release_all(&kernel, &mut store).map_err(|error| store_failure(&error))?;
    let forgotten = store.write(|tables| tables.delete_wishes());
    for note in &report.notes {
        context.output.message(&format!("note: {note}"));
    }
    if !report.failures.is_empty() {
        let kind = if report.restored > 0 { FailureKind::Partial } else { FailureKind::Failed };
        let message = format!("these could not be lifted:\n  {}", report.failures.join("\n  "));
        return Err(Failure::new(kind, message)
            .with_hint("what is left is kept on record: try again")
            .into());
    }
    block.released = Some(report.groups.len());
    recorded.and_then(|()| block.write(&path)).and(forgotten).map_err(|error| {
        let failure = Failure::from_error(FailureKind::Partial, &error);
        failure.with_hint("everything is lifted, but a daemon that is started would limit again: make room")
    })?;
    let took = clock::now().since(began).as_millis();
    Ok(EmergencyStatus { took_ms: u64::try_from(took).ok(), ..told(block) })
}

/// Refuses to limit while an emergency stop is in force.
pub(super) fn expect_none(context: &Context) -> CliResult {
    match Block::read(&context.dirs.emergency_file()).map_err(|error| store_failure(&error))? {
        None => Ok(()),
        Some(block) => {
            let message = format!("an emergency stop is in force: {}", block.reason);
            let failure = Failure::new(FailureKind::Conflict, message);
            Err(failure.with_hint("process-throttler emergency resume").into())
        }
    }
}
