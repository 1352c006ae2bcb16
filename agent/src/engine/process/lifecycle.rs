//! How reports change the table, in whatever order they arrive.

use std::cmp::Ordering;

use crate::engine::action::Wants;
use crate::engine::process::{Entry, Inspection, Open, Table};
use crate::model::id::ProcKey;
use crate::model::process::Process;
use crate::model::time::Timestamp;

/// What a report of a live process told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A process that was not known.
    New,
    /// A known one runs another program now.
    Execed,
    /// A known one changed its name, user, parent or cgroup.
    Changed,
    /// Nothing new.
    Same,
    /// It is about the past: the process is dead, its pid reused, or it has exec'd since.
    Stale,
    /// The table is full of processes that must be kept.
    Full,
}

impl Table {
    /// The known process whose pid `key` has taken over: it died unseen.
    pub(crate) fn superseded(&self, key: ProcKey) -> Option<ProcKey> {
        let held = self.by_pid(key.pid)?.process.key;
        (held.start < key.start).then_some(held)
    }

    /// Takes in the report of a live process. The caller has removed whoever it supersedes.
    pub(crate) fn observe(&mut self, process: &Process, exec: bool, now: Timestamp) -> Seen {
        let key = process.key;
        let Some(held) = self.by_pid.get(&key.pid) else {
            if key.pid == 0 || self.dead.rule_out(key) {
                return Seen::Stale;
            }
            if self.by_pid.len() >= self.capacity && !self.make_room() {
                return Seen::Full;
            }
            self.count_cgroup(0, process.cgroup);
            self.by_pid.insert(key.pid, Entry::new(*process, now));
            return Seen::New;
        };
        if held.process.key != key {
            return Seen::Stale;
        }
        let before = held.process.cgroup;
        let Some(entry) = self.by_pid.get_mut(&key.pid) else { return Seen::Stale };
        let weight = entry.inspection.weight();
        let seen = entry.update(process, exec, now);
        let after = entry.process.cgroup;
        self.fact_bytes = self.fact_bytes.saturating_sub(weight) + entry.inspection.weight();
        self.count_cgroup(before, after);
        seen
    }

    /// Removes a process of exactly this identity and remembers that it is dead, known or not.
    pub(crate) fn bury(&mut self, key: ProcKey) -> Option<Entry> {
        self.dead.bury(key);
        self.get(key)?;
        self.take(key.pid)
    }

    /// Whether this process is remembered as dead.
    pub(crate) fn is_dead(&self, key: ProcKey) -> bool {
        self.dead.hold(key)
    }

    /// Who was not reported at or after `began`, by pid.
    pub(crate) fn unseen_since(&self, began: Timestamp) -> Vec<ProcKey> {
        self.iter().filter(|entry| entry.seen < began).map(|entry| entry.process.key).collect()
    }

    /// Drops the oldest sixteenth of those that nothing holds on to; `false` when there is none. Many at
    /// once, so that a full table costs little per process.
    fn make_room(&mut self) -> bool {
        let mut loose: Vec<(u64, u32)> = self
            .iter()
            .filter(|entry| entry.group.is_none() && entry.critical.is_none())
            .map(|entry| (entry.process.key.start, entry.process.key.pid))
            .collect();
        loose.sort_unstable();
        loose.truncate((self.capacity / 16).max(1));
        for (_, pid) in &loose {
            self.take(*pid);
            self.evicted += 1;
        }
        !loose.is_empty()
    }

    fn take(&mut self, pid: u32) -> Option<Entry> {
        let entry = self.by_pid.remove(&pid)?;
        self.fact_bytes = self.fact_bytes.saturating_sub(entry.inspection.weight());
        self.count_cgroup(entry.process.cgroup, 0);
        Some(entry)
    }

    fn count_cgroup(&mut self, from: u64, to: u64) {
        shift(&mut self.per_cgroup, from, to);
    }
}

/// Moves one of the counted from one id to another; id 0 stands for none and is not counted.
pub(crate) fn shift(counts: &mut std::collections::BTreeMap<u64, u32>, from: u64, to: u64) {
    if from == to {
        return;
    }
    if to != 0 {
        let count = counts.entry(to).or_default();
        *count = count.saturating_add(1);
    }
    if from != 0
        && let Some(count) = counts.get_mut(&from)
    {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&from);
        }
    }
}

impl Entry {
    fn new(process: Process, now: Timestamp) -> Self {
        Self {
            process,
            seen: now,
            cause: process.execed.unwrap_or(process.started),
            open: Open::ToRules,
            came: false,
            critical: None,
            group: None,
            inspection: Inspection::default(),
            bars: None,
        }
    }

    fn update(&mut self, process: &Process, exec: bool, now: Timestamp) -> Seen {
        self.seen = now;
        let order = match (process.execed, self.process.execed) {
            (Some(new), Some(held)) => new.cmp(&held),
            (Some(_), None) => Ordering::Greater,
            (None, _) if exec => Ordering::Greater,
            (None, _) => Ordering::Equal,
        };
        if order == Ordering::Less {
            return Seen::Stale;
        }
        // A source that cannot see execs shows them by the new name only.
        let renamed = process.comm != self.process.comm;
        let new_program = order == Ordering::Greater || (renamed && process.execed.is_none());
        let next = Process {
            started: self.process.started,
            execed: process.execed.or(self.process.execed),
            ..*process
        };
        let changed = next != self.process;
        let moved = next.cgroup != self.process.cgroup;
        self.process = next;
        self.came |= moved;
        if !(new_program || changed) {
            return Seen::Same;
        }
        self.inspection.invalidate(Wants {
            exe: new_program || renamed,
            cmdline: new_program || renamed,
            // A member's cgroup changed because we moved it: its origin stays what rules look at.
            cgroup_path: moved && self.group.is_none(),
        });
        if let Some(bars) = self.bars.as_mut().filter(|_| new_program || moved) {
            bars.refused = None;
        }
        if new_program {
            self.cause = process.execed.unwrap_or(now);
            self.open = self.open.max(Open::ToRules);
            Seen::Execed
        } else {
            self.cause = now;
            Seen::Changed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{at, process};

    #[test]
    fn the_dead_stay_dead() {
        let mut table = Table::new(16);
        let ghost = process(10, "ghost").build();
        assert!(table.bury(ghost.key).is_none());
        assert_eq!(table.observe(&ghost, false, at(2)), Seen::Stale);
        assert_eq!(table.len(), 0);
        let heir = process(10, "heir").start(200).build();
        assert_eq!(table.observe(&heir, false, at(3)), Seen::New);
        assert_eq!(table.observe(&ghost, false, at(4)), Seen::Stale);
        assert!(table.bury(ghost.key).is_none());
        assert_eq!(table.by_pid(10).unwrap().process.key, heir.key);
    }

    #[test]
    fn reports_out_of_order_keep_the_newest_program() {
        let mut table = Table::new(16);
        let old = process(10, "sh").execed(5).build();
        let new = process(10, "rsync").execed(9).build();
        assert_eq!(table.observe(&new, true, at(10)), Seen::New);
        assert_eq!(table.observe(&old, false, at(11)), Seen::Stale);
        assert_eq!(table.observe(&new, false, at(12)), Seen::Same);
        assert_eq!(table.by_pid(10).unwrap().process.comm, new.comm);
        assert_eq!(table.by_pid(10).unwrap().seen, at(12));
    }

    #[test]
    fn sources_without_exec_times_show_execs_by_name() {
        let mut table = Table::new(16);
        table.observe(&process(10, "sh").build(), false, at(1));
        assert_eq!(table.observe(&process(10, "rsync").build(), false, at(2)), Seen::Execed);
        assert_eq!(table.observe(&process(10, "rsync").uid(7).build(), false, at(3)), Seen::Changed);
        assert_eq!(table.observe(&process(10, "rsync").uid(7).build(), true, at(4)), Seen::Execed);
    }

    #[test]
    fn a_full_table_drops_the_oldest_it_does_not_need() {
        let mut table = Table::new(32);
        for pid in 1..=32 {
            table.observe(&process(pid, "x").start(u64::from(100 - pid)).cgroup(9).build(), false, at(1));
        }
        table.get_mut(ProcKey { pid: 32, start: 68 }).unwrap().group = Some("held".parse().unwrap());
        assert_eq!(table.observe(&process(99, "new").build(), false, at(2)), Seen::New);
        assert_eq!((table.len(), table.evicted(), table.in_cgroup(9)), (31, 2, 30));
        assert!(table.by_pid(32).is_some() && table.by_pid(31).is_none() && table.by_pid(30).is_none());
    }

    #[test]
    fn cgroup_counts_follow_moves_and_deaths() {
        let mut table = Table::new(16);
        table.observe(&process(1, "a").cgroup(5).build(), false, at(1));
        table.observe(&process(2, "b").cgroup(5).build(), false, at(1));
        table.observe(&process(2, "b").cgroup(6).build(), false, at(2));
        assert_eq!((table.in_cgroup(5), table.in_cgroup(6)), (1, 1));
        table.bury(process(1, "a").build().key);
        assert_eq!((table.in_cgroup(5), table.in_cgroup(6), table.per_cgroup.len()), (0, 1, 1));
    }

    #[test]
    fn answers_about_a_replaced_program_are_discarded() {
        use crate::model::process::Facts;
        let exe = Wants { exe: true, ..Wants::default() };
        let answer = |path: &str| Some(Facts { exe: Some(path.into()), ..Facts::default() });
        let mut table = Table::new(16);
        let key = process(10, "sh").build().key;
        table.observe(&process(10, "sh").execed(5).build(), true, at(1));
        assert_eq!(table.ask(key, exe), exe);
        assert!(table.ask(key, exe).is_empty());
        table.observe(&process(10, "rsync").execed(9).build(), true, at(2));
        assert_eq!(table.ask(key, exe), exe);
        assert!(!table.answer(key, answer("/bin/sh")));
        assert!(table.answer(key, answer("/usr/bin/rsync")));
        let inspection = &table.get(key).unwrap().inspection;
        assert_eq!(inspection.facts.as_ref().unwrap().exe.as_deref(), Some(&b"/usr/bin/rsync"[..]));
        assert!(!table.answer(key, answer("/unasked")));
    }
}
