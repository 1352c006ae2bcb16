//! What kept groups and critical processes from the CPUs of late, for whoever asks: the quotas from a bounded number of
//! cgroups, the waits from the scheduler's probes if they are armed. Nothing is read unless somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cgroup::{CpuStat, find};
use crate::clock;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{
    CpuDelay, CriticalStatus, Explanation, GroupStatus, HeldTime, Holder, WaitedTime,
};
use crate::daemon::command::Command;
use crate::daemon::figures::GroupFigure;
use crate::daemon::kept::{BRIEF, Kept};
use crate::daemon::probes::{Recent, Waited, Whose};
use crate::daemon::requests::{Office, Result};
use crate::model::id::{Name, ProcKey};
use crate::model::last_seconds::share;
use crate::model::latency::Waits;

/// Most cgroups whose quotas are read: about 10 µs each.
const QUOTAS_MAX: usize = 256;
/// Most cgroups above each other that are looked at.
const LEVELS_MAX: usize = 8;
/// Most cgroups below those of groups that count as theirs.
const BELOW_MAX: usize = 256;

/// Whose quotas hold somebody back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Quotas {
    /// All of these: they are the group's own.
    Each(Vec<PathBuf>),
    /// The worst of these, which are above each other.
    Worst(Vec<PathBuf>),
}

impl Quotas {
    fn dirs(&self) -> &[PathBuf] {
        match self {
            Self::Each(dirs) | Self::Worst(dirs) => dirs,
        }
    }
}

/// What quotas have done, by cgroup; those without one are absent.
type Counted = BTreeMap<PathBuf, CpuStat>;

/// What was read for whoever asked last.
#[derive(Debug, Default)]
pub struct Delays(Mutex<Kept<Arc<Counted>>>);

/// The cgroups of groups.
#[derive(Debug, Default)]
struct Places {
    /// The mount point of the hierarchy.
    mount: Option<PathBuf>,
    /// By group.
    dirs: BTreeMap<Name, Vec<PathBuf>>,
}

impl Places {
    /// The group that is limited in a cgroup.
    fn group(&self, dir: &Path) -> Option<&Name> {
        self.dirs.iter().find(|(_, dirs)| dirs.iter().any(|own| own == dir)).map(|(name, _)| name)
    }

    /// Says which of those who had the CPUs are groups.
    fn name(&self, holders: &mut [Holder]) {
        let Some(mount) = self.mount.as_deref() else { return };
        for holder in holders {
            let dir = mount.join(holder.cgroup.trim_start_matches('/'));
            holder.group = self.group(&dir).cloned();
        }
    }

    fn path(&self, dir: &Path) -> Option<String> {
        find::path_of(self.mount.as_deref()?, dir)
    }

    /// A cgroup and those above it that may have quotas.
    fn levels(&self, dir: &Path) -> Vec<PathBuf> {
        let Some(mount) = self.mount.as_deref() else { return Vec::new() };
        let below = |level: &&Path| level.starts_with(mount) && *level != mount;
        dir.ancestors().take_while(below).take(LEVELS_MAX).map(Path::to_owned).collect()
    }
}

impl Office {
    /// The limited groups.
    pub(super) async fn groups(&self) -> Result<Vec<GroupStatus>> {
        let mut groups = self.ask(Command::Groups).await?;
        self.add_delays(groups.iter_mut().collect(), &mut []).await?;
        Ok(groups)
    }

    /// The critical processes of the active profile.
    pub(super) async fn criticals(&self) -> Result<Vec<CriticalStatus>> {
        let mut criticals = self.ask(Command::Criticals).await?;
        self.add_delays(Vec::new(), &mut criticals).await?;
        Ok(criticals)
    }

    /// Adds what kept a process from the CPUs: its group, and itself if it is critical.
    pub(super) async fn add_delay(&self, explanation: &mut Explanation) -> Result<()> {
        let key = explanation.key;
        let mut criticals = self.ask(Command::Criticals).await?;
        criticals.retain_mut(|critical| {
            critical.instances.retain(|member| member.key == key);
            !critical.instances.is_empty()
        });
        self.add_delays(explanation.group.iter_mut().collect(), &mut criticals).await?;
        explanation.cpu_delay = criticals.pop().and_then(|critical| critical.cpu_delay);
        Ok(())
    }

    /// Says which of those who had the CPUs are groups.
    pub(super) async fn name_holders(&self, holders: &mut [Holder]) -> Result<()> {
        if !holders.is_empty() {
            self.places().await?.name(holders);
        }
        Ok(())
    }

    async fn add_delays(
        &self,
        groups: Vec<&mut GroupStatus>,
        criticals: &mut [CriticalStatus],
    ) -> Result<()> {
        if groups.is_empty() && criticals.is_empty() {
            return Ok(());
        }
        let places = self.places().await?;
        let mut slots: Vec<(&mut Option<CpuDelay>, Quotas)> = Vec::new();
        let mut waiters = Vec::new();
        let mut room = BELOW_MAX;
        for group in groups {
            let dirs = places.dirs.get(&group.group).cloned().unwrap_or_default();
            let ids: Vec<u64> = dirs.iter().flat_map(|dir| find::ids_below(dir, &mut room)).collect();
            waiters.push(Whose::Cgroups(ids));
            slots.push((&mut group.cpu_delay, Quotas::Each(dirs)));
        }
        for critical in criticals.iter_mut().filter(|critical| !critical.instances.is_empty()) {
            let keys: Vec<ProcKey> = critical.instances.iter().map(|member| member.key).collect();
            let dirs = self.cgroups_of(&keys);
            waiters.push(Whose::Processes(keys));
            let over: BTreeSet<PathBuf> = dirs.iter().flat_map(|dir| places.levels(dir)).collect();
            slots.push((&mut critical.cpu_delay, Quotas::Worst(over.into_iter().collect())));
        }
        let quotas = slots.iter().map(|(_, quotas)| quotas.clone()).collect();
        let (held, recent) = tokio::join!(self.held(quotas, &places), self.probes.recent(waiters.clone()));
        let held = held?;
        for (at, ((slot, _), held)) in slots.into_iter().zip(held).enumerate() {
            let (waited, not_measured) = match (waiters.get(at), &recent) {
                (Some(Whose::Cgroups(ids)), _) if ids.is_empty() => (None, Some(NO_CGROUP.to_owned())),
                (_, Err(why)) => (None, Some(why.clone())),
                (_, Ok(Recent { over_ms, of })) => match of.get(at).cloned().flatten() {
                    Some(waited) => (Some(told(waited, *over_ms, &places)), None),
                    None => (None, Some(NOT_YET.to_owned())),
                },
            };
            *slot = Some(CpuDelay { held, waited, not_measured });
        }
        Ok(())
    }

    /// Where the limits of groups are.
    async fn places(&self) -> Result<Places> {
        let figures = self.ask(Command::Figures).await?;
        let dirs = |group: GroupFigure| {
            (group.name, group.cgroups.into_iter().filter_map(|cgroup| cgroup.cpu).collect())
        };
        let proc = self.proc.lock().unwrap_or_else(PoisonError::into_inner);
        let mount = proc.hierarchy().map(|hierarchy| hierarchy.mount.clone());
        Ok(Places { mount, dirs: figures.groups.into_iter().map(dirs).collect() })
    }

    /// How the quotas have held back of late, in the order of what is asked for.
    async fn held(&self, asked: Vec<Quotas>, places: &Places) -> Result<Vec<Option<HeldTime>>> {
        let mut dirs: Vec<PathBuf> = asked.iter().flat_map(Quotas::dirs).cloned().collect();
        // Whoever asks about one group must not leave the next without something to compare with.
        dirs.extend(places.dirs.values().flatten().cloned());
        dirs.sort();
        dirs.dedup();
        dirs.truncate(QUOTAS_MAX);
        let (mut at, mut now) = (clock::now(), counted(dirs.clone()).await?);
        if now.is_empty() {
            return Ok(vec![None; asked.len()]);
        }
        let kept = || self.delays.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept().before(at).cloned();
        let known = |(_, before): &(_, Arc<Counted>)| now.keys().all(|dir| before.contains_key(dir));
        let (since, before) = match before.filter(known) {
            Some(before) => before,
            None => {
                let first = (at, Arc::clone(&now));
                kept().keep(at, now);
                tokio::time::sleep(BRIEF).await;
                (at, now) = (clock::now(), counted(dirs).await?);
                first
            }
        };
        let over = at.since(since);
        let held = asked.iter().map(|quotas| held(quotas, &before, &now, over, places)).collect();
        kept().keep(at, now);
        Ok(held)
    }

    /// The cgroups of processes, where they can be read.
    fn cgroups_of(&self, keys: &[ProcKey]) -> Vec<PathBuf> {
        self.of_processes(keys.iter().map(|key| (None, *key)).collect()).dirs()
    }
}

/// Why the waits of a group are not known.
const NO_CGROUP: &str =
    "its processes share a cgroup with others; process-throttler latency GROUP measures them one by one";
/// Why those of a critical process are not.
const NOT_YET: &str = "not measured yet, or too many processes are watched; try again in some seconds";

/// Reads on a thread that may wait.
async fn counted(dirs: Vec<PathBuf>) -> Result<Arc<Counted>> {
    let read = move || {
        let stat = |dir: PathBuf| {
            // One that went away meanwhile holds nobody back.
            let stat = CpuStat::read(&dir).ok().filter(|stat| stat.periods > 0)?;
            Some((dir, stat))
        };
        Arc::new(dirs.into_iter().filter_map(stat).collect::<Counted>())
    };
    let failed = |error: tokio::task::JoinError| Failure::from_error(FailureKind::Failed, &error);
    tokio::task::spawn_blocking(read).await.map_err(failed)
}

fn held(
    quotas: &Quotas,
    before: &Counted,
    now: &Counted,
    over: Duration,
    places: &Places,
) -> Option<HeldTime> {
    let grown = |dir: &PathBuf| {
        let (before, now) = (before.get(dir)?, now.get(dir)?);
        Some((dir.clone(), now.throttled_ns.saturating_sub(before.throttled_ns)))
    };
    let mut all = quotas.dirs().iter().filter_map(grown).peekable();
    all.peek()?;
    let (dir, nanos) = match quotas {
        Quotas::Each(_) => (None, all.map(|(_, nanos)| nanos).fold(0, u64::saturating_add)),
        Quotas::Worst(_) => all.max_by_key(|(_, nanos)| *nanos).map(|(dir, nanos)| (Some(dir), nanos))?,
    };
    let dir = dir.as_deref();
    Some(HeldTime {
        over_ms: millis(over),
        held_us: nanos / 1_000,
        share: share(nanos, over.as_nanos()),
        cgroup: dir.and_then(|dir| places.path(dir)),
        group: dir.and_then(|dir| places.group(dir)).cloned(),
    })
}

fn told(waited: Waited, over_ms: u64, places: &Places) -> WaitedTime {
    let Waited { waits, mut holders } = waited;
    places.name(&mut holders);
    let Waits { wait_ns, longest_ns, .. } = waits;
    WaitedTime {
        over_ms,
        waited_us: wait_ns / 1_000,
        share: share(wait_ns, u128::from(over_ms) * 1_000_000),
        count: waits.count(),
        p99_us: waits.percentile_ns(990).map(|nanos| nanos / 1_000),
        longest_us: longest_ns / 1_000,
        holders,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::Hundredths;

    fn places() -> Places {
        let group = |name: &str, dirs: &[&str]| {
            (name.parse().unwrap(), dirs.iter().map(PathBuf::from).collect::<Vec<PathBuf>>())
        };
        let dirs = [group("builds", &["/m/pt/builds"]), group("web", &["/m/web", "/m/web2"])];
        Places { mount: Some("/m".into()), dirs: dirs.into() }
    }

    fn counted(all: &[(&str, u64)]) -> Counted {
        let stat = |(dir, throttled_ns): &(&str, u64)| {
            (PathBuf::from(dir), CpuStat { periods: 9, throttled_periods: 1, throttled_ns: *throttled_ns })
        };
        all.iter().map(stat).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);
    const MS: u64 = 1_000_000;

    #[test]
    fn quotas_of_a_group_add_up_and_of_those_above_each_other_the_worst_counts() {
        let before = counted(&[("/m/web", 0), ("/m/web2", 5), ("/m/pt/builds", 7)]);
        let now = counted(&[("/m/web", 100 * MS), ("/m/web2", 50 * MS + 5), ("/m/pt/builds", 7 + MS)]);
        let each = Quotas::Each(vec!["/m/web".into(), "/m/web2".into(), "/m/gone".into()]);
        let told = held(&each, &before, &now, SECOND, &places()).unwrap();
        assert_eq!((told.held_us, told.share, told.cgroup), (150_000, Hundredths(1_500), None));
        let worst = Quotas::Worst(vec!["/m/pt".into(), "/m/pt/builds".into(), "/m/web".into()]);
        let told = held(&worst, &before, &now, SECOND, &places()).unwrap();
        assert_eq!((told.held_us, told.cgroup.as_deref()), (100_000, Some("/web")));
        assert_eq!(told.to_string(), "10.00 % of the last 1.0 s, by the quota of group web");
        assert_eq!(held(&Quotas::Worst(vec!["/m/pt".into()]), &before, &now, SECOND, &places()), None);
    }

    #[test]
    fn a_process_is_under_the_quotas_of_its_cgroup_and_those_above_but_not_the_root() {
        let levels = places().levels(Path::new("/m/a/b"));
        assert_eq!(levels, [PathBuf::from("/m/a/b"), PathBuf::from("/m/a")]);
        assert!(places().levels(Path::new("/m")).is_empty() && places().levels(Path::new("/x/a")).is_empty());
    }

    #[test]
    fn whoever_had_the_cpus_is_named_by_the_group() {
        let holder = |cgroup: &str, share| Holder { cgroup: cgroup.to_owned(), group: None, share };
        let mut waits = Waits { wait_ns: 500 * MS, longest_ns: 10 * MS, ..Waits::default() };
        waits.counts[14] = 50;
        let holders = vec![holder("/pt/builds", 9_000), holder("/", 1_000)];
        let told = told(Waited { waits, holders }, 2_000, &places());
        let groups: Vec<_> = told.holders.iter().map(|one| one.group.as_ref().map(Name::as_str)).collect();
        assert_eq!((groups.as_slice(), told.share), (&[Some("builds"), None][..], Hundredths(2_500)));
        assert_eq!(told.to_string(), "25.00 % of the last 2.0 s in 50 waits, p99 10.00 ms, longest 10.00 ms");
    }
}
