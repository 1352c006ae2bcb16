//! Processes that are limited along with a group and must not be: those born in its cgroup that are protected,
//! and strangers that come into it.

use crate::engine::policy::throttle::Throttle;
use crate::model::id::{Name, ProcKey};
use crate::model::process::Process;
use crate::model::reason::Reason;

impl Throttle {
    /// The group in force whose members make up this cgroup, as far as they are known.
    pub(crate) fn in_cgroup(&mut self, id: u64) -> Option<Name> {
        self.groups.at_home(id).cloned()
    }

    /// Lifts the limits of a group because a process that is none of its members is in their cgroup, and limits
    /// the members anew in a way that spares it, or not at all.
    pub(crate) fn intruded(&mut self, name: &Name, process: &Process) {
        let Some(group) = self.groups.get(name) else { return };
        if !group.borrowed || group.terms.whole_unit || group.release.is_some() {
            return;
        }
        let who = format!("process {} ({})", process.key.pid, process.comm);
        self.untangle(name, Reason::Intruded { who });
        self.dirty.insert(name.clone());
    }

    /// Takes a live process out of a group's cgroups that was never a member: it was born there.
    pub(crate) fn expel(&mut self, name: &Name, key: ProcKey, reason: Reason) {
        if let Some(group) = self.groups.get_mut(name)
            && self.departing.insert(key)
        {
            group.leaving.push((key, reason));
            self.dirty.insert(name.clone());
        }
    }

    /// Lifts the limits of a group because they hold one who must not be held, and limits its members anew, in
    /// a way that spares it, or not at all.
    pub(super) fn untangle(&mut self, name: &Name, reason: Reason) {
        if let Some(group) = self.groups.get_mut(name)
            && group.in_force.is_some()
        {
            group.release.get_or_insert((reason, Vec::new()));
        }
    }
}
