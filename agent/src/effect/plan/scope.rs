//! The part of a plan that moves processes into a transient scope of systemd's, below a slice of ours that carries
//! the limits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::leave::Stays;
use super::unit::WhyNot;
use super::{Candidate, Mover, PlacePlan, Plan, Planner};
use crate::cgroup::{Controller, Owner, membership, shown};
use crate::effect::group::{Place, PlaceDir, Rung};
use crate::effect::kernel::EffectError;
use crate::effect::protect::Refusal;
use crate::model::id::ProcKey;
use crate::systemd::unit::{Ending, KillMode};
use crate::systemd::{Unit, name};

/// A unit out of which processes are to be moved.
struct Origin {
    unit: Unit,
    ending: Option<Ending>,
    /// Why its last process may not be taken away.
    keeps_one: Option<String>,
}

impl Planner<'_> {
    /// Plans to move the processes into a scope, those that may be moved.
    pub(super) fn in_scope(
        &self,
        each: Option<ProcKey>,
        known: Option<&Place>,
        candidates: Vec<Candidate>,
        present: &[Candidate],
        why_not: &WhyNot,
        plan: &mut Plan,
    ) -> Result<(), EffectError> {
        let place = self.slice_place(each, known, why_not)?;
        let origins = self.origins(candidates.iter().chain(present))?;
        let mut stays = Stays::default();
        // Those that are in the place already have to come along, or stay limited in the old way.
        for one in present {
            if let Err(why) = self.may_enter(&place, one, why_not, &mut stays) {
                return plan.refuse_all(candidates, one, &why);
            }
        }
        let mut accepted = Vec::new();
        for one in candidates {
            match self.may_enter(&place, &one, why_not, &mut stays) {
                Ok(()) => accepted.push(one),
                Err(why) => plan.refused.push((one.process.key, Refusal::NotAllowed(why))),
            }
        }
        let emptied = self.emptied(&origins, accepted.iter().chain(present))?;
        let (stay, go): (Vec<_>, Vec<_>) =
            accepted.into_iter().partition(|one| origin(one).is_some_and(|path| emptied.contains_key(path)));
        for one in stay {
            let why = origin(&one).and_then(|path| emptied.get(path)).cloned().unwrap_or_default();
            plan.refused.push((one.process.key, Refusal::NotAllowed(why)));
        }
        let movers: Vec<Mover> = present
            .iter()
            .chain(&go)
            .map(|one| {
                let bound_to = origin(one).and_then(|path| origins.get(path)).and_then(Origin::binding);
                Mover::new(one, bound_to)
            })
            .collect();
        if movers.is_empty() {
            return Ok(());
        }
        let replaces = known.filter(|known| !known.rung.moves()).cloned();
        let same = known.is_some_and(|known| known.is_same(&place));
        let stands = same && place.paths().iter().all(|path| path.exists());
        plan.places.push(PlacePlan { replaces, movers, ..PlacePlan::settled(place, stands) });
        plan.accepted.extend(go);
        Ok(())
    }

    /// The slice's cgroup, whether or not it is there yet.
    fn slice_place(
        &self,
        each: Option<ProcKey>,
        known: Option<&Place>,
        why_not: &WhyNot,
    ) -> Result<Place, EffectError> {
        let slice = name::slice(&self.apply.group, each);
        // Where systemd runs in a container, its root is not the hierarchy's.
        let root = Unit::load(&self.kernel.bus, "-.slice")?.control_group;
        let mut place = Place::new(each, Rung::Scope, Vec::new());
        for controller in &self.controllers {
            let mut path = self.mount(*controller).map(PathBuf::from).unwrap_or_default();
            path.push(root.trim_matches('/'));
            path.extend(name::lineage(&slice));
            place.dirs.push(PlaceDir::new(*controller, path));
        }
        place.keep_dirs(known);
        place.unit = Some(slice);
        place.why.clone_from(&why_not.why);
        Ok(place)
    }

    fn may_enter(
        &self,
        place: &Place,
        one: &Candidate,
        why_not: &WhyNot,
        stays: &mut Stays,
    ) -> Result<(), String> {
        for (controller, origin) in &one.origins {
            if place.dir(*controller).is_some_and(|dir| origin.starts_with(dir)) {
                continue;
            }
            if self.is_ours(*controller, place, origin) {
                return Err(format!("it is in {}, which limits it already", shown(origin)));
            }
            if self.owner(*controller, origin) == Owner::Container {
                return Err(format!("{} is a container's: nothing is moved out of it", shown(origin)));
            }
            if self.mount(*controller) != Some(origin.as_path()) && !self.apply.allow_move {
                return Err(format!("{}: {}", why_not.why, self.advice(why_not)));
            }
            if let Some(why) = stays.why(origin) {
                return Err(why);
            }
        }
        Ok(())
    }

    /// Whether a cgroup is one of ours, of whatever group.
    fn is_ours(&self, controller: Controller, place: &Place, path: &std::path::Path) -> bool {
        let own_subtree = self.own_subtree(controller);
        let slices = place.dir(controller).and_then(|dir| dir.parent());
        let ours = |dir: &std::path::Path| path != dir && path.starts_with(dir);
        own_subtree.is_some_and(|own| path.starts_with(own)) || slices.is_some_and(ours)
    }

    /// The units of these processes, by cgroup.
    fn origins<'a>(
        &self,
        processes: impl Iterator<Item = &'a Candidate>,
    ) -> Result<BTreeMap<PathBuf, Origin>, EffectError> {
        let mut origins: BTreeMap<PathBuf, Origin> = BTreeMap::new();
        for (controller, path) in processes.filter_map(|one| one.origins.first()) {
            if origins.contains_key(path) || self.owner(*controller, path) == Owner::Nobody {
                continue;
            }
            let Some(unit) = self.unit_of(*controller, path)? else { continue };
            let ending = unit.ending(&self.kernel.bus)?;
            let lives_by_cgroup =
                unit.id.ends_with(".scope") || ending.is_some_and(|ending| ending.main_pid == 0);
            let keeps_one = lives_by_cgroup
                .then(|| format!("it would leave {} without a process, which ends the unit", unit.id));
            origins.insert(path.clone(), Origin { unit, ending, keeps_one });
        }
        Ok(origins)
    }

    /// Cgroups whose unit would end if these processes were taken out of it, and why.
    fn emptied<'a>(
        &self,
        origins: &BTreeMap<PathBuf, Origin>,
        leaving: impl Iterator<Item = &'a Candidate>,
    ) -> Result<BTreeMap<PathBuf, String>, EffectError> {
        let leaving: BTreeSet<u32> = leaving.map(|one| one.process.key.pid).collect();
        let mut emptied = BTreeMap::new();
        for (path, origin) in origins {
            let Some(why) = &origin.keeps_one else { continue };
            let controller = self.controllers.first().copied().unwrap_or(Controller::Cpu);
            let Some(top) = self.cgroup_of(controller, &origin.unit) else { continue };
            match membership::members(&top) {
                Ok(members) if members.iter().all(|pid| leaving.contains(pid)) => {
                    emptied.insert(path.clone(), why.clone());
                }
                Ok(_) => {}
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(emptied)
    }
}

impl Origin {
    /// The service with which a process of it has to end: one whose stop ends all of its processes.
    fn binding(&self) -> Option<(String, Ending)> {
        let ending = self.ending.filter(|ending| ending.mode == KillMode::All)?;
        Some((self.unit.id.clone(), ending))
    }
}

fn origin(one: &Candidate) -> Option<&PathBuf> {
    one.origins.first().map(|(_, path)| path)
}
