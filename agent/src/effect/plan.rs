//! What an application of limits would do: reads the kernel, changes nothing.

mod in_place;
mod leave;
mod outcome;
mod own;
mod place;
mod scope;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use self::in_place::Found;
pub use self::place::{Mover, PlacePlan};
use self::unit::WhyNot;
use crate::cgroup::{
    Cgroup as _, CgroupError, Controller, Memberships, Owner, Setting, membership, owner, shown,
};
use crate::effect::attribute;
use crate::effect::group::{self, Group, Place, PlaceDir, Rung};
use crate::effect::kernel::{EffectError, Kernel};
use crate::effect::protect::{Refusal, Verified};
use crate::engine::action::Apply;
use crate::model::attribute::Demand;
use crate::model::id::ProcKey;
use crate::model::limits::Scope;
use crate::model::time::Timestamp;
use crate::procfs::stat::Stat;

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// The processes that will be limited.
    pub accepted: Vec<Candidate>,
    /// Those that will not, and why.
    pub refused: Vec<(ProcKey, Refusal)>,
    /// The values to write in each place.
    pub settings: Vec<Setting>,
    /// The places, old and new, that the processes are or will be in.
    pub places: Vec<PlacePlan>,
    /// Whether the limits must be written: new, changed, or not known to be in force.
    pub write: bool,
    /// Whether something can be told by systemd only, which was not asked.
    pub undecided: bool,
    /// What is asked of each process itself.
    pub demands: Vec<Demand>,
    /// What is left out of what was asked, for people.
    pub notes: Vec<String>,
    /// When the last change was verified, once it was: the limits hold from then on.
    pub verified: Option<Timestamp>,
}

/// A process to limit.
#[derive(Debug)]
pub struct Candidate {
    /// Checked, and held by a pidfd.
    pub process: Verified,
    /// Its cgroup in each hierarchy that matters.
    pub origins: Vec<(Controller, PathBuf)>,
}

/// Whether a plan may ask systemd, which takes milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It may not: what only systemd can tell is left undecided.
    Files,
    /// It may.
    Systemd,
}

impl Plan {
    /// Whether it changes memberships, makes cgroups or needs systemd, which takes milliseconds.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.undecided
            || self.places.iter().any(|plan| {
                !plan.movers.is_empty()
                    || plan.replaces.is_some()
                    || (plan.place.rung == Rung::Own && !plan.known)
                    || (plan.place.rung.is_systemds() && (self.write || !plan.known))
            })
    }

    /// Whether processes are to be moved.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.places.iter().any(|plan| !plan.movers.is_empty())
    }

    /// The rungs in words, and after a colon why none that is less intrusive.
    #[must_use]
    pub fn how(&self) -> String {
        if self.accepted.is_empty() && self.places.is_empty() {
            return "not at all".to_owned();
        }
        group::how(self.places.iter().map(|plan| &plan.place))
    }

    /// Refuses all of these because one that is in the place already cannot come along to another.
    fn refuse_all(&mut self, all: Vec<Candidate>, one: &Candidate, why: &str) -> Result<(), EffectError> {
        let why = format!("process {} cannot come along: {why}", one.process.key.pid);
        if all.is_empty() {
            return Err(EffectError::Refused(why));
        }
        let refused = |one: Candidate| (one.process.key, Refusal::NotAllowed(why.clone()));
        self.refused.extend(all.into_iter().map(refused));
        Ok(())
    }

    /// The processes that will be limited.
    #[must_use]
    pub fn members(&self) -> Vec<ProcKey> {
        self.accepted.iter().map(|one| one.process.key).collect()
    }
}

/// Chooses for each process the least intrusive way to its limits.
///
/// # Errors
/// When the host cannot hold a limit, or the group exists with another scope. A process that cannot be
/// limited is refused by itself.
pub fn plan(
    kernel: &Kernel,
    group: Option<&Group>,
    apply: &Apply,
    critical: &BTreeSet<ProcKey>,
    reach: Reach,
) -> Result<Plan, EffectError> {
    if let Some(group) = group
        && group.scope != apply.scope
    {
        let why = format!("group {} exists with another scope; release it first", apply.group);
        return Err(EffectError::Refused(why));
    }
    attribute::check(&apply.limits)?;
    let settings = kernel.driver.settings(&apply.limits)?;
    let mut controllers: Vec<Controller> = settings.iter().map(|setting| setting.controller).collect();
    controllers.sort_unstable();
    controllers.dedup();
    let planner = Planner { kernel, group, apply, critical, controllers, reach };
    let write = apply.rewrite || group.is_none_or(|group| group.dirty || group.limits != apply.limits);
    let mut plan = Plan {
        accepted: Vec::new(),
        refused: Vec::new(),
        settings,
        places: Vec::new(),
        write,
        undecided: false,
        demands: apply.limits.demands(),
        notes: Vec::new(),
        verified: None,
    };
    let mut seats: BTreeMap<Option<ProcKey>, Vec<Candidate>> = BTreeMap::new();
    for key in &apply.members {
        match planner.candidate(*key)? {
            Ok(candidate) => {
                let seat = match apply.scope {
                    Scope::Group => None,
                    Scope::Process => Some(*key),
                };
                seats.entry(seat).or_default().push(candidate);
            }
            Err(refusal) => plan.refused.push((*key, refusal)),
        }
    }
    for (seat, candidates) in seats {
        if planner.controllers.is_empty() {
            plan.accepted.extend(candidates);
        } else {
            planner.seat(seat, candidates, &mut plan)?;
        }
    }
    // New limits of a group concern its other places, too.
    if let Some(group) = group
        && write
    {
        for place in &group.places {
            let planned = |plan: &PlacePlan| plan.place.each == place.each;
            if !plan.places.iter().any(planned) && place.stands() {
                planner.refresh(place, &mut plan)?;
            }
        }
    }
    Ok(plan)
}

struct Planner<'a> {
    kernel: &'a Kernel,
    group: Option<&'a Group>,
    apply: &'a Apply,
    critical: &'a BTreeSet<ProcKey>,
    controllers: Vec<Controller>,
    reach: Reach,
}

impl Planner<'_> {
    fn candidate(&self, key: ProcKey) -> Result<Result<Candidate, Refusal>, EffectError> {
        let process = match self.kernel.guard.verify(key, self.critical) {
            Ok(process) => process,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.controllers.is_empty() {
            return Ok(Ok(Candidate { process, origins: Vec::new() }));
        }
        let memberships = match Memberships::read(&self.kernel.roots.proc, key.pid) {
            Ok(memberships) => memberships,
            Err(error) if error.is_gone() || error.errno() == Some(libc::ESRCH) => {
                return Ok(Err(Refusal::Gone));
            }
            Err(error) => return Err(error.into()),
        };
        let mut origins = Vec::with_capacity(self.controllers.len());
        for controller in &self.controllers {
            match self.kernel.driver.directory(&memberships, *controller) {
                Ok(path) => origins.push((*controller, path)),
                Err(error @ CgroupError::Malformed { .. }) => {
                    return Ok(Err(Refusal::NotAllowed(error.to_string())));
                }
                Err(error) => return Err(error.into()),
            }
        }
        for (controller, path) in &origins {
            let may = self.kernel.allow_containers && self.kernel.systemd;
            if !may && self.owner(*controller, path) == Owner::Container {
                let why = format!(
                    "{} belongs to a container runtime: observed only, unless allow_containers is set",
                    shown(path)
                );
                return Ok(Err(Refusal::NotAllowed(why)));
            }
        }
        Ok(Ok(Candidate { process, origins }))
    }

    /// Finds the place for the processes that share one.
    fn seat(
        &self,
        each: Option<ProcKey>,
        candidates: Vec<Candidate>,
        plan: &mut Plan,
    ) -> Result<(), EffectError> {
        let known = self.group.and_then(|group| group.place(each)).filter(|place| place.stands());
        if let Some(place) = known
            && candidates.iter().all(|one| place.holds(&one.origins))
        {
            plan.places.push(PlacePlan::settled(place.clone(), true));
            plan.accepted.extend(candidates);
            return Ok(());
        }
        if self.reach == Reach::Files && self.is_systemds(&candidates) {
            plan.undecided = true;
            return Ok(());
        }
        let mut present = Vec::new();
        if let Some(place) = known {
            present = self.present(place, &candidates)?;
        }
        let home = self.home(&candidates, &present)?;
        let why_not = match self.in_place(each, &candidates, &present, home.as_ref())? {
            Ok(Found { place, opened }) if known.is_none_or(|known| known.rung == Rung::InPlace) => {
                let known = known.is_some_and(|known| known.is_same(&place));
                plan.places.push(PlacePlan { opened, ..PlacePlan::settled(place, known) });
                plan.accepted.extend(candidates);
                return Ok(());
            }
            Ok(_) => String::from("the group has a cgroup of its own"),
            Err(why) => why,
        };
        let mut why_not = WhyNot::new(format!("not in place because {why_not}"));
        if let Some(home) = &home {
            match self.on_unit(each, &candidates, &present, home)? {
                Ok(place) if known.is_none_or(|known| known.rung == Rung::Unit) => {
                    let known = known.is_some_and(|known| known.is_same(&place));
                    plan.places.push(PlacePlan::settled(place, known));
                    plan.accepted.extend(candidates);
                    return Ok(());
                }
                Ok(_) => {}
                Err(why) => why_not = why,
            }
        }
        if !self.has_scopes() || self.apply.is_of_protection() {
            return self.own(each, known, candidates, &present, &why_not.why, plan);
        }
        if self.reach == Reach::Files {
            plan.undecided = true;
            return Ok(());
        }
        self.in_scope(each, known, candidates, &present, &why_not, plan)
    }

    /// A place of the group whose limits change while none of its processes was named.
    fn refresh(&self, place: &Place, plan: &mut Plan) -> Result<(), EffectError> {
        if self.controllers.iter().all(|controller| place.dir(*controller).is_some()) {
            plan.places.push(PlacePlan::settled(place.clone(), true));
            return Ok(());
        }
        if place.rung.is_systemds()
            && place.dirs.iter().all(|dir| Some(&dir.path) == place.dirs.first().map(|dir| &dir.path))
            && let Some(path) = place.dirs.first().map(|dir| dir.path.clone())
        {
            // On v2 a unit's one cgroup holds whatever controller systemd enables there.
            let dirs = self.controllers.iter().map(|one| PlaceDir::new(*one, path.clone()));
            let mut wider = Place { dirs: dirs.collect(), ..place.clone() };
            let more = place.dirs.iter().filter(|dir| wider.dir(dir.controller).is_none()).cloned();
            wider.dirs.extend(more.collect::<Vec<_>>());
            wider.dirs.sort_by_key(|dir| dir.controller);
            plan.places.push(PlacePlan::settled(wider, false));
            return Ok(());
        }
        let present = self.present(place, &[])?;
        let home = self.home(&[], &present)?;
        let why_not = match self.in_place(place.each, &[], &present, home.as_ref())? {
            Ok(Found { place: wider, opened }) if place.rung == Rung::InPlace => {
                plan.places.push(PlacePlan { opened, ..PlacePlan::settled(wider, false) });
                return Ok(());
            }
            Ok(_) => String::from("the group has a cgroup of its own"),
            Err(why) => why,
        };
        let why_not = format!("not in place because {why_not}");
        self.own(place.each, Some(place), Vec::new(), &present, &why_not, plan)
    }

    /// The processes in a place besides the candidates.
    fn present(&self, place: &Place, candidates: &[Candidate]) -> Result<Vec<Candidate>, EffectError> {
        let mut pids = BTreeSet::new();
        for path in place.paths() {
            match membership::members(path) {
                Ok(members) => pids.extend(members),
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut present = Vec::new();
        for pid in pids {
            if candidates.iter().any(|one| one.process.key.pid == pid) {
                continue;
            }
            let Ok(stat) = Stat::read(&self.kernel.roots.proc, pid) else { continue };
            if let Ok(candidate) = self.candidate(ProcKey { pid, start: stat.start })? {
                present.push(candidate);
            }
        }
        Ok(present)
    }

    fn mount(&self, controller: Controller) -> Option<&Path> {
        self.kernel.driver.mount(controller)
    }

    fn own_subtree(&self, controller: Controller) -> Option<PathBuf> {
        self.mount(controller).map(|mount| mount.join(&self.kernel.roots.subtree))
    }

    fn owner(&self, controller: Controller, dir: &Path) -> Owner {
        let relative = self.mount(controller).and_then(|mount| dir.strip_prefix(mount).ok()).unwrap_or(dir);
        owner::owner(relative.as_os_str().as_bytes(), self.kernel.systemd)
    }
}
