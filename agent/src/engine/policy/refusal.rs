//! Processes that the executor has refused to limit: when it is asked about them again, since most of what stands in
//! the way passes, such as a child of their parent that has not run its program yet. All of one cgroup are asked about
//! together: each alone would be in the way of the others. It must not know why they were refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::id::{Name, ProcKey};
use crate::model::time::Timestamp;

/// Waits after the first, second and every further refusal in a cgroup. The last bounds what is spent on a cgroup that
/// will always be shared.
const AGAIN: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// Which of the waits is the longest after a process was refused that was not before: when a whole job starts in one
/// cgroup, the last of its processes is the one after which all of them can be limited.
const NEWCOMER: usize = 2;

#[derive(Debug)]
struct Waiting {
    keys: BTreeSet<ProcKey>,
    /// Those that were asked about again.
    known: BTreeSet<ProcKey>,
    due: Timestamp,
    /// How often they were asked about again.
    times: usize,
    /// Groups whose failure has been told.
    told: BTreeSet<Name>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_cgroup: BTreeMap<u64, Waiting>,
    timers: BTreeSet<(Timestamp, u64)>,
}

impl Refusals {
    /// Notes that a process of this cgroup was refused.
    pub(crate) fn note(&mut self, cgroup: u64, key: ProcKey, now: Timestamp) {
        let waiting = self.by_cgroup.entry(cgroup).or_insert_with(|| {
            let [first, ..] = AGAIN;
            let due = now.after(first);
            self.timers.insert((due, cgroup));
            let (keys, known) = (BTreeSet::new(), BTreeSet::new());
            Waiting { keys, known, due, times: 0, told: BTreeSet::new() }
        });
        waiting.keys.insert(key);
        let soon = now.after(AGAIN[NEWCOMER]);
        if waiting.due > soon && !waiting.known.contains(&key) {
            self.timers.remove(&(waiting.due, cgroup));
            self.timers.insert((soon, cgroup));
            waiting.due = soon;
            waiting.times = NEWCOMER;
        }
    }

    /// Forgets a process that is dead.
    pub(crate) fn died(&mut self, cgroup: u64, key: ProcKey) {
        if let Some(waiting) = self.by_cgroup.get_mut(&cgroup) {
            waiting.keys.remove(&key);
            waiting.known.remove(&key);
        }
    }

    /// Whether it is to be told that nobody could be limited for a group: once, when the refusal is not the first and so
    /// may last.
    pub(crate) fn tell(&mut self, cgroup: u64, group: &Name) -> bool {
        let waiting = self.by_cgroup.get_mut(&cgroup).filter(|waiting| waiting.times > 0);
        waiting.is_some_and(|waiting| waiting.told.insert(group.clone()))
    }

    /// When [`Self::take_due`] has something next.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Whom to ask about again, and their cgroup. A cgroup without refusals since the last time is forgotten.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<(u64, BTreeSet<ProcKey>)> {
        while self.next_timeout().is_some_and(|due| due <= now) {
            let Some((_, cgroup)) = self.timers.pop_first() else { break };
            let Some(waiting) = self.by_cgroup.get_mut(&cgroup) else { continue };
            if waiting.keys.is_empty() {
                self.by_cgroup.remove(&cgroup);
                continue;
            }
            waiting.times += 1;
            let wait = AGAIN.get(waiting.times).or(AGAIN.last()).copied().unwrap_or_default();
            waiting.due = now.after(wait);
            self.timers.insert((waiting.due, cgroup));
            let keys = std::mem::take(&mut waiting.keys);
            waiting.known.extend(&keys);
            return Some((cgroup, keys));
        }
        None
    }
}
