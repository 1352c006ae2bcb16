//! What critical processes are to have of the machine when others want it, too: asked for once their instances have
//! come up, taken back with the last of them. All instances of one have it together, so that their cgroup is changed
//! once. It must not decide who is an instance, nor where it can be given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::action::{ActionId, What};
use crate::engine::input::Outcome;
use crate::engine::outbox::Outbox;
use crate::engine::view::ReservationView;
use crate::model::id::{Name, ProcKey};
use crate::model::notice::Notice;
use crate::model::reservation::Reservation;
use crate::model::time::Timestamp;

/// From the first instance to the question: who comes up with it shares its cgroup, and has to be known by then.
const SETTLE: Duration = Duration::from_secs(1);
/// Waits after the first, second and every further failure in a row.
const BACK_OFF: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(30), Duration::from_secs(300)];
/// Failures in a row until it is told: while a service starts, others may be in its cgroup for a moment.
const TOLD_AFTER: usize = 2;

#[derive(Debug, Default)]
struct State {
    wanted: Reservation,
    /// The living instances.
    members: BTreeSet<ProcKey>,
    /// What the executor was asked for last, and for whom.
    asked: Option<(Reservation, BTreeSet<ProcKey>)>,
    /// Whether the executor may have changed something.
    touched: bool,
    since: Option<Timestamp>,
    how: Option<String>,
    error: Option<String>,
    failures: usize,
    due: Option<Timestamp>,
    /// Whether something has changed since the executor was asked.
    dirty: bool,
    flying: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve,
    Unreserve,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    states: BTreeMap<Name, State>,
    /// Which critical process an instance belongs to.
    of: BTreeMap<ProcKey, Name>,
    flights: BTreeMap<ActionId, (Name, Step)>,
    timers: BTreeSet<(Timestamp, Name)>,
    /// Critical processes whose failure has been told under this profile.
    told: BTreeSet<Name>,
    stopping: bool,
}

impl Reservations {
    /// Whose shares they are.
    pub(crate) fn keys(&self) -> Vec<ProcKey> {
        self.of.keys().copied().collect()
    }

    /// A profile comes into force: what fails under it is told anew.
    pub(crate) fn renew(&mut self) {
        self.told.clear();
    }

    /// States which critical process this one is an instance of, and what that is to have.
    pub(crate) fn want(&mut self, key: ProcKey, wanted: Option<(Name, Reservation)>, out: &mut Outbox) {
        let wanted = wanted.filter(|(_, reservation)| !self.stopping && !reservation.is_empty());
        let name = wanted.as_ref().map(|(name, _)| name);
        if let Some(old) = self.of.get(&key).filter(|old| Some(*old) != name).cloned() {
            self.of.remove(&key);
            self.leave(&old, key, out);
        }
        let Some((name, reservation)) = wanted else { return };
        self.of.insert(key, name.clone());
        let state = self.states.entry(name.clone()).or_default();
        let came = state.members.insert(key);
        if std::mem::replace(&mut state.wanted, reservation) != reservation {
            state.failures = 0;
            self.settle(&name, out.now().after(SETTLE));
        } else if came {
            self.changed(&name, out.now());
        }
    }

    /// Takes all of it back, for good.
    pub(crate) fn stop(&mut self, out: &mut Outbox) {
        self.stopping = true;
        for key in self.keys() {
            self.want(key, None, out);
        }
    }

    /// When [`Self::expire`] has work next.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Asks for what is due.
    pub(crate) fn expire(&mut self, now: Timestamp, out: &mut Outbox) {
        while self.next_timeout().is_some_and(|at| at <= now) {
            let Some((_, name)) = self.timers.pop_first() else { break };
            if let Some(state) = self.states.get_mut(&name) {
                state.due = None;
            }
            self.step(&name, out);
        }
    }

    /// Takes in what became of an action; `false` when it is another one's.
    pub(crate) fn outcome(&mut self, id: ActionId, outcome: &Outcome, out: &mut Outbox) -> bool {
        let Some((name, step)) = self.flights.remove(&id) else { return false };
        let Some(state) = self.states.get_mut(&name) else { return true };
        state.flying = false;
        let failure = match (step, outcome) {
            (Step::Reserve, Outcome::Applied { how, members, refused, at, .. }) => {
                if !members.is_empty() {
                    state.since.get_or_insert(*at);
                    state.how = Some(how.clone());
                }
                // Who has ended meanwhile needs nothing.
                refused.iter().find(|(key, _)| state.members.contains(key)).map(|(_, why)| why)
            }
            (Step::Unreserve, Outcome::Released) => {
                (state.touched, state.since, state.how) = (false, None, None);
                None
            }
            (_, Outcome::Failed { error } | Outcome::Entangled { why: error }) => Some(error),
            (_, Outcome::Applied { .. } | Outcome::Released | Outcome::Busy) => None,
        };
        match failure {
            None => (state.error, state.failures) = (None, 0),
            Some(error) => {
                let error = error.clone();
                self.failed(&name, step, error, out);
            }
        }
        self.step(&name, out);
        true
    }

    /// What is to be known of it; `None` where nothing is reserved.
    pub(crate) fn view(&self, name: &Name) -> Option<ReservationView> {
        let State { wanted, since, how, error, .. } =
            self.states.get(name).filter(|state| state.is_wanted())?;
        Some(ReservationView { reservation: *wanted, since: *since, how: how.clone(), error: error.clone() })
    }

    fn leave(&mut self, name: &Name, key: ProcKey, out: &mut Outbox) {
        let Some(state) = self.states.get_mut(name) else { return };
        state.members.remove(&key);
        if let Some((_, asked)) = &mut state.asked {
            asked.remove(&key);
        }
        if state.members.is_empty() {
            (state.dirty, state.failures) = (true, 0);
            self.rest(name);
            self.step(name, out);
        } else if state.error.is_some() {
            // It may have been in the way.
            self.changed(name, out.now());
        }
    }

    fn failed(&mut self, name: &Name, step: Step, error: String, out: &mut Outbox) {
        let Some(state) = self.states.get_mut(name) else { return };
        state.asked = None;
        state.error = Some(error.clone());
        let wait = BACK_OFF.get(state.failures).or(BACK_OFF.last()).copied().unwrap_or_default();
        state.failures += 1;
        let told = matches!(step, Step::Unreserve) || state.wanted.is_stated();
        // After a while only a change of its instances makes another answer likely.
        let again = state.failures <= BACK_OFF.len() || matches!(step, Step::Unreserve);
        let loud = told && state.failures >= TOLD_AFTER;
        let first = state.members.first().copied();
        if again {
            self.settle(name, out.now().after(wait));
        }
        if let Some(process) = first.filter(|_| loud)
            && self.told.insert(name.clone())
        {
            out.notify(Notice::ProtectionFailed { name: name.clone(), process, error });
        }
    }

    /// Its instances are others than before. What was refused is not asked again with each of them.
    fn changed(&mut self, name: &Name, now: Timestamp) {
        let [_, again, _] = BACK_OFF;
        let failing = self.states.get(name).is_some_and(|state| state.error.is_some());
        self.settle(name, now.after(if failing { again } else { SETTLE }));
    }

    /// Has it looked at then, if not before.
    fn settle(&mut self, name: &Name, at: Timestamp) {
        let Some(state) = self.states.get_mut(name) else { return };
        state.dirty = true;
        if state.due.is_none_or(|due| due > at) {
            if let Some(due) = state.due.replace(at) {
                self.timers.remove(&(due, name.clone()));
            }
            self.timers.insert((at, name.clone()));
        }
    }

    fn rest(&mut self, name: &Name) {
        if let Some(due) = self.states.get_mut(name).and_then(|state| state.due.take()) {
            self.timers.remove(&(due, name.clone()));
        }
    }

    fn step(&mut self, name: &Name, out: &mut Outbox) {
        let Some(state) = self.states.get_mut(name) else { return };
        if state.flying || state.due.is_some() || !std::mem::take(&mut state.dirty) {
            return;
        }
        let group = Name::of_reservation(name);
        let (what, step) = if state.is_wanted() {
            let Some(members) = state.to_ask() else { return };
            state.touched = true;
            state.asked = Some((state.wanted, state.members.clone()));
            let (critical, reservation) = (name.clone(), state.wanted);
            (What::Reserve { group, critical, reservation, members }, Step::Reserve)
        } else if state.touched {
            state.asked = None;
            (What::Unreserve { group, critical: name.clone() }, Step::Unreserve)
        } else {
            self.states.remove(name);
            return;
        };
        state.flying = true;
        self.flights.insert(out.push(what), (name.clone(), step));
    }
}

impl State {
    fn is_wanted(&self) -> bool {
        !self.members.is_empty()
    }

    /// For whom to ask: those that came, where the others have it already; `None` for nobody.
    fn to_ask(&self) -> Option<Vec<ProcKey>> {
        let known = self.asked.as_ref().filter(|(asked, _)| *asked == self.wanted && self.since.is_some());
        let members: Vec<ProcKey> = match known {
            Some((_, known)) => self.members.difference(known).copied().collect(),
            None => self.members.iter().copied().collect(),
        };
        (!members.is_empty()).then_some(members)
    }
}
