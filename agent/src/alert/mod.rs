//! From events to what is owed to each endpoint: which alert an event begins or ends, who is told at once, who
//! later and together with others, and who not at all.
//!
//! Pure, as the engine is: no I/O, clock, randomness, logging or hash-map iteration. An event and the time go in;
//! deliveries come out, together with what of the state has changed, for the caller to write down in one
//! transaction. The journal thread is its only user. Waiting is measured on the clock since boot, which nobody
//! sets; the wall clock is for the record, and decides only how much of a wait is left after a restart.

mod bundle;
mod key;
mod needs;
mod saved;
mod tracked;
#[cfg(test)]
mod latecomers;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod rig;
#[cfg(test)]
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use crate::alert::saved::Saved;

use crate::alert::bundle::Held;
use crate::alert::needs::Needs;
use crate::alert::tracked::{By, Tracked};
use crate::model::alert::{Acknowledgement, Alert, AlertState, Bundle, Standing, Told};
use crate::model::endpoint::{Endpoint, Format};
use crate::model::id::Name;
use crate::model::notice::part::Part;
use crate::model::notice::table::{About, EventType, Pace};
use crate::model::notice::{Notice, Severity};
use crate::model::time::Timestamp;

/// Most alerts on record. One that finds no room is told, and its end is not.
const ALERTS_MAX: usize = 1_024;

/// Now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For waiting.
    pub now: Timestamp,
    /// For the record, in ms since the Unix epoch.
    pub unix_ms: i64,
}

/// What is owed to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The event's id, or one made of it where an alert is told without an event of its own. Unique for the
    /// endpoint.
    pub id: String,
    /// The endpoint.
    pub endpoint: Name,
    /// What happened.
    pub notice: Notice,
    /// When, in ms since the Unix epoch.
    pub unix_ms: i64,
    /// The alert that it belongs to.
    pub alert: Option<Alert>,
    /// How many alike events it tells of.
    pub alike: u64,
    /// Whether it is kept when others have to go.
    pub critical: bool,
}

impl Owed {
    /// As the formats want it, without a trace.
    #[must_use]
    pub const fn told<'a>(&'a self, host: &'a str) -> Told<'a> {
        let Self { id, endpoint: _, notice, unix_ms, alert, alike, critical: _ } = self;
        let (alert, alike) = (alert.as_ref(), *alike);
        Told { id: id.as_str(), notice, unix_ms: *unix_ms, host, alert, alike, trace: None }
    }
}

/// Which bundle: the endpoint's name, and type and subject.
pub type BundleKey = (Name, String);

/// What came of one or more inputs. To be written down together with the events that they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// To be delivered.
    pub owed: Vec<Owed>,
    /// Alerts as they are now, by key; `None`: to be forgotten.
    pub alerts: BTreeMap<String, Option<Standing>>,
    /// Bundles, likewise.
    pub bundles: BTreeMap<BundleKey, Option<Bundle>>,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owed.is_empty() && self.alerts.is_empty() && self.bundles.is_empty()
    }
}

/// The alerts that stand, and who has been told of them.
#[derive(Debug)]
pub struct Ledger {
    host: String,
    endpoints: Arc<[Endpoint]>,
    needs: Needs,
    alerts: BTreeMap<String, Tracked>,
    bundles: BTreeMap<BundleKey, Held>,
    owed: Vec<Owed>,
    changed: BTreeSet<String>,
    changed_bundles: BTreeSet<BundleKey>,
}

impl Ledger {
    /// One that goes on from what was written down, on the host of this name.
    #[must_use]
    pub fn new(host: String, endpoints: Vec<Endpoint>, saved: Saved, at: Moment) -> Self {
        let mut ledger = Self {
            host,
            endpoints: endpoints.into(),
            needs: Needs::default(),
            alerts: BTreeMap::new(),
            bundles: BTreeMap::new(),
            owed: Vec::new(),
            changed: BTreeSet::new(),
            changed_bundles: BTreeSet::new(),
        };
        ledger.adopt(saved, at);
        ledger
    }

    /// This host's name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Takes in an event that happened at `unix_ms`.
    pub fn note(&mut self, id: &str, notice: &Notice, unix_ms: i64, at: Moment) {
        let by = By { id, notice, unix_ms };
        match notice.part() {
            Part::Event => self.pass(by, at, &BTreeSet::new()),
            Part::Begins { grave } => self.begin(by, grave, at),
            Part::Ends(types) => {
                let mut served = BTreeSet::new();
                for kind in types {
                    self.end(&key::of(kind, notice.subject(), &self.host), Some(by), at, &mut served);
                }
                self.pass(by, at, &served);
                self.release_dependents(at);
            }
        }
    }

    /// Ends an alert whose end no event tells.
    pub fn over(&mut self, kind: &str, subject: &str, at: Moment) {
        self.end(&key::of(kind, subject, &self.host), None, at, &mut BTreeSet::new());
        self.release_dependents(at);
    }

    /// Whether it would be of use to know which critical processes live, for [`Self::alive`].
    #[must_use]
    pub fn awaits_life(&self) -> bool {
        self.alerts.values().any(Tracked::awaits_life)
    }

    /// These critical processes live. If an earlier agent told that one is down or missing, that is over.
    pub fn alive(&mut self, names: &[Name], at: Moment) {
        let is_back = |tracked: &&Tracked| {
            tracked.awaits_life() && names.iter().any(|name| name.as_str() == tracked.standing.subject)
        };
        let back = self.alerts.values().filter(is_back);
        let back: Vec<String> = back.map(|tracked| tracked.standing.alert.key.clone()).collect();
        for key in back {
            self.end(&key, None, at, &mut BTreeSet::new());
        }
        self.release_dependents(at);
    }

    /// Takes over the critical processes that are watched from now on, and what each of them needs. Alerts of
    /// others are over.
    pub fn watch(&mut self, needs: BTreeMap<Name, Vec<Name>>, at: Moment) {
        let gone: Vec<(String, String)> = self
            .alerts
            .values()
            .filter(|tracked| tracked.stands() && tracked.is_about(About::Critical))
            .map(|tracked| (tracked.standing.kind.clone(), tracked.standing.subject.clone()))
            .filter(|(_, subject)| !needs.keys().any(|name| name.as_str() == subject))
            .collect();
        self.needs = Needs::new(needs);
        for (kind, subject) in gone {
            self.over(&kind, &subject, at);
        }
        self.release_dependents(at);
    }

    /// What the bodies for this endpoint look like.
    #[must_use]
    pub fn format(&self, endpoint: &Name) -> Format {
        let found = self.endpoints.iter().find(|known| known.name == *endpoint);
        found.map_or(Format::default(), |endpoint| endpoint.format)
    }

    /// Takes over other endpoints. One that is gone is owed nothing more; one that wants to know of an alert that
    /// stands and was never told of it is told now.
    pub fn route(&mut self, endpoints: Vec<Endpoint>, at: Moment) {
        self.endpoints = endpoints.into();
        for (key, tracked) in &mut self.alerts {
            if tracked.reroute(&self.endpoints, Duration::ZERO, at) {
                self.changed.insert(key.clone());
            }
        }
        self.drop_orphans();
    }

    /// Somebody looks after the alerts of this critical process, for this time or until they end. Returns them;
    /// none stands if there are none.
    pub fn acknowledge(
        &mut self,
        subject: &Name,
        by: &Acknowledgement,
        time: Option<Duration>,
        at: Moment,
    ) -> Vec<Standing> {
        let mut acknowledged = Vec::new();
        for (key, tracked) in &mut self.alerts {
            if tracked.stands()
                && tracked.is_about(About::Critical)
                && tracked.standing.subject == subject.as_str()
            {
                tracked.acknowledge(by, time, at, &self.endpoints, &mut self.owed);
                self.changed.insert(key.clone());
                acknowledged.push(tracked.standing.clone());
            }
        }
        acknowledged
    }

    /// Does what is due.
    pub fn wake(&mut self, at: Moment) {
        let due: Vec<String> = self.due_alerts(at.now).map(|(key, _)| key.clone()).collect();
        for key in due {
            let calm = self.alerts.get(&key).is_some_and(|tracked| tracked.is_calm(at.now));
            if calm {
                self.finish(&key, None, at, &mut BTreeSet::new());
                continue;
            }
            let forgotten = self.alerts.get(&key).is_some_and(|tracked| !tracked.stands());
            if forgotten {
                self.alerts.remove(&key);
            } else {
                self.carry_on(&key, at);
            }
            self.changed.insert(key);
        }
        self.release_dependents(at);
        self.flush(at);
    }

    /// When [`Self::wake`] is to be called next.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let alerts = self.alerts.values().filter_map(Tracked::due);
        alerts.chain(self.bundles.values().map(|held| held.due)).min()
    }

    /// What has come of the inputs since this was last asked.
    pub fn take(&mut self) -> Changes {
        let owed = std::mem::take(&mut self.owed);
        let alerts = std::mem::take(&mut self.changed).into_iter().map(|key| {
            let standing = self.alerts.get(&key).map(|tracked| tracked.standing.clone());
            (key, standing)
        });
        let bundles = std::mem::take(&mut self.changed_bundles).into_iter().map(|key| {
            let bundle = self.bundles.get(&key).map(|held| held.bundle.clone());
            (key, bundle)
        });
        Changes { owed, alerts: alerts.collect(), bundles: bundles.collect() }
    }

    fn due_alerts(&self, now: Timestamp) -> impl Iterator<Item = (&String, &Tracked)> {
        self.alerts.iter().filter(move |(_, tracked)| tracked.due().is_some_and(|due| due <= now))
    }

    fn begin(&mut self, by: By<'_>, grave: bool, at: Moment) {
        let (kind, subject) = (by.notice.kind(), by.notice.subject());
        let key = key::of(kind, subject, &self.host);
        if let Some(tracked) = self.alerts.get_mut(&key).filter(|tracked| tracked.stands()) {
            tracked.goes_on(by, grave, at, &self.endpoints, &mut self.owed);
            self.changed.insert(key);
            return;
        }
        let relapses = self.alerts.get(&key).map(|past| past.standing.relapses.saturating_add(1));
        if relapses.is_none() && !self.has_room() {
            return self.pass(by, at, &BTreeSet::new());
        }
        let held_back_by = if is_about(kind, About::Critical) { self.obstacle(subject) } else { None };
        let mut tracked = Tracked::begin(key.clone(), by, grave, relapses.unwrap_or(0), held_back_by);
        if tracked.standing.held_back_by.is_none() {
            tracked.fire(by.id, at, &self.endpoints, &mut self.owed);
        }
        self.alerts.insert(key.clone(), tracked);
        self.changed.insert(key);
    }

    /// Whether another alert can be kept; one that is over makes room.
    fn has_room(&mut self) -> bool {
        if self.alerts.len() < ALERTS_MAX {
            return true;
        }
        let past = self.alerts.values().filter(|tracked| !tracked.stands());
        let oldest = past.min_by_key(|tracked| tracked.standing.alert.until);
        let Some(key) = oldest.map(|tracked| tracked.standing.alert.key.clone()) else { return false };
        self.alerts.remove(&key);
        self.changed.insert(key);
        true
    }

    /// An alert's condition is over. `served` are the endpoints that were told of it under the event's own id.
    fn end(&mut self, key: &str, by: Option<By<'_>>, at: Moment, served: &mut BTreeSet<Name>) {
        let Some(tracked) = self.alerts.get_mut(key).filter(|tracked| tracked.stands()) else { return };
        if by.is_some() && tracked.awaits_calm() {
            tracked.calm_down(at);
            self.changed.insert(key.to_owned());
        } else {
            self.finish(key, by, at, served);
        }
    }

    fn finish(&mut self, key: &str, by: Option<By<'_>>, at: Moment, served: &mut BTreeSet<Name>) {
        if let Some(tracked) = self.alerts.get_mut(key) {
            tracked.resolve(by, at, &self.endpoints, served, &mut self.owed);
            self.changed.insert(key.to_owned());
        }
    }

    /// What of a standing alert is due: told after all, no longer acknowledged, or told again.
    fn carry_on(&mut self, key: &str, at: Moment) {
        let subject = self.alerts.get(key).map(|tracked| tracked.standing.subject.clone());
        let obstacle = subject.and_then(|subject| self.obstacle(&subject));
        if let Some(tracked) = self.alerts.get_mut(key) {
            tracked.carry_on(obstacle, at, &self.endpoints, &mut self.owed);
        }
    }

    /// Tells an event that is no alert, or the rest of those that want one.
    fn pass(&mut self, by: By<'_>, at: Moment, served: &BTreeSet<Name>) {
        let endpoints = Arc::clone(&self.endpoints);
        let (kind, severity) = (by.notice.kind(), by.notice.severity());
        let together = by.notice.event_type().is_some_and(|row| row.pace == Pace::Together);
        for endpoint in endpoints.iter() {
            if served.contains(&endpoint.name) || !endpoint.wants(kind, severity) {
                continue;
            }
            if together && severity < Severity::Critical && !endpoint.noise.group_wait.is_zero() {
                self.bundle(endpoint, by, at);
            } else {
                self.owed.push(Owed {
                    id: by.id.to_owned(),
                    endpoint: endpoint.name.clone(),
                    notice: by.notice.clone(),
                    unix_ms: by.unix_ms,
                    alert: None,
                    alike: 1,
                    critical: severity == Severity::Critical,
                });
            }
        }
    }
}

fn is_about(kind: &str, about: About) -> bool {
    EventType::named(kind).is_some_and(|row| row.about == about)
}

fn is_over(state: AlertState) -> bool {
    match state {
        AlertState::Firing | AlertState::Repeated | AlertState::Acknowledged => false,
        AlertState::Resolved => true,
    }
}
