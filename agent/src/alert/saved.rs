//! What was written down, taken up again: how long is left of each wait. A wall clock that was set meanwhile
//! shortens a wait to nothing or leaves it whole, and never makes it longer.

use std::collections::BTreeSet;

use crate::alert::bundle::Held;
use crate::alert::tracked::{AFTERMATH, Tracked, remaining};
use crate::alert::{BundleKey, Ledger, Moment};
use crate::model::alert::{Bundle, Standing};
use crate::model::notice::table::About;

/// The state as it was written down.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Alerts.
    pub alerts: Vec<Standing>,
    /// Bundles.
    pub bundles: Vec<(BundleKey, Bundle)>,
}

impl Ledger {
    pub(super) fn adopt(&mut self, saved: Saved, at: Moment) {
        let Saved { alerts, bundles } = saved;
        for standing in alerts {
            let mut tracked = Tracked::resume(standing, at);
            let key = tracked.standing.alert.key.clone();
            if tracked.reroute(&self.endpoints, AFTERMATH, at) {
                self.changed.insert(key.clone());
            }
            self.alerts.insert(key.clone(), tracked);
            self.end_with_the_agent(&key, at);
        }
        for (key, bundle) in bundles {
            let noise = self.endpoints.iter().find(|endpoint| endpoint.name == key.0);
            let noise = noise.map(|endpoint| endpoint.noise).unwrap_or_default();
            let whole = if bundle.first.is_some() { noise.group_wait } else { noise.group_interval };
            let due = at.now.after(remaining(whole, bundle.since, at.unix_ms));
            self.bundles.insert(key, Held { bundle, due });
        }
        self.drop_orphans();
        // What they need is not known before the profile is: until then nothing is held back, and what was is
        // told when nobody says otherwise.
        self.release_dependents(at);
    }

    /// Limits are set anew at every start: what was wrong with one is over, or is found again.
    fn end_with_the_agent(&mut self, key: &str, at: Moment) {
        let of_group = |tracked: &Tracked| tracked.stands() && tracked.is_about(About::Group);
        if self.alerts.get(key).is_some_and(of_group) {
            self.end(key, None, at, &mut BTreeSet::new());
        }
    }
}
