//! Commands that are answered when the actions they caused have their outcomes, and those that these caused.

use std::collections::BTreeMap;

use crate::daemon::turn::Turn;
use crate::engine::action::{ActionId, What};
use crate::engine::input::Outcome;

/// An action with its outcome.
pub type Settled = (What, Outcome);

/// What to do when all outcomes are in.
pub type Then = Box<dyn FnOnce(&mut Turn, Vec<Settled>) + Send>;

struct Ticket {
    waiting: BTreeMap<ActionId, What>,
    settled: Vec<Settled>,
    then: Then,
}

/// Commands that wait. The control socket bounds how many there are.
#[derive(Default)]
pub struct Pending {
    tickets: BTreeMap<u64, Ticket>,
    opened: u64,
    /// Tickets on whose account actions are issued now.
    causes: Vec<u64>,
}

impl Pending {
    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Actions issued from now on, until [`Self::settled_down`], are this continuation's to wait for.
    pub fn open(&mut self, then: Then) {
        self.opened = self.opened.wrapping_add(1);
        self.tickets.insert(self.opened, Ticket { waiting: BTreeMap::new(), settled: Vec::new(), then });
        self.causes = vec![self.opened];
    }

    /// Actions issued from now on are nobody's.
    pub fn settled_down(&mut self) {
        self.causes.clear();
    }

    /// Notes that an action was issued.
    pub fn issued(&mut self, id: ActionId, what: &What) {
        for ticket in &self.causes {
            if let Some(ticket) = self.tickets.get_mut(ticket) {
                ticket.waiting.insert(id, what.clone());
            }
        }
    }

    /// Notes an outcome. Actions issued from now on are caused by it.
    pub fn settle(&mut self, id: ActionId, outcome: &Outcome) {
        for (number, ticket) in &mut self.tickets {
            if let Some(what) = ticket.waiting.remove(&id) {
                ticket.settled.push((what, outcome.clone()));
                if !self.causes.contains(number) {
                    self.causes.push(*number);
                }
            }
        }
    }

    /// A continuation all of whose outcomes are in, with these.
    pub fn next_complete(&mut self) -> Option<(Then, Vec<Settled>)> {
        let number = *self.tickets.iter().find(|(_, ticket)| ticket.waiting.is_empty())?.0;
        self.tickets.remove(&number).map(|ticket| (ticket.then, ticket.settled))
    }
}
