//! One alert: who is told of it, when again, and how it ends.
//!
//! ```text
//!          begins                      repeat_interval             ends
//!   (held back) ──► firing ──► repeated ──► repeated … ──► (waits for calm) ──► resolved ──► forgotten
//!                     │  ▲ lapses                │
//!                     ▼  │ or gets worse         │
//!                  acknowledged ◄────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::alert::{Moment, Owed, is_about, is_over};
use crate::model::alert::{Acknowledgement, Alert, AlertState, Standing};
use crate::model::endpoint::Endpoint;
use crate::model::id::Name;
use crate::model::notice::table::{ABSENCE, About, EventType};
use crate::model::notice::{Notice, Severity};
use crate::model::time::Timestamp;

/// One that begins again within this after its end relapses.
pub(super) const RELAPSE: Duration = Duration::from_secs(10 * 60);
/// Relapses after which an end is believed only after [`CALM`].
pub(super) const RELAPSES_MOST: u32 = 3;
/// See [`RELAPSES_MOST`].
pub(super) const CALM: Duration = Duration::from_secs(5 * 60);
/// After the end of what held an alert back, until it is told: time to come back as well. The same for those that
/// the time of an earlier agent left untold.
pub(super) const AFTERMATH: Duration = Duration::from_secs(30);

/// An event, on its way through.
#[derive(Clone, Copy, Debug)]
pub(super) struct By<'a> {
    pub(super) id: &'a str,
    pub(super) notice: &'a Notice,
    pub(super) unix_ms: i64,
}

/// What is on record, and the moments to wait for.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) standing: Standing,
    /// When each endpoint is told again.
    again: BTreeMap<Name, Timestamp>,
    /// When the acknowledgement lapses.
    lapses: Option<Timestamp>,
    /// When the calm has lasted long enough.
    calm: Option<Timestamp>,
    /// When it is told after all.
    release: Option<Timestamp>,
    /// When it is forgotten, after its end.
    forget: Option<Timestamp>,
    /// It began in the time of an earlier agent, and nothing has been heard of it since.
    inherited: bool,
}

impl Tracked {
    pub(super) fn begin(
        key: String,
        by: By<'_>,
        grave: bool,
        relapses: u32,
        held_back_by: Option<Name>,
    ) -> Self {
        let By { id, notice, unix_ms } = by;
        let alert = Alert { key, state: AlertState::Firing, since: unix_ms, until: None, events: 1 };
        Self::waiting_for_nothing(Standing {
            alert,
            kind: notice.kind().to_owned(),
            subject: notice.subject().to_owned(),
            grave,
            event: id.to_owned(),
            notice: notice.clone(),
            at: unix_ms,
            serial: 0,
            relapses,
            calm_since: None,
            held_back_by,
            acknowledged: None,
            told: BTreeMap::new(),
        })
    }

    const fn waiting_for_nothing(standing: Standing) -> Self {
        let again = BTreeMap::new();
        Self { standing, again, lapses: None, calm: None, release: None, forget: None, inherited: false }
    }

    /// One that was written down. When endpoints are told again is for [`Self::reroute`] to find out.
    pub(super) fn resume(standing: Standing, at: Moment) -> Self {
        let mut tracked = Self { inherited: true, ..Self::waiting_for_nothing(standing) };
        let after = |whole, since| Some(at.now.after(remaining(whole, since, at.unix_ms)));
        let Standing { alert, acknowledged, calm_since, .. } = &tracked.standing;
        tracked.forget = alert.until.filter(|_| is_over(alert.state)).and_then(|until| after(RELAPSE, until));
        tracked.calm = calm_since.and_then(|since| after(CALM, since));
        if let Some(Acknowledgement { at: since, until: Some(until), .. }) = acknowledged {
            let whole = Duration::from_millis(u64::try_from(until.saturating_sub(*since)).unwrap_or(0));
            tracked.lapses = after(whole, *since);
        }
        tracked
    }

    /// Whether its condition holds, as far as has been told.
    pub(super) fn stands(&self) -> bool {
        !is_over(self.standing.alert.state)
    }

    /// Whether only a look at the machine can tell that a process is back: nobody in this agent knows that it
    /// was gone.
    pub(super) fn awaits_life(&self) -> bool {
        self.inherited && self.stands() && ABSENCE.contains(&self.standing.kind.as_str())
    }

    pub(super) fn is_about(&self, about: About) -> bool {
        is_about(&self.standing.kind, about)
    }

    /// When something is to be done about it.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if !self.stands() {
            return self.forget;
        }
        let again = self.again.values().min().copied().filter(|_| self.standing.held_back_by.is_none());
        let to_tell = [again, self.release].into_iter().flatten().min().filter(|_| !self.is_quiet());
        [to_tell, self.lapses, self.calm].into_iter().flatten().min()
    }

    /// Nothing is told of it for now: somebody looks after it, or it seems to be over.
    const fn is_quiet(&self) -> bool {
        self.calm.is_some() || self.standing.acknowledged.is_some()
    }

    /// The condition holds, says another event.
    pub(super) fn goes_on(
        &mut self,
        by: By<'_>,
        grave: bool,
        at: Moment,
        endpoints: &[Endpoint],
        owed: &mut Vec<Owed>,
    ) {
        let worse = grave && !self.standing.grave;
        self.standing.alert.events = self.standing.alert.events.saturating_add(1);
        self.standing.grave |= grave;
        self.inherited = false;
        self.standing.notice = by.notice.clone();
        self.standing.at = by.unix_ms;
        (self.standing.calm_since, self.calm) = (None, None);
        if worse && self.standing.held_back_by.is_none() {
            // Whoever looks after it does not know how bad it is.
            self.unacknowledge();
            self.fire(by.id, at, endpoints, owed);
        }
    }

    /// Tells all that want to know.
    pub(super) fn fire(&mut self, id: &str, at: Moment, endpoints: &[Endpoint], owed: &mut Vec<Owed>) {
        self.standing.alert.state = AlertState::Firing;
        let (kind, severity) = (self.standing.kind.clone(), self.standing.notice.severity());
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.wants(&kind, severity)) {
            owed.push(self.owe(id.to_owned(), endpoint));
            self.told(endpoint, at);
        }
    }

    /// It ends so often that its ends are not believed at once.
    pub(super) const fn awaits_calm(&self) -> bool {
        self.standing.relapses >= RELAPSES_MOST
    }

    /// It seems to be over.
    pub(super) fn calm_down(&mut self, at: Moment) {
        if self.calm.is_none() {
            self.standing.calm_since = Some(at.unix_ms);
            self.calm = Some(at.now.after(CALM));
        }
    }

    /// Whether it has been over for long enough to be believed.
    pub(super) fn is_calm(&self, now: Timestamp) -> bool {
        self.stands() && self.calm.is_some_and(|calm| calm <= now)
    }

    /// It is over, because of this event or without any. Told to those that were told that it stands; those
    /// that get it under the event's own id are added to `served`.
    pub(super) fn resolve(
        &mut self,
        by: Option<By<'_>>,
        at: Moment,
        endpoints: &[Endpoint],
        served: &mut BTreeSet<Name>,
        owed: &mut Vec<Owed>,
    ) {
        let until = by.map(|by| by.unix_ms).or(self.standing.calm_since).unwrap_or(at.unix_ms);
        self.standing.alert.state = AlertState::Resolved;
        self.standing.alert.until = Some(until);
        self.unacknowledge();
        (self.standing.calm_since, self.calm) = (None, None);
        (self.standing.held_back_by, self.release) = (None, None);
        let told = std::mem::take(&mut self.standing.told);
        self.again.clear();
        for endpoint in
            endpoints.iter().filter(|endpoint| endpoint.enabled && told.contains_key(&endpoint.name))
        {
            // Who does not hear of the end still does not hear of the event twice.
            let own = by.filter(|_| served.insert(endpoint.name.clone()));
            if !endpoint.noise.send_resolved {
                continue;
            }
            let mut last = match own {
                Some(by) => self.owe(by.id.to_owned(), endpoint),
                None => self.owe_without_event(endpoint),
            };
            if let Some(by) = by {
                (last.notice, last.unix_ms) = (by.notice.clone(), by.unix_ms);
            }
            owed.push(last);
        }
        self.forget = Some(at.now.after(RELAPSE));
    }

    /// Somebody looks after it: those that were told of it are told so.
    pub(super) fn acknowledge(
        &mut self,
        by: &Acknowledgement,
        time: Option<Duration>,
        at: Moment,
        endpoints: &[Endpoint],
        owed: &mut Vec<Owed>,
    ) {
        self.standing.alert.state = AlertState::Acknowledged;
        self.standing.acknowledged = Some(by.clone());
        self.lapses = time.map(|time| at.now.after(time));
        let told = |endpoint: &&Endpoint| endpoint.enabled && self.standing.told.contains_key(&endpoint.name);
        let told: Vec<&Endpoint> = endpoints.iter().filter(told).collect();
        for endpoint in told {
            let message = self.owe_without_event(endpoint);
            owed.push(message);
        }
    }

    fn unacknowledge(&mut self) {
        (self.standing.acknowledged, self.lapses) = (None, None);
    }

    /// Whether nothing holds it back any longer: then it is told in a while.
    pub(super) fn let_go(&mut self, free: bool, now: Timestamp) {
        self.release = if free { Some(self.release.unwrap_or_else(|| now.after(AFTERMATH))) } else { None };
    }

    /// Does what is due while it stands. It is not told while `obstacle` is down.
    pub(super) fn carry_on(
        &mut self,
        obstacle: Option<Name>,
        at: Moment,
        endpoints: &[Endpoint],
        owed: &mut Vec<Owed>,
    ) {
        let is_due = |due: Option<Timestamp>| due.is_some_and(|due| due <= at.now);
        if is_due(self.lapses) {
            self.unacknowledge();
            self.standing.alert.state = AlertState::Firing;
        }
        if self.is_quiet() {
            return;
        }
        if is_due(self.release) {
            (self.standing.held_back_by, self.release) = (obstacle.clone(), None);
            if obstacle.is_none() {
                self.fire(&self.standing.event.clone(), at, endpoints, owed);
            }
        }
        if self.standing.held_back_by.is_none() {
            self.repeat(obstacle.is_some(), at, endpoints, owed);
        }
    }

    fn repeat(&mut self, silent: bool, at: Moment, endpoints: &[Endpoint], owed: &mut Vec<Owed>) {
        for endpoint in endpoints {
            if self.again.get(&endpoint.name).is_none_or(|due| *due > at.now) {
                continue;
            }
            match (silent, self.standing.told.contains_key(&endpoint.name)) {
                (true, true) => {}
                (true, false) => {
                    self.again.insert(endpoint.name.clone(), at.now.after(AFTERMATH));
                    continue;
                }
                (false, true) => {
                    self.standing.alert.state = AlertState::Repeated;
                    let message = self.owe_without_event(endpoint);
                    owed.push(message);
                }
                (false, false) => {
                    let mut message = self.owe_without_event(endpoint);
                    if let Some(alert) = &mut message.alert {
                        // For this one it begins, however often others were told.
                        alert.state = AlertState::Firing;
                    }
                    owed.push(message);
                }
            }
            self.told(endpoint, at);
        }
    }

    /// Takes over other endpoints, and finds out when each is told again; those that were never told are told after
    /// `patience`. Returns whether the record changed.
    pub(super) fn reroute(&mut self, endpoints: &[Endpoint], patience: Duration, at: Moment) -> bool {
        let before = self.standing.told.len();
        self.standing.told.retain(|name, _| endpoints.iter().any(|endpoint| endpoint.name == *name));
        self.again.clear();
        let (kind, severity) = (&self.standing.kind, self.standing.notice.severity());
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.wants(kind, severity)) {
            let whole = endpoint.noise.repeat_interval;
            let left = match self.standing.told.get(&endpoint.name) {
                None => patience,
                Some(_) if whole.is_zero() => continue,
                Some(told) => remaining(whole, *told, at.unix_ms),
            };
            self.again.insert(endpoint.name.clone(), at.now.after(left));
        }
        before != self.standing.told.len()
    }

    fn told(&mut self, endpoint: &Endpoint, at: Moment) {
        self.standing.told.insert(endpoint.name.clone(), at.unix_ms);
        let every = endpoint.noise.repeat_interval;
        if every.is_zero() {
            self.again.remove(&endpoint.name);
        } else {
            self.again.insert(endpoint.name.clone(), at.now.after(every));
        }
    }

    fn owe_without_event(&mut self, endpoint: &Endpoint) -> Owed {
        self.standing.serial = self.standing.serial.saturating_add(1);
        self.owe(format!("{}_{}", self.standing.event, self.standing.serial), endpoint)
    }

    fn owe(&self, id: String, endpoint: &Endpoint) -> Owed {
        let standing = &self.standing;
        let of_type = EventType::named(&standing.kind).map(|row| row.severity);
        Owed {
            id,
            endpoint: endpoint.name.clone(),
            notice: standing.notice.clone(),
            unix_ms: standing.at,
            alert: Some(standing.alert.clone()),
            alike: 1,
            critical: of_type == Some(Severity::Critical),
        }
    }
}

/// What is left, at wall time `now`, of a wait that began at wall time `since` (ms since the Unix epoch): all of
/// it at most, whichever way the clock was set.
pub(super) fn remaining(whole: Duration, since: i64, now: i64) -> Duration {
    let passed = Duration::from_millis(u64::try_from(now.saturating_sub(since)).unwrap_or(0));
    whole.saturating_sub(passed)
}
