//! The part of a plan that limits a systemd unit as a whole.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Candidate, Planner, Reach};
use crate::cgroup::{Cgroup as _, Controller, Owner, membership, shown};
use crate::effect::group::{Place, PlaceDir, Rung};
use crate::effect::kernel::EffectError;
use crate::effect::protect::Refusal;
use crate::model::id::ProcKey;
use crate::model::reason::Reason;
use crate::procfs::stat::Stat;
use crate::systemd::{Unit, name};

/// Others in a unit that are named one by one.
const NAMED: usize = 6;

impl Planner<'_> {
    /// Whether systemd, or a container runtime through it, may have a word in where these processes are limited.
    pub(super) fn is_systemds(&self, candidates: &[Candidate]) -> bool {
        let origins = || candidates.iter().flat_map(|one| &one.origins);
        self.kernel.systemd
            && origins().any(|(controller, path)| self.owner(*controller, path) != Owner::Nobody)
    }

    /// Whether loose processes go into transient scopes: where systemd runs the one hierarchy, nobody else
    /// makes cgroups at its root.
    pub(super) fn has_scopes(&self) -> bool {
        self.kernel.systemd && self.kernel.driver.version() == "v2"
    }

    /// The systemd unit in whose cgroup the first of these processes is.
    pub(super) fn home(
        &self,
        candidates: &[Candidate],
        present: &[Candidate],
    ) -> Result<Option<Unit>, EffectError> {
        if self.reach == Reach::Files || !self.kernel.systemd {
            return Ok(None);
        }
        let origins = candidates.iter().chain(present).filter_map(|one| one.origins.first());
        let Some((controller, path)) = origins.min_by_key(|(_, path)| path.as_os_str().len()) else {
            return Ok(None);
        };
        if self.owner(*controller, path) == Owner::Nobody {
            return Ok(None);
        }
        self.unit_of(*controller, path)
    }

    /// The unit that a cgroup belongs to.
    pub(super) fn unit_of(&self, controller: Controller, path: &Path) -> Result<Option<Unit>, EffectError> {
        let below = self.mount(controller).and_then(|mount| path.strip_prefix(mount).ok()).unwrap_or(path);
        // A unit's own cgroup is ASCII; what is not is below one, made by somebody who need not be trusted.
        let text = String::from_utf8_lossy(below.as_os_str().as_bytes()).replace('\0', "");
        Ok(Unit::of_cgroup(&self.kernel.bus, &format!("/{text}"))?)
    }

    /// A unit's cgroup in a hierarchy.
    pub(super) fn cgroup_of(&self, controller: Controller, unit: &Unit) -> Option<PathBuf> {
        let below = unit.control_group.strip_prefix('/').filter(|below| !below.is_empty())?;
        self.mount(controller).map(|mount| mount.join(below))
    }

    /// Whether a cgroup is strictly below a unit that manages what is below it, other than another systemd.
    pub(super) fn is_delegated(&self, controller: Controller, dir: &Path, unit: &Unit) -> bool {
        unit.delegated
            && !unit.id.starts_with("user@")
            && self.cgroup_of(controller, unit).is_some_and(|top| dir != top && dir.starts_with(top))
    }

    /// Whether the limits can be set on the unit in which the processes are; else the reason.
    pub(super) fn on_unit(
        &self,
        each: Option<ProcKey>,
        candidates: &[Candidate],
        present: &[Candidate],
        unit: &Unit,
    ) -> Result<Result<Place, WhyNot>, EffectError> {
        let id = &unit.id;
        if let Some(why) = name::never(id) {
            return Ok(Err(WhyNot::new(format!("{id} is not limited as a whole: {why}"))));
        }
        if !unit.is_active() {
            return Ok(Err(WhyNot::new(format!("{id} is {}", unit.active))));
        }
        let everyone = || candidates.iter().chain(present);
        let mut dirs = Vec::with_capacity(self.controllers.len());
        for controller in &self.controllers {
            let Some(path) = self.cgroup_of(*controller, unit) else {
                return Ok(Err(WhyNot::new(format!("{id} has no cgroup"))));
            };
            let origins = everyone().flat_map(|one| &one.origins);
            let outside = origins.filter(|(one, _)| one == controller).find(|(_, at)| !at.starts_with(&path));
            if let Some((_, outside)) = outside {
                let why = format!("they are both in {id} and in {}", shown(outside));
                return Ok(Err(WhyNot::new(why)));
            }
            dirs.push(PlaceDir::new(*controller, path));
        }
        let ours: BTreeSet<u32> = everyone().map(|one| one.process.key.pid).collect();
        let Some(top) = dirs.first().map(|dir| dir.path.clone()) else {
            return Ok(Err(WhyNot::new("there is no limit for a cgroup".to_owned())));
        };
        let mut others = match membership::members(&top) {
            Ok(members) => members,
            Err(error) if error.is_gone() => return Ok(Err(WhyNot::new(format!("{id} is gone")))),
            Err(error) => return Err(error.into()),
        };
        others.retain(|pid| !ours.contains(pid) && !self.is_kin(*pid, &ours));
        let why = match self.others(&others) {
            Ok(named) if named.is_empty() => "all of its processes belong to the group".to_owned(),
            Ok(named) if self.apply.whole_unit => format!("with all of it, also {}", list(&named)),
            Ok(named) => {
                let why = format!("shares {id} with {}", list(&named));
                return Ok(Err(WhyNot { why, shared: true }));
            }
            Err(why) => return Ok(Err(WhyNot::new(format!("{id} holds {why}")))),
        };
        Ok(Ok(Place { unit: Some(id.clone()), why, ..Place::new(each, Rung::Unit, dirs) }))
    }

    /// Others in a unit, by pid and name; an error when one of them must never be limited.
    fn others(&self, pids: &[u32]) -> Result<Vec<String>, String> {
        let mut named = Vec::new();
        for pid in pids {
            let Ok(stat) = Stat::read(&self.kernel.roots.proc, *pid) else { continue };
            let one = format!("{pid} {}", stat.comm);
            match self.kernel.guard.verify(ProcKey { pid: *pid, start: stat.start }, self.critical) {
                Ok(_) => named.push(one),
                Err(Refusal::Gone) => {}
                Err(why @ (Refusal::Never(_) | Refusal::NotAllowed(_))) => {
                    return Err(format!("{one}, {why}"));
                }
            }
        }
        Ok(named)
    }

    /// Whether a process that is none of these was born of one of them, or is gone. A critical process may start
    /// others, which are no instances: that they share what it has takes nothing from it.
    pub(super) fn is_kin(&self, pid: u32, of: &BTreeSet<u32>) -> bool {
        const DEEPEST: usize = 32;
        if !self.apply.is_of_protection() {
            return false;
        }
        let mut pid = pid;
        for _ in 0..DEEPEST {
            let Ok(stat) = Stat::read(&self.kernel.roots.proc, pid) else { return true };
            if of.contains(&stat.ppid) {
                return true;
            }
            if stat.ppid <= 1 {
                return false;
            }
            pid = stat.ppid;
        }
        false
    }

    /// What would have to be allowed for processes that share a unit, in the words of whoever asked.
    pub(super) fn advice(&self, why_not: &WhyNot) -> &'static str {
        match (matches!(self.apply.reason, Reason::Operator { .. }), why_not.shared) {
            (true, true) => "use --whole-unit or --allow-move",
            (true, false) => "use --allow-move",
            (false, true) => "set whole_unit or allow_move",
            (false, false) => "set allow_move",
        }
    }
}

/// Why a less intrusive rung does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WhyNot {
    /// In words.
    pub(super) why: String,
    /// Whether it would do if the others in the unit were limited, too.
    pub(super) shared: bool,
}

impl WhyNot {
    pub(super) const fn new(why: String) -> Self {
        Self { why, shared: false }
    }
}

/// `3 others (12 cron, 13 sh, 14 sleep)`.
fn list(named: &[String]) -> String {
    let noun = if named.len() == 1 { "other" } else { "others" };
    let shown = named.get(..named.len().min(NAMED)).unwrap_or_default().join(", ");
    let more = if named.len() > NAMED { ", …" } else { "" };
    format!("{} {noun} ({shown}{more})", named.len())
}
