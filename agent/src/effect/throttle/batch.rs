//! Actions that take milliseconds, for a worker thread: in order for each group. Decides nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Shared, Throttle, failed};
use crate::effect::plan::Plan;
use crate::effect::task::Task;
use crate::engine::input::Outcome;
use crate::model::id::{Name, ProcKey};

/// An action for a worker thread.
#[derive(Debug)]
pub struct MoveBatch {
    pub(super) shared: Arc<Shared>,
    pub(super) task: Box<Task>,
    pub(super) critical: BTreeSet<ProcKey>,
    /// None when it is about all groups.
    pub(super) ticket: Option<Ticket>,
    /// What was found before, kept until all is moved for its pidfds alone: the kernel frees what is behind one that is
    /// closed after a grace period, and the first move would wait for the rest of that one and then for its own.
    pub(super) held: Option<Box<Plan>>,
}

impl MoveBatch {
    /// Lifts everything.
    pub(in crate::effect) fn of_all(throttle: &Throttle) -> Self {
        let shared = Arc::clone(&throttle.shared);
        Self { shared, task: Box::new(Task::Lift), critical: BTreeSet::new(), ticket: None, held: None }
    }

    /// The group that it is about; none when it is about all.
    #[must_use]
    pub fn group(&self) -> Option<&Name> {
        self.ticket.as_ref().map(|ticket| &ticket.group)
    }

    /// Does it: takes milliseconds. Everything is checked anew first.
    #[must_use]
    pub fn run(self) -> Outcome {
        let outcome = self.shared.whatever_it_takes(&self.task, &self.critical);
        drop(self.held);
        outcome.unwrap_or_else(|error| failed(&error))
    }
}

/// Keeps a group's actions in order: while one is outstanding, the later ones queue behind it.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    group: Name,
}

impl Ticket {
    pub(super) fn new(shared: Arc<Shared>, group: Name) -> Self {
        shared.seats().entry(group.clone()).or_default().queued += 1;
        Self { shared, group }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut seats = self.shared.seats();
        if let Some(seat) = seats.get_mut(&self.group) {
            seat.queued = seat.queued.saturating_sub(1);
            if seat.queued == 0 && seat.group.is_none() {
                seats.remove(&self.group);
            }
        }
    }
}
