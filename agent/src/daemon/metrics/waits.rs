//! How long critical processes and throttled groups waited for a CPU, as histograms: what the scheduler's probes have
//! counted, by the names that the configuration has. Kept between two readings, because a sum that falls would be no
//! counter; forgotten with the name.

use std::collections::BTreeMap;

use rustix::fs::stat;

use crate::daemon::figures::GroupFigure;
use crate::daemon::probes::{Counted, Waiter};
use crate::engine::view::CriticalView;
use crate::model::latency::{BUCKETS, Waits, lower_bound};
use crate::telemetry::Buckets;
use crate::telemetry::catalogue::{CRITICAL_WAIT, GROUP_WAIT, Instrument};
use crate::telemetry::sheet::Sheet;

/// The kernel side's buckets whose least waits bound those that are told: 8 µs, the time of a few switches, to 17 s,
/// each twice the one before.
const BOUNDS: std::ops::RangeInclusive<usize> = 4..=25;

/// Whose waits are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Critical(String),
    Group(String),
}

/// Who there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiters<'a> {
    /// Critical processes.
    pub(super) criticals: &'a [CriticalView],
    /// Groups.
    pub(super) groups: &'a [GroupFigure],
}

/// What an owner's threads have waited since somebody asked first.
#[derive(Debug)]
struct Total {
    since_ns: u64,
    waits: Waits,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct WaitMeters {
    totals: BTreeMap<Owner, Total>,
    /// Who was whose at the last reading: what those have waited who have gone meanwhile is theirs as well.
    owners: BTreeMap<Waiter, Owner>,
}

impl WaitMeters {
    /// Adds what was counted, and puts down what is counted at present; `now_ns` is in ns since 1970.
    pub(super) fn put(&mut self, all: Waiters<'_>, counted: &Counted, now_ns: u64, sheet: &mut Sheet) {
        let known = |owner: &Owner| match owner {
            Owner::Critical(name) => all.criticals.iter().any(|one| one.name.as_str() == name),
            Owner::Group(label) => all.groups.iter().any(|one| one.label == *label),
        };
        self.totals.retain(|owner, _| known(owner));
        let owners = if counted.grown.is_empty() { BTreeMap::new() } else { owners(all) };
        let before = std::mem::replace(&mut self.owners, owners);
        for (waiter, waits) in &counted.grown {
            let owner = self.owners.get(waiter).or_else(|| before.get(waiter));
            let Some(owner) = owner.filter(|owner| known(owner)) else { continue };
            let new = || Total { since_ns: now_ns, waits: Waits::default() };
            self.totals.entry(owner.clone()).or_insert_with(new).waits.add(waits);
        }
        if !counted.armed {
            return;
        }
        for (owner, Total { since_ns, waits }) in &self.totals {
            let (instrument, name): (&Instrument, _) = match owner {
                Owner::Critical(name) => (&CRITICAL_WAIT, name),
                Owner::Group(label) => (&GROUP_WAIT, label),
            };
            sheet.histogram_since(instrument, &[name], buckets(waits), *since_ns);
        }
    }
}

/// Who is whose now. The id by which the kernel side knows a cgroup is the inode of its directory.
fn owners(all: Waiters<'_>) -> BTreeMap<Waiter, Owner> {
    let criticals = all.criticals.iter().flat_map(|critical| {
        let owner = Owner::Critical(critical.name.to_string());
        critical.instances.iter().map(move |key| (Waiter::Process(*key), owner.clone()))
    });
    let groups = all.groups.iter().flat_map(|group| {
        // One that is gone has nothing to add.
        let ids = group.cgroups.iter().filter_map(|cgroup| stat(cgroup.cpu.as_deref()?).ok());
        ids.map(|stat| (Waiter::Cgroup(stat.st_ino), Owner::Group(group.label.clone())))
    });
    criticals.chain(groups).collect()
}

fn buckets(waits: &Waits) -> Buckets {
    let mut counts = vec![0_u64; BOUNDS.count() + 1];
    for (bucket, count) in waits.counts.iter().enumerate().take(BUCKETS) {
        let at = (bucket + 1).saturating_sub(*BOUNDS.start()).min(counts.len() - 1);
        if let Some(sum) = counts.get_mut(at) {
            *sum = sum.saturating_add(*count);
        }
    }
    Buckets {
        bounds: BOUNDS.map(|bucket| lower_bound(bucket) as f64 / 1e9).collect(),
        counts,
        sum: waits.wait_ns as f64 / 1e9,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::daemon::figures::Cgroup;
    use crate::model::id::ProcKey;
    use crate::telemetry::{Family, Figure};

    const VITAL: ProcKey = ProcKey { pid: 7, start: 1 };

    fn critical(instances: &[ProcKey]) -> CriticalView {
        serde_json::from_value(json!({
            "name": "vital", "instances": instances, "deaths": 0, "last_death": null, "wanted": 1,
            "absent_since": null, "flapping": false,
        }))
        .unwrap()
    }

    fn group(dir: PathBuf) -> GroupFigure {
        GroupFigure {
            name: "hogs".parse().unwrap(),
            label: "hogs".to_owned(),
            profile: "web".to_owned(),
            resources: vec!["cpu"],
            processes: Vec::new(),
            cgroups: vec![Cgroup { own: true, cpu: Some(dir), memory: None }],
        }
    }

    fn waits(bucket: usize, count: u64) -> Waits {
        let mut waits = Waits { wait_ns: count * lower_bound(bucket), ..Waits::default() };
        waits.counts[bucket] = count;
        waits
    }

    fn counted(armed: bool, grown: &[(Waiter, Waits)]) -> Counted {
        Counted { armed, grown: grown.iter().cloned().collect() }
    }

    fn read(meters: &mut WaitMeters, all: Waiters<'_>, counted: &Counted) -> Vec<Family> {
        let mut sheet = Sheet::default();
        meters.put(all, counted, 9, &mut sheet);
        sheet.finish()
    }

    /// How many waits are told of the one series of a metric.
    fn count(families: &[Family], metric: &str) -> Option<u64> {
        let family = families.iter().find(|family| family.name.ends_with(metric))?;
        let [point] = &family.points[..] else { panic!("{family:?}") };
        let Figure::Histogram(buckets) = &point.figure else { panic!("{point:?}") };
        Some(buckets.count())
    }

    #[test]
    fn waits_are_told_by_name_and_stay_when_who_waited_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let inode = std::fs::metadata(dir.path()).unwrap().ino();
        let (process, cgroup) = (Waiter::Process(VITAL), Waiter::Cgroup(inode));
        let groups = [group(dir.path().to_owned())];
        let (lives, gone) = ([critical(&[VITAL])], [critical(&[])]);
        let mut meters = WaitMeters::default();
        let all = Waiters { criticals: &lives, groups: &groups };
        assert_eq!(count(&read(&mut meters, all, &counted(true, &[])), "critical.run_queue.wait"), None);

        let grown = [(process, waits(9, 3)), (cgroup, waits(4, 5)), (Waiter::Cgroup(inode + 1), waits(4, 1))];
        let families = read(&mut meters, all, &counted(true, &grown));
        assert_eq!(count(&families, "critical.run_queue.wait"), Some(3));
        assert_eq!(count(&families, "group.run_queue.wait"), Some(5));

        // It has died since, and the programs are disarmed: what it waited until then comes with the next reading.
        let all = Waiters { criticals: &gone, groups: &groups };
        let families = read(&mut meters, all, &counted(false, &[(process, waits(9, 2))]));
        assert_eq!(count(&families, "critical.run_queue.wait"), None, "not measured");
        let families = read(&mut meters, all, &counted(true, &[]));
        assert_eq!(count(&families, "critical.run_queue.wait"), Some(5));

        // Its name is gone, and so is all that was known of it.
        let all = Waiters { criticals: &[], groups: &[] };
        assert_eq!(count(&read(&mut meters, all, &counted(true, &grown)), "run_queue.wait"), None);
        assert!(meters.totals.is_empty());
    }

    #[test]
    fn buckets_are_those_of_the_kernel_side_between_the_bounds() {
        let mut all = Waits::default();
        for (bucket, count) in all.counts.iter_mut().enumerate() {
            *count = 1 << bucket;
        }
        let told = buckets(&all);
        assert_eq!(told.counts.len(), told.bounds.len() + 1);
        assert!(told.bounds.is_sorted() && told.bounds[0] == 8.192e-6, "{:?}", told.bounds);
        assert_eq!(told.count(), (1 << BUCKETS) - 1, "none is lost");
        assert_eq!(told.counts[0], 0b1111);
        assert_eq!(told.counts[1], 1 << 4);
        assert_eq!(told.counts.last(), Some(&(0b111 << 25)));
    }
}
