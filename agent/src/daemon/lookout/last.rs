//! The last seconds of a critical process, from the look before its death and one right after it. Bounded: the files of
//! at most 96 cgroups, which are open, and a dozen others.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Look, Lookout, WINDOW_MIN, readable};
use crate::cgroup::{Controller, CpuStat, CpuTimes, CpuUsers};
use crate::daemon::circumstances::is;
use crate::effect::Throttle;
use crate::model::circumstances::QuotaUse;
use crate::model::event::Exit;
use crate::model::id::{Name, ProcKey};
use crate::model::last_seconds::{CpuUser, Held, LastSeconds, Waiting, share};
use crate::model::process::printable;
use crate::model::signal::Hundredths;
use crate::model::time::{Timestamp, millis};
use crate::procfs::Proc;
use crate::procfs::pressure::Pressure;
use crate::procfs::waits::Waited;

/// Most cgroups that are named.
const USERS_MAX: usize = 5;
/// Who used less than this of all CPUs is not named: 1 %.
const SHARE_MIN: Hundredths = Hundredths(100);
/// Most groups of ours that are looked through for the cgroups that are named.
const GROUPS_MAX: usize = 256;

impl Lookout {
    /// What the last seconds before this death were like; `None` where nothing was seen before it. `dir` is the cgroup
    /// that it died in.
    pub fn last_seconds(
        &mut self,
        exit: &Exit,
        dir: Option<&Path>,
        now: Timestamp,
        proc: &Proc,
        throttle: &Throttle,
    ) -> Option<LastSeconds> {
        let after = self.users_now(now);
        let key = exit.process.key;
        let before = self.before(key, now)?;
        let window = now.since(before.at);
        let held = dir.and_then(|dir| self.held(dir, before, window));
        let users = self.used(before, &after, window, dir);
        let groups = groups_at(
            held.iter().map(|(dir, _)| *dir).chain(users.iter().filter_map(|(dir, _)| dir.as_deref())),
            throttle,
        );
        Some(LastSeconds {
            window_ms: millis(window),
            waited: self.waited(key, before, now, proc),
            pressure: dir.and_then(pressure),
            cpus: self.cpus,
            held: held.map(|(dir, held)| Held { group: groups.get(dir).cloned(), ..held }),
            users: users
                .into_iter()
                .map(|(dir, user)| CpuUser { group: dir.and_then(|dir| groups.get(&dir).cloned()), ..user })
                .collect(),
        })
    }

    /// How a quota has held a live process back in the last seconds, from a look to now; `None` where none is over it, or
    /// it was not looked at yet.
    pub fn held_back(&self, key: ProcKey, now: Timestamp, throttle: &Throttle) -> Option<Held> {
        let before = self.before(key, now)?;
        let dir = before.processes.get(&key)?.dir.as_deref()?;
        let (level, held) = self.held(dir, before, now.since(before.at))?;
        let group = groups_at(std::iter::once(level), throttle).remove(level);
        (held.quota.periods > 0).then_some(Held { group, ..held })
    }

    /// The cgroup with the quotas that a process died in: where it was seen last, or where it is while it still ends.
    pub fn died_in(&self, exit: &Exit, now: Timestamp, proc: &Proc) -> Option<PathBuf> {
        let Exit { process, .. } = exit;
        let seen =
            self.before(process.key, now).and_then(|look| look.processes.get(&process.key)?.dir.clone());
        seen.or_else(|| self.dir(process.key, proc)).filter(|dir| is(dir, process.cgroup))
    }

    /// How long it waited: until its death, where it has left a thread to read; else between the last two looks.
    pub(super) fn waited(&self, key: ProcKey, before: &Look, now: Timestamp, proc: &Proc) -> Option<Waiting> {
        let seen = before.processes.get(&key).and_then(|seen| seen.waits.as_ref());
        let dead = seen.filter(|seen| seen.is_single()).and_then(|_| readable(proc.waits(key, 1)));
        if let (Some(seen), Some(dead)) = (seen, dead) {
            return Some(waiting(dead.since(seen), now.since(before.at), Duration::ZERO));
        }
        let [(earlier, first), (later, second)] = self.between(key, now)?;
        let window = later.since(earlier);
        let far_enough = window >= WINDOW_MIN;
        far_enough.then(|| waiting(second.since(first), window, now.since(later)))
    }

    /// The quota that held a process of this cgroup back for longest: its own, or one above it.
    fn held<'a>(&self, dir: &'a Path, before: &Look, window: Duration) -> Option<(&'a Path, Held)> {
        let did = |level: &'a Path| {
            let quota = grown(*before.quotas.get(level)?, CpuStat::read(level).ok()?);
            Some((level, quota))
        };
        let longer = |a: (&'a Path, QuotaUse), b: (&'a Path, QuotaUse)| {
            if b.1.throttled_ns > a.1.throttled_ns { b } else { a }
        };
        let (level, quota) = self.levels(dir).filter_map(did).reduce(longer)?;
        let below = level.strip_prefix(self.mount.as_deref()?).ok()?;
        let share = share(quota.throttled_ns, window.as_nanos());
        Some((level, Held { cgroup: shown(below), group: None, share, quota }))
    }

    /// Who used the CPUs most, with the cgroup in the hierarchy of the quotas where that is known to be the same.
    fn used(
        &self,
        before: &Look,
        after: &CpuTimes,
        window: Duration,
        dir: Option<&Path>,
    ) -> Vec<(Option<PathBuf>, CpuUser)> {
        let all = after.since(&before.users);
        let root = self.users.as_ref().map(CpuUsers::root);
        let same = root.filter(|root| Some(*root) == self.mount.as_deref());
        let place = |path: &Path| same.map(|root| below(root, path));
        let inside =
            |path: &&PathBuf| place(path).zip(dir).is_some_and(|(place, dir)| dir.starts_with(&place));
        let own =
            all.iter().map(|(path, _)| path).filter(inside).max_by_key(|path| path.components().count());
        let whole = window.as_nanos().saturating_mul(u128::from(self.cpus));
        let told = all.iter().map(|(path, used)| {
            let own = Some(path) == own;
            (place(path), CpuUser { cgroup: shown(path), group: None, own, share: share(*used, whole) })
        });
        told.take(USERS_MAX).take_while(|(_, user)| user.share >= SHARE_MIN).collect()
    }
}

/// Which of these cgroups are limited by us, and in which groups.
fn groups_at<'a>(dirs: impl Iterator<Item = &'a Path>, throttle: &Throttle) -> BTreeMap<PathBuf, Name> {
    let wanted: Vec<&Path> = dirs.collect();
    let mut found = BTreeMap::new();
    for group in throttle.names().into_iter().take(GROUPS_MAX) {
        throttle.with_group(&group, |held| {
            for dir in held.places.iter().filter_map(|place| place.dir(Controller::Cpu)) {
                if wanted.contains(&dir) {
                    found.insert(dir.to_owned(), group.clone());
                }
            }
        });
    }
    found
}

fn waiting(Waited { threads, ran_ns, waited_ns }: Waited, window: Duration, ended: Duration) -> Waiting {
    Waiting {
        window_ms: millis(window),
        ended_ms: millis(ended),
        threads,
        waited: share(waited_ns, window.as_nanos()),
        ran: share(ran_ns, window.as_nanos()),
    }
}

const fn grown(before: CpuStat, after: CpuStat) -> QuotaUse {
    QuotaUse {
        periods: after.periods.saturating_sub(before.periods),
        throttled: after.throttled_periods.saturating_sub(before.throttled_periods),
        throttled_ns: after.throttled_ns.saturating_sub(before.throttled_ns),
    }
}

/// Pressure of a cgroup; v1 has no such file.
fn pressure(dir: &Path) -> Option<Hundredths> {
    let text = std::fs::read(dir.join("cpu.pressure")).ok()?;
    Pressure::parse(&text).map(|pressure| Hundredths(pressure.some.avg10))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    // Joining nothing would end the path with a slash.
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

fn shown(path: &Path) -> String {
    format!("/{}", printable(path.as_os_str().as_bytes()))
}
