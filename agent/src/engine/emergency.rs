//! The emergency stop: nothing is limited while it is in force, whoever asks and whatever matches.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::action::{ActionId, What};
use crate::engine::input::Outcome;
use crate::engine::policy::throttle::Throttle;
use crate::model::notice::Notice;
use crate::model::time::Timestamp;

/// Waits before what could not be lifted is tried again.
const AGAIN: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];

/// Whether an emergency stop is in force, and how far lifting has got.
#[derive(Debug, Default)]
pub(super) struct Emergency {
    reason: Option<String>,
    /// The action that lifts everything.
    lifting: Option<ActionId>,
    failures: usize,
    again: Option<Timestamp>,
    /// Who says that it is over, while not everything is lifted yet: what is limited anew meanwhile would be
    /// lifted, too.
    resume: Option<u32>,
}

impl Emergency {
    /// Why nothing may be limited, if so.
    pub(super) fn words(&self) -> Option<String> {
        self.reason.as_ref().map(|reason| format!("an emergency stop is in force: {reason}"))
    }

    pub(super) const fn is_on(&self) -> bool {
        self.reason.is_some()
    }

    pub(super) const fn next_timeout(&self) -> Option<Timestamp> {
        self.again
    }
}

impl Engine {
    /// Lifts everything and limits nothing from now on.
    pub(super) fn emergency_stop(&mut self, reason: String, uid: u32, told: bool) {
        let groups = self.throttle.iter().count();
        // What is on its way is overtaken: the executor lifts that, too.
        self.throttle = Throttle::default();
        for key in self.table.keys() {
            self.set_group(key, None);
        }
        self.emergency = Emergency { reason: Some(reason.clone()), ..Emergency::default() };
        self.lift();
        if !told {
            self.out.notify(Notice::EmergencyStop { reason, uid, groups });
        }
    }

    /// Lets rules limit again. Limits made by hand do not come back.
    pub(super) fn emergency_resume(&mut self, uid: u32) {
        if !self.emergency.is_on() {
            return;
        }
        if self.emergency.lifting.is_some() || self.emergency.again.is_some() {
            self.emergency.resume = Some(uid);
            return;
        }
        self.emergency = Emergency::default();
        self.out.push(What::Resume);
        self.out.notify(Notice::EmergencyResumed { uid });
        self.ruled = self.out.now();
        for key in self.table.keys() {
            self.evaluate(key);
        }
    }

    /// Takes in whether everything is lifted; `false` when the action is another one.
    pub(super) fn lifted(&mut self, id: ActionId, outcome: &Outcome) -> bool {
        if self.emergency.lifting != Some(id) {
            return false;
        }
        self.emergency.lifting = None;
        if matches!(outcome, Outcome::Released) {
            self.counts.released += 1;
            if let Some(uid) = self.emergency.resume.take() {
                self.emergency_resume(uid);
            }
        } else {
            self.counts.failed += 1;
            let wait = AGAIN.get(self.emergency.failures).or(AGAIN.last()).copied().unwrap_or_default();
            self.emergency.failures += 1;
            self.emergency.again = Some(self.out.now().after(wait));
        }
        true
    }

    pub(super) fn lift_again(&mut self, now: Timestamp) {
        if self.emergency.again.is_some_and(|at| at <= now) {
            self.emergency.again = None;
            self.lift();
        }
    }

    fn lift(&mut self) {
        self.emergency.lifting = Some(self.out.push(What::Lift));
    }
}
