//! The process table: who is alive, and what is known of each. It must not know rules or groups beyond the
//! names that it stores for them.

pub(crate) mod identity;
pub(crate) mod lifecycle;
pub(crate) mod lineage;

use std::collections::BTreeMap;

use crate::engine::action::Wants;
use crate::engine::process::identity::Tombstones;
use crate::model::id::{Name, ProcKey};
use crate::model::process::{Facts, Process};
use crate::model::time::Timestamp;

/// A live process.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As last reported.
    pub(crate) process: Process,
    /// When it was last reported.
    pub(crate) seen: Timestamp,
    /// What made its rules be evaluated last: exec, birth or the report of a change.
    pub(crate) cause: Timestamp,
    /// Whether it may go from one group to another.
    pub(crate) open: Open,
    /// Whether it has come into its cgroup from another one, instead of having been born or first seen there.
    pub(crate) came: bool,
    /// Critical process of the active profile that it is an instance of.
    pub(crate) critical: Option<Instance>,
    /// The group that holds it.
    pub(crate) group: Option<Name>,
    /// Facts from `/proc`.
    pub(crate) inspection: Inspection,
    /// What stands against limiting it.
    pub(crate) bars: Option<Box<Bars>>,
}

/// An instance of a critical process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// The entry of the profile that its death is told by.
    pub(crate) name: Name,
    /// Whether it is exempt from limits.
    pub(crate) protected: bool,
}

/// Whether and how membership is to be decided anew. Else it is sticky, so that moving a process into our
/// own cgroup cannot un-match the rule that moved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Open {
    /// It is decided.
    No,
    /// The program is new: another rule may take the process over, and without one it stays.
    ToRules,
    /// The profile is new: without a rule the process is let go.
    ToProfile,
}

/// What stands against limiting a process although a rule matches it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bars {
    /// Rules from whose groups an operator released it.
    pub(crate) exempt: Vec<Name>,
    /// Why the executor refused it.
    pub(crate) refused: Option<String>,
    /// Whether it was taken out of the cgroup of a group that it was born in and never belonged to.
    pub(crate) expelled: bool,
    /// Whether it was looked for what it inherited from a protected process.
    pub(crate) disinherited: bool,
}

/// The state of the questions asked of `/proc`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inspection {
    /// The answers.
    pub(crate) facts: Option<Box<Facts>>,
    /// What the answers cover; a covered fact that is absent cannot be had.
    pub(crate) known: Wants,
    /// What has been asked.
    asked: Wants,
    /// Questions without an answer yet.
    pending: u32,
    /// How many of the answers to come are about a program that has been replaced since.
    discard: u32,
}

impl Inspection {
    /// Notes that `wants` will be asked and returns what of it is not asked yet; empty when all of it is.
    pub(crate) fn ask(&mut self, wants: Wants) -> Wants {
        let missing = wants.without(self.asked);
        if !missing.is_empty() {
            self.asked = self.asked.and(missing);
            self.pending = self.pending.saturating_add(1);
        }
        missing
    }

    /// Takes the answer to the oldest question; `true` when nothing is open any more.
    pub(crate) fn answer(&mut self, facts: Option<Facts>) -> bool {
        if self.pending == 0 {
            return false;
        }
        self.pending -= 1;
        if self.discard > 0 {
            self.discard -= 1;
            return false;
        }
        if let Some(new) = facts {
            let held = self.facts.get_or_insert_default();
            held.exe = new.exe.or(held.exe.take());
            held.cmdline = new.cmdline.or(held.cmdline.take());
            held.cgroup_path = new.cgroup_path.or(held.cgroup_path.take());
        }
        if self.pending == 0 {
            self.known = self.asked;
        }
        self.pending == 0
    }

    /// Forgets what `which` covers: it has changed.
    pub(crate) fn invalidate(&mut self, which: Wants) {
        if which.is_empty() {
            return;
        }
        self.discard = self.pending;
        self.known = self.known.without(which);
        self.asked = self.known;
        if let Some(facts) = &mut self.facts {
            if which.exe {
                facts.exe = None;
            }
            if which.cmdline {
                facts.cmdline = None;
            }
            if which.cgroup_path {
                facts.cgroup_path = None;
            }
        }
    }

    /// Whether answers are awaited.
    pub(crate) const fn is_open(&self) -> bool {
        self.pending > 0
    }

    /// Forgets all answers unless more are awaited; returns the bytes freed.
    fn forget(&mut self) -> usize {
        if self.is_open() {
            return 0;
        }
        let freed = self.weight();
        *self = Self::default();
        freed
    }

    /// Bytes of text held.
    pub(crate) fn weight(&self) -> usize {
        let Some(facts) = &self.facts else { return 0 };
        [&facts.exe, &facts.cmdline, &facts.cgroup_path].into_iter().flatten().map(Vec::len).sum()
    }
}

/// Every known live process.
#[derive(Debug)]
pub(crate) struct Table {
    by_pid: BTreeMap<u32, Entry>,
    /// How many known processes each cgroup holds; id 0 (unknown) is not counted.
    per_cgroup: BTreeMap<u64, u32>,
    dead: Tombstones,
    capacity: usize,
    fact_bytes: usize,
    evicted: u64,
}

/// Bytes of facts held before those of processes already decided are dropped; they are read again when a
/// rule needs them. Keeps long command lines of many processes from filling memory.
const FACT_BYTES_MAX: usize = 4 << 20;

impl Table {
    /// An empty table of at most `capacity` processes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            by_pid: BTreeMap::new(),
            per_cgroup: BTreeMap::new(),
            dead: Tombstones::new(),
            capacity: capacity.max(1),
            fact_bytes: 0,
            evicted: 0,
        }
    }

    /// The process of exactly this identity.
    pub(crate) fn get(&self, key: ProcKey) -> Option<&Entry> {
        self.by_pid.get(&key.pid).filter(|entry| entry.process.key == key)
    }

    /// The process of exactly this identity, to be changed in anything but its process and its facts.
    pub(crate) fn get_mut(&mut self, key: ProcKey) -> Option<&mut Entry> {
        self.by_pid.get_mut(&key.pid).filter(|entry| entry.process.key == key)
    }

    /// Whoever has this pid now.
    pub(crate) fn by_pid(&self, pid: u32) -> Option<&Entry> {
        self.by_pid.get(&pid)
    }

    /// All, by pid.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_pid.values()
    }

    /// The identities of all, by pid.
    pub(crate) fn keys(&self) -> Vec<ProcKey> {
        self.iter().map(|entry| entry.process.key).collect()
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// How many were dropped because the table was full.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many known processes are in this cgroup.
    pub(crate) fn in_cgroup(&self, id: u64) -> u32 {
        self.per_cgroup.get(&id).copied().unwrap_or(0)
    }

    /// Notes that `wants` will be asked of a process; returns what is not asked yet.
    pub(crate) fn ask(&mut self, key: ProcKey, wants: Wants) -> Wants {
        self.get_mut(key).map_or_else(Wants::default, |entry| entry.inspection.ask(wants))
    }

    /// Takes an answer; `true` when the process is alive and nothing more is awaited of it.
    pub(crate) fn answer(&mut self, key: ProcKey, facts: Option<Facts>) -> bool {
        let Some(entry) = self.by_pid.get_mut(&key.pid).filter(|entry| entry.process.key == key) else {
            return false;
        };
        let before = entry.inspection.weight();
        let complete = entry.inspection.answer(facts);
        self.fact_bytes = self.fact_bytes.saturating_sub(before) + entry.inspection.weight();
        complete
    }

    /// Tells that a process is decided and that no other waits for facts: its own may go when memory is
    /// short, and everybody's when those that were kept for others add up.
    pub(crate) fn decided(&mut self, key: ProcKey) {
        if self.fact_bytes <= FACT_BYTES_MAX {
            return;
        }
        let decided = self.by_pid.get_mut(&key.pid).filter(|entry| entry.process.key == key);
        let mut freed = decided.map_or(0, |entry| entry.inspection.forget());
        if self.fact_bytes.saturating_sub(freed) > 2 * FACT_BYTES_MAX {
            freed += self.by_pid.values_mut().map(|entry| entry.inspection.forget()).sum::<usize>();
        }
        self.fact_bytes = self.fact_bytes.saturating_sub(freed);
    }
}
