//! The part of an application that moves processes.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::Run;
use crate::cgroup::{Cgroup as _, Controller, Memberships, mark};
use crate::clock;
use crate::effect::fail_point::Point;
use crate::effect::group::{Place, Rung};
use crate::effect::kernel::EffectError;
use crate::effect::moves::{Door, alive, children_by_threads, have_ended, population};
use crate::effect::plan::{Mover, PlacePlan, Plan};
use crate::model::chain::chain;
use crate::model::id::{ProcKey, TICK_NANOS};
use crate::procfs::stat::Stat;
use crate::store::{Kind, NewIntent};

/// Repetitions until no new child or thread turns up that was born while we were at it. A process that
/// outruns this forks without end; its children are found by the next sweep and applied to then.
pub(super) const ROUNDS: u32 = 8;

/// When an application began, by what tells whether a process was born since.
pub(super) struct Begun {
    /// Ticks since boot.
    ticks: u64,
    population: Option<String>,
}

impl Begun {
    pub(super) fn now(proc: &Path, plan: &Plan) -> Self {
        let population = plan.moves().then(|| population(proc)).flatten();
        Self { population, ticks: clock::now().as_nanos() / TICK_NANOS }
    }
}

impl Run<'_> {
    pub(super) fn membership_changes(&self, place: &Place, mover: &Mover) -> Vec<NewIntent> {
        let mut changes: Vec<NewIntent> = Vec::new();
        for (controller, origin) in &mover.origins {
            let Some(dir) = place.dir(*controller).filter(|dir| !origin.starts_with(dir)) else { continue };
            if changes.last().is_some_and(|last| last.path == dir) {
                continue;
            }
            changes.push(NewIntent {
                process: Some(mover.key),
                prior: origin.as_os_str().as_bytes().to_vec(),
                ..self.change(place, Kind::Membership, dir.to_owned())
            });
        }
        changes
    }

    /// Moves all of a place's movers, hierarchy by hierarchy, then the children they forked meanwhile.
    pub(super) fn move_in(
        &mut self,
        plan: &PlacePlan,
        begun: &Begun,
        gone: &mut BTreeSet<ProcKey>,
    ) -> Result<(), EffectError> {
        let mut batch = plan.movers.clone();
        let mut seen: BTreeSet<ProcKey> = batch.iter().map(|mover| mover.key).collect();
        for _ in 0..ROUNDS {
            if batch.is_empty() {
                break;
            }
            if plan.place.rung == Rung::Scope {
                self.move_into_scopes(&plan.place, &batch, gone)?;
                self.shared.point(Point::ScopesMade);
            }
            let own = plan.place.paths().into_iter().filter(|_| plan.place.rung == Rung::Own);
            for path in own {
                mark::add_origins(path, batch.iter().filter_map(|mover| mover.origin(&plan.place, path)));
                let mut door = Door::open(path)?;
                for mover in &batch {
                    let there = |(controller, origin): &(Controller, PathBuf)| {
                        plan.place.dir(*controller) != Some(path) || origin.starts_with(path)
                    };
                    if !mover.origins.iter().all(there) && !door.admit(mover.key.pid)? {
                        gone.insert(mover.key);
                    }
                }
            }
            let born = self.look_after(&batch, begun, gone);
            let born: Vec<ProcKey> = born.into_iter().filter(|key| seen.insert(*key)).collect();
            batch = born.into_iter().filter_map(|key| self.newborn(plan, key)).collect();
            let changes: Vec<NewIntent> =
                batch.iter().flat_map(|mover| self.membership_changes(&plan.place, mover)).collect();
            self.record(&changes)?;
        }
        Ok(())
    }

    /// Finds those that are gone, and the children that the others forked meanwhile.
    fn look_after(&self, moved: &[Mover], begun: &Begun, gone: &mut BTreeSet<ProcKey>) -> Vec<ProcKey> {
        let proc = &self.kernel().roots.proc;
        let ended = have_ended(moved.iter().map(|mover| mover.pidfd.as_fd()));
        // One that was being forked when this began may be missed where another one ended just then: like those of a
        // process that outruns this, it is found by the next sweep.
        let forked = begun.population.is_none() || population(proc) != begun.population;
        let mut born = Vec::new();
        for (mover, ended) in moved.iter().zip(ended) {
            if ended || forked {
                let threads = self.check_moved(mover, gone);
                born.extend(children_by_threads(proc, mover.key.pid, threads, begun.ticks));
            }
        }
        born
    }

    /// A pid is all that `cgroup.procs` takes: when the process died in between and its pid was given away,
    /// the stranger goes back to where the process had been. Returns how many threads the process has; 0 when it is gone.
    fn check_moved(&self, mover: &Mover, gone: &mut BTreeSet<ProcKey>) -> u32 {
        let proc = &self.kernel().roots.proc;
        if let Ok(Some(stat)) = alive(proc, mover.key) {
            return stat.threads;
        }
        gone.insert(mover.key);
        if Stat::read(proc, mover.key.pid).is_ok_and(|stat| stat.start != mover.key.start) {
            for (_, origin) in &mover.origins {
                let back = Door::open(origin).and_then(|mut door| door.admit(mover.key.pid));
                if let Err(error) = back {
                    tracing::warn!(pid = mover.key.pid, "move back a reused pid: {}", chain(&error));
                }
            }
        }
        0
    }

    /// A child that was forked outside of the place while its parent was moved into it.
    fn newborn(&self, plan: &PlacePlan, key: ProcKey) -> Option<Mover> {
        let place = &plan.place;
        let process = self.kernel().guard.verify(key, self.critical).ok()?;
        let memberships = Memberships::read(&self.kernel().roots.proc, key.pid).ok()?;
        let origins: Vec<(Controller, PathBuf)> = place
            .dirs
            .iter()
            .filter_map(|dir| {
                let origin = self.kernel().driver.directory(&memberships, dir.controller).ok()?;
                Some((dir.controller, origin))
            })
            .collect();
        let sibling = plan.movers.iter().find(|mover| mover.origins == origins);
        let bound_to = sibling.and_then(|mover| mover.bound_to.clone());
        (!place.holds(&origins)).then_some(Mover { key, pidfd: process.pidfd, origins, bound_to })
    }
}
