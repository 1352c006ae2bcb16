//! Which critical processes are brought back, when, how often, and in which order. It must not decide who is alive:
//! it is told.
//!
//! One that dies, by a death that its policy follows, is due after its back-off. It is left alone when it comes back by
//! itself meanwhile, and waits while one that it needs is down. What is due is restarted by an action; the attempt has
//! worked when an instance is there. After so many attempts within the window it is given up, until somebody restarts
//! it by hand or it has lived longer than the window. Throttles play no part: an emergency stop does not end this.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::action::{ActionId, What};
use crate::engine::input::Remembered;
use crate::engine::outbox::Outbox;
use crate::engine::view::{RestartState, RestartView};
use crate::model::critical::{APPEARS_WITHIN, Critical, Restart, RestartPolicy, RestartResult, Restarted};
use crate::model::event::Status;
use crate::model::id::Name;
use crate::model::notice::Notice;
use crate::model::time::Timestamp;

/// The restarts of the active profile.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    revivals: BTreeMap<Name, Revival>,
    /// Critical processes that have an instance.
    up: BTreeSet<Name>,
    /// What an earlier agent did, until the profile that names it comes into force.
    remembered: BTreeMap<Name, Remembered>,
}

#[derive(Debug)]
struct Revival {
    spec: Restart,
    needs: Vec<Name>,
    phase: Phase,
    /// Attempts within the window, oldest first.
    attempts: Vec<Timestamp>,
    /// Attempts in a row, which the back-off grows with.
    row: u32,
    given_up: bool,
    /// The service manager says that it was stopped on purpose.
    declined: bool,
    up_since: Option<Timestamp>,
    last: Option<(Timestamp, RestartResult, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is to be done.
    Rest,
    /// It is to be restarted then; `force`: although it lives. `called`: those that it needs and that are down have
    /// been seen to.
    Due { at: Timestamp, force: bool, called: bool },
    /// It is being restarted. `seen`: an instance has come up since.
    Asked { id: ActionId, seen: bool },
    /// That is done, and an instance is waited for.
    Awaited { until: Timestamp, how: String },
}

impl Revival {
    fn new(critical: &Critical, spec: Restart) -> Self {
        Self {
            spec,
            needs: critical.dependencies.clone(),
            phase: Phase::Rest,
            attempts: Vec::new(),
            row: 0,
            given_up: false,
            declined: false,
            up_since: None,
            last: None,
        }
    }

    fn backoff(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.row).unwrap_or(u32::MAX);
        self.spec.backoff.saturating_mul(doubled).min(self.spec.backoff_max)
    }

    /// A long life makes good for everything before it, but not for attempts to end it because of its health.
    fn settle(&mut self, now: Timestamp) {
        let last = self.attempts.last().copied();
        let calm = self.up_since.map(|since| last.map_or(since, |last| since.max(last)));
        if calm.is_some_and(|since| now.since(since) > self.spec.per) {
            (self.row, self.given_up, self.declined) = (0, false, false);
            self.attempts.clear();
        }
    }

    fn tell(&mut self, name: &Name, result: RestartResult, detail: &str, out: &mut Outbox) {
        self.last = Some((out.now(), result, detail.to_owned()));
        out.notify(Notice::CriticalProcessRestart {
            name: name.clone(),
            result,
            by: self.spec.by.to_string(),
            attempt: u32::try_from(self.attempts.len()).unwrap_or(u32::MAX),
            detail: detail.to_owned(),
        });
    }

    /// Has it restarted after the back-off, or gives it up.
    fn again(&mut self, name: &Name, force: bool, out: &mut Outbox) {
        self.phase = Phase::Rest;
        if self.spec.policy == RestartPolicy::Never || self.given_up {
            return;
        }
        let at = out.now().after(self.backoff());
        self.attempts.retain(|attempt| at.since(*attempt) < self.spec.per);
        if self.attempts.len() < usize::try_from(self.spec.most).unwrap_or(usize::MAX) {
            self.phase = Phase::Due { at, force, called: false };
            return;
        }
        self.given_up = true;
        let (most, per) = (self.spec.most, self.spec.per);
        let detail = format!("{most} restarts within {per:?} did not keep it alive; restart it by hand");
        self.tell(name, RestartResult::GivenUp, &detail, out);
    }

    fn ask(&mut self, name: &Name, force: bool, out: &mut Outbox) -> ActionId {
        let by = self.spec.by.clone();
        let id = out.push(What::Restart { name: name.clone(), by, force });
        self.phase = Phase::Asked { id, seen: false };
        id
    }
}

impl Restarts {
    /// What an earlier agent did. Counts only for critical processes that come into force later.
    pub(crate) fn remember(&mut self, remembered: Vec<Remembered>) {
        self.remembered.extend(remembered.into_iter().map(|one| (one.name.clone(), one)));
    }

    /// Takes over the restarts of a profile. Those that are as they were go on.
    pub(crate) fn renew(&mut self, criticals: &[Critical], out: &mut Outbox) {
        let mut old = std::mem::take(&mut self.revivals);
        self.up.retain(|name| criticals.iter().any(|critical| critical.name == *name));
        for critical in criticals {
            // The configuration refuses it already: whoever can name a process so would have root start programs.
            if critical.matches.is_forgeable() {
                continue;
            }
            let name = &critical.name;
            let Some(spec) = critical.restart.clone() else { continue };
            let same = |old: &Revival| old.spec == spec && old.needs == critical.dependencies;
            let revival = match old.remove(name).filter(same) {
                Some(revival) => revival,
                None => {
                    let mut new = Revival::new(critical, spec);
                    if let Some(remembered) = self.remembered.remove(name) {
                        new.recall(name, remembered, out);
                    }
                    new
                }
            };
            self.revivals.insert(name.clone(), revival);
        }
    }

    /// Notes whether it has an instance.
    pub(crate) fn seen(&mut self, name: &Name, up: bool, out: &mut Outbox) {
        let was = if up { !self.up.insert(name.clone()) } else { self.up.remove(name) };
        if was == up {
            return;
        }
        let Some(revival) = self.revivals.get_mut(name) else { return };
        revival.up_since = up.then_some(out.now());
        match &mut revival.phase {
            Phase::Asked { seen, .. } => *seen |= up,
            Phase::Awaited { how, .. } if up => {
                let how = std::mem::take(how);
                revival.phase = Phase::Rest;
                revival.tell(name, RestartResult::Restarted, &how, out);
            }
            // It came back by itself.
            Phase::Due { .. } if up => revival.phase = Phase::Rest,
            Phase::Rest | Phase::Due { .. } | Phase::Awaited { .. } => {}
        }
    }

    /// The last instance died. Comes before [`Self::seen`] says so.
    pub(crate) fn died(&mut self, name: &Name, status: Option<Status>, out: &mut Outbox) {
        let Some(revival) = self.revivals.get_mut(name) else { return };
        revival.settle(out.now());
        revival.declined = false;
        // It may be the restart's own doing; its outcome tells.
        if !matches!(revival.phase, Phase::Asked { .. }) {
            revival.phase = Phase::Rest;
            if revival.spec.policy.follows(status) {
                revival.again(name, false, out);
            }
        }
    }

    /// It lives and does not work.
    pub(crate) fn unhealthy(&mut self, name: &Name, out: &mut Outbox) {
        let Some(revival) = self.revivals.get_mut(name) else { return };
        if revival.phase == Phase::Rest {
            revival.settle(out.now());
            revival.again(name, true, out);
        }
    }

    /// It works.
    pub(crate) fn healthy(&mut self, name: &Name) {
        if let Some(revival) = self.revivals.get_mut(name)
            && matches!(revival.phase, Phase::Due { force: true, .. })
        {
            revival.phase = Phase::Rest;
        }
    }

    /// Restarts it now, whatever its policy, and begins to count anew.
    ///
    /// # Errors
    /// When nothing says how, or it is being restarted.
    pub(crate) fn by_hand(&mut self, name: &Name, out: &mut Outbox) -> Result<ActionId, String> {
        let Some(revival) = self.revivals.get_mut(name) else {
            return Err(format!("nothing in the active profile says how to restart {name}"));
        };
        if matches!(revival.phase, Phase::Asked { .. }) {
            return Err(format!("{name} is being restarted"));
        }
        (revival.row, revival.given_up, revival.declined) = (0, false, false);
        revival.attempts.clear();
        Ok(revival.ask(name, true, out))
    }

    /// When something is due.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        let due = |revival: &Revival| match revival.phase {
            // While one that it needs is down there is nothing to wait for but that one.
            Phase::Due { at, called, .. } => (!called || self.waits_for(revival).is_none()).then_some(at),
            Phase::Awaited { until, .. } => Some(until),
            Phase::Rest | Phase::Asked { .. } => None,
        };
        self.revivals.values().filter_map(due).min()
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, now: Timestamp, out: &mut Outbox) {
        let mut called: BTreeSet<Name> = BTreeSet::new();
        let due = |revival: &Revival| match revival.phase {
            Phase::Due { at, .. } => at <= now,
            Phase::Awaited { until, .. } => until <= now,
            Phase::Rest | Phase::Asked { .. } => false,
        };
        let names: Vec<Name> =
            self.revivals.iter().filter(|(_, revival)| due(revival)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(revival) = self.revivals.get(&name) else { continue };
            let blocked = self.waits_for(revival).is_some();
            let down: Vec<Name> =
                revival.needs.iter().filter(|need| !self.up.contains(*need)).cloned().collect();
            let Some(revival) = self.revivals.get_mut(&name) else { continue };
            match &mut revival.phase {
                Phase::Due { called: seen_to, .. } if blocked => {
                    *seen_to = true;
                    called.extend(down);
                }
                Phase::Due { force, .. } => {
                    let force = *force;
                    revival.attempts.retain(|attempt| now.since(*attempt) < revival.spec.per);
                    revival.attempts.push(now);
                    revival.row = revival.row.saturating_add(1);
                    revival.ask(&name, force, out);
                }
                Phase::Awaited { how, .. } => {
                    let detail = format!("{how}, but no instance came up within {APPEARS_WITHIN:?}");
                    revival.tell(&name, RestartResult::Failed, &detail, out);
                    revival.again(&name, false, out);
                }
                Phase::Rest | Phase::Asked { .. } => {}
            }
        }
        self.call(called, out);
    }

    /// Has those restarted that others wait for, and nothing else would.
    fn call(&mut self, mut names: BTreeSet<Name>, out: &mut Outbox) {
        while let Some(name) = names.pop_first() {
            let Some(revival) = self.revivals.get_mut(&name) else { continue };
            if revival.phase == Phase::Rest && !revival.declined && !self.up.contains(&name) {
                revival.again(&name, false, out);
            }
        }
    }

    /// Takes in what came of a restart. An answer that nobody waits for any more is dropped.
    pub(crate) fn restarted(&mut self, id: ActionId, restarted: Restarted, out: &mut Outbox) {
        let asked =
            |revival: &Revival| matches!(revival.phase, Phase::Asked { id: asked, .. } if asked == id);
        let Some((name, revival)) = self.revivals.iter_mut().find(|(_, revival)| asked(revival)) else {
            return;
        };
        let up = self.up.contains(name);
        let seen = matches!(revival.phase, Phase::Asked { seen: true, .. });
        revival.phase = Phase::Rest;
        match restarted {
            Restarted::Done { how } if up => revival.tell(name, RestartResult::Restarted, &how, out),
            Restarted::Done { how } if seen => {
                let detail = format!("{how}, but it ended again at once");
                revival.tell(name, RestartResult::Failed, &detail, out);
                revival.again(name, false, out);
            }
            Restarted::Done { how } => {
                revival.phase = Phase::Awaited { until: out.now().after(APPEARS_WITHIN), how };
            }
            Restarted::Pending { .. } | Restarted::Declined { .. } if up => drop(revival.attempts.pop()),
            Restarted::Pending { .. } => {
                // Not ours: it does not count, but is asked about less and less often.
                revival.attempts.pop();
                revival.again(name, false, out);
            }
            Restarted::Declined { why } => {
                revival.attempts.pop();
                (revival.row, revival.declined) = (0, true);
                revival.tell(name, RestartResult::Declined, &why, out);
            }
            Restarted::Failed { error } => {
                revival.tell(name, RestartResult::Failed, &error, out);
                if !up {
                    revival.again(name, false, out);
                }
            }
        }
    }

    /// What is known of one.
    pub(crate) fn view(&self, name: &Name) -> Option<RestartView> {
        let revival = self.revivals.get(name)?;
        let state = match &revival.phase {
            _ if revival.given_up => RestartState::GivenUp,
            Phase::Due { .. } => match self.waits_for(revival) {
                Some(need) => RestartState::WaitsFor(need.clone()),
                None => RestartState::Due,
            },
            Phase::Asked { .. } => RestartState::Restarting,
            Phase::Awaited { .. } => RestartState::Awaited,
            Phase::Rest => RestartState::Idle,
        };
        let next = match revival.phase {
            Phase::Due { at, .. } => Some(at),
            Phase::Rest | Phase::Asked { .. } | Phase::Awaited { .. } => None,
        };
        Some(RestartView {
            policy: revival.spec.policy,
            by: revival.spec.by.clone(),
            state,
            attempts: u32::try_from(revival.attempts.len()).unwrap_or(u32::MAX),
            most: revival.spec.most,
            per: revival.spec.per,
            next,
            last: revival.last.clone(),
        })
    }

    fn waits_for<'a>(&self, revival: &'a Revival) -> Option<&'a Name> {
        revival.needs.iter().find(|need| !self.up.contains(*need))
    }
}

impl Revival {
    fn recall(&mut self, name: &Name, remembered: Remembered, out: &mut Outbox) {
        let now = out.now();
        let Remembered { name: _, attempts, given_up, down } = remembered;
        self.attempts = attempts;
        self.attempts.retain(|attempt| now.since(*attempt) < self.spec.per);
        self.row = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        self.given_up = given_up;
        // It died shortly before the agent did, which may not have come round to it.
        if let Some((at, status)) = down
            && now.since(at) < self.spec.per
            && self.spec.policy.follows(status)
        {
            self.again(name, false, out);
        }
    }
}

#[cfg(test)]
mod tests;
