//! The instances of critical processes and their deaths. It must not decide who is one: rules do.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::event::Exit;
use crate::model::id::{Name, ProcKey};

/// What is known of one critical process of the profile.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) instances: BTreeSet<ProcKey>,
    pub(crate) deaths: u64,
    pub(crate) last: Option<Exit>,
}

/// All critical processes of the active profile, by name.
#[derive(Debug, Default)]
pub(crate) struct Criticals {
    states: BTreeMap<Name, State>,
}

impl Criticals {
    /// Takes over the names of a new profile. What is known of those that stay is kept; the instances of
    /// those that go are returned.
    pub(crate) fn rename(&mut self, names: impl IntoIterator<Item = Name>) -> Vec<ProcKey> {
        let mut old = std::mem::take(&mut self.states);
        self.states = names
            .into_iter()
            .map(|name| {
                let state = old.remove(&name).unwrap_or_default();
                (name, state)
            })
            .collect();
        old.into_values().flat_map(|state| state.instances).collect()
    }

    /// Notes an instance.
    pub(crate) fn add(&mut self, name: &Name, key: ProcKey) {
        if let Some(state) = self.states.get_mut(name) {
            state.instances.insert(key);
        }
    }

    /// Forgets an instance that lives on as something else.
    pub(crate) fn remove(&mut self, name: &Name, key: ProcKey) {
        if let Some(state) = self.states.get_mut(name) {
            state.instances.remove(&key);
        }
    }

    /// Notes a death and returns how many instances are left; `None` when it was noted before.
    pub(crate) fn died(&mut self, name: &Name, exit: &Exit) -> Option<usize> {
        let state = self.states.get_mut(name)?;
        let key = exit.process.key;
        if state.last.is_some_and(|last| last.process.key == key) {
            return None;
        }
        state.instances.remove(&key);
        state.deaths = state.deaths.saturating_add(1);
        state.last = Some(*exit);
        Some(state.instances.len())
    }

    /// By name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &State)> {
        self.states.iter()
    }
}
