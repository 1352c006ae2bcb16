//! The measures of the machine, out of samples.
//!
//! Pressure on the CPU as the kernel tells it counts tasks that a CPU quota holds back as waiting for a CPU
//! (kernel/sched/psi.c: a throttled task stays runnable). One hog under a quota of 20 % makes 80 % of pressure on an
//! otherwise idle machine. A rule that limits under pressure would so keep itself in force for ever, and a controller
//! would turn its own quota to the minimum. What our quotas cause is therefore taken out here.

use crate::engine::input::{ClockSample, CpuSample, PressureSample, Sample};
use crate::model::hours::LocalMinute;
use crate::model::policy::Zone;
use crate::model::signal::{Hundredths, Resource, Signal, Window};
use crate::model::time::Timestamp;

/// Time constants of the averages, in seconds.
const WINDOWS: [f64; 3] = [10.0, 60.0, 300.0];
/// A remainder of pressure that may come from clocks that are read one after the other.
const BLUR: f64 = 0.03;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge {
    pressure: Option<[PressureSample; 3]>,
    cpu: Option<CpuSample>,
    at: Timestamp,
    /// Whether quotas of ours held anything back so far: until then the kernel's own averages are right.
    ours: bool,
    /// Averages of the pressure on the CPU without what is ours, in hundredths of a percent.
    averages: [f64; 3],
    /// Time of stalls so far, in µs, without what is ours.
    stalled_us: [f64; 3],
    load: Option<[Hundredths; 3]>,
    clock: Option<(Timestamp, ClockSample)>,
}

impl Gauge {
    /// Takes in a sample.
    pub(crate) fn take(&mut self, sample: &Sample, now: Timestamp) {
        if let Some(pressure) = sample.pressure {
            self.take_pressure(pressure, sample.cpu, now);
        }
        if sample.load.is_some() {
            self.load = sample.load;
        }
        if let Some(clock) = &sample.clock {
            self.clock = Some((now, clock.clone()));
        }
    }

    /// A measure; `None` until it was sampled.
    pub(crate) fn value(&self, signal: Signal) -> Option<Hundredths> {
        match signal {
            Signal::Load { window } => Some(self.load?[window.index()]),
            Signal::Pressure { resource: Resource::Cpu, full: false, window } if self.ours => {
                Some(self.average(window))
            }
            Signal::Pressure { resource, full, window } => {
                let pressure = self.pressure.as_ref()?[index(resource)];
                let kind = if full { pressure.full } else { pressure.some };
                Some(kind[window.index()])
            }
        }
    }

    /// Time for which some task waited for a resource so far, in µs since some moment.
    pub(crate) fn stalled_us(&self, resource: Resource) -> Option<f64> {
        self.pressure.is_some().then(|| self.stalled_us[index(resource)])
    }

    /// What the wall clock of a zone shows at a moment after the last sample.
    pub(crate) fn local(&self, zone: &Zone, now: Timestamp) -> Option<LocalMinute> {
        let (at, clock) = self.clock.as_ref()?;
        let (_, offset) = clock.offsets.iter().find(|(known, _)| known == zone)?;
        let since = i64::try_from(now.since(*at).as_millis()).unwrap_or(i64::MAX);
        Some(LocalMinute::at(clock.unix_ms.saturating_add(since), *offset))
    }

    /// Milliseconds until the wall clock shows the next minute, as of the last sample.
    pub(crate) fn to_next_minute(&self) -> Option<u64> {
        let (_, clock) = self.clock.as_ref()?;
        u64::try_from(60_000 - clock.unix_ms.rem_euclid(60_000)).ok()
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 10,000")]
    fn average(&self, window: Window) -> Hundredths {
        Hundredths((self.averages[window.index()] + 0.5).clamp(0.0, 10_000.0) as u32)
    }

    fn take_pressure(&mut self, pressure: [PressureSample; 3], cpu: Option<CpuSample>, now: Timestamp) {
        let kernel = pressure[index(Resource::Cpu)].some;
        if let Some(before) = &self.pressure {
            #[expect(clippy::cast_precision_loss, reason = "microseconds between two samples")]
            let us = |later: u64, earlier: u64| later.saturating_sub(earlier) as f64;
            let elapsed = us(now.as_nanos() / 1_000, self.at.as_nanos() / 1_000).max(1.0);
            for (total, (new, old)) in self.stalled_us.iter_mut().zip(pressure.iter().zip(before)).skip(1) {
                *total += us(new.some_us, old.some_us);
            }
            let cpu_index = index(Resource::Cpu);
            let mut share = us(pressure[cpu_index].some_us, before[cpu_index].some_us) / elapsed;
            if let (Some(new), Some(old)) = (&cpu, &self.cpu) {
                let throttled = us(new.throttled_us, old.throttled_us);
                self.ours |= throttled > 0.0;
                let busy = us(new.busy_us, old.busy_us);
                share = without(share, throttled / elapsed, busy / elapsed, new.cpus);
            }
            self.stalled_us[cpu_index] += share.clamp(0.0, 1.0) * elapsed;
            for (average, window) in self.averages.iter_mut().zip(WINDOWS) {
                let seconds = elapsed / 1e6;
                *average += (share * 10_000.0 - *average) * seconds / (window + seconds);
            }
        }
        if !self.ours {
            self.averages = kernel.map(|value| f64::from(value.0));
        }
        (self.pressure, self.at) = (Some(pressure), now);
        self.cpu = cpu.or(self.cpu);
    }
}

/// The share of time in which tasks wait for a CPU, without those that our quotas hold back.
///
/// The kernel averages over the CPUs that are not idle, to which those count on which somebody is held back
/// (`throttled` and `busy` are in CPUs). The rest is taken to wait independently of them.
fn without(share: f64, throttled: f64, busy: f64, cpus: u32) -> f64 {
    if throttled <= 0.0 {
        return share;
    }
    let not_idle = (busy + throttled).clamp(1.0, f64::from(cpus.max(1)));
    let ours = (throttled / not_idle).min(1.0);
    let rest = share - ours;
    if rest <= BLUR || ours >= 1.0 { 0.0 } else { (rest / (1.0 - ours)).min(1.0) }
}

const fn index(resource: Resource) -> usize {
    match resource {
        Resource::Cpu => 0,
        Resource::Memory => 1,
        Resource::Io => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVG10: Signal = Signal::Pressure { resource: Resource::Cpu, full: false, window: Window::Short };

    fn sample(seconds: u64, some: f64, throttled: f64, busy: f64, cpus: u32) -> Sample {
        let us = |cpus: f64| (seconds as f64 * cpus * 1e6) as u64;
        let mut pressure = [PressureSample::default(); 3];
        pressure[0].some_us = us(some);
        pressure[0].some[0] = Hundredths((some * 1e4) as u32);
        let cpu = Some(CpuSample { cpus, busy_us: us(busy), throttled_us: us(throttled) });
        Sample { pressure: Some(pressure), cpu, ..Sample::default() }
    }

    fn after_a_minute(some: f64, throttled: f64, busy: f64, cpus: u32) -> u32 {
        let mut gauge = Gauge::default();
        for second in 0..60 {
            let now = Timestamp::from_nanos(second * 1_000_000_000);
            gauge.take(&sample(second, some, throttled, busy, cpus), now);
        }
        gauge.value(AVG10).unwrap().0
    }

    #[test]
    fn without_quotas_the_kernels_word_counts() {
        assert_eq!(after_a_minute(0.42, 0.0, 2.0, 4), 4_200);
        assert_eq!(Gauge::default().value(AVG10), None);
    }

    #[test]
    fn what_our_quotas_hold_back_is_not_pressure() {
        // As measured on Linux 6.18: one hog under 20 % on two idle CPUs, and two.
        let nothing = |some, throttled, busy| {
            // What is left after a minute of the first value, which is the kernel's.
            let left = after_a_minute(some, throttled, busy, 2);
            assert!(left < 100, "{left}");
        };
        nothing(0.79, 0.79, 0.2);
        nothing(0.80, 1.60, 0.4);
        // The same beside a program that has the other CPU to itself.
        nothing(0.44, 0.80, 1.0);
    }

    #[test]
    fn what_others_wait_stays() {
        // Tasks wait all the time, and a hog is held back as well.
        assert!(after_a_minute(1.0, 0.8, 1.0, 1) > 9_000);
        let half = after_a_minute(0.9, 0.8, 1.0, 1);
        assert!((4_000..6_000).contains(&half), "{half}");
    }

    #[test]
    fn the_clock_runs_on_between_samples() {
        let mut gauge = Gauge::default();
        let zone = Zone::default();
        assert_eq!(gauge.local(&zone, Timestamp::ZERO), None);
        let clock = ClockSample { unix_ms: 59_500, offsets: vec![(zone.clone(), 3_600)] };
        gauge.take(&Sample { clock: Some(clock), ..Sample::default() }, Timestamp::ZERO);
        assert_eq!(gauge.to_next_minute(), Some(500));
        assert_eq!(gauge.local(&zone, Timestamp::ZERO).unwrap().to_string(), "Thu 01:00");
        let later = Timestamp::from_nanos(600_000_000);
        assert_eq!(gauge.local(&zone, later).unwrap().to_string(), "Thu 01:01");
        assert_eq!(gauge.local(&Zone::named("Asia/Tokyo".to_owned()), later), None);
    }
}
