//! What the machine is like when a critical process has died: a few small files, read before the notice goes out.
//! It must take far less than a millisecond and decide nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cgroup::{Cgroup as _, Controller, CpuStat, find};
use crate::clock;
use crate::daemon::lookout::Lookout;
use crate::daemon::turn::{Parts, Turn};
use crate::effect::Throttle;
use crate::effect::group::Place;
use crate::model::circumstances::{Circumstances, LimitedGroup, QuotaUse};
use crate::model::death::OomLimit;
use crate::model::event::Exit;
use crate::model::notice::Notice;
use crate::model::signal::{Hundredths, Resource};
use crate::model::time::Timestamp;
use crate::procfs::Proc;

/// Most groups that are looked at, and cgroups of each: 10 µs a piece.
const READ_MAX: usize = 24;
/// Most groups that are named.
const GROUPS_MAX: usize = 8;
/// Most cgroups that are looked through for one whose id is all that is known: a millisecond or two, and only
/// after the OOM killer has killed.
const DIRS_MAX: usize = 512;

impl Turn {
    /// Looks at critical processes when it is time.
    pub(super) fn look_out(&mut self, now: Timestamp) {
        let Parts { lookout, proc, .. } = &mut self.parts;
        if lookout.due().is_some_and(|at| at <= now) {
            lookout.look(now, proc);
        }
    }

    /// Hands a notice to the journal; that of a death, or of waits that are too long, with what the machine was like.
    pub(super) fn notify(&mut self, at: Timestamp, mut notice: Notice) {
        if let Notice::LatencySloViolated { name, holders, held, .. } = &mut notice {
            self.name_all(holders);
            *held = self.held_back(name).map(Box::new);
        }
        let Parts { throttle, proc, journal, lookout, .. } = &mut self.parts;
        if let Notice::CriticalProcessDown { name, exit, circumstances, .. } = &mut notice {
            let found = look(exit, throttle, proc, lookout);
            let active = self.active.as_ref();
            self.last_found.retain(|name, _| {
                active.is_some_and(|profile| profile.critical.iter().any(|one| one.name == *name))
            });
            self.last_found.insert(name.clone(), (exit.process.key, found.clone()));
            *circumstances = Some(Box::new(found));
        }
        let tracing = journal.outlet().is_tracing();
        let course = if tracing { self.courses.of(at, &notice) } else { None };
        journal.tell_of(at, notice, course);
    }
}

/// Looks around after a death.
fn look(exit: &Exit, throttle: &Throttle, proc: &Proc, lookout: &mut Lookout) -> Circumstances {
    let now = clock::now();
    let own = lookout.died_in(exit, now, proc);
    let mut limited: Vec<LimitedGroup> = throttle
        .names()
        .into_iter()
        .take(READ_MAX)
        .filter_map(|group| {
            let dir = |place: &Place| place.dir(Controller::Cpu).map(Path::to_owned);
            let dirs: Vec<PathBuf> = throttle
                .with_group(&group, |held| held.places.iter().filter_map(dir).take(READ_MAX).collect())?;
            let sum = |sum, dir: PathBuf| add(sum, quota(&dir).unwrap_or_default());
            Some(LimitedGroup { group, quota: dirs.into_iter().fold(QuotaUse::default(), sum) })
        })
        .collect();
    limited.sort_by_key(|limited| std::cmp::Reverse(limited.quota.throttled_ns));
    limited.truncate(GROUPS_MAX);
    let mut found = Circumstances {
        pressure: pressure(proc),
        quota: own.as_deref().and_then(quota),
        limited,
        last_seconds: lookout.last_seconds(exit, own.as_deref(), now, proc, throttle),
        ..Circumstances::default()
    };
    if let Some(OomLimit::Cgroup { id, .. }) = exit.cause.oom {
        find_oom_cgroup(&mut found, id, own.as_deref(), throttle);
    }
    found
}

fn find_oom_cgroup(found: &mut Circumstances, id: u64, own: Option<&Path>, throttle: &Throttle) {
    for (group, held) in throttle.groups() {
        if held.places.iter().filter_map(|place| place.dir(Controller::Memory)).any(|dir| is(dir, id)) {
            found.oom_group = Some(group);
        }
    }
    let Some(mount) = throttle.kernel().driver.mount(Controller::Memory) else { return };
    let above = own.into_iter().flat_map(Path::ancestors).take_while(|dir| dir.starts_with(mount));
    let dir = above.map(Path::to_owned).find(|dir| is(dir, id)).or_else(|| search(mount, id));
    found.oom_cgroup = dir.and_then(|dir| find::path_of(mount, &dir));
}

/// Whether a directory is the cgroup of this id.
pub(super) fn is(dir: &Path, id: u64) -> bool {
    std::fs::metadata(dir).is_ok_and(|found| found.ino() == id)
}

/// The cgroup of this id among the first [`DIRS_MAX`] below a mount point, those near it first.
fn search(mount: &Path, id: u64) -> Option<PathBuf> {
    find::by_ids(mount, BTreeSet::from([id]), DIRS_MAX).remove(&id)
}

fn quota(dir: &Path) -> Option<QuotaUse> {
    let CpuStat { periods, throttled_periods: throttled, throttled_ns } = CpuStat::read(dir).ok()?;
    Some(QuotaUse { periods, throttled, throttled_ns })
}

const fn add(a: QuotaUse, b: QuotaUse) -> QuotaUse {
    QuotaUse {
        periods: a.periods.saturating_add(b.periods),
        throttled: a.throttled.saturating_add(b.throttled),
        throttled_ns: a.throttled_ns.saturating_add(b.throttled_ns),
    }
}

fn pressure(proc: &Proc) -> Option<[Hundredths; 3]> {
    let mut all = [Hundredths::default(); 3];
    for (slot, resource) in all.iter_mut().zip(Resource::ALL) {
        *slot = Hundredths(proc.pressure(resource).ok()??.some.avg10);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_found_by_its_inode_and_the_search_ends() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir_all(root.path().join("a2/b2")).unwrap();
        let id = std::fs::metadata(&deep).unwrap().ino();
        assert_eq!(search(root.path(), id), Some(deep.clone()));
        assert!(is(&deep, id) && !is(root.path(), id) && !is(&root.path().join("none"), id));
        assert_eq!(search(root.path(), u64::MAX), None);
    }
}
