//! What of the engine's actions is done to groups.

use crate::engine::action::{Apply, What};
use crate::model::critical::Protection;
use crate::model::id::{Name, ProcKey};
use crate::model::reservation::Reservation;

/// An action on a group, or on all of them.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Apply(Box<Apply>),
    Release(Name),
    Detach(Name, ProcKey),
    Reap(Name),
    Lift,
    Protect(Box<Keep>),
    Disinherit { group: Name, key: ProcKey, from: ProcKey },
    Reserve(Box<Hold>),
}

/// A protection to give.
#[derive(Clone, Debug)]
pub(super) struct Keep {
    pub(super) group: Name,
    pub(super) key: ProcKey,
    pub(super) critical: Name,
    pub(super) protection: Protection,
}

/// A reservation to give.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The name under which it is recorded.
    pub group: Name,
    /// The critical process.
    pub critical: Name,
    /// What it is to have.
    pub reservation: Reservation,
    /// Instances of it.
    pub members: Vec<ProcKey>,
}

impl Task {
    pub(super) fn of(what: &What) -> Option<Self> {
        match what {
            What::Apply(apply) => Some(Self::Apply(Box::new(apply.clone()))),
            What::Release { group, .. } => Some(Self::Release(group.clone())),
            What::Detach { group, key, .. } => Some(Self::Detach(group.clone(), *key)),
            What::Reap { group } => Some(Self::Reap(group.clone())),
            What::Protect { group, key, critical, protection } => Some(Self::Protect(Box::new(Keep {
                group: group.clone(),
                key: *key,
                critical: critical.clone(),
                protection: protection.clone(),
            }))),
            What::Unprotect { group, key: _ } | What::Unreserve { group, critical: _ } => {
                Some(Self::Release(group.clone()))
            }
            What::Reserve { group, critical, reservation, members } => Some(Self::Reserve(Box::new(Hold {
                group: group.clone(),
                critical: critical.clone(),
                reservation: *reservation,
                members: members.clone(),
            }))),
            What::Disinherit { group, key, from } => {
                Some(Self::Disinherit { group: group.clone(), key: *key, from: *from })
            }
            What::Lift
            | What::Resume
            | What::Inspect { .. }
            | What::Watch { .. }
            | What::Resync
            | What::Sample(_)
            | What::Listen { .. }
            | What::Check { .. }
            | What::Restart { .. }
            | What::Notify { .. } => None,
        }
    }

    pub(super) fn group(&self) -> Option<Name> {
        match self {
            Self::Apply(apply) => Some(apply.group.clone()),
            Self::Protect(keep) => Some(keep.group.clone()),
            Self::Reserve(hold) => Some(hold.group.clone()),
            Self::Release(group)
            | Self::Detach(group, _)
            | Self::Reap(group)
            | Self::Disinherit { group, .. } => Some(group.clone()),
            Self::Lift => None,
        }
    }
}
