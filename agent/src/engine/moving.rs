//! Conditions and policies in the whole engine, one story per test: asked for by actions, answered by samples.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::action::{Action, SampleWants, What};
use crate::engine::input::{
    ClockSample, GroupSample, Input, ManualThrottle, Outcome, Override, PressureSample, Sample,
};
use crate::engine::rule::testing::{profile, rule};
use crate::engine::testing::{Builder, at, engine, process};
use crate::engine::view::Answer;
use crate::model::event::Event;
use crate::model::id::Name;
use crate::model::limits::{Limits, Scope};
use crate::model::notice::Notice;
use crate::model::policy::{Adaptive, Gradual, Policy, Schedule, Side, Span, Target, Threshold, When, Zone};
use crate::model::reason::Reason;
use crate::model::rule::{Match, Pattern, Profile, Rule};
use crate::model::signal::Hundredths;

/// 2026-11-23 (a Monday) 08:59:30 UTC.
const MONDAY: i64 = 1_795_424_370_000;

/// An engine on a machine whose measures are set by the test. Every action succeeds at once.
struct Rig {
    engine: Engine,
    /// In ms since boot.
    now: u64,
    /// What the wall clock is ahead of that.
    clock: i64,
    /// Pressure on memory, in hundredths of a percent.
    pressure: u32,
    /// CPU time that every group has used, and how much more a second brings, in ns.
    used_ns: u64,
    use_a_second: u64,
    told: Vec<Notice>,
    applied: Vec<(u64, Name, Limits, Reason)>,
    samples: Vec<SampleWants>,
}

impl Rig {
    fn new(profile: Profile) -> Self {
        let mut rig = Self {
            engine: engine(),
            now: 2_000,
            clock: MONDAY - 2_000,
            pressure: 0,
            used_ns: 0,
            use_a_second: 0,
            told: Vec::new(),
            applied: Vec::new(),
            samples: Vec::new(),
        };
        rig.input(Input::Profile { profile: Some(Box::new(profile)) });
        rig
    }

    fn input(&mut self, input: Input) {
        self.engine.handle(input, at(self.now));
        while let Some(action) = self.engine.next_action() {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        let id = action.id;
        match action.what {
            What::Sample(wants) => {
                let sample = self.measure(&wants);
                self.samples.push(wants);
                self.engine.handle(Input::Sample(Box::new(sample)), at(self.now));
            }
            What::Apply(apply) => {
                self.applied.push((self.now, apply.group, apply.limits, apply.reason));
                let outcome = Outcome::Applied {
                    how: "in place".into(),
                    members: apply.members,
                    refused: Vec::new(),
                    borrowed: false,
                    at: at(self.now),
                };
                self.engine.handle(Input::Outcome { id, outcome }, at(self.now));
            }
            What::Release { .. } | What::Detach { .. } | What::Reap { .. } | What::Lift => {
                self.engine.handle(Input::Outcome { id, outcome: Outcome::Released }, at(self.now));
            }
            What::Notify { notice } => self.told.push(notice),
            What::Inspect { .. }
            | What::Watch { .. }
            | What::Resync
            | What::Resume
            | What::Listen { .. }
            | What::Check { .. }
            | What::Restart { .. }
            | What::Protect { .. }
            | What::Unprotect { .. }
            | What::Disinherit { .. }
            | What::Reserve { .. }
            | What::Unreserve { .. } => {}
        }
    }

    fn measure(&self, wants: &SampleWants) -> Sample {
        let pressure = PressureSample { some: [Hundredths(self.pressure); 3], ..PressureSample::default() };
        let group = |group: &Name| GroupSample {
            group: group.clone(),
            used_ns: self.used_ns,
            periods: self.now / 100,
            throttled: self.now / 100,
        };
        let clock = ClockSample {
            unix_ms: self.clock + self.now as i64,
            offsets: wants.zones.iter().map(|zone| (zone.clone(), 0)).collect(),
        };
        Sample {
            pressure: wants.pressure.then_some([pressure; 3]),
            groups: wants.groups.iter().map(group).collect(),
            clock: (!wants.zones.is_empty()).then_some(clock),
            ..Sample::default()
        }
    }

    fn sleep(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_millis()).unwrap();
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= at(end)) {
            let passed = due.as_nanos() / 1_000_000 - self.now.min(due.as_nanos() / 1_000_000);
            self.used_ns += self.use_a_second / 1_000 * passed;
            self.now += passed;
            self.engine.handle_timeout(due);
            while let Some(action) = self.engine.next_action() {
                self.carry_out(action);
            }
        }
        self.used_ns += self.use_a_second / 1_000 * (end - self.now);
        self.now = end;
    }

    fn seconds(&mut self, seconds: u64) {
        self.sleep(Duration::from_secs(seconds));
    }

    fn run(&mut self, builder: Builder) {
        let process = builder.execed(self.now).build();
        self.input(Input::Event { event: Event::Exec(process) });
    }

    fn group_of(&self, pid: u32) -> Option<String> {
        Some(self.engine.explain(pid)?.limited?.group.to_string())
    }

    /// The CPU limits that were applied to a group, in order.
    fn quotas(&self, group: &str) -> Vec<String> {
        let of_group = self.applied.iter().filter(|(_, name, ..)| name.as_str() == group);
        of_group.map(|(_, _, limits, _)| limits.to_string()).collect()
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn cpu(text: &str) -> Limits {
    Limits { cpu: Some(text.parse().unwrap()), ..Limits::default() }
}

fn rsync(name: &str) -> Rule {
    rule(name, Match::Comm(Pattern::Exact("rsync".to_owned())))
}

fn under_pressure(rule: Rule) -> Rule {
    let threshold = Threshold {
        signal: "pressure_memory_some_avg10".parse().unwrap(),
        side: Side::Above,
        on: Hundredths(2_000),
        off: Hundredths(1_500),
    };
    let when =
        When { thresholds: vec![threshold], hours: None, timezone: Zone::default(), cooldown_ms: 30_000 };
    Rule { when: Some(when), ..rule }
}

fn office_hours(rule: Rule) -> Rule {
    let hours = Some("Mon..Fri 09:00-17:00".parse().unwrap());
    let when = When { thresholds: Vec::new(), hours, timezone: Zone::default(), cooldown_ms: 30_000 };
    Rule { when: Some(when), ..rule }
}

fn operator() -> Reason {
    Reason::Operator { uid: 0, request: "test".to_owned() }
}

#[test]
fn without_anything_that_moves_nothing_is_measured() {
    let mut rig = Rig::new(profile(vec![rsync("copies")]));
    rig.run(process(10, "rsync"));
    rig.seconds(600);
    assert_eq!(rig.samples, []);
}

#[test]
fn a_rule_holds_from_its_threshold_until_the_lower_one_and_not_more_often_than_the_cooldown() {
    let mut rig = Rig::new(profile(vec![under_pressure(rsync("copies"))]));
    rig.run(process(10, "rsync"));
    assert_eq!(rig.group_of(10), None);
    let explained = rig.engine.explain(10).unwrap();
    assert_eq!(explained.rules[0].answer, Answer::Dormant);
    assert!(explained.rules[0].why.contains("is 0.00 (holds above 20.00, until 15.00)"), "{explained:?}");
    rig.pressure = 2_500;
    rig.seconds(2);
    assert_eq!(rig.group_of(10).as_deref(), Some("copies"));
    let Reason::Rule { matched, .. } = &rig.applied[0].3 else { panic!("{:?}", rig.applied) };
    assert!(matched.contains("pressure_memory_some_avg10 is 25.00"), "{matched}");
    // Between both thresholds nothing changes, and below the lower one not before the cooldown is over.
    rig.pressure = 1_600;
    rig.seconds(60);
    assert_eq!(rig.group_of(10).as_deref(), Some("copies"));
    rig.pressure = 3_000;
    rig.seconds(4);
    rig.pressure = 0;
    rig.seconds(2);
    assert_eq!(rig.group_of(10), None);
    let Some(Notice::ThrottleRemoved { reason: Reason::Condition { rule, readings }, .. }) = rig.told.last()
    else {
        panic!("{:?}", rig.told)
    };
    assert_eq!((rule.as_str(), readings[0].value.as_str()), ("copies", "0.00"));
    rig.pressure = 9_000;
    rig.seconds(28);
    assert_eq!(rig.group_of(10), None, "the cooldown is not over");
    rig.seconds(4);
    assert_eq!(rig.group_of(10).as_deref(), Some("copies"));
    // Those that come meanwhile are limited as well.
    rig.run(process(11, "rsync"));
    assert_eq!(rig.group_of(11).as_deref(), Some("copies"));
}

#[test]
fn a_rule_that_begins_to_hold_takes_over_from_later_ones_only() {
    let mut first = rsync("first");
    first.priority = -1;
    let profile = profile(vec![rsync("always"), under_pressure(first)]);
    let mut rig = Rig::new(profile);
    rig.run(process(10, "rsync"));
    assert_eq!(rig.group_of(10).as_deref(), Some("always"));
    rig.pressure = 5_000;
    rig.seconds(2);
    assert_eq!(rig.group_of(10).as_deref(), Some("first"));
    rig.pressure = 0;
    rig.seconds(40);
    assert_eq!(rig.group_of(10).as_deref(), Some("always"));
}

#[test]
fn hours_begin_and_end_with_the_minute_also_when_the_clock_is_set() {
    let mut rig = Rig::new(profile(vec![office_hours(rsync("copies"))]));
    rig.run(process(10, "rsync"));
    rig.sleep(Duration::from_millis(29_999));
    assert_eq!(rig.group_of(10), None);
    rig.sleep(Duration::from_millis(2));
    assert_eq!(rig.group_of(10).as_deref(), Some("copies"));
    // Set forward to the evening, back to the morning: noticed within a minute, whatever the cooldown.
    rig.clock += 9 * 3_600_000;
    rig.seconds(61);
    assert_eq!(rig.group_of(10), None);
    rig.clock -= 8 * 3_600_000;
    rig.seconds(61);
    assert_eq!(rig.group_of(10).as_deref(), Some("copies"));
    assert!(rig.samples.len() <= 6, "once a minute: {}", rig.samples.len());
}

fn ramp(rule: Rule) -> Rule {
    let policy = Gradual { from: "100%".parse().unwrap(), over_ms: 50_000, interval_ms: 10_000 };
    Rule { policy: Policy::Gradual(policy), limits: cpu("50%"), ..rule }
}

#[test]
fn a_ramp_survives_members_that_join_and_a_profile_that_is_loaded_again() {
    let mut rig = Rig::new(profile(vec![ramp(rsync("copies"))]));
    rig.run(process(10, "rsync"));
    rig.seconds(25);
    rig.run(process(11, "rsync"));
    rig.input(Input::Profile { profile: Some(Box::new(profile(vec![ramp(rsync("copies"))]))) });
    rig.seconds(200);
    let quotas = rig.quotas("copies");
    let expected = ["100%", "90%", "80%", "80%", "70%", "60%", "50%"].map(|quota| format!("cpu={quota}"));
    assert_eq!(quotas, expected);
    let adjusted = rig.told.iter().filter(|notice| matches!(notice, Notice::ThrottleAdjusted { .. }));
    assert_eq!(adjusted.count(), 5);
    assert!(rig.samples.is_empty(), "a ramp needs no measures");
    // Another end: it goes on from where it is.
    let mut other = ramp(rsync("copies"));
    other.limits = cpu("20%");
    rig.input(Input::Profile { profile: Some(Box::new(profile(vec![other]))) });
    rig.seconds(60);
    assert_eq!(
        rig.quotas("copies").split_off(7),
        ["44%", "38%", "32%", "26%", "20%"].map(|q| format!("cpu={q}"))
    );
}

#[test]
fn an_adaptive_group_is_measured_while_it_is_there_and_told_why() {
    let policy = Adaptive {
        target: Target::Cpu("40%".parse().unwrap()),
        min: "5%".parse().unwrap(),
        max: "200%".parse().unwrap(),
        interval_ms: 1_000,
        cooldown_ms: 3_000,
        deadband_permille: 50,
    };
    let rule = Rule { policy: Policy::Adaptive(policy), limits: cpu("100%"), ..rsync("copies") };
    let mut rig = Rig::new(profile(vec![rule]));
    rig.use_a_second = 1_000_000_000;
    rig.run(process(10, "rsync"));
    rig.seconds(10);
    assert_eq!(rig.quotas("copies")[..2], ["cpu=100%".to_owned(), "cpu=40%".to_owned()]);
    let Reason::Adjusted { rule, readings, .. } = &rig.applied[1].3 else { panic!("{:?}", rig.applied) };
    assert_eq!(rule.as_ref().map(Name::as_str), Some("copies"));
    assert_eq!(readings[0].to_string(), "group cpu is 100.00% (target cpu 40% within 5.00%)");
    let measured = rig.samples.len();
    assert!((9..=12).contains(&measured), "{measured}");
    let event = process(10, "rsync").exit(rig.now, crate::model::event::Status::Code(0));
    rig.input(Input::Event { event });
    let measured = rig.samples.len();
    rig.seconds(100);
    assert_eq!(rig.samples.len(), measured, "nobody is left to be measured");
}

fn windows(outside: Limits) -> Rule {
    let window = |hours: &str, limits| Span { hours: hours.parse().unwrap(), limits };
    let windows = vec![
        window("Mon..Fri 09:00-17:00", cpu("30%")),
        window("22:00-06:00", Limits { pids: Some(9), ..cpu("80%") }),
    ];
    let policy = Policy::Schedule(Schedule { windows, timezone: Zone::default() });
    Rule { policy, limits: outside, ..rsync("copies") }
}

#[test]
fn a_schedule_has_the_limits_of_the_hour() {
    let mut rig = Rig::new(profile(vec![windows(cpu("60%"))]));
    rig.run(process(10, "rsync"));
    rig.seconds(30);
    rig.seconds(8 * 3_600);
    rig.seconds(5 * 3_600);
    let expected = ["cpu=60%", "cpu=30%", "cpu=60%", "cpu=80% pids=9"];
    assert_eq!(rig.quotas("copies"), expected);
    let view = rig.engine.snapshot();
    let motion = view.groups[0].motion.as_ref().unwrap();
    assert_eq!(motion.readings[0].to_string(), "clock is Mon 22:00 (within 22:00-06:00)");
}

#[test]
fn outside_of_all_windows_a_rule_without_limits_does_not_hold() {
    let mut rig = Rig::new(profile(vec![windows(Limits::default())]));
    rig.run(process(10, "rsync"));
    assert_eq!(rig.group_of(10), None);
    rig.seconds(31);
    assert_eq!(
        (rig.group_of(10).as_deref(), rig.quotas("copies")),
        (Some("copies"), vec!["cpu=30%".to_owned()])
    );
    rig.seconds(8 * 3_600);
    assert_eq!(rig.group_of(10), None);
}

#[test]
fn a_policy_by_hand_is_put_over_a_rule_and_taken_away_again() {
    let mut rig = Rig::new(profile(vec![rsync("copies")]));
    rig.run(process(10, "rsync"));
    let Policy::Gradual(gradual) = ramp(rsync("x")).policy else { panic!("a ramp") };
    let put = |terms| Input::Override(Override { target: name("copies"), terms, reason: operator() });
    rig.input(put(Some((cpu("10%"), Policy::Gradual(gradual)))));
    rig.seconds(60);
    assert_eq!(rig.engine.snapshot().overrides, [name("copies")]);
    rig.input(put(None));
    let expected = ["30%", "26%", "22%", "18%", "14%", "10%", "30%"].map(|quota| format!("cpu={quota}"));
    assert_eq!(rig.quotas("copies"), expected);
    assert_eq!(rig.engine.snapshot().overrides, []);
    // Nobody is there.
    rig.input(Input::Override(Override { target: name("gone"), terms: None, reason: operator() }));
    assert!(matches!(rig.told.last(), Some(Notice::ThrottleFailed { .. })), "{:?}", rig.told.last());
}

#[test]
fn a_group_by_hand_without_limits_outside_of_its_windows_gets_them_for_all_its_processes() {
    let mut rig = Rig::new(profile(Vec::new()));
    rig.run(process(10, "job"));
    rig.run(process(11, "job"));
    let Policy::Schedule(schedule) = windows(Limits::default()).policy else { panic!("a schedule") };
    rig.input(Input::Throttle(ManualThrottle {
        group: name("jobs"),
        limits: Limits::default(),
        policy: Policy::Schedule(schedule),
        scope: Scope::Group,
        allow_move: true,
        whole_unit: false,
        processes: vec![process(10, "").build().key, process(11, "").build().key],
        until: None,
        reason: operator(),
    }));
    rig.seconds(31);
    assert_eq!(rig.quotas("jobs"), ["none", "cpu=30%"]);
    let view = rig.engine.snapshot();
    assert!(
        view.groups[0].members.iter().all(|member| member.limited == Some(at(2_000 + 30_000))),
        "{view:?}"
    );
}
