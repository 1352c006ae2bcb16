//! What the probes heard, on its way to the engine: cgroups that are groups of ours get their names. On the engine thread.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::Controller;
use crate::clock;
use crate::daemon::turn::Turn;
use crate::engine::input::{Input, Waited};
use crate::model::id::Name;

impl Turn {
    /// Feeds the engine with how long critical processes waited.
    pub(super) fn collect_waits(&mut self) {
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
        let mut names: BTreeMap<u64, Name> = BTreeMap::new();
        for name in self.parts.engine.yielding() {
            let ids = self.parts.throttle.with_group(&name, |group| {
                let dirs = group.places.iter().filter_map(|place| place.dir(Controller::Cpu));
                dirs.filter_map(id).collect::<Vec<u64>>()
            });
            names.extend(ids.into_iter().flatten().map(|id| (id, name.clone())));
        }
        for holder in holders {
            holder.group = names.get(&holder.cgroup).cloned();
        }
    }
}

/// The id of a cgroup: on 64-bit systems the inode number of its directory. One that is gone has none.
fn id(dir: &Path) -> Option<u64> {
    rustix::fs::stat(dir).ok().map(|stat| stat.st_ino)
}
