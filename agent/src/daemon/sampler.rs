//! Measures what the engine asks for: pressure, load, CPU time of groups, the wall clock. Decides nothing.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::cgroup::{Controller, CpuStat, CpuUsage};
use crate::clock;
use crate::effect::Throttle;
use crate::engine::action::SampleWants;
use crate::engine::input::{ClockSample, CpuSample, GroupSample, PressureSample, Sample};
use crate::model::id::{Name, ProcKey};
use crate::model::policy::Zone;
use crate::model::signal::{Hundredths, Resource};
use crate::procfs::Proc;
use crate::procfs::pressure::Pressure;

/// See the module.
#[derive(Debug, Default)]
pub struct Sampler {
    /// CPUs online.
    cpus: u32,
    used: BTreeMap<Name, Meter>,
    throttled: BTreeMap<Name, Meter>,
    throttled_ns: u64,
    /// Whether the kernel accounts CPU time where limits are; it is asked once.
    by_process: bool,
}

/// A sum of counters that come and go: what each has grown by since it was first seen.
#[derive(Debug, Default)]
struct Meter {
    total: u64,
    last: BTreeMap<Counted, u64>,
}

/// What has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    /// The group's cgroup of this place.
    Place(usize),
    /// A process.
    Process(ProcKey),
}

impl Meter {
    fn read(&mut self, counters: impl IntoIterator<Item = (Counted, u64)>) -> u64 {
        let now: BTreeMap<Counted, u64> = counters.into_iter().collect();
        for (counted, value) in &now {
            if let Some(before) = self.last.get(counted) {
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
        let mut groups = Vec::with_capacity(wants.groups.len());
        for name in &wants.groups {
            let counters = self.counters(name, throttle, &members);
            let used_ns = self.used.entry(name.clone()).or_default().read(counters);
            let CpuStat { periods, throttled_periods: throttled, .. } = quota_stat(throttle, name);
            groups.push(GroupSample { group: name.clone(), used_ns, periods, throttled });
        }
        if self.used.len() > 2 * wants.groups.len() + 64 {
            self.used.retain(|name, _| throttle.group(name).is_some());
        }
        Sample {
            pressure: if wants.pressure { pressure(proc) } else { None },
            cpu: if wants.cpu { self.cpu(throttle, proc) } else { None },
            load: if wants.load { load(proc) } else { None },
            groups,
            clock: (!wants.zones.is_empty()).then(|| wall_clock(&wants.zones)),
        }
    }

    /// What counts a group's CPU time: its cgroups where the kernel accounts there, else its processes one by one,
    /// of which those that live shorter than an interval are missed.
    fn counters(
        &mut self,
        name: &Name,
        throttle: &Throttle,
        members: &impl Fn(&Name) -> Vec<ProcKey>,
    ) -> Vec<(Counted, u64)> {
        if !self.by_process
            && let Some(group) = throttle.group(name)
            && !group.places.is_empty()
        {
            let dirs = group.places.iter().filter_map(|place| place.dir(Controller::Cpu)).enumerate();
            // A cgroup that went away meanwhile has nothing more to add.
            let read: Vec<_> =
                dirs.filter_map(|(index, dir)| Some((index, CpuUsage::read(dir).ok()?))).collect();
            // Where one hierarchy does not account, none does.
            self.by_process = read.iter().any(|(_, used)| used.is_none());
            if !self.by_process {
                let counted =
                    |(index, used): (usize, Option<CpuUsage>)| Some((Counted::Place(index), used?.used_ns));
                return read.into_iter().filter_map(counted).collect();
            }
        }
        let used = |key| Some((Counted::Process(key), used_ns(key)?));
        members(name).into_iter().filter_map(used).collect()
    }

    fn cpu(&mut self, throttle: &Throttle, proc: &Proc) -> Option<CpuSample> {
        let mut gone = std::mem::take(&mut self.throttled);
        for (name, group) in throttle.groups() {
            let dirs = group.places.iter().enumerate();
            let dirs = dirs.filter_map(|(index, place)| Some((index, place.dir(Controller::Cpu)?)));
            // A cgroup that went away meanwhile has nothing more to add.
            let stats = dirs.filter_map(|(index, dir)| Some((index, CpuStat::read(dir).ok()?)));
            let counters = stats.map(|(index, stat)| (Counted::Place(index), stat.throttled_ns));
            let mut meter = gone.remove(&name).unwrap_or_default();
            let before = meter.total;
            let grown = meter.read(counters).saturating_sub(before);
            self.throttled_ns = self.throttled_ns.saturating_add(grown);
            self.throttled.insert(name, meter);
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
}

/// What the quota of a group did, summed over its cgroups; nothing where it has none.
fn quota_stat(throttle: &Throttle, name: &Name) -> CpuStat {
    let mut sum = CpuStat::default();
    let places = throttle.group(name).map(|group| group.places).unwrap_or_default();
    // A cgroup that went away meanwhile has nothing more to add.
    for stat in places.iter().filter_map(|place| CpuStat::read(place.dir(Controller::Cpu)?).ok()) {
        sum.periods += stat.periods;
        sum.throttled_periods += stat.throttled_periods;
        sum.throttled_ns += stat.throttled_ns;
    }
    sum
}

/// CPU time of a process, all threads it ever had included (clock_getcpuclockid(3)). One that took over the pid
/// since counts for less than nothing, which is nothing.
fn used_ns(key: ProcKey) -> Option<u64> {
    let pid = i32::try_from(key.pid).ok()?;
    let time = clock_gettime(clock_getcpuclockid(Pid::from_raw(pid)).ok()?).ok()?;
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
        let mut meter = Meter::default();
        assert_eq!(meter.read([(process(1), 500)]), 0, "from before it was looked at");
        assert_eq!(meter.read([(process(1), 600), (process(2), 900)]), 100);
        assert_eq!(meter.read([(process(2), 950)]), 150);
        assert_eq!(meter.read([(process(2), 10), (Counted::Place(0), 7)]), 150, "a reused pid");
        assert_eq!(meter.read([]), 150);
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
