//! From two readings to what is told: percentiles, who had the CPUs, and what a quota held back meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::cgroup::{CpuStat, find};
use crate::control::proto::{Holder, Latency, LatencyOf};
use crate::daemon::probes::rate;
use crate::model::id::ProcKey;
use crate::model::latency::{ByCpu, Delay, Reading, Totals, Waits, blame, since, sum};
use crate::model::process::Comm;
use crate::model::time::millis;

/// Most of those who had the CPUs that are told.
const HOLDERS_MAX: usize = 10;
/// Most cgroups that are told.
const CGROUPS_MAX: usize = 64;
/// Most directories that are walked for their paths.
pub(super) const DIRS_MAX: usize = 8_192;

/// Who is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Whether all cgroups are told and not only those below.
    pub whole: bool,
    /// Processes.
    pub processes: Vec<Watched>,
    /// Cgroups.
    pub cgroups: Vec<Watching>,
    /// How many processes there are beyond those.
    pub left_out: u64,
}

/// A process that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The process.
    pub key: ProcKey,
    /// Name of its critical process or group; its comm where it has none.
    pub name: String,
    /// Its comm.
    pub comm: Comm,
}

/// A cgroup that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// Its id.
    pub id: u64,
    /// Its directory.
    pub dir: PathBuf,
}

impl Subject {
    /// The directories of its cgroups.
    pub(in crate::daemon) fn dirs(self) -> Vec<PathBuf> {
        self.cgroups.into_iter().map(|one| one.dir).collect()
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = ProcKey> {
        self.processes.iter().map(|watched| watched.key)
    }
}

/// For how long quotas have held cgroups back, ns, by cgroup id.
pub(super) type Throttled = BTreeMap<u64, u64>;

/// Reads it for the cgroups of a look. One without a quota is absent.
pub(super) fn throttled(subject: &Subject) -> Throttled {
    let read = |one: &Watching| {
        let stat = CpuStat::read(&one.dir).ok().filter(|stat| stat.periods > 0)?;
        Some((one.id, stat.throttled_ns))
    };
    subject.cgroups.iter().filter_map(read).collect()
}

/// What was seen during a look.
pub(super) struct Seen<'a, D> {
    pub(super) from: &'a Reading,
    pub(super) to: &'a Reading,
    pub(super) delays: D,
    pub(super) throttled: &'a Throttled,
    pub(super) alone: bool,
    pub(super) armed_by: &'a str,
    /// What a switch is reckoned to cost, ns.
    pub(super) per_switch_ns: u64,
}

/// What is told of it.
pub(super) fn latency<'a>(
    subject: &Subject,
    seen: Seen<'a, impl Iterator<Item = &'a Delay>>,
    mount: Option<&Path>,
) -> Latency {
    let Seen { from, to, delays, throttled: before, alone, armed_by, per_switch_ns } = seen;
    let time = to.at.since(from.at);
    let cgroups = grown(&to.cgroups, &from.cgroups);
    let watched = grown(&to.watched, &from.watched);
    let mut users: Vec<(Option<u64>, ByCpu)> =
        cgroups.iter().map(|(id, waits)| (Some(*id), waits.clone())).collect();
    users.push((None, since(&to.other, Some(&from.other))));

    let of_process = |one: &Watched| watched.iter().find(|(key, _)| *key == one.key).map(|(_, waits)| waits);
    let waiter = if subject.processes.is_empty() {
        let wanted = |id: &u64| subject.whole || subject.cgroups.iter().any(|one| one.id == *id);
        together(cgroups.iter().filter(|(id, _)| wanted(id)).map(|(_, waits)| waits))
    } else {
        together(subject.processes.iter().filter_map(of_process))
    };
    let mut holders = blame(&waiter, &users);
    holders.truncate(HOLDERS_MAX);

    let told = |id: &u64| subject.whole || subject.cgroups.iter().any(|one| one.id == *id);
    let mut shown: Vec<(u64, Waits)> =
        cgroups.iter().filter(|(id, _)| told(id)).map(|(id, waits)| (*id, sum(waits))).collect();
    shown.retain(|(_, waits)| !subject.whole || waits.count() > 0);
    shown.sort_by_key(|(_, waits)| std::cmp::Reverse(waits.wait_ns));
    shown.truncate(CGROUPS_MAX);

    let ids: BTreeSet<u64> =
        shown.iter().map(|(id, _)| *id).chain(holders.iter().filter_map(|(id, _)| *id)).collect();
    let dirs = mount.map(|mount| find::by_ids(mount, ids, DIRS_MAX)).unwrap_or_default();
    let path = |id: u64| {
        let named = mount.zip(dirs.get(&id)).and_then(|(mount, dir)| find::path_of(mount, dir));
        named.unwrap_or_else(|| format!("cgroup {id}, which is gone"))
    };
    let now = throttled(subject);
    let held_back = |id: u64| Some(now.get(&id)?.saturating_sub(*before.get(&id)?));

    let mut processes: Vec<LatencyOf> = subject
        .processes
        .iter()
        .filter_map(|one| {
            let waits = sum(of_process(one)?);
            Some(LatencyOf {
                process: Some(one.key),
                comm: Some(one.comm),
                ..told_of(one.name.clone(), waits)
            })
        })
        .collect();
    processes.sort_by_key(|one| std::cmp::Reverse(one.waits.wait_ns));
    let relevant =
        |delay: &&Delay| delay.at >= from.at && subject.processes().any(|key| key.pid == delay.waiter.tgid);
    let switches = to.totals.switches.wrapping_sub(from.totals.switches);
    Latency {
        for_ms: millis(time),
        armed_for_this: alone,
        armed_by: armed_by.to_owned(),
        cost: rate::cost(switches, per_switch_ns, time).0,
        per_switch_ns,
        left_out: subject.left_out + (subject.processes.len() - processes.len()) as u64,
        processes,
        cgroups: shown
            .into_iter()
            .map(|(id, waits)| LatencyOf { throttled_ns: held_back(id), ..told_of(path(id), waits) })
            .collect(),
        holders: holders
            .into_iter()
            .map(|(id, share)| Holder {
                cgroup: id.map_or_else(|| "cgroups without a slot".to_owned(), &path),
                group: None,
                share,
            })
            .collect(),
        delays: delays.filter(relevant).cloned().collect(),
        totals: Totals { switches, ..to.totals },
    }
}

fn told_of(name: String, waits: Waits) -> LatencyOf {
    LatencyOf {
        name,
        process: None,
        comm: None,
        count: waits.count(),
        p50_ns: waits.percentile_ns(500),
        p90_ns: waits.percentile_ns(900),
        p99_ns: waits.percentile_ns(990),
        p999_ns: waits.percentile_ns(999),
        waits,
        throttled_ns: None,
    }
}

/// What came since the earlier of two readings.
pub(super) fn grown<K: Copy + PartialEq>(to: &[(K, ByCpu)], from: &[(K, ByCpu)]) -> Vec<(K, ByCpu)> {
    let before = |key: &K| from.iter().find(|(known, _)| known == key).map(|(_, waits)| waits);
    to.iter().map(|(key, waits)| (*key, since(waits, before(key)))).collect()
}

/// Several together, CPU by CPU.
pub(super) fn together<'a>(all: impl Iterator<Item = &'a ByCpu>) -> ByCpu {
    let mut sums = ByCpu::new();
    for cpus in all {
        sums.resize(sums.len().max(cpus.len()), Waits::default());
        for (sum, waits) in sums.iter_mut().zip(cpus) {
            sum.add(waits);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    const VITAL: ProcKey = ProcKey { pid: 7, start: 1 };

    fn waits(count: u64, on_cpu_ns: u64) -> ByCpu {
        let mut one = Waits { on_cpu_ns, ..Waits::default() };
        one.counts[14] = count;
        one.wait_ns = count * 10_000_000;
        one.longest_ns = 12_000_000;
        vec![one]
    }

    fn reading(seconds: u64, count: u64) -> Reading {
        Reading {
            at: Timestamp::from_nanos(seconds * 1_000_000_000),
            cgroups: vec![(11, waits(0, count * 9)), (12, waits(count, count))],
            other: waits(0, 0),
            watched: vec![(VITAL, waits(count, count))],
            totals: Totals { switches: count * 1_000, ..Totals::default() },
        }
    }

    #[test]
    fn a_look_tells_what_came_during_it() {
        let subject = Subject {
            processes: vec![Watched { key: VITAL, name: "web".to_owned(), comm: Comm::from_bytes(b"nginx") }],
            cgroups: vec![Watching { id: 12, dir: "/nowhere-of-pt".into() }],
            ..Subject::default()
        };
        let (from, to) = (reading(10, 5), reading(12, 105));
        let throttled = Throttled::new();
        let delays = Vec::new();
        let seen = Seen {
            from: &from,
            to: &to,
            delays: delays.iter(),
            throttled: &throttled,
            alone: true,
            armed_by: "a look",
            per_switch_ns: 180,
        };
        let told = latency(&subject, seen, None);
        assert_eq!((told.for_ms, told.armed_for_this, told.left_out), (2_000, true, 0));
        // 100,000 switches at 180 ns in two seconds.
        assert_eq!((told.cost, told.totals.switches), (90, 100_000));
        let [web] = told.processes.as_slice() else { panic!("{told:?}") };
        assert_eq!((web.name.as_str(), web.count, web.waits.wait_ns), ("web", 100, 1_000_000_000));
        assert!(web.p50_ns.is_some_and(|ns| (8_388_608..=12_000_000).contains(&ns)), "{web:?}");
        let [own] = told.cgroups.as_slice() else { panic!("{told:?}") };
        assert_eq!((own.name.as_str(), own.throttled_ns), ("cgroup 12, which is gone", None));
        let shares: Vec<u32> = told.holders.iter().map(|holder| holder.share).collect();
        assert_eq!(shares, [9_000, 1_000]);
    }

    #[test]
    fn of_the_whole_machine_only_those_that_waited_are_told() {
        let (from, to) = (reading(10, 5), reading(12, 105));
        let (throttled, delays) = (Throttled::new(), Vec::new());
        let seen = Seen {
            from: &from,
            to: &to,
            delays: delays.iter(),
            throttled: &throttled,
            alone: false,
            armed_by: "pressure",
            per_switch_ns: 180,
        };
        let told = latency(&Subject { whole: true, ..Subject::default() }, seen, None);
        assert_eq!(told.cgroups.len(), 1);
        assert!(told.processes.is_empty() && told.holders.len() == 2, "{told:?}");
    }
}
