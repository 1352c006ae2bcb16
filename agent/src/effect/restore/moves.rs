//! The part of restoring that moves processes back, also those that were born where we had moved their parents.

use std::path::{Path, PathBuf};

use super::Restorer;
use crate::cgroup::mark::Mark;
use crate::cgroup::{Cgroup as _, CgroupError, Controller, membership, shown};
use crate::effect::moves::{Door, nearest};
use crate::procfs::stat::Stat;

impl Restorer<'_> {
    pub(super) fn send(&mut self, pid: u32, from: &Path, origin: &Path) -> Result<(), CgroupError> {
        let to = nearest(origin, self.mount_of(from));
        if to != origin && self.adopt(pid, origin) {
            return Ok(());
        }
        if to != origin {
            let (origin, to) = (shown(origin), shown(&to));
            self.report.notes.push(format!("process {pid} went to {to}, because {origin} is gone"));
        }
        Door::open(&to)?.admit(pid).map(drop)
    }

    pub(super) fn mount_of(&self, dir: &Path) -> &Path {
        let mounts = Controller::ALL.into_iter().filter_map(|one| self.kernel.driver.mount(one));
        mounts.into_iter().find(|mount| dir.starts_with(mount)).unwrap_or_else(|| Path::new("/"))
    }

    /// Moves whatever is left in a cgroup of ours out of it: processes forked by those that we moved. What others
    /// have made in it is theirs.
    pub(super) fn empty(&mut self, dir: &Path) -> Result<(), CgroupError> {
        self.empty_of(dir, membership::procs)
    }

    /// The same for what `listed` finds.
    pub(super) fn empty_of(
        &mut self,
        dir: &Path,
        listed: fn(&Path) -> Result<Vec<u32>, CgroupError>,
    ) -> Result<(), CgroupError> {
        /// Rounds until it must be empty: a fork bomb may outrun us, and is then left limited.
        const ROUNDS: u32 = 64;
        for round in 0..ROUNDS {
            let pids = match listed(dir) {
                Ok(pids) => pids,
                Err(error) if error.is_gone() => return Ok(()),
                Err(error) => return Err(error),
            };
            if pids.is_empty() {
                return Ok(());
            }
            if round == 0 {
                self.learn_mark(dir);
            }
            for pid in pids {
                let origin = self.origin_of_stray(pid, dir);
                self.send(pid, dir, &origin)?;
            }
        }
        Ok(())
    }

    /// Takes from a cgroup's mark what no record tells.
    fn learn_mark(&mut self, dir: &Path) {
        let Some(mark) = Mark::read(dir) else { return };
        let known = self.origins.entry(dir.to_owned()).or_default();
        for (key, origin) in mark.origins() {
            known.entry(key.pid).or_insert(origin);
        }
    }

    /// Where an ancestor came from, else where all in this cgroup came from, else the hierarchy's root.
    pub(super) fn origin_of_stray(&mut self, pid: u32, dir: &Path) -> PathBuf {
        const GENERATIONS: u32 = 32;
        let nearest = dir.ancestors().find_map(|dir| self.origins.get(dir));
        if let Some(known) = nearest {
            let mut ancestor = pid;
            for _ in 0..GENERATIONS {
                if let Some(origin) = known.get(&ancestor) {
                    return origin.clone();
                }
                match Stat::read(&self.kernel.roots.proc, ancestor) {
                    Ok(stat) if stat.ppid > 1 => ancestor = stat.ppid,
                    Ok(_) | Err(_) => break,
                }
            }
            let mut distinct: Vec<&PathBuf> = known.values().collect();
            distinct.sort();
            distinct.dedup();
            if let [only] = distinct.as_slice() {
                return (*only).clone();
            }
        }
        let root = self.mount_of(dir).to_owned();
        let note = format!("process {pid} went to {}: it is not known where it came from", shown(&root));
        self.report.notes.push(note);
        root
    }
}
