//! How the limits of one group move: along a ramp, after a target, by the hour. It must not act: the group's next
//! application carries what is decided here.

pub(crate) mod adaptive;
pub(crate) mod gauge;
pub(crate) mod gradual;
pub(crate) mod latency;

use crate::engine::input::GroupSample;
use crate::engine::policy::dynamic::adaptive::Controller;
use crate::engine::policy::dynamic::gauge::Gauge;
use crate::engine::policy::dynamic::gradual::Ramp;
use crate::engine::policy::dynamic::latency::Yielding;
use crate::model::limits::Limits;
use crate::model::policy::{Adaptive, Policy, Schedule};
use crate::model::reason::Reading;
use crate::model::time::{Timestamp, nanos};
use crate::model::unit::CpuPercent;

/// The moving limits of a group.
#[derive(Clone, Debug)]
pub(crate) struct Motion {
    /// The limits now.
    limits: Limits,
    state: State,
    /// When [`Self::step`] or a measurement is due.
    pub(crate) due: Option<Timestamp>,
    /// When the limits changed last.
    pub(crate) changed: Option<Timestamp>,
    readings: Vec<Reading>,
}

#[derive(Clone, Debug)]
enum State {
    Ramp(Ramp),
    Adaptive(Box<Adaptive>, Controller),
    /// The limits outside of all windows, and the window that holds now.
    Schedule(Box<Schedule>, Limits, Option<usize>),
    Latency(Box<Yielding>),
}

impl Motion {
    /// Begins to move the limits of a group that may be limited already; `None` when they do not move.
    pub(crate) fn begin(
        limits: &Limits,
        policy: &Policy,
        present: Option<CpuPercent>,
        now: Timestamp,
    ) -> Option<Self> {
        let (state, due) = match policy {
            Policy::Fixed => return None,
            Policy::Gradual(gradual) => {
                // Without an end there is nowhere to go; the configuration refuses that.
                let ramp = Ramp::begin(gradual, limits.cpu?, present, now);
                (State::Ramp(ramp), ramp.next(now))
            }
            Policy::Adaptive(adaptive) => {
                let controller = Controller::begin(adaptive, present.or(limits.cpu));
                (State::Adaptive(Box::new(adaptive.clone()), controller), Some(now))
            }
            Policy::Schedule(schedule) => {
                (State::Schedule(Box::new(schedule.clone()), limits.clone(), None), None)
            }
            Policy::Latency(latency) => (State::Latency(Box::new(Yielding::begin(latency, limits))), None),
        };
        let mut motion = Self { limits: limits.clone(), state, due, changed: None, readings: Vec::new() };
        motion.limits = motion.present(now);
        Some(motion)
    }

    /// The limits now.
    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What decided about them last.
    pub(crate) fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// Whether it needs to know what the group uses.
    pub(crate) const fn adaptive(&self) -> Option<&Adaptive> {
        match &self.state {
            State::Adaptive(adaptive, _) => Some(adaptive),
            State::Ramp(_) | State::Schedule(..) | State::Latency(_) => None,
        }
    }

    /// Whether it needs to know the time of day.
    pub(crate) const fn schedule(&self) -> Option<&Schedule> {
        match &self.state {
            State::Schedule(schedule, ..) => Some(schedule),
            State::Adaptive(..) | State::Ramp(_) | State::Latency(_) => None,
        }
    }

    /// How far the group gives way to critical processes, where it does so at all.
    pub(crate) const fn yielding(&self) -> Option<&Yielding> {
        match &self.state {
            State::Latency(yielding) => Some(yielding),
            State::Adaptive(..) | State::Ramp(_) | State::Schedule(..) => None,
        }
    }

    /// Has the group give way otherwise, on account of what was measured. Whether the limits changed.
    pub(crate) fn give_way(
        &mut self,
        step: impl FnOnce(&mut Yielding) -> bool,
        readings: &[Reading],
        now: Timestamp,
    ) -> bool {
        let State::Latency(yielding) = &mut self.state else { return false };
        if !step(yielding) {
            return false;
        }
        self.readings = readings.to_vec();
        self.renew(now)
    }

    /// Takes the step of a ramp that is due. Whether the limits changed.
    pub(crate) fn step(&mut self, now: Timestamp) -> bool {
        let State::Ramp(ramp) = &self.state else { return false };
        self.due = ramp.next(now);
        let reading = Reading {
            what: "time".to_owned(),
            value: format!("{}%", ramp.progress(now)),
            threshold: "of the ramp".to_owned(),
        };
        self.readings = vec![reading];
        self.renew(now)
    }

    /// Sets when the next measurement is due: all groups at the same moments, so that one waking serves all.
    pub(crate) fn measure_next(&mut self, now: Timestamp) {
        if let State::Adaptive(adaptive, _) = &self.state {
            let interval = nanos(adaptive.interval()).max(1);
            let next = (now.as_nanos() / interval).saturating_add(1).saturating_mul(interval);
            self.due = Some(Timestamp::from_nanos(next));
        }
    }

    /// Forgets what was measured under a quota that was not in force all the time.
    pub(crate) const fn interrupt(&mut self) {
        if let State::Adaptive(_, controller) = &mut self.state {
            controller.interrupt();
        }
    }

    /// Takes in what the group has used. Whether the limits changed.
    pub(crate) fn observe(&mut self, sample: &GroupSample, gauge: &Gauge, now: Timestamp) -> bool {
        let State::Adaptive(adaptive, controller) = &mut self.state else { return false };
        controller.observe(adaptive, sample, gauge, now);
        self.readings = controller.readings().to_vec();
        self.renew(now)
    }

    /// Looks at the clock. Whether the limits changed.
    pub(crate) fn look_at_clock(&mut self, gauge: &Gauge, now: Timestamp) -> bool {
        let State::Schedule(schedule, _, span) = &mut self.state else { return false };
        let Some(local) = gauge.local(&schedule.timezone, now) else { return false };
        *span = schedule.windows.iter().position(|window| window.hours.contain(local));
        let threshold = match span.and_then(|index| schedule.windows.get(index)) {
            Some(window) => format!("within {}", window.hours),
            None => "outside of all windows".to_owned(),
        };
        self.readings = vec![Reading { what: "clock".to_owned(), value: local.to_string(), threshold }];
        self.renew(now)
    }

    fn renew(&mut self, now: Timestamp) -> bool {
        let limits = self.present(now);
        if limits == self.limits {
            return false;
        }
        self.limits = limits;
        self.changed = Some(now);
        true
    }

    fn present(&self, now: Timestamp) -> Limits {
        match &self.state {
            State::Ramp(ramp) => Limits { cpu: Some(ramp.at(now)), ..self.limits.clone() },
            State::Adaptive(_, controller) => Limits { cpu: Some(controller.quota()), ..self.limits.clone() },
            State::Schedule(schedule, outside, span) => {
                let window = span.and_then(|index| schedule.windows.get(index));
                window.map_or_else(|| outside.clone(), |window| window.limits.clone())
            }
            State::Latency(yielding) => yielding.limits(),
        }
    }
}
