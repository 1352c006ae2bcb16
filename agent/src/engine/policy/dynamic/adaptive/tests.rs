//! The controller on simulated machines: it comes to rest at the target from above and from below.

use proptest::prelude::*;

use super::*;
use crate::engine::input::{PressureSample, Sample};

fn percent(millis: u64) -> CpuPercent {
    CpuPercent::from_millis(millis).unwrap()
}

fn adaptive(target: Target, min: u64, max: u64, cooldown_ms: u64) -> Adaptive {
    Adaptive {
        target,
        min: percent(min),
        max: percent(max),
        interval_ms: 1_000,
        cooldown_ms,
        deadband_permille: 50,
    }
}

/// A machine on which one group runs, second by second.
struct Plant {
    adaptive: Adaptive,
    controller: Controller,
    gauge: Gauge,
    second: u64,
    group: GroupSample,
    sample: Sample,
    /// Quotas after each second.
    quotas: Vec<f64>,
    /// Use of CPU in each second, in thousandths of a percent.
    used: Vec<f64>,
}

impl Plant {
    fn new(adaptive: Adaptive, start: u64) -> Self {
        let controller = Controller::begin(&adaptive, Some(percent(start)));
        let sample = Sample {
            pressure: Some([PressureSample::default(); 3]),
            load: Some([Hundredths(0); 3]),
            ..Sample::default()
        };
        let (gauge, quotas, used) = (Gauge::default(), Vec::new(), Vec::new());
        let group = GroupSample { group: "plant".parse().unwrap(), used_ns: 0, periods: 0, throttled: 0 };
        Self { adaptive, controller, gauge, second: 0, group, sample, quotas, used }
    }

    fn quota(&self) -> f64 {
        millis(self.controller.quota())
    }

    /// A second in which the group wants and uses so much, in thousandths of a percent, memory stalls for a share of
    /// the time, and the load is as given.
    fn second(&mut self, wanted: f64, used: f64, stalled: f64, load: f64) {
        self.group.used_ns += (used / 100_000.0 * 1e9) as u64;
        self.group.periods += 10;
        self.group.throttled += if wanted >= self.quota() { 10 } else { 0 };
        if let Some(pressure) = &mut self.sample.pressure {
            pressure[1].some_us += (stalled * 1e6) as u64;
        }
        self.sample.load = Some([hundredths(load * 100.0); 3]);
        self.second += 1;
        let now = Timestamp::from_nanos(self.second * 1_000_000_000);
        self.gauge.take(&self.sample, now);
        self.controller.observe(&self.adaptive, &self.group, &self.gauge, now);
        let quota = self.quota();
        assert!((millis(self.adaptive.min)..=millis(self.adaptive.max)).contains(&quota), "{quota}");
        self.quotas.push(quota);
        self.used.push(used);
    }

    fn changes_since(&self, second: usize) -> usize {
        self.quotas[second..].windows(2).filter(|pair| (pair[0] - pair[1]).abs() > 0.5).count()
    }

    fn mean_use_since(&self, second: usize) -> f64 {
        self.used[second..].iter().sum::<f64>() / (self.used.len() - second) as f64
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A greedy group on a machine that gives it a little more or less than its quota.
    #[test]
    fn use_of_cpu_settles_from_above_and_from_below(
        target in 10_000u64..300_000,
        start in 5_000u64..400_000,
        given in 0.85f64..1.1,
    ) {
        let mut plant = Plant::new(adaptive(Target::Cpu(percent(target)), 5_000, 400_000, 3_000), start);
        let target = target as f64;
        for _ in 0..120 {
            let used = plant.quota() * given;
            plant.second(f64::MAX, used, 0.0, 0.0);
        }
        let settled = plant.mean_use_since(30);
        prop_assert!((settled - target).abs() <= target * 0.06, "{} at {:?}", settled, plant.quotas);
        prop_assert_eq!(plant.changes_since(40), 0, "{:?}", plant.quotas);
        // Coming from below it hardly goes beyond.
        let most = plant.used.iter().copied().fold(0.0, f64::max);
        prop_assert!(most <= target.max(start as f64 * given) * 1.1, "{}", most);
    }

    /// Noise as of a quota whose periods do not fit the measurement.
    #[test]
    fn noise_does_not_shake_the_quota(
        target in 20_000u64..200_000,
        start in 5_000u64..400_000,
        noise in prop::collection::vec(-0.06f64..0.06, 240),
    ) {
        let mut plant = Plant::new(adaptive(Target::Cpu(percent(target)), 5_000, 400_000, 3_000), start);
        for noise in &noise {
            let used = plant.quota() * (1.0 + noise);
            plant.second(f64::MAX, used, 0.0, 0.0);
        }
        let target = target as f64;
        let settled = plant.mean_use_since(40);
        prop_assert!((settled - target).abs() <= target * 0.06, "{}", settled);
        prop_assert!(plant.quotas[40..].iter().all(|quota| (quota - target).abs() <= target * 0.15));
    }

    /// A group that comes and goes, or has to share the CPU with others, is never given room to burst through, however
    /// long it went without.
    #[test]
    fn what_a_group_does_not_use_is_not_saved_up(
        target in 20_000u64..100_000,
        demand in prop::collection::vec((1_000f64..400_000.0, 0.1f64..1.0, 1usize..60), 1..12),
    ) {
        let mut plant = Plant::new(adaptive(Target::Cpu(percent(target)), 5_000, 400_000, 3_000), target);
        for (demand, share, seconds) in demand {
            for _ in 0..seconds {
                let gets = demand * share;
                let used = plant.quota().min(gets);
                plant.second(gets, used, 0.0, 0.0);
            }
        }
        let most = plant.used.iter().copied().fold(0.0, f64::max);
        prop_assert!(most <= target as f64 * 1.06, "{} of {}", most, target);
    }

    /// Memory pressure that grows with what the group may use, gently or steeply, on top of what others cause.
    #[test]
    fn pressure_settles_without_swinging(
        target in 500u32..4_000,
        steep in 0.3f64..4.0,
        others in 0.0f64..0.1,
        start in 5_000u64..400_000,
    ) {
        let mut plant =
            Plant::new(adaptive(Target::PressureMemorySome(Hundredths(target)), 5_000, 400_000, 5_000), start);
        let pressure = |quota: f64| {
            // From nothing to nearly everything around a quota of one CPU.
            let way = (quota / 100_000.0).powf(steep);
            (others + (1.0 - others) * way / (1.0 + way)).min(1.0)
        };
        for _ in 0..1_800 {
            let quota = plant.quota();
            plant.second(f64::MAX, quota, pressure(quota), 0.0);
        }
        let (value, wanted) = (pressure(plant.quota()), f64::from(target) / 10_000.0);
        let bound = plant.quota() <= 5_100.0 && value > wanted || plant.quota() >= 399_900.0 && value < wanted;
        prop_assert!(bound || (value - wanted).abs() <= wanted * 0.12, "{} {}", value, wanted);
        prop_assert!(plant.changes_since(1_200) <= 12, "{:?}", &plant.quotas[1_200..]);
    }

    /// The load average lags by a minute; a controller that does not wait swings for ever.
    #[test]
    fn a_lagging_load_settles(
        target in 150u32..800,
        others in 0.0f64..1.0,
        hogs in 2.0f64..16.0,
        start in 5_000u64..400_000,
    ) {
        let mut plant = Plant::new(adaptive(Target::Load1(Hundredths(target)), 5_000, 400_000, 30_000), start);
        let mut load = others;
        let settled = |quota: f64| others + hogs * (quota / 100_000.0 / hogs).min(1.0);
        for _ in 0..7_200 {
            let quota = plant.quota();
            load += (settled(quota) - load) / 60.0;
            let used = quota.min(hogs * 100_000.0);
            plant.second(hogs * 100_000.0, used, 0.0, load);
        }
        let (value, wanted) = (settled(plant.quota()), f64::from(target) / 100.0);
        let bound = plant.quota() >= 396_000.0 && value < wanted
            || plant.quota() <= 5_100.0 && value > wanted
            || plant.quota() > hogs * 100_000.0;
        prop_assert!(bound || (value - wanted).abs() <= wanted * 0.15, "{} {}", value, wanted);
        let late = &plant.quotas[5_400..];
        let (low, high) = late.iter().fold((f64::MAX, 0.0f64), |(low, high), quota| (low.min(*quota), high.max(*quota)));
        prop_assert!(high <= low * 1.25, "it swings from {} to {}", low, high);
    }
}

#[test]
fn pressure_that_falls_at_a_step_does_not_make_it_swing() {
    // Below one CPU there is no pressure at all, above it there is nothing else.
    let mut plant =
        Plant::new(adaptive(Target::PressureMemorySome(Hundredths(1_000)), 5_000, 400_000, 5_000), 400_000);
    for _ in 0..3_600 {
        let quota = plant.quota();
        plant.second(f64::MAX, quota, if quota > 100_000.0 { 0.9 } else { 0.0 }, 0.0);
    }
    let late = &plant.quotas[2_400..];
    let (low, high) =
        late.iter().fold((f64::MAX, 0.0f64), |(low, high), quota| (low.min(*quota), high.max(*quota)));
    assert!(low > 88_000.0 && high < 110_000.0, "it swings from {low} to {high}");
}

#[test]
fn nothing_is_decided_before_the_cooldown_nor_across_a_gap() {
    let policy = adaptive(Target::Cpu(percent(40_000)), 5_000, 400_000, 3_000);
    let mut controller = Controller::begin(&policy, Some(percent(200_000)));
    let gauge = Gauge::default();
    let observe = |controller: &mut Controller, second: u64, used_seconds: u64| {
        let used_ns = used_seconds * 1_000_000_000;
        let sample = GroupSample { group: "g".parse().unwrap(), used_ns, periods: 0, throttled: 0 };
        controller.observe(&policy, &sample, &gauge, Timestamp::from_nanos(second * 1_000_000_000))
    };
    assert!(!observe(&mut controller, 0, 0));
    assert!(!observe(&mut controller, 1, 2));
    controller.interrupt();
    assert!(!observe(&mut controller, 3, 6), "the measurement begins anew");
    assert!(!observe(&mut controller, 5, 8));
    assert!(observe(&mut controller, 6, 12));
    assert_eq!(controller.quota(), percent(40_000));
    let told = controller.readings();
    assert_eq!(told[0].to_string(), "group cpu is 200.00% (target cpu 40% within 5.00%)");
}
