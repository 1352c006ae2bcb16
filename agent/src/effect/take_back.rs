//! Taking back an application that failed half-way, so that the group is as it was before.

use crate::cgroup::{Knob, Part};
use crate::effect::apply::Run;
use crate::effect::attribute;
use crate::effect::group::Group;
use crate::effect::kernel::EffectError;
use crate::effect::moves::is_same;
use crate::effect::restore::{self, Report};
use crate::model::chain::chain;
use crate::store::{Intent, Kind};

impl Run<'_> {
    /// Undoes this run: new rows are restored, changed ones get our own value before, the group its row.
    pub(super) fn take_back(&self, error: EffectError, before: Option<&Group>) -> EffectError {
        let mut report = Report::default();
        let result = self.try_take_back(before, &mut report);
        if let Err(failed) = result {
            report.failures.push(chain(&failed));
        }
        restore::log_notes(&report);
        if report.failures.is_empty() {
            error
        } else {
            EffectError::Stands { error: chain(&error), standing: report.failures.join("; ") }
        }
    }

    fn try_take_back(&self, before: Option<&Group>, report: &mut Report) -> Result<(), EffectError> {
        let group = &self.apply.group;
        if let Err(failed) = self.shared.level(group, before, &self.apply.reason) {
            report.failures.push(chain(&failed));
        }
        let (mut rows, shared_rows) = self
            .shared
            .store()
            .read(|tables| Ok::<_, EffectError>((tables.intents_of(group)?, tables.shared_intents()?)))?;
        let changed: Vec<Intent> = rows.iter().filter(|row| row.superseded.is_some()).cloned().collect();
        for row in &changed {
            if let Err(failed) = self.back_to_superseded(row) {
                report.failures.push(chain(&failed));
            }
        }
        rows.retain(|row| self.fresh.contains(&row.id));
        let undone = restore::undo(self.kernel(), rows, report);
        let fresh_shared = shared_rows.into_iter().filter(|row| self.fresh.contains(&row.id)).collect();
        let shared_ids = restore::undo_shared(self.kernel(), fresh_shared, report);
        self.shared.store().write(|tables| {
            tables.delete_intents(&undone.ids)?;
            tables.delete_intents(&shared_ids)?;
            changed.iter().try_for_each(|row| tables.revert_intent(row.id))?;
            match before {
                Some(before) => tables.put_group(&self.row(before)),
                None if undone.left.is_empty() => tables.delete_group(group),
                None => Ok(()),
            }
        })?;
        Ok(())
    }

    fn back_to_superseded(&self, row: &Intent) -> Result<(), EffectError> {
        let Some(value) = &row.superseded else { return Ok(()) };
        let value = String::from_utf8_lossy(value);
        match (row.change.kind, row.change.process, row.change.thread) {
            (Kind::File, _, _) => {
                let knob = Knob::open(row.change.path.clone(), Part::from_item(&row.change.item))?;
                if knob.read()?.as_bytes() == row.change.new {
                    knob.set(&value)?;
                }
            }
            (Kind::Attribute(attribute), Some(process), Some(thread)) => {
                if is_same(&self.kernel().roots.proc, process).unwrap_or(false) {
                    let base = String::from_utf8_lossy(&row.change.prior);
                    attribute::set(&self.kernel().roots.proc, attribute, process, thread, &value, &base)?;
                }
            }
            (Kind::UnitProperty, _, _) => restore::unit_back_to(self.kernel(), row, &value)?,
            (
                Kind::Attribute(_)
                | Kind::Membership
                | Kind::CreatedDir
                | Kind::EnabledController
                | Kind::TransientUnit,
                _,
                _,
            ) => {}
        }
        Ok(())
    }
}
