//! Actions decided and not yet fetched. The caller fetches them after every input, which bounds the queue.

use std::collections::VecDeque;

use crate::engine::action::{Action, ActionId, What};
use crate::model::notice::Notice;
use crate::model::time::Timestamp;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    now: Timestamp,
    last: u64,
    queue: VecDeque<Action>,
}

impl Outbox {
    /// Moves time on; it never goes back.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// The time of the last input.
    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn push(&mut self, what: What) -> ActionId {
        self.last = self.last.saturating_add(1);
        let id = ActionId(self.last);
        self.queue.push_back(Action { id, at: self.now, what });
        id
    }

    pub(crate) fn notify(&mut self, notice: Notice) {
        self.push(What::Notify { notice });
    }

    pub(crate) fn pop(&mut self) -> Option<Action> {
        self.queue.pop_front()
    }
}
