//! What kept groups and critical processes from the CPUs of late, for whoever asks: the quotas from a bounded number of
//! cgroups, the waits from the scheduler's probes if they are armed. Nothing is read unless somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
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
use crate::daemon::kept::{BRIEF, Kept};
use crate::daemon::probes::{Recent, Waited, Whose};
use crate::daemon::requests::{Office, Result};
use crate::model::id::{Name, ProcKey};
use crate::model::last_seconds::share;
use crate::model::latency::Waits;
use crate::model::time::millis;

/// Most cgroups above critical processes whose quotas are read: about 20 µs each.
const QUOTAS_MAX: usize = 256;
/// Most cgroups above each other that are looked at.
const LEVELS_MAX: usize = 8;

/// What quotas have done, by cgroup: as strings, because paths are compared part by part, at ten times the cost.
type Counted = BTreeMap<OsString, CpuStat>;

/// What was read for whoever asked last.
#[derive(Debug, Default)]
pub struct Delays {
    /// The cgroups of all groups: whoever asks about one must not leave the next without something to compare with.
    groups: Readings,
    /// Those of critical processes, and above them.
    critical: Readings,
}

/// Readings of the same cgroups at several times.
#[derive(Debug, Default)]
struct Readings(Mutex<Kept<Arc<Counted>>>);

/// Two of them.
#[derive(Debug, Default)]
struct Spell {
    before: Arc<Counted>,
    now: Arc<Counted>,
    over: Duration,
}

impl Readings {
    /// Reads now, and compares with what was read before: with a moment ago where that was nothing.
    async fn spell(&self, dirs: Vec<PathBuf>) -> Result<Spell> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut now) = (clock::now(), counted(dirs.clone()).await?);
        if !now.values().any(has_quota) {
            return Ok(Spell { now, ..Spell::default() });
        }
        let known =
            |before: &Counted| now.iter().all(|(dir, stat)| !has_quota(stat) || before.contains_key(dir));
        let before = kept().before(at).filter(|(_, before)| known(before)).cloned();
        let (since, before) = match before {
            Some(before) => before,
            None => {
                let first = (at, Arc::clone(&now));
                kept().keep(at, now);
                tokio::time::sleep(BRIEF).await;
                (at, now) = (clock::now(), counted(dirs).await?);
                first
            }
        };
        kept().keep(at, Arc::clone(&now));
        Ok(Spell { before, now, over: at.since(since) })
    }
}

/// Whether the kernel has looked at a quota.
const fn has_quota(stat: &CpuStat) -> bool {
    stat.periods > 0
}

/// A group, and where its limits of the CPU are.
#[derive(Debug)]
pub struct Placed {
    /// What the engine says of it.
    pub status: GroupStatus,
    /// Its cgroups of the CPU controller.
    pub dirs: Vec<PathBuf>,
}

/// The cgroups of groups.
#[derive(Debug, Default)]
struct Places {
    /// The mount point of the hierarchy.
    mount: Option<PathBuf>,
    /// By group.
    dirs: BTreeMap<Name, Vec<PathBuf>>,
}

impl Places {
    /// Where the limits of a group are.
    fn of(&self, group: &Name) -> &[PathBuf] {
        self.dirs.get(group).map_or(&[], Vec::as_slice)
    }

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
        let (mut groups, places) = self.placed().await?;
        self.add_delays(groups.iter_mut().collect(), &mut [], &places).await?;
        Ok(groups)
    }

    /// The critical processes of the active profile.
    pub(super) async fn criticals(&self) -> Result<Vec<CriticalStatus>> {
        let mut criticals = self.ask(Command::Criticals).await?;
        if !criticals.is_empty() {
            let (_, places) = self.placed().await?;
            self.add_delays(Vec::new(), &mut criticals, &places).await?;
        }
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
        if explanation.group.is_some() || !criticals.is_empty() {
            let (_, places) = self.placed().await?;
            self.add_delays(explanation.group.iter_mut().collect(), &mut criticals, &places).await?;
        }
        explanation.cpu_delay = criticals.pop().and_then(|critical| critical.cpu_delay);
        Ok(())
    }

    /// Says which of those who had the CPUs are groups.
    pub(super) async fn name_holders(&self, holders: &mut [Holder]) -> Result<()> {
        if !holders.is_empty() {
            self.placed().await?.1.name(holders);
        }
        Ok(())
    }

    async fn add_delays(
        &self,
        mut groups: Vec<&mut GroupStatus>,
        criticals: &mut [CriticalStatus],
        places: &Places,
    ) -> Result<()> {
        let mut critical: Vec<_> =
            criticals.iter_mut().filter(|critical| !critical.instances.is_empty()).collect();
        let processes: Vec<Vec<ProcKey>> = critical
            .iter()
            .map(|critical| critical.instances.iter().map(|member| member.key).collect())
            .collect();
        let over: Vec<BTreeSet<PathBuf>> = processes
            .iter()
            .map(|keys| self.cgroups_of(keys).iter().flat_map(|dir| places.levels(dir)).collect())
            .collect();
        let waiters = groups
            .iter()
            .map(|group| Whose::Cgroups(places.of(&group.group).to_vec()))
            .chain(processes.into_iter().map(Whose::Processes))
            .collect();
        let own =
            if groups.is_empty() { Vec::new() } else { places.dirs.values().flatten().cloned().collect() };
        let above: BTreeSet<&PathBuf> = over.iter().flatten().take(QUOTAS_MAX).collect();
        let above = above.into_iter().cloned().collect();
        let (own, above, waits) = tokio::join!(
            self.delays.groups.spell(own),
            self.delays.critical.spell(above),
            self.probes.recent(waiters)
        );
        let (own, above) = (own?, above?);
        let mut waits = match waits {
            Ok(Recent { over_ms, of }) => Ok((over_ms, of.into_iter())),
            Err(why) => Err(why),
        };
        let mut waited = |slot: &mut CpuDelay, nobody: &str| match &mut waits {
            Ok((over_ms, of)) => match of.next().flatten() {
                Some(waited) => slot.waited = Some(told(waited, *over_ms, places)),
                None => slot.not_measured = Some(nobody.to_owned()),
            },
            Err(why) => slot.not_measured = Some(why.clone()),
        };
        for group in &mut groups {
            let dirs = places.of(&group.group);
            let stat = total(dirs, &own.now);
            group.throttled_periods = stat.map(|stat| stat.throttled_periods);
            group.throttled_us = stat.map(|stat| stat.throttled_ns / 1_000);
            let mut delay = CpuDelay { held: held_each(dirs, &own), waited: None, not_measured: None };
            waited(&mut delay, if dirs.is_empty() { NO_CGROUP } else { NOT_YET });
            group.cpu_delay = Some(delay);
        }
        for (critical, over) in critical.iter_mut().zip(&over) {
            let mut delay =
                CpuDelay { held: held_worst(over, &above, places), waited: None, not_measured: None };
            waited(&mut delay, NOT_YET);
            critical.cpu_delay = Some(delay);
        }
        Ok(())
    }

    /// The groups, and where their limits are.
    async fn placed(&self) -> Result<(Vec<GroupStatus>, Places)> {
        let placed = self.ask(Command::Groups).await?;
        let proc = self.proc.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places = Places {
            mount: proc.hierarchy().map(|hierarchy| hierarchy.mount.clone()),
            dirs: BTreeMap::new(),
        };
        let one = |Placed { status, dirs }: Placed| {
            places.dirs.insert(status.group.clone(), dirs);
            status
        };
        let groups = placed.into_iter().map(one).collect();
        Ok((groups, places))
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

/// Reads on a thread that may wait. A cgroup that went away meanwhile is absent.
async fn counted(dirs: Vec<PathBuf>) -> Result<Arc<Counted>> {
    let named = |(dir, stat): (PathBuf, CpuStat)| (dir.into_os_string(), stat);
    let read = move || Arc::new(CpuStat::each(dirs).map(named).collect());
    let failed = |error: tokio::task::JoinError| Failure::from_error(FailureKind::Failed, &error);
    tokio::task::spawn_blocking(read).await.map_err(failed)
}

/// What the quotas of a group's cgroups did, together; `None` where none can be read.
fn total(dirs: &[PathBuf], now: &Counted) -> Option<CpuStat> {
    CpuStat::total(dirs.iter().filter_map(|dir| now.get(dir.as_os_str()).copied()))
}

/// For how long a quota held back, ns; `None` without one.
fn grown(dir: &Path, Spell { before, now, .. }: &Spell) -> Option<u64> {
    let dir = dir.as_os_str();
    let (before, now) = (before.get(dir)?, now.get(dir).filter(|stat| has_quota(stat))?);
    Some(now.throttled_ns.saturating_sub(before.throttled_ns))
}

/// How the quotas of a group's cgroups have held it back.
fn held_each(dirs: &[PathBuf], spell: &Spell) -> Option<HeldTime> {
    let mut all = dirs.iter().filter_map(|dir| grown(dir, spell)).peekable();
    all.peek()?;
    Some(held(all.fold(0, u64::saturating_add), spell.over))
}

/// How the worst of the quotas above each other has held back.
fn held_worst(dirs: &BTreeSet<PathBuf>, spell: &Spell, places: &Places) -> Option<HeldTime> {
    let all = dirs.iter().filter_map(|dir| Some((dir, grown(dir, spell)?)));
    let (dir, nanos) = all.max_by_key(|(_, nanos)| *nanos)?;
    let (cgroup, group) = (places.path(dir), places.group(dir).cloned());
    Some(HeldTime { cgroup, group, ..held(nanos, spell.over) })
}

fn held(nanos: u64, over: Duration) -> HeldTime {
    HeldTime {
        over_ms: millis(over),
        held_us: nanos / 1_000,
        share: share(nanos, over.as_nanos()),
        cgroup: None,
        group: None,
    }
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

    fn counted(all: &[(&str, u64)]) -> Arc<Counted> {
        let stat = |(dir, throttled_ns): &(&str, u64)| {
            (OsString::from(dir), CpuStat { periods: 9, throttled_periods: 1, throttled_ns: *throttled_ns })
        };
        Arc::new(all.iter().map(stat).collect())
    }

    const SECOND: Duration = Duration::from_secs(1);
    const MS: u64 = 1_000_000;

    #[test]
    fn quotas_of_a_group_add_up_and_of_those_above_each_other_the_worst_counts() {
        let before = counted(&[("/m/web", 0), ("/m/web2", 5), ("/m/pt/builds", 7)]);
        let now = counted(&[("/m/web", 100 * MS), ("/m/web2", 50 * MS + 5), ("/m/pt/builds", 7 + MS)]);
        let spell = Spell { before, now, over: SECOND };
        let web = ["/m/web".into(), "/m/web2".into(), "/m/gone".into()];
        let told = held_each(&web, &spell).unwrap();
        assert_eq!((told.held_us, told.share, told.cgroup), (150_000, Hundredths(1_500), None));
        let sum = total(&web, &spell.now).unwrap();
        assert_eq!((sum.throttled_periods, sum.throttled_ns), (2, 150 * MS + 5));
        let worst = ["/m/pt".into(), "/m/pt/builds".into(), "/m/web".into()].into();
        let told = held_worst(&worst, &spell, &places()).unwrap();
        assert_eq!((told.held_us, told.cgroup.as_deref()), (100_000, Some("/web")));
        assert_eq!(told.to_string(), "10.00 % of the last 1.0 s, by the quota of group web");
        assert_eq!(held_worst(&["/m/pt".into()].into(), &spell, &places()), None);
        assert_eq!(
            (held_each(&["/m/gone".into()], &spell), total(&["/m/gone".into()], &spell.now)),
            (None, None)
        );
    }

    #[test]
    fn what_has_no_quota_is_not_held_but_counted() {
        let none: Arc<Counted> = Arc::new([(OsString::from("/m/web"), CpuStat::default())].into());
        let spell = Spell { before: Arc::clone(&none), now: none, over: SECOND };
        assert_eq!(held_each(&["/m/web".into()], &spell), None);
        assert_eq!(total(&["/m/web".into()], &spell.now), Some(CpuStat::default()));
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
