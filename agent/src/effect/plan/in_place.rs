//! The part of a plan that leaves processes where they are.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Candidate, Planner};
use crate::cgroup::{Cgroup as _, CgroupError, Controller, Dir, Owner, membership, shown};
use crate::effect::group::{Place, PlaceDir, Rung};
use crate::effect::kernel::EffectError;
use crate::effect::moves::is_same;
use crate::model::id::ProcKey;
use crate::systemd::Unit;

/// Where the processes are.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) opened: Vec<Dir>,
}

impl Planner<'_> {
    /// Whether the limits can be written where the processes are; else the reason.
    pub(super) fn in_place(
        &self,
        each: Option<ProcKey>,
        candidates: &[Candidate],
        present: &[Candidate],
        home: Option<&Unit>,
    ) -> Result<Result<Found, String>, EffectError> {
        let ended = |key: &ProcKey| is_same(&self.kernel.roots.proc, *key).is_ok_and(|alive| !alive);
        let sharers = &self.apply.sharers;
        if !self.apply.in_place && (sharers.is_empty() || !sharers.iter().all(ended)) {
            return Ok(Err("other processes share their cgroup".to_owned()));
        }
        let everyone = || candidates.iter().chain(present);
        let pids: BTreeSet<u32> = everyone().map(|one| one.process.key.pid).collect();
        let mut dirs: Vec<PlaceDir> = Vec::with_capacity(self.controllers.len());
        let mut opened = Vec::new();
        for (index, controller) in self.controllers.iter().enumerate() {
            let paths = || everyone().filter_map(|one| one.origins.get(index).map(|(_, path)| path));
            let Some(dir) = paths().min_by_key(|path| path.as_os_str().len()) else {
                return Ok(Err("there is no process".to_owned()));
            };
            if let Some(outside) = paths().find(|path| !path.starts_with(dir)) {
                return Ok(Err(format!("they are both in {} and in {}", shown(dir), shown(outside))));
            }
            if let Some(last) = dirs.last().filter(|last| last.path == *dir) {
                dirs.push(PlaceDir { controller: *controller, ..last.clone() });
                continue;
            }
            if let Err(why) = self.may_write(*controller, dir, home) {
                return Ok(Err(why));
            }
            if let Some(missing) = self.kernel.driver.lacks(dir, &self.controllers)? {
                let name = missing.v2_name();
                return Ok(Err(format!("controller {name} is not handed down to {}", shown(dir))));
            }
            let look = |dir: Dir| membership::population(&dir).map(|found| (dir, found));
            let (open, (inode, members)) = match Dir::open(dir).and_then(look) {
                Ok(found) => found,
                Err(error) if error.is_gone() => return Ok(Err(format!("{} is gone", shown(dir)))),
                Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => {
                    return Ok(Err(format!("{} is threaded: it does not tell its processes", shown(dir))));
                }
                // More cgroups below it than are looked at: nobody can tell that they are all the group's.
                Err(error @ CgroupError::Malformed { .. }) => return Ok(Err(error.to_string())),
                Err(error) => return Err(error.into()),
            };
            if let Some(other) = members.iter().find(|pid| !pids.contains(pid) && !self.is_kin(**pid, &pids))
            {
                return Ok(Err(format!("process {other} in {} is not of the group", shown(dir))));
            }
            dirs.push(PlaceDir { controller: *controller, path: dir.clone(), inode });
            opened.push(open);
        }
        Ok(Ok(Found { place: Place::new(each, Rung::InPlace, dirs), opened }))
    }

    fn may_write(&self, controller: Controller, dir: &Path, home: Option<&Unit>) -> Result<(), String> {
        if self.mount(controller) == Some(dir) {
            return Err(format!("{} is the hierarchy's root", shown(dir)));
        }
        match self.owner(controller, dir) {
            Owner::Nobody if self.own_subtree(controller).is_some_and(|own| dir.starts_with(own)) => {
                Err(format!("{} is a cgroup of this program", shown(dir)))
            }
            Owner::Nobody => Ok(()),
            // What is below a unit that manages its own cgroups is not systemd's.
            Owner::Systemd if home.is_some_and(|home| self.is_delegated(controller, dir, home)) => Ok(()),
            owner @ (Owner::Systemd | Owner::Container) => Err(format!("{} belongs to {owner}", shown(dir))),
        }
    }
}
