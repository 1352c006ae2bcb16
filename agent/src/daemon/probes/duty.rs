//! When the probes are armed: what the configuration, pressure, looks and the budget ask for. Pure: told the time.

use std::time::Duration;

use crate::config::probes::{ProbesMode, ProbesSettings};
use crate::control::proto::FeatureState;
use crate::daemon::probes::rate::{NANOS_PER_SWITCH, cost};
use crate::model::signal::Hundredths;
use crate::model::time::Timestamp;

/// For how long probes that cost too much, or failed, stay away.
const REST: Duration = Duration::from_secs(60);
/// Looks come in rows: between two of them the probes stay armed.
const LINGER: Duration = Duration::from_secs(3);
/// Costs above the budget in a row that are too many: one may be a burst.
const OVER_MAX: u32 = 2;

/// Why the probes are armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArmedBy {
    Configuration,
    Objective,
    Pressure,
    Look,
}

impl ArmedBy {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "the configuration",
            Self::Objective => "an objective",
            Self::Pressure => "pressure",
            Self::Look => "a look",
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Arm,
    Disarm,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Duty {
    settings: ProbesSettings,
    armed: bool,
    /// The end of the window that pressure has begun.
    window: Option<Timestamp>,
    /// Whether a critical process with an objective lives.
    listens: bool,
    /// Until when looks keep the probes armed.
    linger: Option<Timestamp>,
    /// Until when they stay away, and why.
    rest: Option<(Timestamp, String)>,
    /// Costs above the budget in a row.
    over: u32,
    cost: Option<Hundredths>,
    /// What a switch is reckoned to cost, ns.
    per_switch_ns: u64,
}

impl Duty {
    pub(super) const fn new(settings: ProbesSettings) -> Self {
        Self {
            settings,
            armed: false,
            window: None,
            listens: false,
            linger: None,
            rest: None,
            over: 0,
            cost: None,
            per_switch_ns: NANOS_PER_SWITCH,
        }
    }

    /// A switch costs so much on this machine, in ns.
    pub(super) const fn reckon(&mut self, per_switch_ns: u64) {
        self.per_switch_ns = per_switch_ns;
    }

    /// What a switch is reckoned to cost, ns.
    pub(super) const fn per_switch_ns(&self) -> u64 {
        self.per_switch_ns
    }

    /// Processes have waited for CPUs. A window that is open is not made longer: it is bounded.
    pub(super) fn pressed(&mut self, now: Timestamp) {
        if self.settings.mode == ProbesMode::Auto && self.window.is_none() {
            self.window = Some(now.after(self.settings.window));
        }
    }

    /// Whether a critical process with an objective lives: as long as one does, the probes are armed.
    pub(super) const fn listens(&mut self, listens: bool) {
        self.listens = listens;
    }

    /// Somebody looks, and the probes are armed for it.
    pub(super) fn looked(&mut self, now: Timestamp) {
        self.armed = true;
        self.linger = Some(now.after(LINGER));
    }

    /// They could not be armed, or were disarmed as they could not be read.
    pub(super) fn failed(&mut self, now: Timestamp, why: String) {
        self.armed = false;
        self.rest = Some((now.after(REST), why));
    }

    /// What the switches since the last time have cost. Above the budget for long enough, and while nobody looks, the
    /// probes are shed; then what they cost.
    pub(super) fn weigh(
        &mut self,
        now: Timestamp,
        switches: u64,
        time: Duration,
        looking: bool,
    ) -> Option<Hundredths> {
        let cost = cost(switches, self.per_switch_ns, time);
        self.cost = Some(cost);
        self.over = if cost > self.settings.budget { self.over.saturating_add(1) } else { 0 };
        if looking {
            // As long as it lasts somebody wants to know, and is told the cost.
            self.linger = Some(now.after(LINGER));
            return None;
        }
        if self.over < OVER_MAX {
            return None;
        }
        let budget = self.settings.budget;
        self.rest =
            Some((now.after(REST), format!("shed: they cost {cost} % of a CPU, and may cost {budget} %")));
        (self.over, self.window, self.linger) = (0, None, None);
        Some(cost)
    }

    /// What is to be done now; it is taken to be done.
    pub(super) fn step(&mut self, now: Timestamp, looking: bool) -> Step {
        let over = |until: &Option<Timestamp>| until.is_some_and(|until| until <= now);
        if over(&self.window) {
            self.window = None;
        }
        if over(&self.linger) && !looking {
            self.linger = None;
        }
        if self.rest.as_ref().is_some_and(|(until, _)| *until <= now) {
            self.rest = None;
        }
        let standing = self.settings.mode == ProbesMode::On || self.window.is_some() || self.listens;
        let wanted = looking || self.linger.is_some() || (standing && self.rest.is_none());
        let step = match (self.armed, wanted) {
            (false, true) => Step::Arm,
            (true, false) => Step::Disarm,
            (true, true) | (false, false) => Step::Nothing,
        };
        self.armed = wanted;
        if step == Step::Disarm {
            (self.cost, self.over) = (None, 0);
        }
        step
    }

    /// When [`Self::step`] may have to do something.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let rest = self.rest.as_ref().map(|(until, _)| *until);
        [self.window, self.linger, rest].into_iter().flatten().min()
    }

    /// Why they are armed, if they are.
    pub(super) fn armed_by(&self) -> Option<ArmedBy> {
        if !self.armed {
            return None;
        }
        Some(match (self.settings.mode, self.window) {
            (ProbesMode::On, _) if self.rest.is_none() => ArmedBy::Configuration,
            (_, _) if self.listens && self.rest.is_none() => ArmedBy::Objective,
            (_, Some(_)) => ArmedBy::Pressure,
            (_, None) => ArmedBy::Look,
        })
    }

    /// Why nothing is measured while they are not armed, and what to do about it, for people.
    pub(super) fn unarmed(&self, now: Timestamp) -> String {
        match &self.rest {
            Some((until, why)) => {
                let seconds = until.since(now).as_secs().saturating_add(1);
                format!("the scheduler's probes rest for {seconds} s more: {why}")
            }
            None => "the scheduler's probes are not armed; process-throttler latency arms them for a look, a latency_slo or \
                     scheduler_probes: { mode: on } for good"
                .to_owned(),
        }
    }

    /// State and reason for people.
    pub(super) fn words(&self, now: Timestamp, pressure: bool) -> (FeatureState, String) {
        let mode = self.settings.mode.as_str();
        if let Some(by) = self.armed_by() {
            let until = match (by, self.window) {
                (ArmedBy::Pressure, Some(until)) => {
                    format!(" for {} s more", until.since(now).as_secs().saturating_add(1))
                }
                (ArmedBy::Configuration | ArmedBy::Objective | ArmedBy::Look | ArmedBy::Pressure, _) => {
                    String::new()
                }
            };
            let cost = self.cost.map_or_else(String::new, |cost| {
                format!("; {cost} % of a CPU, at most {} %", self.settings.budget)
            });
            return (FeatureState::Working, format!("{mode}: armed by {}{until}{cost}", by.as_str()));
        }
        if let Some((until, why)) = &self.rest {
            let seconds = until.since(now).as_secs().saturating_add(1);
            return (FeatureState::Degraded, format!("{mode}: {why}; again in {seconds} s"));
        }
        if self.settings.mode == ProbesMode::Auto && !pressure {
            let why = "auto: not armed; this kernel tells no pressure, so only looks arm them";
            return (FeatureState::Degraded, why.to_owned());
        }
        (FeatureState::Working, format!("{mode}: not armed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// At 180 ns each 0.9 % of a CPU.
    const DEAR: u64 = 50_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn duty(mode: ProbesMode) -> Duty {
        Duty::new(ProbesSettings { mode, ..ProbesSettings::default() })
    }

    #[test]
    fn pressure_arms_for_a_window_and_no_longer() {
        let mut duty = duty(ProbesMode::Auto);
        assert_eq!(duty.step(at(0), false), Step::Nothing);
        duty.pressed(at(1));
        assert_eq!(duty.step(at(1), false), Step::Arm);
        duty.pressed(at(50));
        assert_eq!((duty.step(at(60), false), duty.due()), (Step::Nothing, Some(at(61))));
        assert_eq!(duty.words(at(60), true).1, "auto: armed by pressure for 2 s more");
        assert_eq!((duty.step(at(61), false), duty.due()), (Step::Disarm, None));
        duty.pressed(at(62));
        assert_eq!(duty.step(at(62), false), Step::Arm, "it goes on");
    }

    #[test]
    fn an_objective_arms_for_as_long_as_somebody_lives_who_has_one() {
        let mut duty = duty(ProbesMode::Auto);
        duty.listens(true);
        assert_eq!((duty.step(at(1), false), duty.due()), (Step::Arm, None));
        assert_eq!(duty.words(at(900), true).1, "auto: armed by an objective");
        duty.weigh(at(901), DEAR, SECOND, false);
        assert_eq!(duty.weigh(at(902), DEAR, SECOND, false), Some(Hundredths(90)), "the budget holds");
        assert_eq!((duty.step(at(902), false), duty.step(at(963), false)), (Step::Disarm, Step::Arm));
        duty.listens(false);
        assert_eq!(duty.step(at(964), false), Step::Disarm);
    }

    #[test]
    fn a_look_arms_and_a_moment_after_they_are_disarmed() {
        let mut duty = duty(ProbesMode::Auto);
        duty.looked(at(1));
        assert_eq!(duty.step(at(1), true), Step::Nothing, "whoever looks has armed them");
        assert_eq!(duty.step(at(10), true), Step::Nothing);
        assert_eq!(duty.armed_by(), Some(ArmedBy::Look));
        assert_eq!(duty.step(at(11), false), Step::Disarm);
        assert_eq!(duty.words(at(11), true), (FeatureState::Working, "auto: not armed".to_owned()));
        assert_eq!(duty.words(at(11), false).0, FeatureState::Degraded);
    }

    #[test]
    fn what_costs_too_much_is_shed_and_comes_back() {
        let mut duty = duty(ProbesMode::On);
        assert_eq!(duty.step(at(0), false), Step::Arm);
        assert_eq!(duty.weigh(at(1), DEAR, SECOND, false), None, "it may be a burst");
        assert_eq!(duty.weigh(at(2), 10, SECOND, false), None);
        assert_eq!(duty.weigh(at(3), DEAR, SECOND, false), None);
        assert_eq!(duty.weigh(at(4), DEAR, SECOND, false), Some(Hundredths(90)));
        assert_eq!(duty.step(at(4), false), Step::Disarm);
        let (state, why) = duty.words(at(5), true);
        assert_eq!(state, FeatureState::Degraded);
        assert_eq!(why, "on: shed: they cost 0.90 % of a CPU, and may cost 0.50 %; again in 60 s");
        assert_eq!(duty.step(at(63), false), Step::Nothing);
        assert_eq!(duty.step(at(64), false), Step::Arm);
    }

    #[test]
    fn nobody_who_looks_is_cut_off() {
        let mut duty = duty(ProbesMode::Auto);
        duty.looked(at(0));
        for second in 1..10 {
            assert_eq!(duty.weigh(at(second), DEAR, SECOND, true), None);
            assert_eq!(duty.step(at(second), true), Step::Nothing);
        }
        assert_eq!(duty.weigh(at(10), DEAR, SECOND, false), Some(Hundredths(90)));
        assert_eq!(duty.step(at(10), false), Step::Disarm);
    }

    #[test]
    fn probes_that_fail_are_tried_again_later() {
        let mut duty = duty(ProbesMode::On);
        assert_eq!(duty.step(at(0), false), Step::Arm);
        duty.failed(at(0), "denied".to_owned());
        assert_eq!(duty.armed_by(), None);
        assert_eq!(duty.step(at(1), false), Step::Nothing);
        assert_eq!(duty.words(at(1), true).1, "on: denied; again in 60 s");
        assert_eq!(duty.step(at(60), false), Step::Arm);
    }

    #[test]
    fn where_switches_cost_more_fewer_of_them_are_too_many() {
        let mut duty = duty(ProbesMode::On);
        assert_eq!(duty.step(at(0), false), Step::Arm);
        duty.reckon(360);
        duty.weigh(at(1), DEAR / 2, SECOND, false);
        assert_eq!(duty.weigh(at(2), DEAR / 2, SECOND, false), Some(Hundredths(90)));
    }

    #[test]
    fn whoever_asks_is_told_why_nothing_is_measured_and_what_to_do() {
        let mut duty = duty(ProbesMode::Auto);
        assert!(duty.unarmed(at(0)).contains("process-throttler latency"), "{}", duty.unarmed(at(0)));
        duty.failed(at(0), "denied".to_owned());
        assert_eq!(duty.unarmed(at(10)), "the scheduler's probes rest for 51 s more: denied");
    }
}
