//! The part of an application that is done process by process and thread by thread: attributes.

use std::path::PathBuf;

use super::Run;
use super::moving::ROUNDS;
use crate::effect::attribute;
use crate::effect::fail_point::Point;
use crate::effect::group::label;
use crate::effect::kernel::EffectError;
use crate::effect::plan::{Candidate, Plan};
use crate::effect::protect::Refusal;
use crate::model::attribute::{Attribute, Demand};
use crate::model::id::ProcKey;
use crate::model::limits::Scope;
use crate::store::{AttributeRecord, Kind, NewIntent};

/// A change of an attribute of a thread.
#[derive(Debug)]
pub(super) struct Change {
    attribute: Attribute,
    process: ProcKey,
    thread: ProcKey,
    /// What is in the kernel, in the words of the record where it is ours; where it was inherited, what the
    /// one had that it came from.
    prior: String,
    new: String,
    /// The value without us.
    base: String,
}

/// The changes of a process, and how much of it they leave out.
struct OfProcess {
    changes: Vec<Change>,
    threads: usize,
    special: usize,
}

impl Run<'_> {
    /// What is to be changed. Processes for which nothing can be done are refused.
    pub(super) fn attribute_changes(&self, plan: &mut Plan) -> Result<Vec<Change>, EffectError> {
        let demands = plan.demands.clone();
        let of_threads_only = !self.apply.limits.needs_cgroup()
            && !demands.iter().any(|demand| demand.attribute().is_of_process());
        let mut changes = Vec::new();
        if demands.is_empty() {
            return Ok(changes);
        }
        let mut accepted = Vec::with_capacity(plan.accepted.len());
        for one in std::mem::take(&mut plan.accepted) {
            let found = self.changes_of(&one, &demands)?;
            if of_threads_only && found.special > 0 && found.special == found.threads {
                let why = "all its threads have real-time policies, which are left alone";
                plan.refused.push((one.process.key, Refusal::NotAllowed(why.to_owned())));
                continue;
            }
            if found.special > 0 {
                let (pid, special, threads) = (one.process.key.pid, found.special, found.threads);
                plan.notes.push(format!(
                    "{special} of {threads} threads of process {pid} have real-time policies and are left alone"
                ));
            }
            changes.extend(found.changes);
            accepted.push(one);
        }
        plan.accepted = accepted;
        Ok(changes)
    }

    fn changes_of(&self, one: &Candidate, demands: &[Demand]) -> Result<OfProcess, EffectError> {
        let (proc, process) = (&self.kernel().roots.proc, one.process.key);
        let threads = attribute::threads(proc, process.pid)?;
        let mut plain = Vec::with_capacity(threads.len());
        for thread in &threads {
            let read = |source| EffectError::ReadAttribute {
                attribute: Attribute::Sched,
                pid: process.pid,
                tid: thread.pid,
                source,
            };
            if !attribute::is_special(thread.pid).map_err(read)? {
                plain.push(*thread);
            }
        }
        let special = threads.len() - plain.len();
        let leader = [ProcKey { pid: process.pid, ..process }];
        let mut changes = Vec::new();
        for demand in demands {
            let holders = if demand.attribute().is_of_process() { &leader[..] } else { &plain };
            changes.extend(self.changes_for(one, demand, holders)?);
        }
        Ok(OfProcess { changes, threads: threads.len(), special })
    }

    fn changes_for(
        &self,
        one: &Candidate,
        demand: &Demand,
        holders: &[ProcKey],
    ) -> Result<Vec<Change>, EffectError> {
        let (attribute, process) = (demand.attribute(), one.process.key);
        let (rows, parent) = self.shared.store().read(|tables| {
            let rows = tables.recorded(attribute, process)?;
            Ok::<_, EffectError>((rows, tables.recorded_of_leader(attribute, one.process.ppid)?))
        })?;
        let mut changes = Vec::with_capacity(holders.len());
        let mut differs = false;
        for thread in holders {
            let now = attribute::read(&self.kernel().roots.proc, attribute, process, *thread)?;
            let Some(now) = now else { continue };
            let own = rows.iter().find(|row| row.thread == *thread);
            // A child inherits from its parent what we set there, and so does a thread that was born later than
            // its process was set. What it had is what that one had.
            let from = || rows.iter().chain(&parent).find(|row| ours(attribute, row, &now).is_some());
            let (prior, base) = match own.map(|row| (row, ours(attribute, row, &now))) {
                Some((row, Some(set))) => (set.to_owned(), row.prior.clone()),
                Some((_, None)) => (now.clone(), now.clone()),
                None => from()
                    .map_or_else(|| (now.clone(), now.clone()), |row| (row.prior.clone(), row.prior.clone())),
            };
            let Some(new) = attribute::target(demand, &base) else { continue };
            let moves = !attribute::is_as_set(attribute, &now, &new) || (own.is_none() && prior != now);
            differs |= moves;
            // Once any thread is changed, all are on record: one that had the value already keeps it.
            if moves || own.is_none() {
                changes.push(Change { attribute, process, thread: *thread, prior, new, base });
            }
        }
        if !differs {
            changes.clear();
        }
        Ok(changes)
    }

    pub(super) fn attribute_intent(&self, change: &Change) -> NewIntent {
        NewIntent {
            group: Some(self.apply.group.clone()),
            place: label((self.apply.scope == Scope::Process).then_some(change.process)),
            kind: Kind::Attribute(change.attribute),
            path: PathBuf::new(),
            inode: 0,
            item: String::new(),
            process: Some(change.process),
            thread: Some(change.thread),
            prior: change.prior.clone().into_bytes(),
            new: change.new.clone().into_bytes(),
        }
    }

    /// Sets what is recorded, then whatever threads turn up that were born meanwhile.
    pub(super) fn set_attributes(&mut self, plan: &Plan, changes: &[Change]) -> Result<(), EffectError> {
        self.set_all(changes)?;
        if plan.demands.is_empty() {
            return Ok(());
        }
        for one in &plan.accepted {
            for _ in 0..ROUNDS {
                let late = self.changes_of(one, &plan.demands)?.changes;
                if late.is_empty() {
                    break;
                }
                let intents: Vec<NewIntent> =
                    late.iter().map(|change| self.attribute_intent(change)).collect();
                self.record(&intents)?;
                self.set_all(&late)?;
            }
        }
        Ok(())
    }

    fn set_all(&self, changes: &[Change]) -> Result<(), EffectError> {
        let proc = &self.kernel().roots.proc;
        for Change { attribute, process, thread, new, base, .. } in changes {
            attribute::set(proc, *attribute, *process, *thread, new, base)?;
            self.shared.point(Point::AttributeSet);
        }
        Ok(())
    }
}

/// What we set, if that is what is in the kernel now.
fn ours<'a>(attribute: Attribute, row: &'a AttributeRecord, now: &str) -> Option<&'a str> {
    // Where others had put the value back, it was not ours.
    let superseded = row.superseded.as_deref().filter(|value| *value != row.prior);
    [Some(row.new.as_str()), superseded]
        .into_iter()
        .flatten()
        .find(|set| attribute::is_as_set(attribute, now, set))
}
