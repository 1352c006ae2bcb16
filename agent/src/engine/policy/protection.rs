//! What the kernel is told to keep instances of critical processes alive: given when one appears, taken back when
//! it is none any more. It must not decide who is one, and never limits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::action::{ActionId, What};
use crate::engine::input::Outcome;
use crate::engine::outbox::Outbox;
use crate::engine::view::ProtectionView;
use crate::model::critical::Protection;
use crate::model::id::{Name, ProcKey};
use crate::model::notice::Notice;
use crate::model::time::Timestamp;

/// Waits after the first, second and every further failure in a row.
const BACK_OFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// A protection that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// By which critical process.
    pub(crate) critical: Name,
    pub(crate) protection: Protection,
    /// Why it is not given all the same.
    pub(crate) never: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    wanted: Option<Wanted>,
    /// What the executor was asked for last and did not refuse.
    asked: Option<Protection>,
    /// Since when the executor may have changed something; before that, nothing was inherited.
    touched: Option<Timestamp>,
    since: Option<Timestamp>,
    error: Option<String>,
    failures: usize,
    retry: Option<Timestamp>,
    flying: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Protect,
    Unprotect,
    Disinherit,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Protections {
    states: BTreeMap<ProcKey, State>,
    flights: BTreeMap<ActionId, (ProcKey, Step)>,
    retries: BTreeSet<(Timestamp, ProcKey)>,
    /// Critical processes whose failure has been told under this profile.
    told: BTreeSet<Name>,
    stopping: bool,
}

impl Protections {
    /// Who is protected, or is to be, or was.
    pub(crate) fn keys(&self) -> Vec<ProcKey> {
        self.states.keys().copied().collect()
    }

    /// A profile comes into force: what fails under it is told anew.
    pub(crate) fn renew(&mut self) {
        self.told.clear();
    }

    /// States what a process is to have from now on.
    pub(crate) fn want(&mut self, key: ProcKey, wanted: Option<Wanted>, out: &mut Outbox) {
        let wanted = wanted.filter(|_| !self.stopping);
        if wanted.is_none() && !self.states.contains_key(&key) {
            return;
        }
        let state = self.states.entry(key).or_default();
        if state.wanted == wanted {
            return;
        }
        let never = wanted.as_ref().and_then(|wanted| Some((wanted.critical.clone(), wanted.never.clone()?)));
        state.failures = 0;
        state.error = never.as_ref().map(|(_, why)| why.clone());
        state.wanted = wanted;
        self.rest(key);
        if let Some((name, why)) = never {
            self.tell(name, key, why, out);
        }
        self.step(key, out);
    }

    /// Takes all of it back, for good.
    pub(crate) fn stop(&mut self, out: &mut Outbox) {
        self.stopping = true;
        for key in self.keys() {
            self.want(key, None, out);
        }
    }

    /// Since when a process may hand down what is not its own.
    pub(crate) fn touched(&self, key: ProcKey) -> Option<Timestamp> {
        self.states.get(&key)?.touched
    }

    /// Takes from a process what it inherited from a protected one.
    pub(crate) fn disinherit(&mut self, key: ProcKey, from: ProcKey, out: &mut Outbox) {
        let id = out.push(What::Disinherit { group: Name::of_protection(from), key, from });
        self.flights.insert(id, (from, Step::Disinherit));
    }

    /// When [`Self::expire`] has work next.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// Tries again what failed, where its wait is over.
    pub(crate) fn expire(&mut self, now: Timestamp, out: &mut Outbox) {
        while self.next_timeout().is_some_and(|at| at <= now) {
            let Some((_, key)) = self.retries.pop_first() else { break };
            if let Some(state) = self.states.get_mut(&key) {
                state.retry = None;
            }
            self.step(key, out);
        }
    }

    /// Takes in what became of an action; `false` when it is another one's.
    pub(crate) fn outcome(&mut self, id: ActionId, outcome: &Outcome, out: &mut Outbox) -> bool {
        let Some((key, step)) = self.flights.remove(&id) else { return false };
        match step {
            Step::Disinherit => {
                if let (Outcome::Failed { error }, Some(name)) = (outcome, self.name(key)) {
                    self.tell(name, key, error.clone(), out);
                }
            }
            Step::Protect | Step::Unprotect => self.settled(key, step, outcome, out),
        }
        true
    }

    /// What is to be known of a process's protection; `None` where there is none and none is wanted.
    pub(crate) fn view(&self, key: ProcKey) -> Option<ProtectionView> {
        let state = self.states.get(&key)?;
        let Wanted { critical, protection, .. } = state.wanted.clone()?;
        Some(ProtectionView { critical, protection, since: state.since, error: state.error.clone() })
    }

    fn name(&self, key: ProcKey) -> Option<Name> {
        self.states.get(&key)?.wanted.as_ref().map(|wanted| wanted.critical.clone())
    }

    fn step(&mut self, key: ProcKey, out: &mut Outbox) {
        let Some(state) = self.states.get_mut(&key) else { return };
        if state.flying || state.retry.is_some() {
            return;
        }
        let step = match &state.wanted {
            Some(Wanted { critical, protection, .. })
                if state.asked.as_ref() != Some(protection) && state.error.is_none() =>
            {
                state.asked = Some(protection.clone());
                state.touched.get_or_insert(out.now());
                let (critical, protection) = (critical.clone(), protection.clone());
                (What::Protect { group: Name::of_protection(key), key, critical, protection }, Step::Protect)
            }
            Some(_) => return,
            None if state.touched.is_some() => {
                (What::Unprotect { group: Name::of_protection(key), key }, Step::Unprotect)
            }
            None => {
                self.states.remove(&key);
                return;
            }
        };
        state.flying = true;
        self.flights.insert(out.push(step.0), (key, step.1));
    }

    fn settled(&mut self, key: ProcKey, step: Step, outcome: &Outcome, out: &mut Outbox) {
        let Some(state) = self.states.get_mut(&key) else { return };
        state.flying = false;
        let failure = match (step, outcome) {
            (Step::Protect, Outcome::Applied { members, refused, at, .. }) => {
                if members.contains(&key) {
                    state.since.get_or_insert(*at);
                    state.failures = 0;
                    None
                } else {
                    let why =
                        refused.first().map_or("the executor did not confirm it", |(_, why)| why.as_str());
                    // Refused for good: trying again would not change it.
                    state.asked = None;
                    state.error = Some(why.to_owned());
                    state.wanted.as_ref().map(|wanted| (wanted.critical.clone(), why.to_owned()))
                }
            }
            (Step::Unprotect, Outcome::Released) => {
                (state.touched, state.asked, state.since) = (None, None, None);
                None
            }
            (_, Outcome::Failed { error } | Outcome::Entangled { why: error }) => {
                let wait = BACK_OFF.get(state.failures).or(BACK_OFF.last()).copied().unwrap_or_default();
                state.failures += 1;
                state.asked = None;
                let at = out.now().after(wait);
                state.retry = Some(at);
                self.retries.insert((at, key));
                self.name(key).map(|name| (name, error.clone()))
            }
            (_, Outcome::Applied { .. } | Outcome::Released | Outcome::Busy) => None,
        };
        if let Some((name, error)) = failure {
            self.tell(name, key, error, out);
        }
        self.step(key, out);
    }

    fn tell(&mut self, name: Name, key: ProcKey, error: String, out: &mut Outbox) {
        if self.told.insert(name.clone()) {
            out.notify(Notice::ProtectionFailed { name, process: key, error });
        }
    }

    fn rest(&mut self, key: ProcKey) {
        if let Some(at) = self.states.get_mut(&key).and_then(|state| state.retry.take()) {
            self.retries.remove(&(at, key));
        }
    }
}
