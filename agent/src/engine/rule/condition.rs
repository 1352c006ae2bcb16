//! Conditions of rules on the machine: each with a memory, so that a value near its threshold does not switch a rule
//! on and off. It must not act.

use std::time::Duration;

use crate::engine::policy::dynamic::gauge::Gauge;
use crate::model::limits::Limits;
use crate::model::policy::{Policy, Schedule, Side, Threshold, When, Zone};
use crate::model::reason::Reading;
use crate::model::signal::Hundredths;
use crate::model::time::Timestamp;

/// What must hold for a rule to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    when: Option<When>,
    /// One of the windows must, because there are no limits outside of them.
    windows: Option<Schedule>,
}

impl Gate {
    /// The gate of a rule; `None` when it always holds.
    pub(crate) fn of(when: Option<&When>, limits: &Limits, policy: &Policy) -> Option<Self> {
        let windows = match policy {
            Policy::Schedule(schedule) if limits.is_empty() => Some(schedule.clone()),
            Policy::Schedule(_)
            | Policy::Fixed
            | Policy::Gradual(_)
            | Policy::Adaptive(_)
            | Policy::Latency(_) => None,
        };
        (when.is_some() || windows.is_some()).then(|| Self { when: when.cloned(), windows })
    }

    /// The measures that it depends on.
    pub(crate) fn thresholds(&self) -> &[Threshold] {
        self.when.as_ref().map_or(&[], |when| &when.thresholds)
    }

    /// The zones whose clocks it depends on.
    pub(crate) fn zones(&self) -> impl Iterator<Item = &Zone> {
        let hours = self.when.as_ref().filter(|when| when.hours.is_some()).map(|when| &when.timezone);
        hours.into_iter().chain(self.windows.as_ref().map(|windows| &windows.timezone))
    }
}

/// Whether a rule holds, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Latch {
    pub(crate) gate: Gate,
    pub(crate) on: bool,
    pub(crate) changed: Option<Timestamp>,
    pub(crate) readings: Vec<Reading>,
}

impl Latch {
    /// One that does not hold before anything is measured.
    pub(crate) const fn new(gate: Gate) -> Self {
        Self { gate, on: false, changed: None, readings: Vec::new() }
    }

    /// Looks at the measures. Whether it changed.
    pub(crate) fn look(&mut self, gauge: &Gauge, now: Timestamp) -> bool {
        self.readings.clear();
        let timely = self.timely(gauge, now);
        let measured = self.measured(gauge);
        if (timely && measured) == self.on {
            return false;
        }
        let cooldown = self.gate.when.as_ref().map_or(0, |when| when.cooldown_ms);
        let resting =
            self.changed.is_some_and(|changed| now.since(changed) < Duration::from_millis(cooldown));
        // Hours begin and end on time; only measures wait.
        let by_measures = !self.gate.thresholds().is_empty() && (timely || !self.on);
        if resting && by_measures {
            return false;
        }
        self.on = timely && measured;
        self.changed = Some(now);
        true
    }

    fn timely(&mut self, gauge: &Gauge, now: Timestamp) -> bool {
        let mut timely = true;
        let hours = self.gate.when.as_ref().and_then(|when| Some((when.hours.as_ref()?, &when.timezone)));
        if let Some((hours, zone)) = hours {
            let local = gauge.local(zone, now);
            timely &= local.is_some_and(|local| hours.contain(local));
            self.readings.push(clock(local, format!("holds {hours}")));
        }
        if let Some(schedule) = &self.gate.windows {
            let local = gauge.local(&schedule.timezone, now);
            let window =
                local.and_then(|local| schedule.windows.iter().find(|window| window.hours.contain(local)));
            timely &= window.is_some();
            let threshold = match window {
                Some(window) => format!("within {}", window.hours),
                None => "outside of all windows".to_owned(),
            };
            self.readings.push(clock(local, threshold));
        }
        timely
    }

    fn measured(&mut self, gauge: &Gauge) -> bool {
        let mut holds = true;
        for threshold in self.gate.when.iter().flat_map(|when| &when.thresholds) {
            let value = gauge.value(threshold.signal);
            holds &= value.is_some_and(|value| satisfies(value, threshold, self.on));
            let Threshold { side, on, off, .. } = threshold;
            let side = match side {
                Side::Above => "above",
                Side::Below => "below",
            };
            self.readings.push(Reading {
                what: threshold.signal.to_string(),
                value: value.map_or_else(|| "not known".to_owned(), |value| value.to_string()),
                threshold: format!("holds {side} {on}, until {off}"),
            });
        }
        holds
    }
}

fn clock(local: Option<crate::model::hours::LocalMinute>, threshold: String) -> Reading {
    let value = local.map_or_else(|| "not known".to_owned(), |local| local.to_string());
    Reading { what: "clock".to_owned(), value, threshold }
}

fn satisfies(value: Hundredths, threshold: &Threshold, on: bool) -> bool {
    match (threshold.side, on) {
        (Side::Above, false) => value > threshold.on,
        (Side::Above, true) => value >= threshold.off,
        (Side::Below, false) => value < threshold.on,
        (Side::Below, true) => value <= threshold.off,
    }
}
