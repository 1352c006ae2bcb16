//! Alike events that are told together: the first waits for more, and one delivery tells how many there were.

use crate::alert::tracked::By;
use crate::alert::{BundleKey, Ledger, Moment, Owed};
use crate::model::alert::{Bundle, First};
use crate::model::endpoint::Endpoint;
use crate::model::id::Name;
use crate::model::time::Timestamp;

/// Bundles of one endpoint that are told apart by their subjects. With more, those of a type are one.
pub(super) const BUNDLES_MAX: usize = 256;

/// A bundle, and when it is told or, if it is empty, forgotten.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bundle: Bundle,
    pub(super) due: Timestamp,
}

impl Ledger {
    /// Puts an event to those that the endpoint is told of together.
    pub(super) fn bundle(&mut self, endpoint: &Endpoint, by: By<'_>, at: Moment) {
        let key = self.bundle_key(endpoint, by);
        let soon = at.now.after(endpoint.noise.group_wait);
        let first = || Some(First { event: by.id.to_owned(), notice: by.notice.clone(), at: by.unix_ms });
        let held = self.bundles.entry(key.clone()).or_insert_with(|| Held {
            bundle: Bundle { first: None, count: 0, since: at.unix_ms },
            due: soon,
        });
        if held.bundle.first.is_none() {
            held.bundle.first = first();
            held.bundle.since = at.unix_ms;
            held.due = held.due.max(soon);
        }
        held.bundle.count = held.bundle.count.saturating_add(1);
        self.changed_bundles.insert(key);
    }

    fn bundle_key(&self, endpoint: &Endpoint, by: By<'_>) -> BundleKey {
        let kind = by.notice.kind();
        let whole = (endpoint.name.clone(), format!("{kind}:{}", by.notice.subject()));
        if self.bundles.contains_key(&whole) {
            return whole;
        }
        let others = self.bundles.keys().filter(|(name, _)| *name == endpoint.name).count();
        if others < BUNDLES_MAX { whole } else { (endpoint.name.clone(), kind.to_owned()) }
    }

    /// Tells the bundles that are due, and forgets those that stayed empty since they were.
    pub(super) fn flush(&mut self, at: Moment) {
        let due = self.bundles.iter().filter(|(_, held)| held.due <= at.now);
        let due: Vec<BundleKey> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            let endpoint = self.endpoints.iter().find(|endpoint| endpoint.name == key.0);
            let told = self.bundles.get_mut(&key).zip(endpoint).and_then(|(held, endpoint)| {
                let First { event, notice, at: unix_ms } = held.bundle.first.take()?;
                let alike = std::mem::take(&mut held.bundle.count);
                held.bundle.since = at.unix_ms;
                held.due = at.now.after(endpoint.noise.group_interval);
                Some(Owed {
                    id: event,
                    endpoint: endpoint.name.clone(),
                    notice,
                    unix_ms,
                    alert: None,
                    alike,
                    critical: false,
                })
            });
            match told {
                Some(owed) => self.owed.push(owed),
                None => drop(self.bundles.remove(&key)),
            }
            self.changed_bundles.insert(key);
        }
    }

    /// Forgets what is held for endpoints that are gone or switched off.
    pub(super) fn drop_orphans(&mut self) {
        let is_there =
            |name: &Name| self.endpoints.iter().any(|endpoint| endpoint.enabled && endpoint.name == *name);
        let orphans = self.bundles.keys().filter(|(name, _)| !is_there(name));
        let orphans: Vec<BundleKey> = orphans.cloned().collect();
        for key in orphans {
            self.bundles.remove(&key);
            self.changed_bundles.insert(key);
        }
    }
}
