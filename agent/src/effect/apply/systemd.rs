//! The part of an application that systemd carries out: slices, properties of units, scopes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Run;
use crate::cgroup::{CgroupError, Setting, shown};
use crate::clock;
use crate::effect::fail_point::Point;
use crate::effect::group::{Place, Rung};
use crate::effect::kernel::EffectError;
use crate::effect::moves::is_same;
use crate::effect::plan::{Mover, Plan};
use crate::model::id::ProcKey;
use crate::model::unit::CpuPercent;
use crate::store::{Kind, NewIntent};
use crate::systemd::property::{self, Property, Value};
use crate::systemd::transient::{self, Scope};
use crate::systemd::{Unit, dropin, name};

/// Changes of one unit's properties.
pub(super) struct UnitChanges {
    unit: Unit,
    values: Vec<(Property, Value)>,
    /// To be recorded before.
    pub(super) changes: Vec<NewIntent>,
}

impl Run<'_> {
    /// Makes the slices that carry limits, and those above them.
    pub(super) fn make_slices(&mut self, plan: &Plan) -> Result<(), EffectError> {
        for plan in plan.places.iter().filter(|plan| plan.place.rung == Rung::Scope && !plan.known) {
            let place = &plan.place;
            let (Some(slice), Some(path)) = (place.unit.clone(), place.paths().first().copied()) else {
                continue;
            };
            let lineage = name::lineage(&slice);
            let depth = lineage.len();
            let mut missing = Vec::new();
            for (index, unit) in lineage.into_iter().enumerate() {
                let dir = path.ancestors().nth(depth - 1 - index).unwrap_or(path);
                match Unit::loaded(&self.kernel().bus, &unit)?.filter(Unit::is_active) {
                    Some(found) if unit == slice => self.expect_ours(&found)?,
                    Some(_) => {}
                    None => missing.push((unit, dir)),
                }
            }
            let changes: Vec<NewIntent> = missing
                .iter()
                .map(|(unit, dir)| {
                    let own = *unit == slice;
                    let change = self.unit_change(place, unit.clone(), dir);
                    // Those above are there for all groups.
                    NewIntent {
                        group: change.group.filter(|_| own),
                        place: if own { change.place } else { String::new() },
                        ..change
                    }
                })
                .collect();
            self.record(&changes)?;
            self.shared.point(Point::DirsPlanned);
            for (unit, _) in &missing {
                let what = if *unit == slice {
                    format!("limits of group {}", self.apply.group)
                } else {
                    "limited processes".to_owned()
                };
                transient::make_slice(&self.kernel().bus, unit, &what)?;
                self.shared.point(Point::DirMade);
            }
        }
        Ok(())
    }

    fn expect_ours(&self, unit: &Unit) -> Result<(), EffectError> {
        let description = unit.description(&self.kernel().bus)?;
        if unit.transient && description.starts_with(name::DESCRIPTION) {
            Ok(())
        } else {
            Err(EffectError::Refused(format!("unit {} exists and is not ours: {description:?}", unit.id)))
        }
    }

    fn unit_change(&self, place: &Place, unit: String, cgroup: &Path) -> NewIntent {
        NewIntent {
            item: unit.clone(),
            new: unit.into_bytes(),
            ..self.change(place, Kind::TransientUnit, cgroup.to_owned())
        }
    }

    /// Reads what the units to be limited have now.
    pub(super) fn open_units(&self, plan: &Plan) -> Result<Vec<UnitChanges>, EffectError> {
        let bus = &self.kernel().bus;
        let mut all = Vec::new();
        let written = plan.places.iter().filter(|place| plan.write || !place.known).map(|plan| &plan.place);
        for place in written.filter(|place| place.rung.is_systemds()) {
            let Some(id) = &place.unit else { continue };
            let unit = Unit::load(bus, id)?;
            if !unit.is_active() {
                return Err(EffectError::Refused(format!("unit {id} is {} by now", unit.active)));
            }
            let mut found = UnitChanges { unit, values: Vec::new(), changes: Vec::new() };
            for (property, wanted) in property::wanted(&self.apply.limits, &plan.settings) {
                let present = property.read(bus, &found.unit)?;
                let value = wanted.over(&present);
                // Recorded even where it is so already: no other group may change it then.
                let path = dropin::path(&self.kernel().roots.run, &found.unit, property);
                let mut prior = present.to_text().into_bytes();
                if let Some(contents) = dropin::read(&path)? {
                    prior.push(b'\n');
                    prior.extend(contents);
                }
                found.changes.push(NewIntent {
                    item: format!("{id} {}", property.name()),
                    prior,
                    new: value.to_text().into_bytes(),
                    ..self.change(place, Kind::UnitProperty, path)
                });
                if value != present {
                    found.values.push((property, value));
                }
            }
            all.push(found);
        }
        Ok(all)
    }

    pub(super) fn set_units(&self, units: &[UnitChanges]) -> Result<(), EffectError> {
        for one in units {
            property::set(&self.kernel().bus, &one.unit, &one.values)?;
            self.shared.point(Point::UnitSet);
        }
        Ok(())
    }

    /// Whether a recorded property of a unit is still asked for.
    pub(super) fn is_wanted(&self, plan: &Plan, item: &str) -> bool {
        let wanted = property::wanted(&self.apply.limits, &plan.settings);
        item.split_once(' ').is_some_and(|(unit, property)| {
            let carried = self.after.places.iter().any(|place| place.unit.as_deref() == Some(unit));
            carried && wanted.iter().any(|(one, _)| one.name() == property)
        })
    }

    /// Moves processes into scopes of a place's slice, one for each service with which they are to end.
    pub(super) fn move_into_scopes(
        &mut self,
        place: &Place,
        movers: &[Mover],
        gone: &mut BTreeSet<ProcKey>,
    ) -> Result<(), EffectError> {
        let (Some(slice), Some(dir)) =
            (place.unit.clone(), place.paths().first().map(|dir| PathBuf::from(*dir)))
        else {
            return Ok(());
        };
        let proc = &self.kernel().roots.proc;
        // Of all processes that systemd is to move it gives up all when one is gone.
        let (alive, ended): (Vec<&Mover>, Vec<&Mover>) =
            movers.iter().partition(|mover| is_same(proc, mover.key).unwrap_or(false));
        gone.extend(ended.iter().map(|mover| mover.key));
        let mut outside: Vec<&Mover> = alive;
        outside.retain(|mover| !place.holds(&mover.origins));
        while let Some(first) = outside.first() {
            let bound_to = first.bound_to.clone();
            let same = |mover: &&Mover| {
                mover.bound_to.as_ref().map(|(unit, _)| unit) == bound_to.as_ref().map(|(unit, _)| unit)
            };
            let (batch, rest): (Vec<&Mover>, Vec<&Mover>) = outside.into_iter().partition(same);
            outside = rest;
            let name = name::scope(&self.apply.group, place.each, clock::now().as_nanos());
            // The follower stops the scope: it has to be undone after it, when nothing is in it any more.
            let follower = bound_to.as_ref().map(|_| name::follower(&name));
            let changes: Vec<NewIntent> = std::iter::once(name.clone())
                .chain(follower)
                .map(|unit| self.unit_change(place, unit, &dir.join(&name)))
                .collect();
            self.record(&changes)?;
            self.shared.point(Point::ScopesPlanned);
            let scope = Scope {
                name,
                slice: slice.clone(),
                description: format!("processes of group {}", self.apply.group),
                pids: batch.iter().map(|mover| mover.key.pid).collect(),
                bound_to,
            };
            transient::make_scope(&self.kernel().bus, &scope)?;
        }
        Ok(())
    }

    /// Reads back from the kernel what systemd says that it has set.
    pub(super) fn verify_units(&self, plan: &Plan) -> Result<(), EffectError> {
        let written = plan.places.iter().filter(|place| plan.write || !place.known).map(|plan| &plan.place);
        for place in written.filter(|place| place.rung.is_systemds()) {
            for setting in &plan.settings {
                if let Some(dir) = place.dir(setting.controller) {
                    verify(setting, dir)?;
                }
            }
        }
        Ok(())
    }
}

/// systemd answers before it has written everything: it is given a moment.
fn verify(setting: &Setting, dir: &Path) -> Result<(), CgroupError> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(2);
    let mut last = Ok(());
    for _ in 0..TRIES {
        last = check(setting, dir);
        if last.is_ok() {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    last
}

fn check(setting: &Setting, dir: &Path) -> Result<(), CgroupError> {
    let (file, read, wanted) = setting.peek(dir)?;
    let path = dir.join(file);
    let same = if file == "cpu.max" { quota(&read) == quota(wanted) } else { read == wanted };
    if same {
        return Ok(());
    }
    Err(CgroupError::Mismatch { path: shown(&path), wrote: wanted.to_owned(), read })
}

/// Thousandths of a percent of a CPU: a unit may have a period of its own (`CPUQuotaPeriodSec=`).
fn quota(text: &str) -> Option<u64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    let millis_per_cpu = CpuPercent::PERIOD_US;
    quota.checked_mul(millis_per_cpu)?.checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_the_same_over_any_period() {
        assert_eq!(quota("30000 100000"), quota("3000 10000"));
        assert_ne!(quota("30000 100000"), quota("30000 10000"));
        assert_eq!(quota("max 100000"), None);
    }
}
