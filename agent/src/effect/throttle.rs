//! Carries out the engine's actions on groups, on the live kernel.
//!
//! What takes microseconds is done at once on the caller's thread. What takes milliseconds (moving processes,
//! making and removing cgroups) is handed back as a [`MoveBatch`] for a worker thread, and so is every later
//! action on a group that has a batch outstanding: run the batches in the order in which they were given.

mod batch;
mod seat;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::batch::MoveBatch;
use self::batch::Ticket;
use self::seat::Seat;
use crate::effect::apply::{carry_out, groups_of};
use crate::effect::fail_point::Point;
use crate::effect::group::Group;
use crate::effect::kernel::{EffectError, Kernel};
use crate::effect::level::Weights;
use crate::effect::plan::{Plan, Reach, plan};
use crate::effect::task::Task;
use crate::engine::action::{Action, Apply};
use crate::engine::input::Outcome;
use crate::model::chain::chain;
use crate::model::id::{Name, ProcKey};
use crate::store::{Intent, IntentState, Store, StoreError, Tables};

/// The executor.
#[derive(Clone, Debug)]
pub struct Throttle {
    pub(super) shared: Arc<Shared>,
}

/// What became of an action.
#[derive(Debug)]
pub enum Step {
    /// It is done.
    Done(Outcome),
    /// It goes on in a worker.
    Moves(MoveBatch),
}

impl Throttle {
    /// An executor that keeps its records in this store (see [`crate::store::Durability::Process`]). What an
    /// earlier one left is known again, with its prior values; call [`restore::recover`] before to release
    /// it instead.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(kernel: Kernel, mut store: Store) -> Result<Self, StoreError> {
        store.write(|tables| tables.forget_other_boots(&kernel.boot))?;
        let (rows, intents, shared) = store.read(|tables| {
            Ok::<_, StoreError>((tables.groups()?, tables.intents()?, tables.shared_intents()?))
        })?;
        let known = groups_of(&intents);
        let mut groups = BTreeMap::new();
        for row in rows {
            // Without a change on record a group is from an earlier boot, or was limited to what it had.
            if known.contains(&row.name) {
                let planned = |intent: &Intent| {
                    intent.change.group.as_ref() == Some(&row.name) && intent.state == IntentState::Planned
                };
                let group = Group::from_row(&row, intents.iter().any(planned));
                groups.insert(row.name, Seat::of(group));
            } else {
                store.write(|tables| tables.delete_group(&row.name))?;
            }
        }
        let known =
            groups.iter().filter_map(|(name, seat): (&Name, &Seat)| Some((name, seat.group.as_ref()?)));
        let weights = Weights::of(&kernel, known, &shared);
        Ok(Self {
            shared: Arc::new(Shared {
                kernel,
                store: Mutex::new(store),
                groups: Mutex::new(groups),
                weights: Mutex::new(weights),
                blocked: AtomicBool::new(false),
            }),
        })
    }

    /// Carries out an action on a group; `None` for actions of other kinds. `critical` are the processes
    /// that are never touched besides those that never are.
    pub fn execute(&self, action: &Action, critical: &BTreeSet<ProcKey>) -> Option<Step> {
        let task = Task::of(&action.what)?;
        let group = task.group()?;
        let mut held = None;
        if !self.shared.is_queued(&group) {
            match self.shared.at_once(&task, critical) {
                Ok(AtOnce::Done(outcome)) => return Some(Step::Done(outcome)),
                Ok(AtOnce::Slow(plan)) => held = plan,
                Err(error) => return Some(Step::Done(failed(&error))),
            }
        }
        let ticket = Ticket::new(Arc::clone(&self.shared), group);
        Some(Step::Moves(MoveBatch {
            shared: Arc::clone(&self.shared),
            task: Box::new(task),
            critical: critical.clone(),
            ticket: Some(ticket),
            held,
        }))
    }

    /// What applying would do, without doing any of it. Where systemd runs the host it is asked, which takes
    /// milliseconds.
    ///
    /// # Errors
    /// When it could not be done at all.
    pub fn plan(&self, apply: &Apply, critical: &BTreeSet<ProcKey>) -> Result<Plan, EffectError> {
        let group = self.shared.group(&apply.group);
        plan(&self.shared.kernel, group.as_ref(), apply, critical, Reach::Systemd)
    }

    /// The groups in force.
    #[must_use]
    pub fn groups(&self) -> Vec<(Name, Group)> {
        let groups = self.shared.seats();
        groups.iter().filter_map(|(name, seat)| Some((name.clone(), seat.group.clone()?))).collect()
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        let groups = self.shared.seats();
        groups.iter().filter(|(_, seat)| seat.group.is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// A group in force.
    #[must_use]
    pub fn group(&self, name: &Name) -> Option<Group> {
        self.shared.group(name)
    }

    /// Looks at a group in force without copying it, while no other thread changes it.
    pub fn with_group<T>(&self, name: &Name, look: impl FnOnce(&Group) -> T) -> Option<T> {
        self.shared.seats().get(name).and_then(|seat| seat.group.as_ref()).map(look)
    }

    /// Writes to the store that holds the records, in a transaction.
    ///
    /// # Errors
    /// Those of `work`, and of the transaction.
    pub fn record<T>(&self, work: impl FnOnce(&Tables) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.shared.store().write(work)
    }

    /// Looks at the store that holds the records, whose only connection this has.
    pub fn with_store<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.shared.store())
    }

    /// The host.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.shared.kernel
    }

    #[cfg(test)]
    pub(crate) fn fill_disk(&self) {
        self.shared.store().fill_disk();
    }
}

/// What came of doing something at once.
enum AtOnce {
    Done(Outcome),
    /// It takes a worker, as this plan says, if there is one.
    Slow(Option<Box<Plan>>),
}

impl From<Option<Outcome>> for AtOnce {
    fn from(outcome: Option<Outcome>) -> Self {
        outcome.map_or(Self::Slow(None), Self::Done)
    }
}

fn failed(error: &EffectError) -> Outcome {
    Outcome::Failed { error: chain(error) }
}

/// What the caller's thread and the worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) kernel: Kernel,
    store: Mutex<Store>,
    groups: Mutex<BTreeMap<Name, Seat>>,
    /// Locked before the store, never after.
    pub(super) weights: Mutex<Weights>,
    /// Whether nothing may be limited.
    pub(super) blocked: AtomicBool,
}

impl Shared {
    /// The store, held for one transaction at a time and never while the kernel is written.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn point(&self, point: Point) {
        self.kernel.fail.pass(point);
    }

    /// Does what is quick.
    fn at_once(&self, task: &Task, critical: &BTreeSet<ProcKey>) -> Result<AtOnce, EffectError> {
        self.expect_permitted(task)?;
        match task {
            Task::Apply(apply) => {
                let before = self.group(&apply.group);
                if let Some(plan) = self.slow_for_one(before.as_ref(), apply, critical) {
                    return Ok(AtOnce::Slow(Some(Box::new(plan))));
                }
                let plan = plan(&self.kernel, before.as_ref(), apply, critical, Reach::Files)?;
                if plan.is_slow() {
                    Ok(AtOnce::Slow(Some(Box::new(plan))))
                } else {
                    self.apply(apply, plan, before, critical).map(AtOnce::Done)
                }
            }
            Task::Lift => Ok(AtOnce::Slow(None)),
            Task::Protect(keep) => self.protect(keep).map(AtOnce::Done),
            Task::Reserve(hold) => self.reserve(hold, Reach::Files).map(AtOnce::from),
            Task::Disinherit { key, from, .. } => self.disinherit(*key, *from).map(AtOnce::Done),
            Task::Release(group) | Task::Detach(group, _) | Task::Reap(group) => {
                // Of a group that is not known, the records may name units.
                let slow = self.group(group).map_or(self.kernel.systemd, |group| {
                    group.places.iter().any(|place| place.rung.moves() || place.rung.is_systemds())
                });
                if slow {
                    Ok(AtOnce::Slow(None))
                } else {
                    self.whatever_it_takes(task, critical).map(AtOnce::Done)
                }
            }
        }
    }

    /// The plan for the first of several processes, if it is enough to know that a worker, who looks at all of them, has to
    /// do it.
    fn slow_for_one(
        &self,
        before: Option<&Group>,
        apply: &Apply,
        critical: &BTreeSet<ProcKey>,
    ) -> Option<Plan> {
        let [first, _, ..] = apply.members.as_slice() else { return None };
        let one = Apply { members: vec![*first], ..apply.clone() };
        plan(&self.kernel, before, &one, critical, Reach::Files).ok().filter(Plan::is_slow)
    }

    fn whatever_it_takes(&self, task: &Task, critical: &BTreeSet<ProcKey>) -> Result<Outcome, EffectError> {
        self.expect_permitted(task)?;
        match task {
            Task::Apply(apply) => {
                let before = self.group(&apply.group);
                let plan = plan(&self.kernel, before.as_ref(), apply, critical, Reach::Systemd)?;
                self.apply(apply, plan, before, critical)
            }
            Task::Lift => self.lift(),
            Task::Protect(keep) => self.protect(keep),
            Task::Reserve(hold) => self.reserve_now(hold),
            Task::Disinherit { key, from, .. } => self.disinherit(*key, *from),
            Task::Release(group) => self.release(group),
            Task::Detach(group, key) => self.detach(group, *key),
            Task::Reap(group) => {
                if self.is_busy(group)? {
                    self.set_idle(group, true);
                    Ok(Outcome::Busy)
                } else {
                    self.release(group)
                }
            }
        }
    }

    fn apply(
        &self,
        apply: &Apply,
        plan: Plan,
        before: Option<Group>,
        critical: &BTreeSet<ProcKey>,
    ) -> Result<Outcome, EffectError> {
        let (slow, accepted) = (plan.is_slow(), plan.accepted.len());
        let outcome = self.bring_in(apply, plan, before, critical)?;
        if slow || self.is_full(&apply.group, accepted) {
            self.prune(&apply.group)?;
        }
        Ok(outcome)
    }

    pub(super) fn bring_in(
        &self,
        apply: &Apply,
        mut plan: Plan,
        before: Option<Group>,
        critical: &BTreeSet<ProcKey>,
    ) -> Result<Outcome, EffectError> {
        self.set_idle(&apply.group, false);
        if plan.accepted.is_empty() && plan.places.is_empty() {
            return Ok(plan.applied("not at all".to_owned(), None));
        }
        let mut carried = carry_out(self, apply, &mut plan, before.as_ref(), critical);
        if let Err(EffectError::Store(StoreError::Taken { group, .. })) = &carried
            && let Ok(holder) = group.parse::<Name>()
            && !self.is_queued(&holder)
            && self.is_over(&holder, &plan.members())?
        {
            // Who ended a moment ago must not keep who comes after it in the same cgroup or unit from being limited.
            self.release(&holder)?;
            carried = carry_out(self, apply, &mut plan, before.as_ref(), critical);
        }
        match carried {
            Ok(after) if plan.accepted.is_empty() && before.is_none() => {
                // All ended while they were moved: nobody would ever ask for the group to be removed.
                self.set_group(&apply.group, Some(after));
                self.release(&apply.group)?;
                Ok(plan.applied("not at all".to_owned(), None))
            }
            Ok(after) => {
                plan.notes.iter().for_each(|note| tracing::warn!(group = %apply.group, "{note}"));
                let how = [after.how()].into_iter().chain(plan.notes.iter().cloned());
                let outcome = plan.applied(how.collect::<Vec<_>>().join("; "), Some(&after));
                if before.as_ref() != Some(&after) {
                    self.set_group(&apply.group, Some(after));
                }
                Ok(outcome)
            }
            Err(error) => {
                if let EffectError::Stands { .. } = &error {
                    let dirty = before.map(|group| Group { dirty: true, ..group });
                    self.set_group(&apply.group, dirty);
                }
                Err(error)
            }
        }
    }
}
