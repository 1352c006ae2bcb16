//! `status` from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{existing_store, store_failure};
use crate::cgroup::{Controller, CpuStat, membership};
use crate::cli::error::{CliResult, failed};
use crate::cli::globals::Context;
use crate::cli::processes;
use crate::control::proto::{GroupStatus, Member};
use crate::effect::group::{Group, Place};
use crate::model::id::{Name, ProcKey};
use crate::model::reason::Reason;
use crate::procfs::Proc;
use crate::store::{GroupRow, Intent, StoreError};

/// Groups that a daemon, or `throttle` without one, has left in force.
pub(in crate::cli) fn groups(context: &Context) -> CliResult<Vec<GroupStatus>> {
    let Some(store) = existing_store(context)? else { return Ok(Vec::new()) };
    let read = store.read(|tables| Ok::<_, StoreError>((tables.groups()?, tables.intents()?)));
    let (rows, intents) = read.map_err(|error| store_failure(&error))?;
    let proc = processes::host(context)?;
    let boot = proc.boot_id().map_err(|error| failed(&error))?;
    let mut changes: BTreeMap<&Name, Vec<&Intent>> = BTreeMap::new();
    for intent in intents.iter().filter(|intent| intent.boot == boot) {
        if let Some(group) = &intent.change.group {
            changes.entry(group).or_default().push(intent);
        }
    }
    // Without a change of this boot, the kernel has forgotten the group.
    let known = rows.iter().filter_map(|row| Some((row, changes.get(&row.name)?)));
    known.map(|(row, changes)| status(&proc, row, changes)).collect()
}

/// The rule to which a group belongs.
pub(super) fn rule_of(row: &GroupRow) -> Option<&Name> {
    match &row.reason {
        Reason::Rule { rule, .. } | Reason::RuleGone { rule } | Reason::Condition { rule, .. } => Some(rule),
        Reason::Adjusted { rule, .. } => rule.as_ref(),
        Reason::Operator { .. }
        | Reason::Protected { .. }
        | Reason::Intruded { .. }
        | Reason::Empty
        | Reason::Expired
        | Reason::Stopping
        | Reason::Recovered => None,
    }
}

fn status(proc: &Proc, row: &GroupRow, changes: &[&Intent]) -> CliResult<GroupStatus> {
    let places = Group::from_row(row, false).map(|group| group.places).unwrap_or_default();
    let quota = quota_stat(&places);
    Ok(GroupStatus {
        group: row.name.clone(),
        rule: rule_of(row).cloned(),
        limits: row.limits.clone(),
        scope: row.scope,
        how: row.how.clone(),
        // Only the daemon watches for them.
        conflicts: Vec::new(),
        members: members(proc, &places, changes)?,
        throttled_periods: quota.map(|stat| stat.throttled_periods),
        throttled_us: quota.map(|stat| stat.throttled_ns / 1_000),
        cpu_delay: None,
        policy: None,
        reason: row.reason.clone(),
        since: jiff::Timestamp::from_millisecond(row.changed).ok(),
        until: row.until.and_then(|until| jiff::Timestamp::from_millisecond(until).ok()),
    })
}

/// Those that were brought in and live, and their children in the same cgroups.
fn members(proc: &Proc, places: &[Place], changes: &[&Intent]) -> CliResult<Vec<Member>> {
    let mut pids: BTreeSet<u32> = BTreeSet::new();
    for path in places.iter().flat_map(Place::paths) {
        // A cgroup that is gone holds nobody.
        pids.extend(membership::members(path).unwrap_or_default());
    }
    let named: BTreeSet<ProcKey> = changes.iter().filter_map(|intent| intent.change.process).collect();
    let mut members = Vec::new();
    for pid in pids.iter().copied().chain(named.iter().map(|key| key.pid)).collect::<BTreeSet<_>>() {
        let Some(process) = proc.process(pid).map_err(|error| failed(&error))? else { continue };
        if pids.contains(&pid) || named.contains(&process.key) {
            members.push(Member { key: process.key, comm: process.comm });
        }
    }
    Ok(members)
}

/// Sum over the cgroups with a quota; `None` when there is none or it cannot be read.
fn quota_stat(places: &[Place]) -> Option<CpuStat> {
    let dirs = places.iter().filter_map(|place| place.dir(Controller::Cpu)).map(Path::to_owned);
    CpuStat::total(CpuStat::each(dirs.collect()).map(|(_, stat)| stat))
}
