//! Ancestors, as far as they are known and alive.

use crate::engine::process::{Entry, Table};
use crate::model::id::ProcKey;
use crate::model::process::Process;

/// Longest line of ancestors followed.
const DEPTH_MAX: u32 = 64;

/// Parent, grandparent and so on.
#[derive(Debug)]
pub(crate) struct Ancestors<'a> {
    table: &'a Table,
    child: ProcKey,
    ppid: u32,
    left: u32,
}

impl Table {
    /// The known ancestors of a process, nearest first. Ends where a parent is unknown, and where whoever
    /// has the parent's pid is younger than the child: then the pid was reused.
    pub(crate) const fn ancestors(&self, process: &Process) -> Ancestors<'_> {
        Ancestors { table: self, child: process.key, ppid: process.ppid, left: DEPTH_MAX }
    }
}

impl<'a> Iterator for Ancestors<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        self.left = self.left.checked_sub(1)?;
        let parent = self.table.by_pid(self.ppid)?;
        let key = parent.process.key;
        if key == self.child || key.start > self.child.start {
            return None;
        }
        self.child = key;
        self.ppid = parent.process.ppid;
        Some(parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{at, process};

    fn line(table: &Table, pid: u32) -> Vec<u32> {
        let entry = table.by_pid(pid).unwrap();
        table.ancestors(&entry.process).map(|entry| entry.process.key.pid).collect()
    }

    #[test]
    fn follows_parents_to_the_root() {
        let mut table = Table::new(16);
        for (pid, ppid) in [(1, 0), (10, 1), (20, 10), (30, 20)] {
            table.observe(&process(pid, "x").ppid(ppid).start(u64::from(pid)).build(), false, at(0));
        }
        assert_eq!(line(&table, 30), [20, 10, 1]);
    }

    #[test]
    fn a_reused_pid_is_no_ancestor_and_cycles_end() {
        let mut table = Table::new(16);
        table.observe(&process(10, "young").start(50).build(), false, at(0));
        table.observe(&process(20, "child").ppid(10).start(40).build(), false, at(0));
        assert_eq!(line(&table, 20), [0u32; 0]);

        let mut table = Table::new(16);
        table.observe(&process(10, "a").ppid(20).start(7).build(), false, at(0));
        table.observe(&process(20, "b").ppid(10).start(7).build(), false, at(0));
        table.observe(&process(30, "self").ppid(30).build(), false, at(0));
        assert_eq!(line(&table, 10).len(), DEPTH_MAX as usize);
        assert_eq!(line(&table, 30), [0u32; 0]);
    }
}
