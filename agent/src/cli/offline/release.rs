//! `release` without a daemon.

use super::groups::groups;
use super::{carry_out, existing_store, kernel, lock, operator, store, store_failure};
use crate::cli::audit::audited;
use crate::cli::error::{CliResult, failed};
use crate::cli::globals::Context;
use crate::cli::processes;
use crate::config::settings::{OnStop, Settings};
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{GroupStatus, ProcRef, Release, ReleaseOf, Released, Request};
use crate::daemon::wishes::Wishes;
use crate::effect::Throttle;
use crate::effect::restore::{self, Report};
use crate::engine::action::What;
use crate::model::chain::chain;
use crate::model::id::{Name, ProcKey};
use crate::model::plural::counted;
use crate::store::Wish;

/// Restores prior values.
pub(in crate::cli) fn release(context: &Context, spec: &Release) -> CliResult<Released> {
    audited(context, &Request::Release(spec.clone()), || let_go(context, spec))
}

fn let_go(context: &Context, spec: &Release) -> CliResult<Released> {
    if spec.dry_run {
        let (groups, processes) = targets(context, &spec.target)?;
        return Ok(Released { groups, processes, dry_run: true });
    }
    let _lock = lock(context)?;
    if spec.target == ReleaseOf::All {
        return lift(context, true);
    }
    let (groups, processes) = targets(context, &spec.target)?;
    let (kernel, mut store) = (kernel(context)?, store(context)?);
    let mut wishes = Wishes::recover(&kernel, &mut store).map_err(|error| store_failure(&error))?;
    groups.iter().for_each(|group| wishes.forget(group));
    wishes.forget_processes(&processes.iter().copied().collect());
    let executor = Throttle::open(kernel, store).map_err(|error| store_failure(&error))?;
    // A full disk must not keep limits in force.
    let forgotten = wishes.save(&executor);
    let mut released = Released::default();
    for group in groups {
        let reason = operator(format!("release --group {group}"));
        carry_out(&executor, What::Release { group: group.clone(), reason })?;
        released.groups.push(group);
    }
    for key in processes {
        for group in holders(&super::groups(context)?, key) {
            let reason = operator(format!("release --pid {}", key.pid));
            carry_out(&executor, What::Detach { group, key, reason })?;
        }
        released.processes.push(key);
    }
    forgotten.map_err(|error| {
        let message = format!("released, but a daemon will limit it again: {}", chain(&error));
        Failure::new(FailureKind::Partial, message)
    })?;
    Ok(released)
}

/// Restores prior values unless the configuration says to keep limits when the daemon stops. Asks no daemon: where
/// a service manager listens on its socket, asking would start one.
pub(in crate::cli) fn release_as_on_stop(context: &Context, spec: &Release) -> CliResult<Released> {
    match Settings::load_own(&context.dirs) {
        Ok((settings, _)) if settings.on_stop == OnStop::Keep => {
            return Ok(Released { dry_run: spec.dry_run, ..Released::default() });
        }
        Ok(_) => {}
        // A configuration that cannot be read asks for nothing special.
        Err(findings) => {
            context.output.message(&format!("Warning: on_stop is not known, limits are lifted: {findings}"));
        }
    }
    if spec.dry_run {
        return let_go(context, spec);
    }
    audited(context, &Request::Release(spec.clone()), || {
        let _lock = lock(context)?;
        // What operators wish for comes back with the next daemon.
        lift(context, false)
    })
}

/// Restores everything.
fn lift(context: &Context, forget_wishes: bool) -> CliResult<Released> {
    let kernel = kernel(context)?;
    let mut store = store(context)?;
    // First, so that a start after a death in between brings nothing back.
    let forgotten = if forget_wishes { store.write(|tables| tables.delete_wishes()).err() } else { None };
    let report = restore::release_all(&kernel, &mut store);
    let mut report = report.map_err(|error| store_failure(&error))?;
    report.failures.extend(forgotten.map(|error| chain(&error)));
    told(context, report)
}

/// The groups and processes that are meant.
fn targets(context: &Context, target: &ReleaseOf) -> CliResult<(Vec<Name>, Vec<ProcKey>)> {
    let present = groups(context)?;
    let names = |wanted: &dyn Fn(&GroupStatus) -> bool| -> Vec<Name> {
        present.iter().filter(|group| wanted(group)).map(|group| group.group.clone()).collect()
    };
    let wishes = wishes(context)?;
    let (found, what) = match target {
        ReleaseOf::All => return Ok((names(&|_| true), Vec::new())),
        // It may hold nothing now and be about to come back with the daemon.
        ReleaseOf::Group(name) if wishes.iter().any(|wish| wish.name == *name) => {
            return Ok((vec![name.clone()], Vec::new()));
        }
        ReleaseOf::Group(name) => {
            (names(&|group| group.group == *name), format!("no group {name} is limited"))
        }
        ReleaseOf::Rule(rule) => {
            (names(&|group| group.rule.as_ref() == Some(rule)), format!("no group of rule {rule} is limited"))
        }
        ReleaseOf::Process(process) => {
            let key = identify(context, *process)?;
            let wished = wishes.iter().any(|wish| wish.members.contains(&key));
            if !wished && holders(&present, key).is_empty() {
                let message = format!("process {} is not limited", key.pid);
                return Err(Failure::new(FailureKind::NotFound, message).into());
            }
            return Ok((Vec::new(), vec![key]));
        }
    };
    if found.is_empty() {
        Err(Failure::new(FailureKind::NotFound, what).into())
    } else {
        Ok((found, Vec::new()))
    }
}

/// What comes back when a daemon is started.
fn wishes(context: &Context) -> CliResult<Vec<Wish>> {
    let Some(store) = existing_store(context)? else { return Ok(Vec::new()) };
    let boot = processes::host(context)?.boot_id().map_err(|error| failed(&error))?;
    store.read(|tables| tables.wishes(&boot)).map_err(|error| store_failure(&error))
}

fn holders(groups: &[GroupStatus], key: ProcKey) -> Vec<Name> {
    let holds = |group: &&GroupStatus| group.members.iter().any(|member| member.key == key);
    groups.iter().filter(holds).map(|group| group.group.clone()).collect()
}

fn identify(context: &Context, process: ProcRef) -> CliResult<ProcKey> {
    let ProcRef { pid, start } = process;
    if let Some(start) = start {
        return Ok(ProcKey { pid, start });
    }
    let gone = || Failure::new(FailureKind::NotFound, format!("no process has pid {pid}"));
    Ok(processes::key_of(&processes::host(context)?, pid)?.ok_or_else(gone)?)
}

fn told(context: &Context, report: Report) -> CliResult<Released> {
    let Report { restored, groups, notes, failures } = report;
    for note in notes {
        context.output.message(&format!("note: {note}"));
    }
    if failures.is_empty() {
        return Ok(Released { groups, processes: Vec::new(), dry_run: false });
    }
    let kind = if restored > 0 { FailureKind::Partial } else { FailureKind::Failed };
    let failures = failures.join("\n  ");
    let message = format!(
        "{} undone; these could not be:\n  {failures}",
        counted(restored, "change was", "changes were")
    );
    Err(Failure::new(kind, message).with_hint("what is left is kept on record: try again").into())
}
