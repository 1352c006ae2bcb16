//! What is held of each group, besides its records.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use super::Shared;
use crate::effect::group::Group;
use crate::effect::release::KEEP;
use crate::model::id::Name;

/// A group in force, or one that has actions on their way.
#[derive(Debug, Default)]
pub(super) struct Seat {
    pub(super) group: Option<Group>,
    pub(super) queued: usize,
    /// Processes that came in since the last pruning.
    came: usize,
    /// Whether it was to be removed but for processes in its cgroups, and has got none since.
    idle: bool,
}

impl Seat {
    /// A group that an earlier agent has left.
    pub(super) fn of(group: Option<Group>) -> Self {
        Self { group, ..Self::default() }
    }
}

impl Shared {
    pub(super) fn seats(&self) -> MutexGuard<'_, BTreeMap<Name, Seat>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::effect) fn is_idle(&self, group: &Name) -> bool {
        self.seats().get(group).is_some_and(|seat| seat.idle)
    }

    pub(super) fn set_idle(&self, group: &Name, idle: bool) {
        if let Some(seat) = self.seats().get_mut(group) {
            seat.idle = idle;
        }
    }

    pub(super) fn is_queued(&self, group: &Name) -> bool {
        self.seats().get(group).is_some_and(|seat| seat.queued > 0)
    }

    pub(crate) fn group(&self, name: &Name) -> Option<Group> {
        self.seats().get(name).and_then(|seat| seat.group.clone())
    }

    /// Forgets all groups but those that `kept` names.
    pub(in crate::effect) fn forget_groups(&self, kept: impl Fn(&Name) -> bool) {
        self.seats().retain(|name, seat| {
            if !kept(name) {
                seat.group = None;
            }
            seat.group.is_some() || seat.queued > 0
        });
    }

    pub(crate) fn set_group(&self, name: &Name, group: Option<Group>) {
        let mut seats = self.seats();
        match group {
            Some(group) => seats.entry(name.clone()).or_default().group = Some(group),
            None => {
                let queued = seats.get_mut(name).map_or(0, |seat| {
                    seat.group = None;
                    seat.queued
                });
                if queued == 0 {
                    seats.remove(name);
                }
            }
        }
    }

    /// Whether so many came into a group since the last time that it is worth looking who of them is gone.
    pub(super) fn is_full(&self, group: &Name, accepted: usize) -> bool {
        self.seats().get_mut(group).is_some_and(|seat| {
            seat.came += accepted;
            let full = seat.came >= KEEP;
            if full {
                seat.came = 0;
            }
            full
        })
    }
}
