//! The part of a plan that moves processes into a cgroup of ours.

use std::path::Path;

use super::leave::Stays;
use super::{Candidate, Mover, PlacePlan, Plan, Planner};
use crate::cgroup::{shown, subtree};
use crate::effect::group::{Place, PlaceDir, Rung};
use crate::effect::kernel::EffectError;
use crate::effect::protect::Refusal;
use crate::model::id::ProcKey;

impl Planner<'_> {
    /// Plans to move the processes into a cgroup of ours, those that may be moved.
    pub(super) fn own(
        &self,
        each: Option<ProcKey>,
        known: Option<&Place>,
        candidates: Vec<Candidate>,
        present: &[Candidate],
        why_not: &str,
        plan: &mut Plan,
    ) -> Result<(), EffectError> {
        if self.apply.is_of_protection() {
            return stay(candidates, why_not, plan);
        }
        let mut place = Place::new(each, Rung::Own, Vec::new());
        place.why = why_not.to_owned();
        for controller in &self.controllers {
            let mount = self.mount(*controller).unwrap_or_else(|| Path::new("/"));
            let subtree = &self.kernel.roots.subtree;
            let path = subtree::group_dir(mount, subtree, &self.apply.group, each);
            place.dirs.push(PlaceDir::new(*controller, path));
        }
        place.keep_dirs(known);
        let mut stays = Stays::default();
        // Those that are in the place already have to come along, or stay limited in the old way.
        for one in present {
            if let Err(why) = self.may_move(&place, one, why_not, &mut stays) {
                return plan.refuse_all(candidates, one, &why);
            }
        }
        let mover = |one: &Candidate| Mover::new(one, None);
        let mut movers: Vec<Mover> = present.iter().map(mover).collect();
        let mut accepted = Vec::new();
        for one in candidates {
            match self.may_move(&place, &one, why_not, &mut stays) {
                Ok(()) => {
                    movers.push(mover(&one));
                    accepted.push(one);
                }
                Err(why) => plan.refused.push((one.process.key, Refusal::NotAllowed(why))),
            }
        }
        if movers.is_empty() {
            return Ok(());
        }
        let replaces = known.filter(|known| known.rung == Rung::InPlace).cloned();
        // After a death between recording and making it, a known cgroup of ours may not be there.
        let same = known.is_some_and(|known| known.is_same(&place));
        let stands = same && place.paths().iter().all(|path| path.exists());
        plan.places.push(PlacePlan { replaces, movers, ..PlacePlan::settled(place, stands) });
        plan.accepted.extend(accepted);
        Ok(())
    }

    fn may_move(
        &self,
        place: &Place,
        one: &Candidate,
        why_not: &str,
        stays: &mut Stays,
    ) -> Result<(), String> {
        for (controller, origin) in &one.origins {
            if place.dir(*controller).is_some_and(|dir| origin.starts_with(dir)) {
                continue;
            }
            if self.own_subtree(*controller).is_some_and(|own| origin.starts_with(own)) {
                return Err(format!("it is in {}, which limits it already", shown(origin)));
            }
            if self.mount(*controller) != Some(origin.as_path()) && !self.apply.allow_move {
                return Err(format!("{why_not}; moving it out of {} needs allow_move", shown(origin)));
            }
            if let Some(why) = stays.why(origin) {
                return Err(why);
            }
        }
        Ok(())
    }
}

/// Refuses all of them: for protection nobody is moved.
pub(super) fn stay(all: Vec<Candidate>, why_not: &str, plan: &mut Plan) -> Result<(), EffectError> {
    let why = format!("{why_not}; a critical process is never moved");
    if all.is_empty() {
        return Err(EffectError::Refused(why));
    }
    let refused = |one: Candidate| (one.process.key, Refusal::NotAllowed(why.clone()));
    plan.refused.extend(all.into_iter().map(refused));
    Ok(())
}
