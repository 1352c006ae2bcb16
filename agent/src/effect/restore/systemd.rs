//! The part of restoring that systemd carries out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Report, Restorer, text};
use crate::cgroup::{Cgroup as _, Controller, membership, shown};
use crate::clock;
use crate::effect::kernel::{EffectError, Kernel};
use crate::model::chain::chain;
use crate::model::id::ProcKey;
use crate::procfs::stat::Stat;
use crate::store::Intent;
use crate::systemd::property::{self, Property, Value};
use crate::systemd::transient::{self, Scope};
use crate::systemd::{SystemdError, Unit, dropin, name};

/// The slice for processes of which it is not known where they belong.
const HOME: &str = "system.slice";

/// A recorded property: its unit's name, itself, the value before, and what was in its drop-in if there was one.
struct Recorded<'a> {
    unit: &'a str,
    property: Property,
    prior: Value,
    drop_in: Option<&'a [u8]>,
}

impl<'a> Recorded<'a> {
    fn of(row: &'a Intent) -> Result<Self, EffectError> {
        let malformed = || EffectError::Refused(format!("the record of {:?} is malformed", row.change.item));
        let (unit, property) = row.change.item.split_once(' ').ok_or_else(malformed)?;
        let prior = &row.change.prior;
        let end = prior.iter().position(|byte| *byte == b'\n');
        let value = prior.get(..end.unwrap_or(prior.len())).unwrap_or_default();
        Ok(Self {
            unit,
            property: Property::parse(property).ok_or_else(malformed)?,
            prior: Value::parse(&text(value)).ok_or_else(malformed)?,
            drop_in: end.and_then(|end| prior.get(end + 1..)),
        })
    }
}

impl Restorer<'_> {
    pub(super) fn unit_property(&mut self, row: &Intent) -> Result<(), EffectError> {
        let recorded = Recorded::of(row)?;
        let bus = &self.kernel.bus;
        // A unit that was stopped meanwhile would find our drop-in when it is started again.
        let unit = Unit::load(bus, recorded.unit)?;
        if unit.load != "not-found" {
            let now = recorded.property.read(bus, &unit)?;
            let shown_now = now.to_text();
            let ours = shown_now.as_bytes() == row.change.new
                || row.superseded.as_deref() == Some(shown_now.as_bytes());
            if now != recorded.prior && !ours {
                self.report.notes.push(format!(
                    "{} of unit {} was set to {shown_now} by somebody else since; left so instead of {}",
                    recorded.property.name(),
                    unit.id,
                    recorded.prior.to_text()
                ));
                return Ok(());
            }
            if now != recorded.prior {
                property::set(bus, &unit, &[(recorded.property, recorded.prior)])?;
            }
        }
        Ok(dropin::restore(&row.change.path, recorded.drop_in)?)
    }

    /// Empties a unit of ours and stops it.
    pub(super) fn transient_unit(&mut self, row: &Intent) -> Result<(), EffectError> {
        self.empty_of(&row.change.path, membership::members)?;
        if stop_if_empty(self.kernel, row)? {
            return Ok(());
        }
        let (unit, path) = (&row.change.item, shown(&row.change.path));
        Err(EffectError::Refused(format!("unit {unit} is not stopped: processes are left in {path}")))
    }

    /// Gives a process whose old cgroup is gone a scope without limits beside where it was: on a host that
    /// systemd runs, a process belongs to a unit. False when that is impossible.
    pub(super) fn adopt(&mut self, pid: u32, origin: &Path) -> bool {
        let is_slice = |path: &&Path| path.extension().is_some_and(|extension| extension == "slice");
        let above = origin.ancestors().skip(1).filter(is_slice).find(|path| path.is_dir());
        let slice = above.and_then(|path| path.file_name()?.to_str()).unwrap_or(HOME);
        let gone = format!("{} is gone", shown(origin));
        self.adopt_into(pid, slice, &gone)
    }

    fn adopt_into(&mut self, pid: u32, slice: &str, why: &str) -> bool {
        if !self.kernel.systemd || self.kernel.driver.version() != "v2" || self.silent.is_some() {
            return false;
        }
        let Ok(stat) = Stat::read(&self.kernel.roots.proc, pid) else { return false };
        let scope = Scope {
            name: name::returned(ProcKey { pid, start: stat.start }, clock::now().as_nanos()),
            slice: slice.to_owned(),
            description: format!("process {pid}, released when {why}"),
            pids: vec![pid],
            bound_to: None,
        };
        let (done, note) = match transient::make_scope(&self.kernel.bus, &scope) {
            Ok(unit) => (true, format!("process {pid} went to {} in {slice}, because {why}", unit.id)),
            Err(error) => (false, format!("process {pid} cannot go to a scope: {}", chain(&error))),
        };
        self.report.notes.push(note);
        done
    }
}

/// Stops a unit of ours if nothing is in it; whether it is stopped then. Stopping ends what is in a unit, so this
/// is asked of systemd's own idea of its cgroup, too.
pub(super) fn stop_if_empty(kernel: &Kernel, row: &Intent) -> Result<bool, EffectError> {
    let Some(unit) = Unit::loaded(&kernel.bus, &row.change.item)? else { return Ok(true) };
    if !unit.is_active() {
        return Ok(true);
    }
    if !is_ours(kernel, &unit)? {
        return Ok(true);
    }
    for path in [Some(row.change.path.clone()), cgroup_of(kernel, &unit)].into_iter().flatten() {
        if in_use(&path)? {
            return Ok(false);
        }
    }
    transient::stop(&kernel.bus, &unit.id)?;
    Ok(true)
}

/// Whether there are processes in a unit's cgroup, or slices.
fn in_use(path: &Path) -> Result<bool, EffectError> {
    let used = membership::members(path).and_then(|pids| {
        // A slice below may carry the limits of another group that has no process just now.
        let slice = |dir: &PathBuf| dir.extension().is_some_and(|extension| extension == "slice");
        Ok(!pids.is_empty() || membership::descendants(path)?.iter().any(slice))
    });
    match used {
        Err(error) if error.is_gone() => Ok(false),
        other => Ok(other?),
    }
}

fn is_ours(kernel: &Kernel, unit: &Unit) -> Result<bool, SystemdError> {
    Ok(unit.transient && unit.description(&kernel.bus)?.starts_with(name::DESCRIPTION))
}

fn cgroup_of(kernel: &Kernel, unit: &Unit) -> Option<PathBuf> {
    let below = unit.control_group.strip_prefix('/').filter(|below| !below.is_empty())?;
    kernel.driver.mount(Controller::Cpu).map(|mount| mount.join(below))
}

/// Puts back a value of ours that a failed change replaced.
pub(crate) fn unit_back_to(kernel: &Kernel, row: &Intent, value: &str) -> Result<(), EffectError> {
    let recorded = Recorded::of(row)?;
    let Some(unit) = Unit::loaded(&kernel.bus, recorded.unit)? else { return Ok(()) };
    let now = recorded.property.read(&kernel.bus, &unit)?;
    if now.to_text().as_bytes() == row.change.new
        && let Some(value) = Value::parse(value)
    {
        property::set(&kernel.bus, &unit, &[(recorded.property, value)])?;
    }
    Ok(())
}

/// Releases what is in slices of ours of which no record is left: known by name and description, both.
pub(super) fn release_unrecorded(kernel: &Kernel, report: &mut Report) {
    if !kernel.systemd || kernel.driver.version() != "v2" {
        return;
    }
    match try_release_unrecorded(kernel, report) {
        Ok(()) => {}
        // What is on record fails by itself; that there is more is not known.
        Err(EffectError::Systemd(error)) if error.is_silence() => {
            report.notes.push(format!("units without a record were not looked for: {}", chain(&error)));
        }
        Err(error) => report.failures.push(chain(&error)),
    }
}

fn try_release_unrecorded(kernel: &Kernel, report: &mut Report) -> Result<(), EffectError> {
    let Some(root) = Unit::loaded(&kernel.bus, name::ROOT_SLICE)?.and_then(|unit| cgroup_of(kernel, &unit))
    else {
        return Ok(());
    };
    let mut below = match membership::descendants(&root) {
        Ok(below) => below,
        Err(error) if error.is_gone() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in below {
        let Some(id) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let ends = id.ends_with(".slice") || id.ends_with(".scope");
        if !(id.starts_with(name::PREFIX) && ends) {
            continue;
        }
        let Some(unit) = Unit::loaded(&kernel.bus, id)? else { continue };
        if !is_ours(kernel, &unit)? {
            continue;
        }
        let mut restorer = Restorer { kernel, report: &mut *report, origins: BTreeMap::new(), silent: None };
        for pid in membership::procs(&path).unwrap_or_default() {
            if !restorer.adopt_into(pid, HOME, "its record was lost") {
                restorer.report.failures.push(format!("process {pid} is left in {}", shown(&path)));
            }
        }
        if !in_use(&path)? {
            transient::stop(&kernel.bus, id)?;
            report.notes.push(format!("unit {id} had no record and was stopped"));
        }
    }
    Ok(())
}
