//! Ending what was applied: a whole group, one process of it, or what is left of processes that ended.

use std::collections::BTreeSet;

use crate::cgroup::membership;
use crate::effect::fail_point::Point;
use crate::effect::group::{Group, Place, Rung};
use crate::effect::kernel::EffectError;
use crate::effect::moves::is_same;
use crate::effect::restore::{self, Report};
use crate::effect::throttle::Shared;
use crate::engine::input::Outcome;
use crate::model::chain::chain;
use crate::model::id::{Name, ProcKey};
use crate::model::limits::Scope;
use crate::model::reason::Reason;
use crate::store::{Intent, Kind, StoreError};

/// Records of a group that are kept without asking whether their processes are alive.
pub(super) const KEEP: usize = 256;

impl Shared {
    pub(super) fn release(&self, group: &Name) -> Result<Outcome, EffectError> {
        let rows = self.store().read(|tables| tables.intents_of(group))?;
        self.undo(group, rows, true)
    }

    /// Undoes rows of a group; with `whole`, the group is gone afterwards.
    fn undo(&self, group: &Name, rows: Vec<Intent>, whole: bool) -> Result<Outcome, EffectError> {
        let owned = rows.iter().any(|row| matches!(row.change.kind, Kind::CreatedDir | Kind::TransientUnit));
        // Until its row is deleted, nobody may take a change for one that is in force. A full disk must not
        // keep it in force either: the rows that stay are undone again by the next recovery.
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        log_error("before releasing", self.store().write(|tables| tables.mark_planned(&ids)));
        let mut report = Report::default();
        let undone = restore::undo(&self.kernel, rows, &mut report);
        self.point(Point::Undone);
        let complete = undone.left.is_empty();
        let deleted = self.store().write(|tables| {
            tables.delete_intents(&undone.ids)?;
            if whole && complete { tables.delete_group(group) } else { Ok(()) }
        });
        log_error("after releasing", deleted);
        if whole && let Err(error) = self.level(group, None, &Reason::Empty) {
            report.failures.push(chain(&error));
        }
        if owned {
            let mut shared = self.store().read(|tables| tables.shared_intents())?;
            // What our cgroups weigh has been levelled.
            shared.retain(|row| row.change.kind != Kind::File);
            let ids = restore::undo_shared(&self.kernel, shared, &mut report);
            log_error("after releasing", self.store().write(|tables| tables.delete_intents(&ids)));
        }
        restore::log_notes(&report);
        if whole {
            let dirty = self.group(group).filter(|_| !complete).map(|group| Group { dirty: true, ..group });
            self.set_group(group, dirty);
        }
        if report.failures.is_empty() {
            Ok(Outcome::Released)
        } else {
            Err(EffectError::Refused(report.failures.join("; ")))
        }
    }

    pub(super) fn detach(&self, name: &Name, key: ProcKey) -> Result<Outcome, EffectError> {
        let Some(group) = self.group(name) else { return Ok(Outcome::Released) };
        let stays = |place: &&Place| place.each.is_none() && !place.rung.moves();
        for place in group.places.iter().filter(stays) {
            let members = self.members(place)?;
            if members.contains(&key.pid) && members.iter().any(|pid| *pid != key.pid) {
                let why = "its limits are on a cgroup that other processes are in, too; release the group";
                return Ok(Outcome::Entangled { why: format!("process {key}: {why}") });
            }
            if members.iter().all(|pid| *pid == key.pid) && group.places.len() == 1 {
                return self.release(name);
            }
        }
        let label = key.to_string();
        let mut rows = self.store().read(|tables| tables.intents_of(name))?;
        rows.retain(|row| row.change.place == label || row.change.process == Some(key));
        let stray = group.places.iter().any(|place| {
            place.each.is_none()
                && place.rung.moves()
                && self.members(place).is_ok_and(|pids| pids.contains(&key.pid))
        });
        if stray && !rows.iter().any(|row| row.change.kind == Kind::Membership) {
            let all = self.store().read(|tables| tables.intents_of(name))?;
            restore::send_stray(&self.kernel, &all, key)?;
        }
        let outcome = self.undo(name, rows, false)?;
        let mut after = group;
        after.places.retain(|place| place.each != Some(key));
        if after.scope == Scope::Process && after.places.is_empty() && after.limits.needs_cgroup() {
            return self.release(name);
        }
        let levelled = self.level(name, Some(&after), &Reason::Empty);
        self.set_group(name, Some(after));
        levelled.map(|()| outcome)
    }

    /// Whether nobody is left in a group: it only waits to be released. These processes, which are to be in another one,
    /// may have come into its cgroups.
    pub(super) fn is_over(&self, name: &Name, comers: &[ProcKey]) -> Result<bool, EffectError> {
        let Some(group) = self.group(name).filter(|group| !group.places.is_empty()) else { return Ok(false) };
        let idle = self.is_idle(name) && !self.holds_attributes(name)?;
        for place in &group.places {
            let over = match place.each {
                Some(key) => is_same(&self.kernel.roots.proc, key).is_ok_and(|alive| !alive),
                None if idle && place.rung == Rung::InPlace => {
                    self.members(place)?.iter().all(|pid| comers.iter().any(|comer| comer.pid == *pid))
                }
                None => false,
            };
            if !over {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn members(&self, place: &Place) -> Result<Vec<u32>, EffectError> {
        let mut pids = Vec::new();
        if !place.stands() {
            return Ok(pids);
        }
        for path in place.paths() {
            match membership::members(path) {
                Ok(members) => pids.extend(members),
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(pids)
    }

    pub(super) fn is_busy(&self, name: &Name) -> Result<bool, EffectError> {
        let Some(group) = self.group(name) else { return Ok(false) };
        // In a unit that is limited as a whole, others live on when the group's processes have ended.
        for place in group.places.iter().filter(|place| place.rung != Rung::Unit) {
            if !self.members(place)?.is_empty() {
                return Ok(true);
            }
        }
        self.holds_attributes(name)
    }

    /// Whether processes live of which the group has changed attributes.
    fn holds_attributes(&self, name: &Name) -> Result<bool, EffectError> {
        let rows = self.store().read(|tables| tables.intents_of(name))?;
        let processes: BTreeSet<ProcKey> = rows
            .iter()
            .filter(|row| matches!(row.change.kind, Kind::Attribute(_)))
            .filter_map(|row| row.change.process)
            .collect();
        Ok(processes.into_iter().any(|key| is_same(&self.kernel.roots.proc, key).unwrap_or(false)))
    }

    /// Forgets processes that ended: their own places, and rows that say nothing a living one's does not.
    pub(super) fn prune(&self, name: &Name) -> Result<(), EffectError> {
        let Some(mut group) = self.group(name) else { return Ok(()) };
        let gone = |key: ProcKey| !is_same(&self.kernel.roots.proc, key).unwrap_or(true);
        let dead: BTreeSet<ProcKey> =
            group.places.iter().filter_map(|place| place.each).filter(|key| gone(*key)).collect();
        let rows = self.store().read(|tables| tables.intents_of(name))?;
        if dead.is_empty() && rows.len() <= KEEP {
            return Ok(());
        }
        let labels: BTreeSet<String> = dead.iter().map(ToString::to_string).collect();
        let (ended, kept): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| labels.contains(&row.change.place));
        let mut idle = Vec::new();
        let mut origins = BTreeSet::new();
        for row in &kept {
            match (row.change.kind, row.change.process) {
                (Kind::Membership, Some(key)) => {
                    let first = origins.insert((row.change.path.clone(), row.change.prior.clone()));
                    if !first && gone(key) {
                        idle.push(row.id);
                    }
                }
                (Kind::Attribute(_), Some(key)) if gone(key) => idle.push(row.id),
                // A scope ends by itself with its last process, and so does what follows it.
                (Kind::TransientUnit, _) if !is_slice(&row.change.item) && !row.change.path.exists() => {
                    idle.push(row.id);
                }
                (
                    Kind::File
                    | Kind::Attribute(_)
                    | Kind::Membership
                    | Kind::CreatedDir
                    | Kind::EnabledController
                    | Kind::UnitProperty
                    | Kind::TransientUnit,
                    _,
                ) => {}
            }
        }
        if !ended.is_empty() {
            self.undo(name, ended, false)?;
        }
        self.store().write(|tables| tables.delete_intents(&idle))?;
        group.places.retain(|place| place.each.is_none_or(|key| !dead.contains(&key)));
        let levelled = self.level(name, Some(&group), &Reason::Empty);
        self.set_group(name, Some(group));
        levelled
    }
}

fn is_slice(unit: &str) -> bool {
    unit.ends_with(".slice")
}

fn log_error(when: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::error!("{when}: {}", chain(&error));
    }
}
