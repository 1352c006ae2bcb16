//! Measures what the engine asks for: pressure, load, CPU time of groups, the wall clock. Decides nothing.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use nix::time::{ClockId, clock_gettime};

use crate::cgroup::{Controller, CpuMeter, CpuStat, CpuUsage};
use crate::clock;
use crate::effect::Throttle;
use crate::engine::action::SampleWants;
use crate::engine::input::{ClockSample, CpuSample, GroupSample, PressureSample, Sample};
use crate::model::id::{Name, ProcKey};
use crate::model::policy::Zone;
use crate::model::signal::{Hundredths, Resource};
use crate::procfs::Proc;
use crate::procfs::pressure::Pressure;

/// Of the clocks of a process, the one that counts what the scheduler gave it.
const CPUCLOCK_SCHED: i32 = 2;
/// Cgroups whose files are kept open: two for each.
const OPEN_MOST: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub struct Sampler {
    /// CPUs online.
    cpus: u32,
    meters: BTreeMap<Name, Meter>,
    throttled_ns: u64,
    /// Whether the kernel accounts CPU time where limits are; it is asked once.
    by_process: bool,
}

/// What is read of a group.
#[derive(Debug, Default)]
struct Meter {
    /// Its cgroups.
    cgroups: Vec<CpuMeter>,
    used: Sum,
    throttled: Sum,
}

impl Meter {
    /// Has the files of the group's cgroups open, in the order of its places.
    fn open(&mut self, name: &Name, throttle: &Throttle) {
        let known = throttle.with_group(name, |group| {
            let dirs = || group.places.iter().filter_map(|place| place.dir(Controller::Cpu));
            if !self.cgroups.iter().map(CpuMeter::dir).eq(dirs()) {
                // A cgroup that went away meanwhile has nothing more to add.
                self.cgroups = dirs().filter_map(|dir| CpuMeter::open(dir).ok()).collect();
            }
        });
        if known.is_none() {
            self.cgroups.clear();
        }
    }

    /// What the quota did, summed over the cgroups; nothing where there is none.
    fn stat(&mut self) -> (CpuStat, u64) {
        let mut sum = CpuStat::default();
        let mut gone = false;
        let mut throttled = Vec::with_capacity(self.cgroups.len());
        for (index, cgroup) in self.cgroups.iter().enumerate() {
            let Ok(stat) = cgroup.stat() else {
                gone = true;
                continue;
            };
            sum.periods += stat.periods;
            sum.throttled_periods += stat.throttled_periods;
            sum.throttled_ns += stat.throttled_ns;
            throttled.push((Counted::Place(index), stat.throttled_ns));
        }
        let before = self.throttled.total;
        let grown = self.throttled.read(throttled).saturating_sub(before);
        if gone {
            // There may be another one of its name by now.
            self.cgroups.clear();
        }
        (sum, grown)
    }
}

/// A sum of counters that come and go: what each has grown by since it was first seen.
#[derive(Debug, Default)]
struct Sum {
    total: u64,
    /// In the order in which they were given.
    last: Vec<(Counted, u64)>,
}

/// What has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    /// The group's cgroup of this place.
    Place(usize),
    /// A process.
    Process(ProcKey),
}

impl Sum {
    fn read(&mut self, mut now: Vec<(Counted, u64)>) -> u64 {
        now.sort_unstable();
        for (counted, value) in &now {
            if let Ok(at) = self.last.binary_search_by_key(counted, |(last, _)| *last)
                && let Some((_, before)) = self.last.get(at)
            {
                self.total = self.total.saturating_add(value.saturating_sub(*before));
            }
        }
        self.last = now;
        self.total
    }
}

impl Sampler {
    /// A sampler for a machine with this many CPUs.
    #[must_use]
    pub fn new(cpus: Option<u32>) -> Self {
        Self { cpus: cpus.unwrap_or(1), ..Self::default() }
    }

    /// Measures. `members` names the processes of a group.
    pub fn sample(
        &mut self,
        wants: &SampleWants,
        throttle: &Throttle,
        proc: &Proc,
        members: impl Fn(&Name) -> Vec<ProcKey>,
    ) -> Sample {
        let groups = wants.groups.iter().map(|name| self.group(name, throttle, &members)).collect();
        let cpu = if wants.cpu { self.cpu(throttle, proc) } else { None };
        self.forget(throttle);
        Sample {
            pressure: if wants.pressure { pressure(proc) } else { None },
            cpu,
            load: if wants.load { load(proc) } else { None },
            groups,
            clock: (!wants.zones.is_empty()).then(|| wall_clock(&wants.zones)),
        }
    }

    fn group(
        &mut self,
        name: &Name,
        throttle: &Throttle,
        members: &impl Fn(&Name) -> Vec<ProcKey>,
    ) -> GroupSample {
        let meter = self.meters.entry(name.clone()).or_default();
        meter.open(name, throttle);
        let counters = counters(&meter.cgroups, &mut self.by_process, || members(name));
        let used_ns = meter.used.read(counters);
        let (stat, grown) = meter.stat();
        self.throttled_ns = self.throttled_ns.saturating_add(grown);
        GroupSample { group: name.clone(), used_ns, periods: stat.periods, throttled: stat.throttled_periods }
    }

    fn cpu(&mut self, throttle: &Throttle, proc: &Proc) -> Option<CpuSample> {
        for name in throttle.names() {
            let meter = self.meters.entry(name.clone()).or_default();
            meter.open(&name, throttle);
            let (_, grown) = meter.stat();
            self.throttled_ns = self.throttled_ns.saturating_add(grown);
        }
        match proc.busy_us() {
            Ok(busy_us) => {
                Some(CpuSample { cpus: self.cpus, busy_us, throttled_us: self.throttled_ns / 1_000 })
            }
            Err(error) => {
                tracing::error!(%error, "how busy the CPUs are cannot be read");
                None
            }
        }
    }

    /// Forgets groups that are gone, and closes the files beyond what may be open.
    fn forget(&mut self, throttle: &Throttle) {
        if self.meters.len() > 2 * throttle.names().len() + 64 {
            self.meters.retain(|name, _| throttle.with_group(name, |_| ()).is_some());
        }
        let mut open = 0;
        for (name, meter) in &mut self.meters {
            open += meter.cgroups.len();
            if open > OPEN_MOST || throttle.with_group(name, |_| ()).is_none() {
                meter.cgroups.clear();
            }
        }
    }
}

/// What counts a group's CPU time: its cgroups where the kernel accounts there, else its processes one by one, of
/// which those that live shorter than an interval are missed.
fn counters(
    cgroups: &[CpuMeter],
    by_process: &mut bool,
    members: impl FnOnce() -> Vec<ProcKey>,
) -> Vec<(Counted, u64)> {
    if !*by_process && !cgroups.is_empty() {
        // A cgroup that went away meanwhile has nothing more to add.
        let read = |(index, cgroup): (usize, &CpuMeter)| Some((index, cgroup.usage().ok()?));
        let read: Vec<_> = cgroups.iter().enumerate().filter_map(read).collect();
        // Where one hierarchy does not account, none does.
        *by_process = read.iter().any(|(_, used)| used.is_none());
        if !*by_process {
            let counted =
                |(index, used): (usize, Option<CpuUsage>)| Some((Counted::Place(index), used?.used_ns));
            return read.into_iter().filter_map(counted).collect();
        }
    }
    let used = |key| Some((Counted::Process(key), used_ns(key)?));
    members().into_iter().filter_map(used).collect()
}

/// CPU time of a process, all threads it ever had included. One that took over the pid since counts for less than
/// nothing, which is nothing. The clock is made as clock_getcpuclockid(3) makes it (`CPUCLOCK_SCHED` of
/// linux/posix-timers.h), which asks the kernel twice.
pub(super) fn used_ns(key: ProcKey) -> Option<u64> {
    let pid = i32::try_from(key.pid).ok()?;
    let time = clock_gettime(ClockId::from_raw((!pid << 3) | CPUCLOCK_SCHED)).ok()?;
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec()).ok()?))
}

fn pressure(proc: &Proc) -> Option<[PressureSample; 3]> {
    let mut all = [PressureSample::default(); 3];
    for (slot, resource) in all.iter_mut().zip(Resource::ALL) {
        match proc.pressure(resource) {
            Ok(Some(pressure)) => *slot = stalls(&pressure),
            Ok(None) => return None,
            Err(error) => {
                tracing::error!(%error, "pressure cannot be read");
                return None;
            }
        }
    }
    Some(all)
}

fn stalls(pressure: &Pressure) -> PressureSample {
    let averages =
        |stall: crate::procfs::pressure::Stall| [stall.avg10, stall.avg60, stall.avg300].map(Hundredths);
    PressureSample {
        some: averages(pressure.some),
        full: pressure.full.map(averages).unwrap_or_default(),
        some_us: pressure.some.total_us,
    }
}

fn load(proc: &Proc) -> Option<[Hundredths; 3]> {
    match proc.load() {
        Ok(load) => Some(load.map(Hundredths)),
        Err(error) => {
            tracing::error!(%error, "the load cannot be read");
            None
        }
    }
}

fn wall_clock(zones: &[Zone]) -> ClockSample {
    let unix_ms = clock::unix_millis(clock::wall());
    let now = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or_default();
    let offset = |zone: &Zone| {
        let found = match zone.name() {
            Some(name) => match TimeZone::get(name) {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(%error, name, "a time zone is gone");
                    return None;
                }
            },
            None => TimeZone::system(),
        };
        Some((zone.clone(), found.to_offset(now).seconds()))
    };
    ClockSample { unix_ms, offsets: zones.iter().filter_map(offset).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_come_and_go_only_add() {
        let process = |pid| Counted::Process(ProcKey { pid, start: 1 });
        let mut sum = Sum::default();
        assert_eq!(sum.read(vec![(process(1), 500)]), 0, "from before it was looked at");
        assert_eq!(sum.read(vec![(process(2), 900), (process(1), 600)]), 100);
        assert_eq!(sum.read(vec![(process(2), 950)]), 150);
        assert_eq!(sum.read(vec![(process(2), 10), (Counted::Place(0), 7)]), 150, "a reused pid");
        assert_eq!(sum.read(Vec::new()), 150);
    }

    #[test]
    fn this_process_uses_time() {
        let process = Proc::host().unwrap().process(std::process::id()).unwrap().unwrap();
        assert!(used_ns(process.key).unwrap() > 0);
        assert_eq!(used_ns(ProcKey { pid: u32::MAX, start: 1 }), None);
    }

    #[test]
    fn the_clock_has_every_zone() {
        let zones = [Zone::default(), Zone::named("Asia/Kathmandu".to_owned())];
        let clock = wall_clock(&zones);
        assert_eq!(clock.offsets.len(), 2);
        assert_eq!(clock.offsets[1].1, 20_700);
    }
}
