//! What critical processes need, and what that holds back: while one is down, those that need it are not told of,
//! because their trouble is its trouble.

use std::collections::{BTreeMap, BTreeSet};

use crate::alert::{Ledger, Moment, key};
use crate::model::id::Name;
use crate::model::notice::table::OUTAGES;

/// The critical processes that are watched, and which of them each needs.
#[derive(Debug, Default)]
pub(super) struct Needs(BTreeMap<Name, Vec<Name>>);

impl Needs {
    pub(super) const fn new(needs: BTreeMap<Name, Vec<Name>>) -> Self {
        Self(needs)
    }

    /// All that this one needs, at whatever remove, nearest first; ends in a circle, too.
    fn of(&self, subject: &str) -> Vec<&Name> {
        let direct = |name: &str| self.0.iter().find(|(key, _)| key.as_str() == name).map(|(_, needs)| needs);
        let mut found: Vec<&Name> = Vec::new();
        let mut seen: BTreeSet<&str> = BTreeSet::from([subject]);
        let mut next: Vec<&Name> = direct(subject).into_iter().flatten().collect();
        while !next.is_empty() {
            next.retain(|name| seen.insert(name.as_str()));
            found.extend(&next);
            next = next.iter().filter_map(|name| direct(name.as_str())).flatten().collect();
        }
        found
    }
}

impl Ledger {
    /// What this critical process needs and is down.
    pub(super) fn obstacle(&self, subject: &str) -> Option<Name> {
        self.needs.of(subject).into_iter().find(|name| self.is_out(name)).cloned()
    }

    fn is_out(&self, name: &Name) -> bool {
        let alerts =
            OUTAGES.iter().filter_map(|kind| self.alerts.get(&key::of(kind, name.as_str(), &self.host)));
        alerts.into_iter().any(|tracked| {
            let standing = &tracked.standing;
            tracked.stands() && standing.grave && standing.calm_since.is_none()
        })
    }

    /// Lets those be told soon that nothing holds back any longer: unless they come back as well meanwhile.
    pub(super) fn release_dependents(&mut self, at: Moment) {
        let held: Vec<String> = self
            .alerts
            .iter()
            .filter(|(_, tracked)| tracked.stands() && tracked.standing.held_back_by.is_some())
            .map(|(key, _)| key.clone())
            .collect();
        for key in held {
            let subject = self.alerts.get(&key).map(|tracked| tracked.standing.subject.clone());
            let free = subject.is_some_and(|subject| self.obstacle(&subject).is_none());
            if let Some(tracked) = self.alerts.get_mut(&key) {
                tracked.let_go(free, at.now);
            }
        }
    }
}
