//! The instances of critical processes: their deaths, their absence and their return, and what of it is told.
//! It must not decide who is one: rules do.

mod flaps;
mod spell;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::flaps::{Flaps, Verdict};
use self::spell::{Spell, Tale};
use crate::engine::outbox::Outbox;
use crate::model::absence::{Absence, Flapping, Revival};
use crate::model::critical::Expect;
use crate::model::death::Toll;
use crate::model::event::Exit;
use crate::model::id::{Name, ProcKey};
use crate::model::notice::Notice;
use crate::model::process::Process;
use crate::model::time::Timestamp;

/// What is known of one critical process of the profile.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) instances: BTreeSet<ProcKey>,
    pub(crate) deaths: u64,
    /// The same by cause.
    pub(crate) toll: Toll,
    pub(crate) last: Option<Exit>,
    expect: Option<Expect>,
    spell: Option<Spell>,
    flaps: Flaps,
}

impl State {
    /// How many instances there must be.
    pub(crate) fn wanted(&self) -> usize {
        let wanted = self.expect.map_or(1, |expect| expect.min_instances);
        usize::try_from(wanted).unwrap_or(usize::MAX)
    }

    /// Since when there are fewer.
    pub(crate) fn absent_since(&self) -> Option<Timestamp> {
        self.spell.filter(|_| self.is_short()).map(|spell| spell.since)
    }

    /// Whether deaths are held back because they are too many.
    pub(crate) const fn is_flapping(&self) -> bool {
        self.flaps.is_on()
    }

    fn is_short(&self) -> bool {
        self.instances.len() < self.wanted()
    }

    fn within(&self) -> Option<Duration> {
        self.expect.map(|expect| expect.start_within)
    }

    fn due(&self) -> Option<Timestamp> {
        let spell = self.spell.and_then(|spell| spell.due(self.within(), self.flaps.is_on()));
        [spell, self.flaps.due()].into_iter().flatten().min()
    }

    /// There may be too few instances since now.
    fn fall_short(&mut self, why: Absence, now: Timestamp) {
        if !self.is_short() {
            return;
        }
        match &mut self.spell {
            Some(spell) => spell.relapse(),
            None => self.spell = Some(Spell::new(now, why)),
        }
    }

    /// Takes over what a profile asks for, new or not.
    fn expect(&mut self, name: &Name, expect: Option<Expect>, now: Timestamp, out: &mut Outbox) {
        let same = self.expect == expect;
        self.expect = expect;
        if !self.is_short() {
            if self.spell.is_some_and(|spell| !spell.is_over()) {
                self.release(name, now, out);
            }
        } else if !same && self.spell.is_none_or(|spell| !spell.is_told()) {
            // What was down before stays so; what nobody was told of has its time from now on.
            self.spell = expect.map(|_| Spell::new(now, Absence::NeverStarted));
        }
    }

    /// Nothing more is asked of it: whoever was told that it is down or missing is told so.
    fn release(&mut self, name: &Name, now: Timestamp, out: &mut Outbox) {
        if let Some(spell) = self.spell.take().filter(Spell::is_told) {
            out.notify(Notice::CriticalProcessRecovered {
                name: name.clone(),
                how: Revival::NotRequired,
                instances: self.instances.len(),
                absent: now.since(spell.since),
            });
        }
    }

    fn tell_down(
        &mut self,
        name: &Name,
        exit: &Exit,
        group: Option<&Name>,
        flapping: Option<Flapping>,
        out: &mut Outbox,
    ) {
        if self.is_short()
            && let Some(spell) = &mut self.spell
        {
            spell.tell_down();
        }
        out.notify(Notice::CriticalProcessDown {
            name: name.clone(),
            exit: *exit,
            remaining: self.instances.len(),
            wanted: self.wanted(),
            flapping,
            group: group.cloned(),
            circumstances: None,
        });
    }

    /// Tells of deaths that were held back, the last one standing for all.
    fn tell_held(&mut self, name: &Name, flapping: Option<Flapping>, out: &mut Outbox) {
        if let (Some(flapping), Some(last)) = (flapping, self.last) {
            self.tell_down(name, &last, None, Some(flapping), out);
        }
    }

    fn advance(&mut self, name: &Name, now: Timestamp, out: &mut Outbox) {
        let held = self.flaps.sum_up(now);
        self.tell_held(name, held, out);
        let (within, hold) = (self.within(), self.flaps.is_on());
        let Some(tale) = self.spell.as_mut().and_then(|spell| spell.tale(within, hold, now)) else { return };
        match tale {
            Tale::Missing { why, absent } => out.notify(Notice::CriticalProcessMissing {
                name: name.clone(),
                instances: self.instances.len(),
                wanted: self.wanted(),
                absent,
                why,
            }),
            Tale::Back { by, absent } => {
                self.spell = None;
                let how = Revival::ByOthers { key: by.key, comm: by.comm, parent: by.ppid };
                let instances = self.instances.len();
                out.notify(Notice::CriticalProcessRecovered { name: name.clone(), how, instances, absent });
            }
        }
    }
}

/// All critical processes of the active profile, by name.
#[derive(Debug, Default)]
pub(crate) struct Criticals {
    states: BTreeMap<Name, State>,
}

impl Criticals {
    /// Takes over the critical processes of a new profile. What is known of those that stay is kept; the
    /// instances of those that go are returned.
    pub(crate) fn renew(
        &mut self,
        expected: impl IntoIterator<Item = (Name, Option<Expect>)>,
        out: &mut Outbox,
    ) -> Vec<ProcKey> {
        let now = out.now();
        let mut old = std::mem::take(&mut self.states);
        for (name, expect) in expected {
            let mut state = old.remove(&name).unwrap_or_default();
            state.expect(&name, expect, now, out);
            self.states.insert(name, state);
        }
        let mut orphans = Vec::new();
        for (name, mut state) in old {
            let held = state.flaps.end(now);
            state.tell_held(&name, held, out);
            state.release(&name, now, out);
            orphans.extend(state.instances);
        }
        orphans
    }

    /// Notes an instance.
    pub(crate) fn add(&mut self, name: &Name, process: &Process, now: Timestamp) {
        let Some(state) = self.states.get_mut(name) else { return };
        state.instances.insert(process.key);
        if state.is_short() {
            return;
        }
        match &mut state.spell {
            Some(spell) if spell.is_told() => spell.fill(process, now),
            Some(_) | None => state.spell = None,
        }
    }

    /// Notes what an instance is called by now. One that has just been forked has its parent's name until it executes its
    /// program, which may be what it is known by already.
    pub(crate) fn called(&mut self, name: &Name, process: &Process) {
        if let Some(spell) = self.states.get_mut(name).and_then(|state| state.spell.as_mut()) {
            spell.called(process);
        }
    }

    /// Forgets an instance that lives on as something else, which `process` is.
    pub(crate) fn remove(&mut self, name: &Name, process: &Process, now: Timestamp) {
        let Some(state) = self.states.get_mut(name) else { return };
        if state.instances.remove(&process.key) && state.expect.is_some() {
            state.fall_short(Absence::Changed { key: process.key, comm: process.comm }, now);
        }
    }

    /// Notes a death and tells of it, now or with others; whether it was not noted before.
    /// `group`: the one that limited it.
    pub(crate) fn died(&mut self, name: &Name, exit: &Exit, group: Option<&Name>, out: &mut Outbox) -> bool {
        let Some(state) = self.states.get_mut(name) else { return false };
        let (key, now) = (exit.process.key, out.now());
        if state.last.is_some_and(|last| last.process.key == key) {
            return false;
        }
        state.instances.remove(&key);
        state.deaths = state.deaths.saturating_add(1);
        state.toll.count(exit);
        state.last = Some(*exit);
        state.fall_short(Absence::Died, now);
        let flapping = match state.flaps.died(now) {
            Verdict::Hold => return true,
            Verdict::Tell => None,
            Verdict::TellMany(flapping) => Some(flapping),
        };
        state.tell_down(name, exit, group, flapping, out);
        true
    }

    /// When [`Self::advance`] must be called next.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.states.values().filter_map(State::due).min()
    }

    /// Tells what time alone brings about: absence that lasts, the return, deaths that were held back.
    pub(crate) fn advance(&mut self, now: Timestamp, out: &mut Outbox) {
        for (name, state) in &mut self.states {
            state.advance(name, now, out);
        }
    }

    /// Whether it has an instance.
    pub(crate) fn is_up(&self, name: &Name) -> bool {
        self.states.get(name).is_some_and(|state| !state.instances.is_empty())
    }

    /// Its live instances, by pid.
    pub(crate) fn instances(&self, name: &Name) -> Vec<ProcKey> {
        self.states.get(name).map(|state| state.instances.iter().copied().collect()).unwrap_or_default()
    }

    /// By name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &State)> {
        self.states.iter()
    }
}
