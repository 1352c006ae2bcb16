//! What the probes heard, on its way to the engine and from there to people: cgroups get their names. On the engine
//! thread.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::Controller;
use crate::clock;
use crate::daemon::turn::{Parts, Turn};
use crate::engine::input::{Input, Waited};
use crate::model::id::Name;
use crate::model::last_seconds::Held;
use crate::model::latency::CpuHolder;
use crate::model::process::{Wants, printable};

/// Most groups that are looked through for the cgroups that are named.
const GROUPS_MAX: usize = 256;
/// Most instances of a critical process whose quotas are read.
const INSTANCES_MAX: usize = 16;

impl Turn {
    /// Feeds the engine with how long critical processes waited, and tells that the probes were shed.
    pub(super) fn collect_waits(&mut self) {
        if let Some((at, notice)) = self.parts.ear.shed() {
            self.notify(at, notice);
        }
        while let Some(mut waited) = self.parts.ear.next() {
            self.name_holders(&mut waited);
            self.feed(Input::Waited(Box::new(waited)), clock::now());
            self.act();
            self.pending.settled_down();
        }
    }

    /// A process that was moved is found in its new cgroup by the next sweep only, and what the kernel counts is
    /// known by the cgroup's id at once.
    fn name_holders(&self, waited: &mut Waited) {
        let mut holders = waited.of.iter_mut().flat_map(|of| &mut of.holders).peekable();
        if holders.peek().is_none() {
            return;
        }
        let names = self.groups_by_id(self.parts.engine.yielding());
        for holder in holders {
            holder.group = names.get(&holder.cgroup).cloned();
        }
    }

    /// Says what those are called who had the CPUs: a handful, and a few reads for each.
    pub(super) fn name_all(&self, holders: &mut [CpuHolder]) {
        if holders.is_empty() {
            return;
        }
        let mut groups = self.parts.throttle.names();
        groups.truncate(GROUPS_MAX);
        let names = self.groups_by_id(groups);
        for holder in holders {
            holder.group = names.get(&holder.cgroup).cloned().or(holder.group.take());
            holder.path = self.path(holder.cgroup);
        }
    }

    /// For how long a quota has held instances of a critical process back in the last seconds: that which was for longest.
    pub(super) fn held_back(&self, name: &Name) -> Option<Held> {
        let Parts { engine, lookout, throttle, .. } = &self.parts;
        let critical = engine.snapshot().critical.into_iter().find(|critical| critical.name == *name)?;
        let now = clock::now();
        let instances = critical.instances.into_iter().take(INSTANCES_MAX);
        let held = instances.filter_map(|key| lookout.held_back(key, now, throttle));
        held.max_by_key(|held| held.quota.throttled_ns)
    }

    /// Of which groups the cgroups are that limits were made for, by their ids.
    fn groups_by_id(&self, groups: Vec<Name>) -> BTreeMap<u64, Name> {
        let mut names = BTreeMap::new();
        for name in groups {
            let ids = self.parts.throttle.with_group(&name, |group| {
                let dirs = group.places.iter().filter_map(|place| place.dir(Controller::Cpu));
                dirs.filter_map(id).collect::<Vec<u64>>()
            });
            names.extend(ids.into_iter().flatten().map(|id| (id, name.clone())));
        }
        names
    }

    /// The path of a cgroup, which whoever is in it tells.
    fn path(&self, cgroup: u64) -> Option<String> {
        let Parts { engine, proc, .. } = &self.parts;
        let hierarchy = proc.hierarchy()?;
        let wants = Wants { cgroup_path: true, ..Wants::default() };
        let path = if hierarchy.id(b"/") == Some(cgroup) {
            b"/".to_vec()
        } else {
            proc.facts(engine.somebody_in(cgroup)?, wants).ok().flatten()?.cgroup_path?
        };
        // It may have been moved since it was seen there.
        (hierarchy.id(&path) == Some(cgroup)).then(|| printable(&path).to_string())
    }
}

/// The id of a cgroup: on 64-bit systems the inode number of its directory. One that is gone has none.
fn id(dir: &Path) -> Option<u64> {
    rustix::fs::stat(dir).ok().map(|stat| stat.st_ino)
}
