//! Which processes are to be protected, what is reserved for them, and which have protection that is not theirs.

use crate::engine::Engine;
use crate::engine::policy::protect;
use crate::engine::policy::protection::Wanted;
use crate::engine::process::{Bars, Entry};
use crate::model::id::ProcKey;

impl Engine {
    /// Sees that a process has the protection that the profile states for it, and none when it states none.
    pub(super) fn keep(&mut self, key: ProcKey) {
        let wanted = self.table.get(key).and_then(|entry| self.wanted(entry));
        let reserved =
            wanted.as_ref().map(|wanted| (wanted.critical.clone(), wanted.protection.reservation()));
        self.reservations.want(key, reserved, &mut self.out);
        // Of the process itself nothing may be asked.
        let wanted = wanted.filter(|wanted| !wanted.protection.demands().is_empty());
        self.protections.want(key, wanted, &mut self.out);
    }

    /// The same for all, under a new profile.
    pub(super) fn keep_all(&mut self) {
        self.protections.renew();
        self.reservations.renew();
        let instances = self.criticals.iter().flat_map(|(_, state)| state.instances.iter().copied());
        let keys: Vec<ProcKey> =
            instances.chain(self.protections.keys()).chain(self.reservations.keys()).collect();
        for key in keys {
            self.keep(key);
        }
    }

    /// A process that is not critical keeps nothing of what it inherited from one that is.
    pub(super) fn disinherit(&mut self, key: ProcKey) {
        let Some(entry) = self.table.get(key) else { return };
        let done = entry.bars.as_ref().is_some_and(|bars| bars.disinherited);
        if done || entry.critical.is_some() {
            return;
        }
        let Some(from) = self.benefactor(entry) else { return };
        if let Some(entry) = self.table.get_mut(key) {
            entry.bars.get_or_insert_with(Box::<Bars>::default).disinherited = true;
        }
        self.protections.disinherit(key, from, &mut self.out);
    }

    fn wanted(&self, entry: &Entry) -> Option<Wanted> {
        let instance = entry.critical.as_ref().filter(|instance| instance.protected)?;
        let mut criticals = self.rules.as_ref()?.criticals.iter();
        let critical = criticals.find(|critical| critical.name == instance.name)?;
        // The configuration refuses the combination; so does this.
        let stated = critical.protects && !critical.protection.is_empty();
        let never = protect::verdict(&entry.process, &self.config.own);
        stated.then(|| Wanted {
            critical: critical.name.clone(),
            protection: critical.protection.clone(),
            never: never.map(|never| never.to_string()),
        })
    }

    /// The protected process of which this one was born, as far as that is known: its parent or, when that has
    /// ended, one in whose cgroup it is.
    fn benefactor(&self, entry: &Entry) -> Option<ProcKey> {
        let process = &entry.process;
        let born_under =
            |key: ProcKey| self.protections.touched(key).is_some_and(|touched| process.started >= touched);
        if let Some(parent) =
            self.table.ancestors(process).next().filter(|parent| parent.process.key.pid != 1)
        {
            return Some(parent.process.key).filter(|key| born_under(*key));
        }
        let beside = |key: &ProcKey| {
            self.table.get(*key).is_some_and(|other| other.process.cgroup == process.cgroup)
                && born_under(*key)
        };
        self.protections.keys().into_iter().find(beside)
    }
}
