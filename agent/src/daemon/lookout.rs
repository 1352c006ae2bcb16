//! Looks, at a slow pace, how critical processes that live get on with the CPUs, so that a death can be told with what
//! came before it. Reads a bounded number of small files; decides nothing, and reads nothing while none lives.

mod last;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::{Cgroup as _, Controller, CpuStat, CpuTimes, CpuUsers, Driver, membership};
use crate::model::chain::chain;
use crate::model::id::ProcKey;
use crate::model::process::Wants;
use crate::model::time::Timestamp;
use crate::procfs::waits::Waits;
use crate::procfs::{Proc, ProcError};

/// Between two looks: as long as what led to a death usually takes, and 0.2 wake-ups a second.
const PACE: Duration = Duration::from_secs(5);
/// Until the first look at one that is new or has new limits, so that also an early death is told with it.
const PACE_NEW: Duration = Duration::from_secs(1);
/// Looks that are remembered: the second last is for deaths right after the last.
const REMEMBERED: usize = 2;
/// A look is compared with one that is this old, if there is such a one: shares of less say little.
const WINDOW_WANTED: Duration = Duration::from_secs(1);
/// A look that is younger is of no use: a period of a quota is 100 ms.
const WINDOW_MIN: Duration = Duration::from_millis(100);
/// What is older tells nothing of the last seconds: the machine slept, or no critical process lived in between.
const WINDOW_MAX: Duration = Duration::from_secs(15);
/// Most processes that are looked at: five small files each.
const PROCESSES_MAX: usize = 64;
/// Most threads of one, and of all: a small file each.
const THREADS_EACH: usize = 32;
const THREADS_MAX: usize = 256;
/// Most cgroups with quotas that are looked at: a small file each.
const QUOTAS_MAX: usize = 128;
/// Most cgroups above each other that are looked at.
const LEVELS_MAX: usize = 8;
/// Deaths that come together share a look at who uses the CPUs.
const FRESH: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug, Default)]
pub struct Lookout {
    /// Where the hierarchy with the quotas is mounted.
    mount: Option<PathBuf>,
    /// CPUs online.
    cpus: u32,
    users: Option<CpuUsers>,
    watched: BTreeSet<ProcKey>,
    /// Whether there is one that was never looked at, or not where it is now.
    new: bool,
    /// Newest first.
    looks: VecDeque<Look>,
    fresh: Option<(Timestamp, CpuTimes)>,
}

/// What was seen.
#[derive(Clone, Debug)]
struct Look {
    at: Timestamp,
    users: CpuTimes,
    /// What the quotas have done, by cgroup.
    quotas: BTreeMap<PathBuf, CpuStat>,
    processes: BTreeMap<ProcKey, Seen>,
}

/// What was seen of one process.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Its cgroup in the hierarchy with the quotas.
    dir: Option<PathBuf>,
    waits: Option<Waits>,
}

impl Lookout {
    /// A lookout on a machine with this many CPUs.
    #[must_use]
    pub fn new(cpus: Option<u32>, driver: &Driver) -> Self {
        let mount = driver.mount(Controller::Cpu).map(Path::to_owned);
        Self { mount, cpus: cpus.unwrap_or(1), users: CpuUsers::find(driver), ..Self::default() }
    }

    /// From now on a process is critical, or no longer.
    pub fn watch(&mut self, key: ProcKey, on: bool) {
        if on {
            self.new |= self.watched.insert(key);
        } else {
            // What was seen of it is for its death, which is told after this.
            self.watched.remove(&key);
        }
    }

    /// Limits have changed, and with them perhaps the cgroup of one that is watched.
    pub fn stir(&mut self) {
        self.new = true;
    }

    /// When [`Self::look`] must be called next; `None` while there is nothing to look at.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        if self.watched.is_empty() {
            return None;
        }
        let pace = if self.new { PACE_NEW } else { PACE };
        Some(self.looks.front().map_or(Timestamp::ZERO, |look| look.at.after(pace)))
    }

    /// Looks at those that are critical, and at who uses the CPUs.
    pub fn look(&mut self, now: Timestamp, proc: &Proc) {
        let mut quotas = BTreeMap::new();
        let mut left = THREADS_MAX;
        let mut processes = BTreeMap::new();
        for key in self.watched.iter().take(PROCESSES_MAX) {
            let waits = readable(proc.waits(*key, left.min(THREADS_EACH)));
            left = left.saturating_sub(waits.as_ref().map_or(0, Waits::len));
            let dir = self.dir(*key, proc);
            for dir in dir.iter().flat_map(|dir| self.levels(dir)) {
                if quotas.len() < QUOTAS_MAX
                    && !quotas.contains_key(dir)
                    && let Ok(stat) = CpuStat::read(dir)
                {
                    quotas.insert(dir.to_owned(), stat);
                }
            }
            processes.insert(*key, Seen { dir, waits });
        }
        let users = self.users.as_mut().map(CpuUsers::look).unwrap_or_default();
        self.looks.truncate(REMEMBERED - 1);
        self.looks.push_front(Look { at: now, users, quotas, processes });
        (self.new, self.fresh) = (false, None);
    }

    /// What to compare with after the death of a process: the newest look at it that is old enough, else the one that
    /// comes nearest. Of one that was never looked at, likewise, for what is told of the machine.
    fn before(&self, key: ProcKey, now: Timestamp) -> Option<&Look> {
        let usable = |look: &&Look| (WINDOW_MIN..=WINDOW_MAX).contains(&now.since(look.at));
        let has = |look: &&Look| look.processes.contains_key(&key);
        let known = self.looks.iter().any(|look| usable(&look) && has(&look));
        let looks = || self.looks.iter().filter(usable).filter(|look| !known || has(look));
        looks().find(|look| now.since(look.at) >= WINDOW_WANTED).or_else(|| looks().next_back())
    }

    /// The last two looks at the threads of a process, the earlier one first.
    fn between(&self, key: ProcKey, now: Timestamp) -> Option<[(Timestamp, &Waits); 2]> {
        let recent = self.looks.iter().filter(|look| now.since(look.at) <= WINDOW_MAX);
        let mut seen = recent.filter_map(|look| Some((look.at, look.processes.get(&key)?.waits.as_ref()?)));
        let later = seen.next()?;
        Some([seen.next()?, later])
    }

    /// Who has used the CPUs up to now, as far as it is known who there is.
    fn users_now(&mut self, now: Timestamp) -> CpuTimes {
        if let Some((_, times)) = self.fresh.as_ref().filter(|(at, _)| now.since(*at) < FRESH) {
            return times.clone();
        }
        let times = self.users.as_ref().map(CpuUsers::again).unwrap_or_default();
        self.fresh = Some((now, times.clone()));
        times
    }

    /// The cgroup of a live process in the hierarchy with the quotas.
    fn dir(&self, key: ProcKey, proc: &Proc) -> Option<PathBuf> {
        let wants = Wants { cgroup_path: true, ..Wants::default() };
        let path = readable(proc.facts(key, wants))?.cgroup_path?;
        membership::below(self.mount.as_deref()?, &path).ok()
    }

    /// The cgroups whose quotas a process in this one is under. The root has none, and says so where it is the only
    /// one.
    fn levels<'a>(&self, dir: &'a Path) -> impl Iterator<Item = &'a Path> {
        let mount = self.mount.as_deref();
        let inside =
            move |level: &Path| mount.is_some_and(|mount| level != mount && level.starts_with(mount));
        let below = move |level: &&Path| *level == dir || inside(level);
        dir.ancestors().take_while(below).take(LEVELS_MAX)
    }
}

/// What could not be read is absent, and the log says why.
fn readable<T>(read: Result<Option<T>, ProcError>) -> Option<T> {
    read.unwrap_or_else(|error| {
        tracing::debug!("of a critical process is not known: {}", chain(&error));
        None
    })
}
