//! The part of an application that is done thread by thread: nice values.

use std::path::PathBuf;

use super::{ROUNDS, Run};
use crate::effect::group::label;
use crate::effect::kernel::EffectError;
use crate::effect::nice;
use crate::effect::plan::Plan;
use crate::model::id::ProcKey;
use crate::model::limits::Scope;
use crate::store::{Kind, NewIntent, Tables};

impl Run<'_> {
    pub(super) fn nice_changes(&self, plan: &Plan) -> Result<Vec<NewIntent>, EffectError> {
        let Some(want) = self.apply.limits.nice else { return Ok(Vec::new()) };
        let want = i64::from(want);
        let mut changes = Vec::new();
        for one in &plan.accepted {
            // A child of a process that we set inherited our value: what it had is what its parent had.
            let parent = self.shared.store().read(|tables| tables.nice_prior(one.process.ppid))?;
            for thread in nice::threads(&self.kernel().roots.proc, one.process.key.pid)? {
                let inherited = parent.filter(|(_, new)| *new == thread.nice).map(|(prior, _)| prior);
                let own = |tables: &Tables| tables.has_nice(one.process.key, thread.key);
                let prior = match inherited {
                    Some(prior) if !self.shared.store().read(own)? => prior,
                    Some(_) | None => thread.nice,
                };
                if prior != want {
                    changes.push(self.nice_change(one.process.key, thread.key, prior, want));
                }
            }
        }
        Ok(changes)
    }

    fn nice_change(&self, process: ProcKey, thread: ProcKey, prior: i64, want: i64) -> NewIntent {
        NewIntent {
            group: Some(self.apply.group.clone()),
            place: label((self.apply.scope == Scope::Process).then_some(process)),
            kind: Kind::Nice,
            path: PathBuf::new(),
            item: String::new(),
            process: Some(process),
            thread: Some(thread),
            prior: prior.to_string().into_bytes(),
            new: want.to_string().into_bytes(),
        }
    }

    pub(super) fn set_nice(&mut self, plan: &Plan, changes: &[NewIntent]) -> Result<(), EffectError> {
        let Some(want) = self.apply.limits.nice.map(i64::from) else { return Ok(()) };
        for change in changes.iter().filter(|change| change.kind == Kind::Nice) {
            if let (Some(process), Some(thread)) = (change.process, change.thread) {
                nice::set(process.pid, thread.pid, want)?;
            }
        }
        for process in plan.accepted.iter().map(|one| one.process.key) {
            for _ in 0..ROUNDS {
                let late: Vec<NewIntent> = nice::threads(&self.kernel().roots.proc, process.pid)?
                    .into_iter()
                    .filter(|thread| thread.nice != want)
                    .map(|thread| self.nice_change(process, thread.key, thread.nice, want))
                    .collect();
                if late.is_empty() {
                    break;
                }
                self.record(&late)?;
                for thread in late.iter().filter_map(|change| change.thread) {
                    nice::set(process.pid, thread.pid, want)?;
                }
            }
        }
        Ok(())
    }
}
