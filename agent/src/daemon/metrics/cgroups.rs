//! What the cgroups of limited groups count, read when somebody asks. Cgroups come and go while their group stays, and
//! a sum that falls would be no counter: what each has grown by is added up, and forgotten with the group.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::stat::{number, read};
use crate::cgroup::{CpuStat, CpuUsage};
use crate::daemon::figures::{Cgroup, GroupFigure};
use crate::daemon::sampler::used_ns;
use crate::model::id::ProcKey;
use crate::telemetry::catalogue::{CPU_TIME, MEMORY, PERIODS, THROTTLED_PERIODS, THROTTLED_TIME, UNREAD};
use crate::telemetry::sheet::Sheet;

/// Most cgroups that are read: about 20 µs each.
const READ_MAX: usize = 1_000;
/// Most processes of a group of which CPU time is read: a microsecond each.
const PROCESSES_MAX: usize = 4_096;

/// What a cgroup counts: CPU time in ns, where the kernel tells it; then what its quota did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    used_ns: Option<u64>,
    quota: CpuStat,
}

/// What the cgroups of one group have counted.
#[derive(Debug, Default)]
struct Meter {
    since_ns: u64,
    total: Counts,
    last: BTreeMap<PathBuf, Counts>,
    /// CPU time in ns of its processes, where no cgroup accounts it.
    processes: BTreeMap<ProcKey, u64>,
}

/// What is read of the groups of one name.
#[derive(Default)]
struct Found<'a> {
    cgroups: Vec<(&'a Cgroup, Counts)>,
    processes: Vec<ProcKey>,
    memory: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Meters(BTreeMap<String, Meter>);

impl Meters {
    /// Reads the groups' cgroups and puts down what they count; `now_ns` is in ns since 1970.
    pub(super) fn put(&mut self, groups: &[GroupFigure], now_ns: u64, sheet: &mut Sheet) {
        let (mut room, mut unread) = (READ_MAX, 0_usize);
        let mut found: BTreeMap<&str, Found<'_>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for group in groups {
            let found = found.entry(&group.label).or_default();
            found.processes.extend(&group.processes);
            for cgroup in &group.cgroups {
                if room == 0 {
                    unread += 1;
                    continue;
                }
                room -= 1;
                // Two groups may share one.
                let mut first = |dir: &&Path, memory| seen.insert((dir.to_path_buf(), memory));
                if let Some(dir) = cgroup.cpu.as_deref().filter(|dir| first(dir, false))
                    && let Some(counts) = counts(dir)
                {
                    found.cgroups.push((cgroup, counts));
                }
                if let Some(dir) = cgroup.memory.as_deref().filter(|dir| first(dir, true))
                    && let Some(bytes) = charged(dir)
                {
                    *found.memory.get_or_insert(0) += bytes;
                }
            }
        }
        self.0.retain(|label, _| found.contains_key(label.as_str()));
        for (label, found) in found {
            if let Some(bytes) = found.memory {
                sheet.add(&MEMORY, &[label], bytes);
            }
            let new = || Meter { since_ns: now_ns, ..Meter::default() };
            let meter = self.0.entry(label.to_owned()).or_insert_with(new);
            meter.take(found);
            meter.put(label, sheet);
        }
        sheet.add(&UNREAD, &[], unread);
    }
}

impl Meter {
    fn take(&mut self, found: Found<'_>) {
        if !found.cgroups.iter().any(|(_, counts)| counts.used_ns.is_some()) {
            self.take_processes(found.processes);
        }
        let mut last = BTreeMap::new();
        for (cgroup, now) in found.cgroups {
            let Some(dir) = &cgroup.cpu else { continue };
            let before = match self.last.get(dir) {
                Some(before) => *before,
                // All that a cgroup of ours has counted is the group's. What somebody else's counted before it was
                // limited is not.
                None if cgroup.own => Counts::default(),
                None => now,
            };
            self.total.add(now, before);
            last.insert(dir.clone(), now);
        }
        self.last = last;
    }

    /// Adds what each process has used since it was first seen in the group. Those that live for less than the time
    /// between two readings are missed.
    fn take_processes(&mut self, keys: Vec<ProcKey>) {
        let mut processes = BTreeMap::new();
        for key in keys.into_iter().take(PROCESSES_MAX) {
            let Some(now) = used_ns(key) else { continue };
            let grown = self.processes.get(&key).map_or(0, |before| now.saturating_sub(*before));
            let used = self.total.used_ns.get_or_insert(0);
            *used = used.saturating_add(grown);
            processes.insert(key, now);
        }
        self.processes = processes;
    }

    fn put(&self, label: &str, sheet: &mut Sheet) {
        let Counts { used_ns, quota } = self.total;
        let since = self.since_ns;
        if let Some(used) = used_ns {
            sheet.add_since(&CPU_TIME, &[label], Duration::from_nanos(used), since);
        }
        if quota == CpuStat::default() && self.last.is_empty() {
            return;
        }
        sheet.add_since(&THROTTLED_TIME, &[label], Duration::from_nanos(quota.throttled_ns), since);
        sheet.add_since(&THROTTLED_PERIODS, &[label], quota.throttled_periods, since);
        sheet.add_since(&PERIODS, &[label], quota.periods, since);
    }
}

impl Counts {
    fn add(&mut self, now: Self, before: Self) {
        // One that counts less than before is another one of its name.
        let grown = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        if let Some(now) = now.used_ns {
            let used = self.used_ns.get_or_insert(0);
            *used = used.saturating_add(grown(now, before.used_ns.unwrap_or(0)));
        }
        for (total, now, before) in [
            (&mut self.quota.periods, now.quota.periods, before.quota.periods),
            (&mut self.quota.throttled_periods, now.quota.throttled_periods, before.quota.throttled_periods),
            (&mut self.quota.throttled_ns, now.quota.throttled_ns, before.quota.throttled_ns),
        ] {
            *total = total.saturating_add(grown(now, before));
        }
    }
}

/// `None` when the cgroup has gone away meanwhile: it has nothing more to add.
fn counts(dir: &Path) -> Option<Counts> {
    let text = read(&dir.join("cpu.stat")).ok()?;
    let usage = match CpuUsage::parse(&text) {
        Some(usage) => Some(usage.used_ns),
        // v1, where the controller that accounts is mounted with this one.
        None => number(&dir.join("cpuacct.usage")).ok()?,
    };
    Some(Counts { used_ns: usage, quota: CpuStat::parse(&text) })
}

fn charged(dir: &Path) -> Option<u64> {
    let v2 = number(&dir.join("memory.current")).ok()?;
    v2.or_else(|| number(&dir.join("memory.usage_in_bytes")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Figure, Number};

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn write(&self, cgroup: &str, used_us: u64, throttled: u64) -> PathBuf {
            let dir = self.0.path().join(cgroup);
            std::fs::create_dir_all(&dir).unwrap();
            let text =
                format!("usage_usec {used_us}\nnr_periods 9\nnr_throttled {throttled}\nthrottled_usec 5\n");
            std::fs::write(dir.join("cpu.stat"), text).unwrap();
            std::fs::write(dir.join("memory.current"), "4096\n").unwrap();
            dir
        }
    }

    fn group(label: &str, own: bool, dirs: &[&PathBuf]) -> GroupFigure {
        let cgroup = |dir: &&PathBuf| Cgroup { own, cpu: Some((*dir).clone()), memory: Some((*dir).clone()) };
        GroupFigure {
            name: label.parse().unwrap(),
            label: label.to_owned(),
            profile: "web".to_owned(),
            resources: vec!["cpu"],
            processes: Vec::new(),
            cgroups: dirs.iter().map(cgroup).collect(),
        }
    }

    /// The series of a metric, by group.
    fn read(meters: &mut Meters, groups: &[GroupFigure], metric: &str) -> Vec<(String, f64)> {
        let mut sheet = Sheet::default();
        meters.put(groups, 1, &mut sheet);
        let families = sheet.finish();
        let found = families.iter().find(|family| family.name.ends_with(metric));
        found
            .into_iter()
            .flat_map(|family| &family.points)
            .map(|point| {
                let Figure::Value(number) = &point.figure else { panic!("{point:?}") };
                let value = match *number {
                    Number::Whole(whole) => whole as f64,
                    Number::Real(real) => real,
                };
                (point.labels.get("group").cloned().unwrap_or_default(), value)
            })
            .collect()
    }

    #[test]
    fn sums_only_rise_while_cgroups_come_and_go_and_go_with_the_group() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let (a, b) = (tree.write("a", 1_000_000, 2), tree.write("b", 2_000_000, 3));
        let mut meters = Meters::default();
        let both = [group("g", true, &[&a, &b])];
        assert_eq!(read(&mut meters, &both, "cpu.time"), [("g".to_owned(), 3.0)]);
        assert_eq!(read(&mut meters, &both, "throttled.periods"), [("g".to_owned(), 5.0)]);
        assert_eq!(read(&mut meters, &both, "memory.usage"), [("g".to_owned(), 8_192.0)]);
        // One goes, the other grows.
        tree.write("b", 2_500_000, 3);
        let one = [group("g", true, &[&b])];
        assert_eq!(read(&mut meters, &one, "cpu.time"), [("g".to_owned(), 3.5)]);
        // It is made anew under its name.
        tree.write("b", 100_000, 0);
        let [(_, anew)] = &read(&mut meters, &one, "cpu.time")[..] else { panic!() };
        assert!((anew - 3.6).abs() < 1e-9, "{anew}");
        // Its files are gone, the group is not: what was counted stays.
        std::fs::remove_dir_all(&b).unwrap();
        assert_eq!(read(&mut meters, &one, "cpu.throttled.periods"), [("g".to_owned(), 5.0)]);
        assert!(read(&mut meters, &[], "cpu.time").is_empty());
        assert!(meters.0.is_empty());
    }

    #[test]
    fn of_somebody_elses_cgroup_only_what_it_grows_by_counts() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let unit = tree.write("unit", 60_000_000, 7);
        let groups = [group("g", false, &[&unit]), group("h", false, &[&unit])];
        let mut meters = Meters::default();
        assert_eq!(read(&mut meters, &groups, "cpu.time"), [("g".to_owned(), 0.0)], "once");
        tree.write("unit", 61_000_000, 8);
        assert_eq!(read(&mut meters, &groups, "cpu.time"), [("g".to_owned(), 1.0)]);
    }

    #[test]
    fn where_no_cgroup_accounts_processes_do() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let dir = tree.write("v1", 0, 2);
        std::fs::write(dir.join("cpu.stat"), "nr_periods 9\nnr_throttled 2\nthrottled_time 5\n").unwrap();
        let own = crate::procfs::Proc::host().unwrap().process(std::process::id()).unwrap().unwrap();
        let groups = [GroupFigure { processes: vec![own.key], ..group("g", true, &[&dir]) }];
        let mut meters = Meters::default();
        assert_eq!(read(&mut meters, &groups, "cpu.time"), [("g".to_owned(), 0.0)]);
        let began = used_ns(own.key).unwrap();
        while used_ns(own.key).unwrap() < began + 20_000_000 {
            std::hint::spin_loop();
        }
        let [(_, used)] = &read(&mut meters, &groups, "cpu.time")[..] else { panic!() };
        assert!((0.02..10.0).contains(used), "{used}");
        // It has ended: what it used stays.
        let nobody = [group("g", true, &[&dir])];
        assert_eq!(read(&mut meters, &nobody, "cpu.time"), [("g".to_owned(), *used)]);
        assert_eq!(read(&mut meters, &nobody, "throttled.periods"), [("g".to_owned(), 2.0)]);
    }

    #[test]
    fn more_cgroups_than_can_be_read_are_told() {
        let none = PathBuf::from("/nonexistent");
        let groups = [group("g", true, &vec![&none; READ_MAX + 3])];
        assert_eq!(read(&mut Meters::default(), &groups, "cgroups.unread"), [(String::new(), 3.0)]);
        assert!(read(&mut Meters::default(), &groups, "cpu.time").is_empty());
    }
}
