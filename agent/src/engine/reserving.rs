//! Reservations for critical processes: when they are asked for, for whom, and when they are taken back.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::action::{Action, What};
use crate::engine::input::{Input, Outcome, ReleaseTarget};
use crate::engine::rule::testing::profile;
use crate::engine::testing::{Builder, at, engine, process};
use crate::engine::view::ReservationView;
use crate::model::critical::{Level, Protection};
use crate::model::event::{Event, Status};
use crate::model::id::ProcKey;
use crate::model::notice::Notice;
use crate::model::reason::Reason;
use crate::model::rule::{Critical, Match, Pattern, Profile};

const SECOND: Duration = Duration::from_secs(1);

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

    fn input(&mut self, input: Input) -> Vec<Action> {
        self.now += 1;
        self.engine.handle(input, at(self.now));
        self.drain()
    }

    fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.engine.next_action()).filter(is_of_reservation).collect()
    }

    fn alive(&mut self, builder: Builder) -> Vec<Action> {
        self.input(Input::Event { event: Event::Alive(builder.build()) })
    }

    fn exit(&mut self, pid: u32) -> Vec<Action> {
        let event = process(pid, "nginx").exit(self.now, Status::Signal { number: 9, core: false });
        self.input(Input::Event { event })
    }

    fn answer(&mut self, action: &Action, outcome: Outcome) -> Vec<Action> {
        self.input(Input::Outcome { id: action.id, outcome })
    }

    fn given(&mut self, action: &Action) -> Vec<Action> {
        let outcome = Outcome::Applied {
            how: "on unit web.service".into(),
            members: members(action),
            refused: Vec::new(),
            borrowed: true,
            at: at(self.now),
        };
        self.answer(action, outcome)
    }

    fn refused(&mut self, action: &Action) -> Vec<Action> {
        let refused = members(action).into_iter().map(|key| (key, "shared".to_owned())).collect();
        let how = "not at all".into();
        self.answer(
            action,
            Outcome::Applied { how, members: Vec::new(), refused, borrowed: false, at: at(0) },
        )
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

    fn view(&self) -> Option<ReservationView> {
        self.engine.snapshot().critical[0].reservation.clone()
    }
}

fn is_of_reservation(action: &Action) -> bool {
    matches!(
        &action.what,
        What::Reserve { .. }
            | What::Unreserve { .. }
            | What::Protect { .. }
            | What::Notify { notice: Notice::ProtectionFailed { .. } }
    )
}

fn members(action: &Action) -> Vec<ProcKey> {
    let What::Reserve { members, .. } = &action.what else { panic!("{action:?}") };
    members.clone()
}

fn pids(action: &Action) -> Vec<u32> {
    members(action).iter().map(|key| key.pid).collect()
}

fn one(actions: Vec<Action>) -> Action {
    assert_eq!(actions.len(), 1, "{actions:#?}");
    actions.into_iter().next().unwrap()
}

fn reserving(protection: Protection) -> Profile {
    let mut profile = profile(Vec::new());
    let nginx = Match::All(vec![Match::Comm(Pattern::Exact("nginx".to_owned())), Match::Uid(1000)]);
    let critical = Critical::new("web".parse().unwrap(), nginx);
    profile.critical.push(Critical { protection, ..critical });
    profile
}

fn weight(weight: u64) -> Protection {
    Protection { cpu_weight: crate::model::unit::Weight::new(weight), ..Protection::NONE }
}

#[test]
fn instances_that_come_up_together_are_asked_for_together() {
    let mut rig = Rig::new(reserving(weight(400)));
    for pid in [10, 11, 12] {
        assert!(rig.alive(process(pid, "nginx")).is_empty(), "others of it are still to come");
    }
    assert!(rig.view().is_some_and(|view| view.since.is_none() && view.error.is_none()));
    let asked = one(rig.sleep(SECOND));
    let What::Reserve { reservation, group, critical, .. } = &asked.what else { panic!() };
    assert_eq!((reservation.to_string().as_str(), critical.as_str()), ("cpu_weight=400", "web"));
    assert!(group.is_of_protection());
    assert_eq!(pids(&asked), [10, 11, 12]);
    assert!(rig.given(&asked).is_empty());
    assert!(rig.view().unwrap().since.is_some());
    assert!(rig.engine.explain(10).unwrap().reservation.unwrap().how.is_some());
    assert!(rig.sleep(SECOND * 50).is_empty(), "nothing more is to be done");
    // Only those that come later, and nothing for those that go.
    rig.alive(process(13, "nginx"));
    let late = one(rig.sleep(SECOND));
    assert_eq!(pids(&late), [13]);
    rig.given(&late);
    assert!(rig.exit(10).is_empty() && rig.exit(11).is_empty() && rig.exit(12).is_empty());
    let over = one(rig.exit(13));
    assert!(matches!(over.what, What::Unreserve { .. }));
    // One comes back before that is done.
    assert!(rig.alive(process(14, "nginx")).is_empty());
    assert!(rig.answer(&over, Outcome::Released).is_empty());
    assert_eq!(pids(&one(rig.sleep(SECOND))), [14]);
}

#[test]
fn profiles_and_stops_change_it_and_emergencies_do_not() {
    let mut rig = Rig::new(reserving(weight(400)));
    rig.alive(process(10, "nginx"));
    let asked = one(rig.sleep(SECOND));
    rig.given(&asked);
    rig.input(Input::Profile { profile: Some(Box::new(reserving(weight(400)))) });
    assert!(rig.sleep(SECOND).is_empty(), "it is the same");
    rig.input(Input::Profile { profile: Some(Box::new(reserving(weight(500)))) });
    let more = one(rig.sleep(SECOND));
    assert!(matches!(&more.what, What::Reserve { reservation, .. }
        if reservation.to_string() == "cpu_weight=500"));
    rig.given(&more);
    let stop = Input::EmergencyStop { reason: "x".to_owned(), uid: 0, told: true };
    assert!(rig.input(stop).is_empty(), "it is no limit");
    let gone = one(rig.input(Input::Profile { profile: Some(Box::new(reserving(Protection::NONE))) }));
    assert!(matches!(gone.what, What::Unreserve { .. }));
    rig.answer(&gone, Outcome::Released);
    rig.input(Input::Profile { profile: Some(Box::new(reserving(weight(400)))) });
    let asked = one(rig.sleep(SECOND));
    rig.given(&asked);
    let operator = Reason::Operator { uid: 0, request: "release --all".to_owned() };
    assert!(rig.input(Input::Release { target: ReleaseTarget::All, reason: operator }).is_empty());
    let over = one(rig.input(Input::Release { target: ReleaseTarget::All, reason: Reason::Stopping }));
    assert!(matches!(over.what, What::Unreserve { .. }));
    rig.alive(process(11, "nginx"));
    assert!(rig.sleep(SECOND).is_empty(), "nobody would take it back");
}

#[test]
fn a_refusal_is_told_when_it_lasts_and_asked_again_when_something_changes() {
    let mut rig = Rig::new(reserving(weight(400)));
    rig.alive(process(10, "nginx"));
    let asked = one(rig.sleep(SECOND));
    assert!(rig.refused(&asked).is_empty(), "while it starts, others may be there");
    assert_eq!(rig.view().unwrap().error.as_deref(), Some("shared"));
    let again = one(rig.sleep(SECOND * 2));
    let told = one(rig.refused(&again));
    assert!(matches!(&told.what, What::Notify { notice: Notice::ProtectionFailed { error, .. } }
        if error == "shared"));
    for wait in [30, 300] {
        let again = one(rig.sleep(SECOND * wait));
        assert!(rig.refused(&again).is_empty(), "once is enough");
    }
    assert!(rig.sleep(SECOND * 3_000).is_empty(), "it would be refused again");
    rig.alive(process(11, "nginx"));
    assert!(rig.sleep(SECOND * 20).is_empty(), "not with each of them");
    let again = one(rig.sleep(SECOND * 10));
    assert_eq!(pids(&again), [10, 11]);
    rig.given(&again);
    assert!(rig.view().is_some_and(|view| view.error.is_none() && view.since.is_some()));
}

#[test]
fn who_ends_meanwhile_is_no_failure() {
    let mut rig = Rig::new(reserving(weight(400)));
    rig.alive(process(10, "nginx"));
    rig.alive(process(11, "nginx"));
    let asked = one(rig.sleep(SECOND));
    rig.exit(10);
    let outcome = Outcome::Applied {
        how: "in place".into(),
        members: vec![members(&asked)[1]],
        refused: vec![(members(&asked)[0], "it is gone".to_owned())],
        borrowed: true,
        at: at(rig.now),
    };
    assert!(rig.answer(&asked, outcome).is_empty());
    assert!(rig.view().is_some_and(|view| view.error.is_none() && view.since.is_some()));
    assert!(rig.sleep(SECOND * 400).is_empty());
}

#[test]
fn what_a_level_implies_is_no_alert_when_it_cannot_be_given() {
    let level = Protection { level: Some(Level::High), ..Protection::NONE };
    let mut rig = Rig::new(reserving(level));
    assert!(rig.alive(process(10, "nginx")).is_empty(), "nothing is asked of the process itself");
    for wait in [1, 2, 30, 300] {
        let asked = one(rig.sleep(SECOND * wait));
        assert!(rig.refused(&asked).is_empty());
    }
    assert_eq!(rig.view().unwrap().error.as_deref(), Some("shared"), "but it is shown");
}

#[test]
fn whoever_may_be_forged_gets_nothing() {
    let mut forged = reserving(weight(400));
    forged.critical[0].matches = Match::Comm(Pattern::Exact("nginx".to_owned()));
    let mut rig = Rig::new(forged);
    rig.alive(process(10, "nginx"));
    assert!(rig.sleep(SECOND).is_empty() && rig.view().is_none());
}
