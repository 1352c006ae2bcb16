//! `throttle` without a daemon: the limits stay until `release`, because nobody is there to end them. A daemon
//! that is started later takes them over.

use std::collections::BTreeSet;

use super::groups::rule_of;
use super::{carry_out, effect_failure, existing_store, kernel, lock, operator, store, store_failure};
use crate::cli::audit::audited;
use crate::cli::error::{CliResult, failed};
use crate::cli::globals::Context;
use crate::cli::processes;
use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{Member, Refused, Request, Throttle as Spec, Throttled};
use crate::daemon::wishes::{Made, Wishes};
use crate::effect::Throttle;
use crate::effect::group::Group;
use crate::effect::plan::{Reach, plan};
use crate::engine::action::{Apply, What};
use crate::engine::input::Outcome;
use crate::model::chain::chain;
use crate::model::id::{Name, NameError, ProcKey};
use crate::model::policy::Policy;
use crate::model::process::Comm;
use crate::procfs::Proc;
use crate::store::{GroupRow, Store, StoreError, Wish};

/// Brings limits into force.
pub(in crate::cli) fn throttle(context: &Context, spec: &Spec) -> CliResult<Throttled> {
    audited(context, &Request::Throttle(spec.clone()), || limit(context, spec))
}

fn limit(context: &Context, spec: &Spec) -> CliResult<Throttled> {
    super::emergency::expect_none(context)?;
    let proc = processes::host(context)?;
    let mut kernel = kernel(context)?;
    // Only `run` names this process.
    if spec.processes.iter().any(|process| process.pid == std::process::id()) {
        kernel.guard = kernel.guard.allowing_itself();
    }
    let apply = apply(spec, kernel.systemd)?;
    if spec.dry_run {
        let row = existing_store(context)?.map(|store| row(&store, &apply.group)).transpose()?.flatten();
        refuse_rules(row.as_ref())?;
        let group = row.and_then(|row| Group::from_row(&row, false));
        let planned = plan(&kernel, group.as_ref(), &apply, &BTreeSet::new(), Reach::Systemd);
        let planned = planned.map_err(|error| effect_failure(&error))?;
        let refused = planned.refused.iter().map(|(key, why)| (*key, why.to_string())).collect();
        return throttled(&proc, apply, planned.how(), planned.members(), refused, true);
    }
    let _lock = lock(context)?;
    let mut store = store(context)?;
    refuse_rules(row(&store, &apply.group)?.as_ref())?;
    let mut wishes = Wishes::recover(&kernel, &mut store).map_err(|error| store_failure(&error))?;
    let executor = Throttle::open(kernel, store).map_err(|error| store_failure(&error))?;
    match carry_out(&executor, What::Apply(apply.clone()))? {
        Outcome::Applied { how, members, refused, borrowed: _, at: _ } => {
            note(&mut wishes, &apply, &members);
            wishes.save(&executor).map_err(|error| unnoted(&apply.group, &error))?;
            throttled(&proc, apply, how, members, refused, false)
        }
        Outcome::Released | Outcome::Busy | Outcome::Entangled { .. } | Outcome::Failed { .. } => {
            Err(Failure::new(FailureKind::Failed, "limits were asked for and something else was done").into())
        }
    }
}

fn apply(spec: &Spec, systemd: bool) -> CliResult<Apply> {
    let members: Vec<ProcKey> = spec
        .processes
        .iter()
        .filter_map(|process| Some(ProcKey { pid: process.pid, start: process.start? }))
        .collect();
    let unnamed = || Failure::new(FailureKind::Usage, "no process is named");
    let first = members.first().ok_or_else(unnamed)?;
    let group = match &spec.group {
        Some(group) => group.clone(),
        None => format!("pid-{}", first.pid).parse().map_err(|error: NameError| failed(&error))?,
    };
    let reason = operator(format!("throttle group {group} to {}", spec.limits));
    Ok(Apply {
        group,
        limits: spec.limits.clone(),
        scope: spec.scope,
        allow_move: spec.may_move(systemd),
        whole_unit: spec.whole_unit,
        // The executor makes sure that nobody else is in the cgroup.
        in_place: true,
        sharers: Vec::new(),
        rewrite: false,
        members,
        reason,
        caused_at: clock::now(),
    })
}

/// Notes what a daemon has to take over.
fn note(wishes: &mut Wishes, apply: &Apply, members: &[ProcKey]) {
    let mut wish = Wish {
        name: apply.group.clone(),
        limits: apply.limits.clone(),
        scope: apply.scope,
        allow_move: apply.allow_move,
        whole_unit: apply.whole_unit,
        policy: Policy::Fixed,
        members: Vec::new(),
        until: None,
        reason: apply.reason.clone(),
        created: clock::unix_millis(clock::wall()),
    };
    let former = wishes.get(&apply.group).map(|wish| wish.members.clone()).unwrap_or_default();
    wish.set_members(former.into_iter().chain(members.iter().copied()));
    let made = Made::from([(wish.name.clone(), wish.members.clone())]);
    wishes.put(wish);
    wishes.follow(&made);
}

fn unnoted(group: &Name, error: &StoreError) -> Failure {
    let message = format!("group {group} is limited, but a daemon will lift it: {}", chain(error));
    Failure::new(FailureKind::Partial, message)
}

fn row(store: &Store, group: &Name) -> CliResult<Option<GroupRow>> {
    let rows = store.read(|tables| tables.groups()).map_err(|error| store_failure(&error))?;
    Ok(rows.into_iter().find(|row| row.name == *group))
}

/// A daemon that comes back would undo what was mixed into its rules' groups.
fn refuse_rules(row: Option<&GroupRow>) -> CliResult {
    if let Some(row) = row
        && let Some(rule) = rule_of(row)
    {
        let message = format!("group {} belongs to rule {rule}", row.name);
        return Err(Failure::new(FailureKind::Conflict, message).with_hint("choose another --group").into());
    }
    Ok(())
}

fn throttled(
    proc: &Proc,
    apply: Apply,
    how: String,
    members: Vec<ProcKey>,
    refused: Vec<(ProcKey, String)>,
    dry_run: bool,
) -> CliResult<Throttled> {
    let member = |key: ProcKey| -> CliResult<Member> {
        let process = proc.process(key.pid).map_err(|error| failed(&error))?;
        let comm =
            process.filter(|process| process.key == key).map_or(Comm::default(), |process| process.comm);
        Ok(Member { key, comm })
    };
    Ok(Throttled {
        group: apply.group,
        limits: apply.limits,
        how,
        members: members.into_iter().map(member).collect::<CliResult<_>>()?,
        refused: refused.into_iter().map(|(key, why)| Refused { pid: key.pid, why }).collect(),
        until: None,
        dry_run,
    })
}
