//! What follows when a process that is to be limited cannot be.

use crate::engine::Engine;
use crate::engine::policy::outcome::Refused;
use crate::engine::process::Bars;
use crate::model::id::ProcKey;
use crate::model::notice::Notice;
use crate::model::reason::Reason;
use crate::model::time::Timestamp;

impl Engine {
    /// Takes in whom the executor refused. It is told when nobody could be limited: at once to an operator, and
    /// otherwise when it lasts, since a process that shares its cgroup for the moment of a fork is limited soon after.
    pub(super) fn refused(&mut self, refused: Refused) {
        let Refused { members, nobody } = refused;
        let first = members.first().map(|(key, _)| *key);
        for (key, why) in members {
            self.note_refusal(key, why);
        }
        let Some((group, error, reason)) = nobody else { return };
        let cgroup = first.and_then(|key| self.table.get(key)).map(|entry| entry.process.cgroup);
        let by_hand = matches!(reason, Reason::Operator { .. });
        if by_hand || cgroup.is_some_and(|cgroup| self.refusals.tell(cgroup, &group)) {
            self.out.notify(Notice::ThrottleFailed { group, error, reason });
        }
    }

    pub(super) fn note_refusal(&mut self, key: ProcKey, why: String) {
        let now = self.out.now();
        if let Some(entry) = self.table.get_mut(key) {
            entry.group = None;
            entry.bars.get_or_insert_with(Box::<Bars>::default).refused = Some(why);
            self.refusals.note(entry.process.cgroup, key, now);
        }
    }

    /// Decides anew about those that were refused and still are where they were.
    pub(super) fn ask_again(&mut self, now: Timestamp) {
        while let Some((cgroup, keys)) = self.refusals.take_due(now) {
            for key in keys {
                let entry = self.table.get_mut(key).filter(|entry| entry.process.cgroup == cgroup);
                let bars = entry.and_then(|entry| entry.bars.as_mut());
                if bars.and_then(|bars| bars.refused.take()).is_some() {
                    self.evaluate(key);
                }
            }
        }
    }
}
