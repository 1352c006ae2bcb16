//! Care for critical processes: who of them has instances is told to the checks of their health, to their restarts and to
//! their objectives.

use crate::engine::Engine;
use crate::engine::action::ActionId;
use crate::engine::policy::health::Turn;
use crate::model::critical::Checked;
use crate::model::id::Name;
use crate::model::rule::Profile;
use crate::model::time::Timestamp;

impl Engine {
    /// Takes over what a profile asks for.
    pub(super) fn renew_care(&mut self, profile: Option<&Profile>) {
        let criticals = profile.map(|profile| profile.critical.as_slice()).unwrap_or_default();
        self.health.renew(criticals);
        self.restarts.renew(criticals, &mut self.out);
        for critical in criticals {
            self.care_for(&critical.name);
        }
    }

    /// Tells whether a critical process has an instance.
    pub(super) fn care_for(&mut self, name: &Name) {
        let up = self.criticals.is_up(name);
        self.health.seen(name, up, self.out.now());
        self.restarts.seen(name, up, &mut self.out);
        self.listen();
    }

    /// Asks and restarts what is due.
    pub(super) fn look_after(&mut self, now: Timestamp) {
        // What would begin now would not end before the agent does.
        if !self.stopping {
            self.health.ask(now, &mut self.out);
            self.restarts.advance(now, &mut self.out);
        }
    }

    pub(super) fn next_care(&self) -> Option<Timestamp> {
        let due = [self.health.next_timeout(), self.restarts.next_timeout()];
        due.into_iter().flatten().min().filter(|_| !self.stopping)
    }

    pub(super) fn checked(&mut self, id: ActionId, checked: Checked) {
        match self.health.checked(id, checked, &mut self.out) {
            Some(Turn::Restart(name)) => self.restarts.unhealthy(&name, &mut self.out),
            Some(Turn::Healthy(name)) => self.restarts.healthy(&name),
            None => {}
        }
    }

    /// Restarts a critical process because an operator says so. What speaks against it was told to them before.
    pub(super) fn restart_by_hand(&mut self, name: &Name) {
        // Nothing is owed to an operator who was told no by whoever passed this on.
        drop(self.restarts.by_hand(name, &mut self.out));
    }
}
