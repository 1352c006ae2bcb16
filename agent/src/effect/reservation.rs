//! Shares of the machine for critical processes, on the cgroup that they have to themselves, by the same records
//! and with the same exactness as limits. It never moves a process and takes from nobody what he has.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cgroup::{Cgroup as _, CgroupError, Setting, shown};
use crate::clock;
use crate::effect::group::{Place, Rung};
use crate::effect::kernel::EffectError;
use crate::effect::plan::{Plan, Reach, plan};
use crate::effect::task::Hold;
use crate::effect::throttle::{Shared, Throttle};
use crate::engine::action::Apply;
use crate::engine::input::Outcome;
use crate::model::chain::chain;
use crate::model::limits::{Limits, Scope};
use crate::model::reason::Reason;
use crate::model::reservation::Reservation;
use crate::model::time::Timestamp;
use crate::store::{Intent, Kind};
use crate::systemd::property::Property;

/// Between the reason for a rung and what is noted besides.
const NOTE: &str = "; ";

/// What is to be done for a reservation.
enum Prepared {
    /// This.
    Change(Box<(Apply, Plan)>),
    /// Nothing: it has as much already; in words.
    Nothing(String),
    /// Systemd has to be asked first.
    Slow,
}

impl Throttle {
    /// How a reservation would be given, in words.
    #[must_use]
    pub fn plan_reservation(&self, hold: &Hold) -> Vec<String> {
        let prepared = self.shared.prepare(hold, hold.reservation, Reach::Systemd);
        match prepared {
            Ok(Prepared::Change(change)) => {
                let (apply, plan) = *change;
                let mut lines = Vec::new();
                if !plan.accepted.is_empty() {
                    lines.push(format!("{} {}", apply.limits, plan.how()));
                }
                lines.extend(plan.refused.iter().map(|(key, why)| format!("nothing for {}: {why}", key.pid)));
                lines
            }
            Ok(Prepared::Nothing(why)) => vec![why],
            Ok(Prepared::Slow) => Vec::new(),
            Err(error) => vec![format!("cannot be done: {}", chain(&error))],
        }
    }
}

impl Shared {
    /// Gives a critical process its share; `None` when that takes milliseconds. What only follows from a level is
    /// left out where it is in the way of the rest.
    pub(super) fn reserve(&self, hold: &Hold, reach: Reach) -> Result<Option<Outcome>, EffectError> {
        let whole = hold.reservation;
        let plainer = Reservation { io: whole.io.filter(|share| share.stated), ..whole };
        let mut choices = vec![whole, plainer, whole.stated()];
        choices.dedup();
        choices.retain(|choice| !choice.is_empty());
        if let Some(before) = self.group(&hold.group)
            && let Some(same) = choices.iter().rfind(|choice| covers(**choice, &before.limits))
        {
            // What is in force is not changed because of one more instance.
            choices = vec![*same];
        }
        let mut last = Ok(None);
        for choice in choices {
            last = self.give(hold, choice, reach);
            match &last {
                Ok(Some(Outcome::Applied { members, refused, .. }))
                    if members.is_empty() && !refused.is_empty() =>
                {
                    tracing::debug!(critical = %hold.critical, %choice, "refused: {refused:?}");
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(critical = %hold.critical, %choice, "failed: {}", chain(error));
                }
            }
        }
        last
    }

    /// The same, however long it takes.
    pub(super) fn reserve_now(&self, hold: &Hold) -> Result<Outcome, EffectError> {
        let silent = || EffectError::Refused("systemd was not asked".to_owned());
        self.reserve(hold, Reach::Systemd)?.ok_or_else(silent)
    }

    fn give(
        &self,
        hold: &Hold,
        reservation: Reservation,
        reach: Reach,
    ) -> Result<Option<Outcome>, EffectError> {
        match self.prepare(hold, reservation, reach)? {
            Prepared::Slow => Ok(None),
            Prepared::Change(change) => {
                let (apply, plan) = *change;
                self.bring_in(&apply, plan, self.group(&hold.group), &BTreeSet::new()).map(Some)
            }
            Prepared::Nothing(_) if reach == Reach::Files && self.group(&hold.group).is_some() => Ok(None),
            Prepared::Nothing(how) => {
                // What an earlier profile asked for goes.
                self.release(&hold.group)?;
                let members = hold.members.clone();
                Ok(Some(Outcome::Applied {
                    how,
                    members,
                    refused: Vec::new(),
                    borrowed: false,
                    at: clock::now(),
                }))
            }
        }
    }

    fn prepare(&self, hold: &Hold, reservation: Reservation, reach: Reach) -> Result<Prepared, EffectError> {
        // Critical processes are spared from limits, not from this; the others that are never touched are.
        let nobody = BTreeSet::new();
        let before = self.group(&hold.group);
        let mut notes = Vec::new();
        let limits = self.supported(reservation, &mut notes)?;
        if limits.is_empty() {
            return Err(EffectError::Refused(notes.join("; ")));
        }
        let mut apply = request(hold, limits);
        let mut planned = plan(&self.kernel, before.as_ref(), &apply, &nobody, reach)?;
        if planned.undecided {
            return Ok(Prepared::Slow);
        }
        let rows = self.store().read(|tables| tables.intents_of(&hold.group))?;
        let (lacking, enough) = lacking(&apply.limits, reservation, &planned, &rows, &mut notes);
        if lacking != apply.limits {
            if lacking.is_empty() && planned.refused.is_empty() {
                let why = notes.join("; ");
                return if enough { Ok(Prepared::Nothing(why)) } else { Err(EffectError::Refused(why)) };
            }
            if !lacking.is_empty() {
                apply.limits = lacking;
                planned = plan(&self.kernel, before.as_ref(), &apply, &nobody, reach)?;
            }
        }
        if planned.is_slow() && reach == Reach::Files {
            return Ok(Prepared::Slow);
        }
        notes.extend(self.bounded_above(&apply.limits, &planned));
        let write = planned.write;
        for place in planned.places.iter_mut().filter(|place| write || !place.known) {
            // What an earlier application noted is said anew where it is still so.
            let rung = place.place.why.split(NOTE).next().filter(|_| place.place.rung == Rung::Unit);
            let words = rung.into_iter().chain(notes.iter().map(String::as_str));
            place.place.why = words.filter(|one| !one.is_empty()).collect::<Vec<_>>().join(NOTE);
        }
        Ok(Prepared::Change(Box::new((apply, planned))))
    }

    /// What of it this host has at all. That something is missing is an error where the profile states it.
    fn supported(&self, reservation: Reservation, notes: &mut Vec<String>) -> Result<Limits, EffectError> {
        let whole = reservation.limits();
        let implied = [
            (reservation.cpu, Limits { cpu_weight: whole.cpu_weight, ..Limits::default() }),
            (reservation.io, Limits { io_weight: whole.io_weight, ..Limits::default() }),
        ];
        let mut limits = whole;
        for (share, alone) in implied {
            if let (Some(share), Err(error)) = (share, self.kernel.driver.settings(&alone))
                && !share.stated
            {
                notes.push(chain(&error));
                without(&mut limits, &alone);
            }
        }
        self.kernel.driver.settings(&limits)?;
        Ok(limits)
    }

    /// Where `memory.low` of a cgroup is bounded by that of one above it (cgroup-v2.rst, "memory.low").
    fn bounded_above(&self, limits: &Limits, plan: &Plan) -> Option<String> {
        let wanted = limits.memory_low?.get();
        let setting = plan.settings.iter().find(|setting| setting.limit == "memory_low")?;
        let mount = self.kernel.driver.mount(setting.controller)?;
        let dir = plan.places.first()?.place.dir(setting.controller)?;
        let above = dir.ancestors().skip(1).take_while(|above| above.starts_with(mount) && *above != mount);
        let low = |above: &Path| Some((shown(above), number(&setting.peek(above).ok()?.1)?));
        let (above, low) =
            above.filter_map(low).min_by_key(|(_, low)| *low).filter(|(_, low)| *low < wanted)?;
        Some(format!("of memory_low no more than the {low} bytes of {above} count"))
    }
}

/// Whether limits in force may have come of a reservation: what a cgroup has by itself is left out of it.
fn covers(reservation: Reservation, limits: &Limits) -> bool {
    let wanted = reservation.limits();
    let of_it = |there: bool, same: bool| !there || same;
    of_it(limits.cpu_weight.is_some(), limits.cpu_weight == wanted.cpu_weight)
        && of_it(limits.io_weight.is_some(), limits.io_weight == wanted.io_weight)
        && of_it(limits.memory_low.is_some(), limits.memory_low == wanted.memory_low)
}

fn request(hold: &Hold, limits: Limits) -> Apply {
    Apply {
        group: hold.group.clone(),
        limits,
        scope: Scope::Group,
        allow_move: false,
        whole_unit: false,
        in_place: true,
        sharers: Vec::new(),
        rewrite: false,
        members: hold.members.clone(),
        reason: Reason::Protected { why: format!("critical process {}", hold.critical) },
        caused_at: Timestamp::ZERO,
    }
}

/// What of these values is more than a place has by itself, for nobody loses by a reservation; and whether it has
/// enough of any.
fn lacking(
    limits: &Limits,
    reservation: Reservation,
    plan: &Plan,
    rows: &[Intent],
    notes: &mut Vec<String>,
) -> (Limits, bool) {
    let (mut lacking, mut enough) = (limits.clone(), false);
    let Some(place) = plan.places.first().map(|plan| &plan.place) else { return (lacking, enough) };
    for setting in &plan.settings {
        let alone = of_limit(setting.limit, limits);
        let stated = match setting.limit {
            "cpu_weight" => reservation.cpu.is_some_and(|share| share.stated),
            "io_weight" => reservation.io.is_some_and(|share| share.stated),
            _ => true,
        };
        match own_value(setting, place, rows) {
            Ok(Some((has, wants))) if has >= wants => {
                notes.push(format!("it has {} {has} already", setting.limit));
                enough = true;
                without(&mut lacking, &alone);
            }
            // Of a unit the file may be made with the first value.
            Err(error) if !stated && place.rung == Rung::InPlace => {
                notes.push(chain(&error));
                without(&mut lacking, &alone);
            }
            Ok(_) | Err(_) => {}
        }
    }
    (lacking, enough)
}

/// What a place has for a setting without our doing, and what it is to have, in the same unit; `None` where that
/// is not known.
fn own_value(setting: &Setting, place: &Place, rows: &[Intent]) -> Result<Option<(u64, u64)>, CgroupError> {
    let Some(dir) = place.dir(setting.controller) else { return Ok(None) };
    let (file, present, wanted) = setting.peek(dir)?;
    let path = dir.join(file);
    let written = |row: &&Intent| row.change.kind == Kind::File && row.change.path == path;
    if let Some(row) = rows.iter().find(written)
        && (row.change.new == present.as_bytes() || row.superseded.as_deref() == Some(present.as_bytes()))
    {
        return Ok(number(&String::from_utf8_lossy(&row.change.prior)).zip(number(wanted)));
    }
    let set =
        |row: &&Intent| row.change.kind == Kind::UnitProperty && is_of(setting, place, &row.change.item);
    // By systemd, which tells what it was before, or that nobody had said anything.
    if let Some(row) = rows.iter().find(set) {
        let prior = String::from_utf8_lossy(&row.change.prior);
        let prior = prior.lines().next().and_then(number);
        let new = number(&String::from_utf8_lossy(&row.change.new));
        return Ok(prior.filter(|prior| *prior != u64::MAX).zip(new));
    }
    Ok(number(&present).zip(number(wanted)))
}

fn is_of(setting: &Setting, place: &Place, item: &str) -> bool {
    item.split_once(' ').is_some_and(|(unit, property)| {
        place.unit.as_deref() == Some(unit)
            && Property::parse(property).and_then(Property::limit) == Some(setting.limit)
    })
}

/// One of the limits alone.
fn of_limit(limit: &str, limits: &Limits) -> Limits {
    let none = Limits::default();
    match limit {
        "cpu_weight" => Limits { cpu_weight: limits.cpu_weight, ..none },
        "io_weight" => Limits { io_weight: limits.io_weight, ..none },
        _ => Limits { memory_low: limits.memory_low, ..none },
    }
}

fn without(limits: &mut Limits, these: &Limits) {
    limits.cpu_weight = limits.cpu_weight.filter(|_| these.cpu_weight.is_none());
    limits.io_weight = limits.io_weight.filter(|_| these.io_weight.is_none());
    limits.memory_low = limits.memory_low.filter(|_| these.memory_low.is_none());
}

/// As the kernel and systemd write it.
fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" | "infinity" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_the_kernel_writes_them() {
        assert_eq!(
            (number("100\n"), number("max"), number("infinity")),
            (Some(100), Some(u64::MAX), Some(u64::MAX))
        );
        assert_eq!((number(""), number("-1")), (None, None));
    }
}
