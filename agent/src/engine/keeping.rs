//! Protection of critical processes: who is given it, when it is taken back, and who keeps none of it.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::action::{Action, What};
use crate::engine::input::{Input, Outcome, ReleaseTarget};
use crate::engine::rule::testing::profile;
use crate::engine::testing::{Builder, at, engine, process};
use crate::model::critical::{Level, Protection};
use crate::model::event::{Event, Status};
use crate::model::id::ProcKey;
use crate::model::notice::Notice;
use crate::model::reason::Reason;
use crate::model::rule::{Critical, Match, Pattern, Profile};

struct Rig {
    engine: Engine,
    now: u64,
}

impl Rig {
    fn new(profile: Profile) -> Self {
        let mut rig = Self { engine: engine(), now: 2_000 };
        rig.input(Input::Profile { profile: Some(Box::new(profile)) });
        rig
    }

    /// What comes of an input, as far as it is about protection.
    fn input(&mut self, input: Input) -> Vec<Action> {
        self.now += 1;
        self.engine.handle(input, at(self.now));
        self.drain()
    }

    fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.engine.next_action()).filter(is_of_protection).collect()
    }

    fn alive(&mut self, builder: Builder) -> Vec<Action> {
        self.input(Input::Event { event: Event::Alive(builder.build()) })
    }

    fn exec(&mut self, builder: Builder) -> Vec<Action> {
        let process = builder.execed(self.now).build();
        self.input(Input::Event { event: Event::Exec(process) })
    }

    fn answer(&mut self, action: &Action, outcome: Outcome) -> Vec<Action> {
        self.input(Input::Outcome { id: action.id, outcome })
    }

    fn given(&mut self, action: &Action) -> Vec<Action> {
        let What::Protect { key, .. } = &action.what else { panic!("{action:?}") };
        let members = vec![*key];
        let outcome = Outcome::Applied {
            how: "per process".into(),
            members,
            refused: Vec::new(),
            borrowed: false,
            at: at(self.now),
        };
        self.answer(action, outcome)
    }

    fn sleep(&mut self, time: Duration) -> Vec<Action> {
        self.now += u64::try_from(time.as_millis()).unwrap();
        let mut actions = Vec::new();
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= at(self.now)) {
            self.engine.handle_timeout(due);
            actions.extend(self.drain());
        }
        actions
    }
}

fn is_of_protection(action: &Action) -> bool {
    matches!(
        &action.what,
        What::Protect { .. }
            | What::Unprotect { .. }
            | What::Disinherit { .. }
            | What::Notify { notice: Notice::ProtectionFailed { .. } }
    )
}

fn one(actions: Vec<Action>) -> Action {
    assert_eq!(actions.len(), 1, "{actions:#?}");
    actions.into_iter().next().unwrap()
}

fn key(pid: u32) -> ProcKey {
    process(pid, "").build().key
}

fn protection(oom: i64) -> Protection {
    let oom_score_adj = crate::model::attribute::OomScoreAdj::new(oom);
    Protection { level: Some(Level::High), oom_score_adj, ..Protection::NONE }
}

fn nginx() -> Match {
    Match::All(vec![Match::Comm(Pattern::Exact("nginx".to_owned())), Match::Uid(1000)])
}

fn protecting(oom: i64) -> Profile {
    let mut profile = profile(Vec::new());
    let critical = Critical::new("web".parse().unwrap(), nginx());
    profile.critical.push(Critical { protection: protection(oom), ..critical });
    profile
}

fn failed() -> Outcome {
    Outcome::Failed { error: "no".to_owned() }
}

#[test]
fn an_instance_is_protected_until_it_is_none() {
    let mut rig = Rig::new(protecting(-600));
    let protect = one(rig.alive(process(10, "nginx")));
    let What::Protect { key: of, critical, protection: stated, group } = &protect.what else { panic!() };
    assert_eq!((*of, critical.as_str(), stated), (key(10), "web", &protection(-600)));
    assert!(group.is_of_protection());
    assert!(rig.engine.explain(10).unwrap().protection.unwrap().since.is_none());
    assert!(rig.given(&protect).is_empty());
    assert!(rig.engine.explain(10).unwrap().protection.unwrap().since.is_some());
    assert!(rig.alive(process(10, "nginx")).is_empty(), "once is enough");
    let unprotect = one(rig.exec(process(10, "sh")));
    assert!(matches!(unprotect.what, What::Unprotect { key: of, .. } if of == key(10)));
    // It becomes one again before that is done.
    assert!(rig.exec(process(10, "nginx")).is_empty());
    let again = one(rig.answer(&unprotect, Outcome::Released));
    rig.given(&again);
    let event = process(10, "nginx").exit(rig.now, Status::Signal { number: 9, core: false });
    let over = one(rig.input(Input::Event { event }));
    assert!(matches!(over.what, What::Unprotect { .. }), "its records go with it");
    assert!(rig.answer(&over, Outcome::Released).is_empty());
}

#[test]
fn profiles_and_stops_change_what_is_given() {
    let mut rig = Rig::new(protecting(-600));
    let protect = one(rig.alive(process(10, "nginx")));
    rig.given(&protect);
    let same = rig.input(Input::Profile { profile: Some(Box::new(protecting(-600))) });
    assert!(same.is_empty(), "{same:?}");
    let more = one(rig.input(Input::Profile { profile: Some(Box::new(protecting(-900))) }));
    assert!(matches!(&more.what, What::Protect { protection: stated, .. } if *stated == protection(-900)));
    rig.given(&more);
    let stop = Input::EmergencyStop { reason: "x".to_owned(), uid: 0, told: true };
    assert!(rig.input(stop).is_empty(), "it is no limit");
    assert!(matches!(one(rig.alive(process(11, "nginx"))).what, What::Protect { .. }));
    let gone = rig.input(Input::Profile { profile: None });
    assert!(matches!(gone[0].what, What::Unprotect { key: of, .. } if of == key(10)));
    rig = Rig::new(protecting(-600));
    let protect = one(rig.alive(process(10, "nginx")));
    rig.given(&protect);
    let all = ReleaseTarget::All;
    let operator = Reason::Operator { uid: 0, request: "release --all".to_owned() };
    assert!(rig.input(Input::Release { target: all.clone(), reason: operator }).is_empty());
    let stop = one(rig.input(Input::Release { target: all, reason: Reason::Stopping }));
    assert!(matches!(stop.what, What::Unprotect { .. }));
    assert!(rig.alive(process(11, "nginx")).is_empty(), "nobody would take it back");
}

#[test]
fn a_child_that_is_not_critical_keeps_nothing() {
    let mut rig = Rig::new(protecting(-600));
    let protect = one(rig.alive(process(10, "nginx").cgroup(7)));
    rig.given(&protect);
    let born = |pid, comm| process(pid, comm).start(500).cgroup(7);
    let child = one(rig.alive(born(11, "cgi").ppid(10)));
    assert!(matches!(child.what, What::Disinherit { key, from, .. } if key.pid == 11 && from.pid == 10));
    assert!(rig.alive(born(11, "cgi").ppid(10)).is_empty(), "once is enough");
    rig.answer(&child, Outcome::Released);
    // Its parent is gone; whose child it was, its cgroup tells.
    assert!(matches!(one(rig.alive(born(12, "cgi"))).what, What::Disinherit { .. }));
    assert!(rig.alive(born(13, "other").cgroup(8)).is_empty());
    assert!(rig.alive(process(14, "old").ppid(10)).is_empty(), "it was there before");
    let worker = one(rig.alive(born(15, "nginx").ppid(10)));
    assert!(matches!(worker.what, What::Protect { .. }), "a worker is an instance, too");
}

#[test]
fn a_failure_is_told_once_and_tried_again() {
    let mut rig = Rig::new(protecting(-600));
    let protect = one(rig.alive(process(10, "nginx")));
    let told = one(rig.answer(&protect, failed()));
    assert!(matches!(&told.what, What::Notify { notice: Notice::ProtectionFailed { process, error, .. } }
        if *process == key(10) && error == "no"));
    let again = one(rig.sleep(Duration::from_secs(1)));
    assert!(matches!(again.what, What::Protect { .. }));
    assert!(rig.answer(&again, failed()).is_empty());
    assert!(rig.sleep(Duration::from_secs(4)).is_empty());
    let again = one(rig.sleep(Duration::from_secs(1)));
    rig.given(&again);
    assert!(rig.engine.explain(10).unwrap().protection.unwrap().since.is_some());
    let refused = Outcome::Applied {
        how: "not at all".into(),
        members: Vec::new(),
        refused: vec![(key(11), "never touched".to_owned())],
        borrowed: false,
        at: at(0),
    };
    let protect = one(rig.alive(process(11, "nginx")));
    assert!(rig.answer(&protect, refused).is_empty(), "of this critical process a failure was told");
    assert_eq!(rig.engine.explain(11).unwrap().protection.unwrap().error.as_deref(), Some("never touched"));
    assert!(rig.sleep(Duration::from_secs(50)).is_empty(), "it would be refused again");
}

#[test]
fn whoever_may_not_be_touched_or_may_be_forged_is_not_protected() {
    let mut rig = Rig::new(protecting(-600));
    let told = one(rig.alive(process(900, "nginx")));
    assert!(matches!(&told.what, What::Notify { notice: Notice::ProtectionFailed { error, .. } }
        if error == "it is the agent itself"));
    let mut forged = protecting(-600);
    forged.critical[0].matches = Match::Comm(Pattern::Exact("nginx".to_owned()));
    let mut rig = Rig::new(forged);
    assert!(rig.alive(process(10, "nginx")).is_empty());
}
