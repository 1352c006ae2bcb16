//! A controller that sets a CPU quota so that something measured stays at its target.
//!
//! What is measured is always the whole time since the last decision, so that nothing of an earlier quota is in it
//! and periods of the quota average out. Only additions, multiplications and divisions: the same on every machine.

use crate::engine::input::GroupSample;
use crate::engine::policy::dynamic::gauge::Gauge;
use crate::model::policy::{Adaptive, Target};
use crate::model::reason::Reading;
use crate::model::signal::{Hundredths, Signal, Window};
use crate::model::time::Timestamp;
use crate::model::unit::CpuPercent;

/// A group is held back by its quota when it uses it up in at least this share of its periods. In the others it is
/// something else that keeps it from using more: itself, or whoever else wants the CPU.
const HELD: f64 = 0.8;
/// A quota is at most doubled at a time.
const RISE_MAX: f64 = 2.0;
/// Within this distance of the target half of the way is gone at a time.
const NEAR: f64 = 0.25;
/// Share of the quota by which it is changed at first when a measure of the machine is at twice its target.
const STEP: f64 = 0.3;
/// Bounds of that share.
const STEP_MIN: f64 = 0.02;
const STEP_MAX: f64 = 0.4;
/// Quotas are whole tenths of a percent.
const GRAIN: f64 = 100.0;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    quota: CpuPercent,
    mark: Option<Mark>,
    step: f64,
    /// Sign of the last error that was acted upon.
    side: i8,
    /// What was measured last, for people.
    readings: Vec<Reading>,
}

/// Where a measurement began.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Timestamp,
    used_ns: u64,
    periods: u64,
    throttled: u64,
    stalled_us: Option<f64>,
}

/// A measurement.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// CPU time of the group, in thousandths of a percent of a CPU.
    used: f64,
    /// Whether its quota held it back.
    held: bool,
    /// The controlled quantity, in the unit of its target.
    value: f64,
}

impl Controller {
    pub(crate) fn begin(adaptive: &Adaptive, start: Option<CpuPercent>) -> Self {
        let start = start.unwrap_or(match adaptive.target {
            Target::Cpu(target) => target,
            Target::PressureCpuSome(_)
            | Target::PressureMemorySome(_)
            | Target::PressureIoSome(_)
            | Target::Load1(_) => adaptive.max,
        });
        Self {
            quota: start.clamp(adaptive.min, adaptive.max),
            mark: None,
            step: STEP,
            side: 0,
            readings: Vec::new(),
        }
    }

    pub(crate) const fn quota(&self) -> CpuPercent {
        self.quota
    }

    pub(crate) fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// Forgets the measurement: the quota was not in force all the time.
    pub(crate) const fn interrupt(&mut self) {
        self.mark = None;
    }

    /// Takes in what the group has used so far, and decides when enough time has passed. Whether the quota changed.
    pub(crate) fn observe(
        &mut self,
        adaptive: &Adaptive,
        sample: &GroupSample,
        gauge: &Gauge,
        now: Timestamp,
    ) -> bool {
        let stalled_us = adaptive.target.resource().and_then(|resource| gauge.stalled_us(resource));
        let GroupSample { group: _, used_ns, periods, throttled } = *sample;
        let here = Mark { at: now, used_ns, periods, throttled, stalled_us };
        let Some(mark) = self.mark.filter(|mark| mark.used_ns <= used_ns) else {
            self.mark = Some(here);
            return false;
        };
        if now.since(mark.at) < adaptive.cooldown() {
            return false;
        }
        self.mark = Some(here);
        let Some(measured) = measure(adaptive.target, mark, here, gauge) else { return false };
        let new = self.decide(adaptive, measured).clamp(millis(adaptive.min), millis(adaptive.max));
        self.readings = readings(adaptive, measured);
        let old = millis(self.quota);
        if (new - old).abs() < (old / 200.0).max(GRAIN) {
            return false;
        }
        let Some(quota) = quota(new) else { return false };
        self.quota = quota.clamp(adaptive.min, adaptive.max);
        true
    }

    /// The quota that should be, in thousandths of a percent.
    fn decide(&mut self, adaptive: &Adaptive, measured: Measured) -> f64 {
        let (quota, used) = (millis(self.quota), measured.used);
        let target = value(adaptive.target);
        let error = (measured.value - target) / target;
        if error.abs() <= f64::from(adaptive.deadband_permille) / 1_000.0 {
            return quota;
        }
        if error < 0.0 && !measured.held {
            // More of what it does not use would only let it burst later.
            return quota;
        }
        // What counts is what the group really gets.
        let base = if error > 0.0 { quota.min(used.max(millis(adaptive.min))) } else { quota };
        match adaptive.target {
            Target::Cpu(_) => {
                let aim = base * (target / measured.value.max(1.0)).min(RISE_MAX);
                if error.abs() <= NEAR { f64::midpoint(quota, aim) } else { aim }
            }
            Target::PressureCpuSome(_)
            | Target::PressureMemorySome(_)
            | Target::PressureIoSome(_)
            | Target::Load1(_) => {
                let side = if error > 0.0 { 1 } else { -1 };
                // Too far is noticed by coming out on the other side: the next steps are smaller, which ends in
                // rest whatever the machine makes of a change.
                self.step = if side == self.side {
                    (self.step * 1.3).min(STEP_MAX)
                } else if self.side == 0 {
                    self.step
                } else {
                    (self.step / 2.0).max(STEP_MIN)
                };
                self.side = side;
                // Slower up than down: the others come first.
                let way = if error > 0.0 { error.min(1.0) } else { error.max(-1.0) / 2.0 };
                base * (1.0 - self.step * way)
            }
        }
    }
}

fn measure(target: Target, mark: Mark, here: Mark, gauge: &Gauge) -> Option<Measured> {
    let elapsed_ns = here.at.since(mark.at).as_nanos();
    if elapsed_ns == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 for any time between two decisions")]
    let (elapsed_ns, used_ns) = (elapsed_ns as f64, (here.used_ns - mark.used_ns) as f64);
    let used = used_ns / elapsed_ns * 100_000.0;
    let value = match target {
        Target::Cpu(_) => used,
        Target::PressureCpuSome(_) | Target::PressureMemorySome(_) | Target::PressureIoSome(_) => {
            let stalled_us = here.stalled_us? - mark.stalled_us?;
            (stalled_us * 1_000.0 / elapsed_ns).clamp(0.0, 1.0) * 10_000.0
        }
        Target::Load1(_) => f64::from(gauge.value(Signal::Load { window: Window::Short })?.0),
    };
    let periods = here.periods.saturating_sub(mark.periods);
    let throttled = here.throttled.saturating_sub(mark.throttled);
    #[expect(clippy::cast_precision_loss, reason = "ten a second")]
    let held = periods > 0 && throttled as f64 >= periods as f64 * HELD;
    Some(Measured { used, held, value })
}

fn readings(adaptive: &Adaptive, measured: Measured) -> Vec<Reading> {
    let deadband = Hundredths(adaptive.deadband_permille * 10);
    let used = Reading {
        what: "group cpu".to_owned(),
        value: shown_percent(measured.used / 10.0),
        threshold: format!("quota from {} to {}", adaptive.min, adaptive.max),
    };
    let value = match adaptive.target {
        Target::Cpu(_) => shown_percent(measured.value / 10.0),
        Target::PressureCpuSome(_) | Target::PressureMemorySome(_) | Target::PressureIoSome(_) => {
            shown_percent(measured.value)
        }
        Target::Load1(_) => hundredths(measured.value).to_string(),
    };
    let threshold = format!("target {} within {deadband}%", adaptive.target);
    match adaptive.target {
        Target::Cpu(_) => vec![Reading { threshold, ..used }],
        Target::PressureCpuSome(_)
        | Target::PressureMemorySome(_)
        | Target::PressureIoSome(_)
        | Target::Load1(_) => {
            vec![Reading { what: adaptive.target.key().to_owned(), value, threshold }, used]
        }
    }
}

fn shown_percent(value: f64) -> String {
    format!("{}%", hundredths(value))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the type's range")]
fn hundredths(value: f64) -> Hundredths {
    Hundredths((value + 0.5).clamp(0.0, f64::from(u32::MAX)) as u32)
}

#[expect(clippy::cast_precision_loss, reason = "at most 10^8")]
fn millis(percent: CpuPercent) -> f64 {
    percent.millis() as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within [min, max] of the policy"
)]
fn quota(millis: f64) -> Option<CpuPercent> {
    CpuPercent::from_millis(((millis / GRAIN + 0.5) as u64) * 100)
}

fn value(target: Target) -> f64 {
    match target {
        Target::Cpu(percent) => millis(percent),
        Target::PressureCpuSome(value)
        | Target::PressureMemorySome(value)
        | Target::PressureIoSome(value)
        | Target::Load1(value) => f64::from(value.0.max(1)),
    }
}

#[cfg(test)]
mod tests;
