//! Lifting everything at once: limits first, so that all are free within microseconds each, then memberships,
//! in one batch, because moves that follow each other at once are cheap and lone ones are not.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use crate::effect::kernel::EffectError;
use crate::effect::restore::{self, Report};
use crate::effect::task::Task;
use crate::effect::throttle::{MoveBatch, Shared, Throttle};
use crate::engine::input::Outcome;
use crate::model::chain::chain;
use crate::model::id::Name;
use crate::store::{Kind, StoreError};

impl Throttle {
    /// Refuses to limit anything from now on, or no longer: what is on its way to the kernel is refused, too.
    pub fn block(&self, on: bool) {
        self.shared.blocked.store(on, Ordering::SeqCst);
    }

    /// Puts back the values of all cgroup files and the attributes of processes, on this thread. The batch that is returned
    /// does the rest: systemd's units, moves, removals, records.
    pub fn lift(&self) -> MoveBatch {
        self.block(true);
        if let Err(error) = self.shared.free() {
            tracing::error!("lift limits at once: {}", chain(&error));
        }
        MoveBatch::of_all(self)
    }
}

/// Protection is no limit, and an emergency is no time to leave critical processes to the OOM killer.
fn is_limit(group: &Name) -> bool {
    !group.is_of_protection()
}

impl Shared {
    /// Records stay: that they are undone is found out again by [`Self::lift`], which is when they are deleted.
    fn free(&self) -> Result<(), StoreError> {
        let mut rows = self.store().read(|tables| tables.intents())?;
        rows.retain(|row| {
            row.boot == self.kernel.boot
                && matches!(row.change.kind, Kind::File | Kind::Attribute(_))
                && row.change.group.as_ref().is_none_or(is_limit)
        });
        let mut report = Report::default();
        restore::undo(&self.kernel, rows, &mut report);
        restore::log_notes(&report);
        report.failures.iter().for_each(|failure| tracing::warn!("not lifted at once: {failure}"));
        Ok(())
    }

    pub(super) fn lift(&self) -> Result<Outcome, EffectError> {
        let report = restore::recover_groups(&self.kernel, &mut self.store(), is_limit)?;
        restore::log_notes(&report);
        let kept = self.store().read(|tables| tables.groups())?;
        let kept: BTreeSet<_> = kept.into_iter().map(|row| row.name).collect();
        self.forget_groups(|name| kept.contains(name));
        self.forget_weights();
        if report.failures.is_empty() {
            Ok(Outcome::Released)
        } else {
            Err(EffectError::Refused(report.failures.join("; ")))
        }
    }

    pub(super) fn expect_permitted(&self, task: &Task) -> Result<(), EffectError> {
        if self.blocked.load(Ordering::SeqCst) && matches!(task, Task::Apply(_)) {
            return Err(EffectError::Refused("an emergency stop is in force".to_owned()));
        }
        if let Task::Apply(apply) = task
            && apply.group.is_of_protection()
        {
            let why = format!("group {}: names that begin with protected. are protection's", apply.group);
            return Err(EffectError::Refused(why));
        }
        if let Task::Apply(apply) = task
            && apply.limits.memory_low.is_some()
        {
            let why = "memory_low is no limit: it is for critical processes".to_owned();
            return Err(EffectError::Refused(why));
        }
        Ok(())
    }
}
