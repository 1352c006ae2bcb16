//! Limits set by hand, across stops of the agent: what is asked for is noted, and taken up again at the start.
//!
//! A wish outlives every end of the agent, an orderly one that lifts the limits included; it ends with a
//! `release`, with its time, and with the last process of its group.

use std::collections::BTreeSet;

use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::daemon::command::Answer;
use crate::daemon::turn::Turn;
use crate::engine::input::{Input, ManualThrottle, ReleaseTarget};
use crate::engine::view::GroupView;
use crate::model::chain::chain;
use crate::model::id::{Name, ProcKey};
use crate::model::notice::Notice;
use crate::model::reason::Reason;
use crate::store::Wish;

impl Turn {
    /// Takes up again what operators asked for of an earlier agent, as far as its processes live and its time
    /// is not up. Answered when the limits are in force; those that fail are tried again as any other.
    pub(super) fn recall(&mut self, answer: Answer<()>) {
        for group in self.wishes.expire(clock::now()) {
            let notice = Notice::ThrottleRemoved { group, reason: Reason::Expired };
            self.parts.journal.tell(clock::now(), notice);
        }
        self.bury_wishes();
        let wanted: Vec<Wish> = self.wishes.iter().cloned().collect();
        let mut inputs = Vec::new();
        for wish in wanted {
            let (able, refused) = self.sort_out(&wish.members);
            tracing::info!(group = %wish.name, processes = able.len(), left_out = refused.len(), "limits set by hand come back");
            // Whoever may not be limited now may be again under another profile.
            if !able.is_empty() {
                inputs.push(Input::Throttle(manual(wish, able)));
            }
        }
        self.pending.open(Box::new(move |_turn, _settled| {
            // What failed is an event already. Whoever asked may have gone away.
            drop(answer.send(Ok(())));
        }));
        let now = clock::now();
        for input in inputs {
            self.feed(input, now);
        }
        self.act();
        self.pending.settled_down();
    }

    /// Notes what was asked for and is in force.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub(super) fn note_wish(&mut self, throttle: ManualThrottle) -> Result<(), Failure> {
        let ManualThrottle { group, limits, scope, allow_move, whole_unit, policy, processes, until, reason } =
            throttle;
        self.wishes.put(Wish {
            name: group.clone(),
            limits,
            scope,
            allow_move,
            whole_unit,
            policy,
            members: processes,
            until,
            reason,
            created: clock::unix_millis(clock::wall()),
        });
        let made = self.parts.engine.made_by_hand();
        self.wishes.follow(&made);
        self.wishes.bury(&made, |key| self.parts.engine.knows(key));
        let saved = self.wishes.save(&self.parts.throttle);
        saved.map_err(|error| {
            let message = format!("group {group} is limited, but not after a restart: {}", chain(&error));
            Failure::new(FailureKind::Partial, message)
        })
    }

    /// Takes back what an operator releases. `chosen` are the groups that it concerns.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub(super) fn forget_wishes(
        &mut self,
        target: &ReleaseTarget,
        chosen: &[GroupView],
    ) -> Result<(), Failure> {
        // Who was born in a group stays in it when the one who was named is taken out.
        self.wishes.follow(&self.parts.engine.made_by_hand());
        let members = |group: &GroupView| group.members.iter().map(|member| member.key).collect::<Vec<_>>();
        match target {
            ReleaseTarget::All => self.wishes.clear(),
            ReleaseTarget::Group(name) => {
                self.wishes.forget(name);
                let keys: BTreeSet<ProcKey> = chosen.iter().flat_map(members).collect();
                self.wishes.forget_processes(&keys);
            }
            ReleaseTarget::Process(key) => self.wishes.forget_processes(&BTreeSet::from([*key])),
            ReleaseTarget::Rule(_) => {}
        }
        let saved = self.wishes.save(&self.parts.throttle);
        saved.map_err(|error| {
            let message = format!("released, but limited again after a restart: {}", chain(&error));
            Failure::new(FailureKind::Partial, message)
        })
    }

    /// A group by hand was undone because it could not be brought into force as a whole.
    pub(super) fn forget_wish(&mut self, group: &Name) {
        self.wishes.forget(group);
        self.save_wishes();
    }

    /// Notes who is in the groups made by hand, before they are lifted for a stop.
    pub(super) fn remember_members(&mut self) {
        self.wishes.follow(&self.parts.engine.made_by_hand());
        self.save_wishes();
    }

    /// Drops the wishes that are over: to be called when a group was released.
    pub(super) fn bury_wishes(&mut self) {
        if self.wishes.is_empty() || self.stopping {
            return;
        }
        // The engine has told that their time is up.
        self.wishes.expire(clock::now());
        let made = self.parts.engine.made_by_hand();
        self.wishes.bury(&made, |key| self.parts.engine.knows(key));
        self.save_wishes();
    }

    fn save_wishes(&mut self) {
        if let Err(error) = self.wishes.save(&self.parts.throttle) {
            tracing::error!(
                "which limits set by hand outlive the agent cannot be written down: {}",
                chain(&error)
            );
        }
    }
}

pub(super) fn manual(wish: Wish, processes: Vec<ProcKey>) -> ManualThrottle {
    let Wish { name, limits, scope, allow_move, whole_unit, policy, members: _, until, reason, created: _ } =
        wish;
    ManualThrottle { group: name, limits, scope, allow_move, whole_unit, policy, processes, until, reason }
}
