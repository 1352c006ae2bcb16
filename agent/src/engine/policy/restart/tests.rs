//! Deaths, restarts and giving up, in all orders.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::critical::RestartBy;
use crate::model::rule::{Match, Pattern};

const SECOND: u64 = 1_000;

fn at(millis: u64) -> Timestamp {
    crate::engine::testing::at(millis)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn restart(policy: RestartPolicy) -> Restart {
    Restart {
        policy,
        by: RestartBy::Unit("web.service".to_owned()),
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_secs(8),
        most: 3,
        per: Duration::from_secs(600),
    }
}

fn critical(text: &str, needs: &[&str], policy: RestartPolicy) -> Critical {
    Critical {
        restart: Some(restart(policy)),
        dependencies: needs.iter().map(|need| name(need)).collect(),
        ..Critical::new(name(text), Match::Uid(0))
    }
}

const KILLED: Option<Status> = Some(Status::Signal { number: 9, core: false });

/// Restarts with what they have asked for.
struct World {
    restarts: Restarts,
    out: Outbox,
    now: Timestamp,
    asked: Vec<(Timestamp, Name, ActionId)>,
    told: Vec<(Name, RestartResult)>,
}

impl World {
    fn new(criticals: &[Critical]) -> Self {
        let mut world = Self {
            restarts: Restarts::default(),
            out: Outbox::default(),
            now: at(0),
            asked: Vec::new(),
            told: Vec::new(),
        };
        world.restarts.renew(criticals, &mut world.out);
        world
    }

    fn to(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.out.set_now(self.now);
        self.restarts.advance(self.now, &mut self.out);
        self.take();
    }

    fn take(&mut self) {
        while let Some(action) = self.out.pop() {
            if let What::Restart { name, .. } = action.what {
                self.asked.push((action.at, name, action.id));
            } else if let What::Notify { notice: Notice::CriticalProcessRestart { name, result, .. } } =
                action.what
            {
                self.told.push((name, result));
            }
        }
    }

    fn up(&mut self, text: &str) {
        self.restarts.seen(&name(text), true, &mut self.out);
        self.take();
    }

    fn dies(&mut self, text: &str, status: Option<Status>) {
        self.restarts.died(&name(text), status, &mut self.out);
        self.restarts.seen(&name(text), false, &mut self.out);
        self.take();
    }

    fn answer(&mut self, restarted: Restarted) {
        let (_, _, id) = self.asked.last().expect("a restart").clone();
        self.restarts.restarted(id, restarted, &mut self.out);
        self.take();
    }

    /// Goes to when the next thing is due, and does it.
    fn next(&mut self) -> Timestamp {
        let due = self.restarts.next_timeout().expect("something is due");
        self.to(due);
        due
    }
}

fn done() -> Restarted {
    Restarted::Done { how: "systemd restarted it".to_owned() }
}

#[test]
fn each_death_waits_twice_as_long_and_the_last_is_given_up_once() {
    let mut world = World::new(&[critical("web", &[], RestartPolicy::OnFailure)]);
    world.up("web");
    let mut waits = Vec::new();
    for _ in 0..3 {
        let died = world.now;
        world.dies("web", KILLED);
        waits.push(world.next().since(died).as_secs());
        world.answer(done());
        world.up("web");
    }
    assert_eq!(waits, [1, 2, 4]);
    for _ in 0..2 {
        world.dies("web", KILLED);
        assert_eq!(world.restarts.next_timeout(), None);
        world.up("web");
    }
    let results: Vec<_> = world.told.iter().map(|(_, result)| *result).collect();
    assert_eq!(results, [[RestartResult::Restarted; 3].as_slice(), &[RestartResult::GivenUp]].concat());
    assert_eq!(world.asked.len(), 3);
}

#[test]
fn a_life_longer_than_the_window_makes_good() {
    let mut world = World::new(&[critical("web", &[], RestartPolicy::Always)]);
    world.up("web");
    for _ in 0..4 {
        world.dies("web", KILLED);
        if world.restarts.next_timeout().is_some() {
            world.next();
            world.answer(done());
        }
        world.up("web");
    }
    assert!(world.told.iter().any(|(_, result)| *result == RestartResult::GivenUp));
    world.to(world.now.after(Duration::from_secs(601)));
    let died = world.now;
    world.dies("web", KILLED);
    assert_eq!(world.next().since(died), Duration::from_secs(1), "from the beginning");
}

#[test]
fn clean_ends_and_policies() {
    let clean = [Some(Status::Code(0)), Some(Status::Signal { number: 15, core: false })];
    let failures = [KILLED, None, Some(Status::Code(3)), Some(Status::Signal { number: 15, core: true })];
    for (policy, on_clean, on_failure) in [
        (RestartPolicy::Always, true, true),
        (RestartPolicy::OnFailure, false, true),
        (RestartPolicy::Never, false, false),
    ] {
        for (statuses, expected) in [(&clean[..], on_clean), (&failures[..], on_failure)] {
            for status in statuses {
                let mut world = World::new(&[critical("web", &[], policy)]);
                world.up("web");
                world.dies("web", *status);
                assert_eq!(world.restarts.next_timeout().is_some(), expected, "{policy:?} {status:?}");
            }
        }
    }
}

#[test]
fn who_comes_back_by_itself_is_left_alone() {
    let mut world = World::new(&[critical("web", &[], RestartPolicy::Always)]);
    world.up("web");
    world.dies("web", KILLED);
    world.up("web");
    world.to(at(60 * SECOND));
    assert!(world.asked.is_empty() && world.told.is_empty());
}

#[test]
fn what_systemd_does_by_itself_is_waited_for_and_does_not_count() {
    let mut world = World::new(&[critical("web", &[], RestartPolicy::Always)]);
    world.up("web");
    world.dies("web", KILLED);
    let mut before = world.now;
    let mut waits = Vec::new();
    for _ in 0..6 {
        let due = world.next();
        waits.push(due.since(before).as_secs());
        before = due;
        world.answer(Restarted::Pending { why: "auto-restart".to_owned() });
    }
    assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    assert!(world.told.is_empty());
}

#[test]
fn what_was_stopped_on_purpose_stays_so_until_it_lives_again() {
    let mut world = World::new(&[critical("web", &[], RestartPolicy::Always)]);
    world.up("web");
    world.dies("web", KILLED);
    world.next();
    world.answer(Restarted::Declined { why: "stopped on purpose".to_owned() });
    assert_eq!(world.told, [(name("web"), RestartResult::Declined)]);
    assert_eq!(world.restarts.next_timeout(), None);
    world.up("web");
    world.dies("web", KILLED);
    world.next();
    assert_eq!(world.asked.len(), 2);
}

#[test]
fn a_restart_without_an_instance_is_none() {
    let mut world = World::new(&[critical("web", &[], RestartPolicy::Always)]);
    world.up("web");
    world.dies("web", KILLED);
    world.next();
    world.answer(done());
    assert!(world.told.is_empty(), "nobody has seen it yet");
    let asked = world.now;
    assert_eq!(world.next().since(asked), APPEARS_WITHIN);
    assert_eq!(world.told, [(name("web"), RestartResult::Failed)]);
    world.next();
    assert_eq!(world.asked.len(), 2);
    // Up and dead again before the answer: told as what it is, and tried again.
    world.up("web");
    world.dies("web", KILLED);
    world.answer(done());
    assert_eq!(world.told.len(), 2);
    assert_eq!(world.told[1].1, RestartResult::Failed);
    assert!(world.restarts.next_timeout().is_some());
}

#[test]
fn what_is_needed_comes_first() {
    let mut world = World::new(&[
        critical("app", &["db"], RestartPolicy::Always),
        critical("db", &["disk"], RestartPolicy::OnFailure),
        critical("disk", &[], RestartPolicy::OnFailure),
    ]);
    for each in ["disk", "db", "app"] {
        world.up(each);
    }
    // The two others ended well, so that nothing but the need of the first brings them back.
    world.dies("disk", Some(Status::Code(0)));
    world.dies("db", Some(Status::Code(0)));
    world.dies("app", KILLED);
    while world.asked.len() < 3 {
        world.next();
        if let Some((_, who, _)) = world.asked.last().cloned()
            && !world.restarts.up.contains(&who)
        {
            world.answer(done());
            world.up(who.as_str());
        }
    }
    let order: Vec<_> = world.asked.iter().map(|(_, who, _)| who.as_str().to_owned()).collect();
    assert_eq!(order, ["disk", "db", "app"]);
}

#[test]
fn who_needs_one_that_stays_down_waits_without_turning() {
    let mut world = World::new(&[
        critical("app", &["db"], RestartPolicy::Always),
        critical("db", &[], RestartPolicy::Never),
    ]);
    world.up("db");
    world.up("app");
    world.dies("db", KILLED);
    world.dies("app", KILLED);
    world.next();
    assert_eq!(world.restarts.next_timeout(), None, "there is nothing to wait for but db");
    assert!(world.asked.is_empty());
    let view = world.restarts.view(&name("app")).unwrap();
    assert_eq!(view.state, RestartState::WaitsFor(name("db")));
    world.up("db");
    world.next();
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn by_hand_works_whatever_the_policy_and_after_giving_up() {
    let mut world = World::new(&[critical("web", &[], RestartPolicy::Never)]);
    world.up("web");
    world.dies("web", KILLED);
    world.restarts.by_hand(&name("web"), &mut world.out).unwrap();
    world.take();
    assert!(world.restarts.by_hand(&name("web"), &mut world.out).is_err(), "it is under way");
    world.answer(done());
    world.up("web");
    assert_eq!(world.told, [(name("web"), RestartResult::Restarted)]);

    let mut world = World::new(&[critical("web", &[], RestartPolicy::Always)]);
    world.up("web");
    for _ in 0..4 {
        world.dies("web", KILLED);
        if world.restarts.next_timeout().is_some() {
            world.next();
            world.answer(done());
        }
        world.up("web");
    }
    world.dies("web", KILLED);
    assert_eq!(world.restarts.next_timeout(), None);
    world.restarts.by_hand(&name("web"), &mut world.out).unwrap();
    world.take();
    world.answer(done());
    world.up("web");
    world.dies("web", KILLED);
    assert!(world.restarts.next_timeout().is_some(), "it counts from the beginning");
    assert!(world.restarts.by_hand(&name("other"), &mut world.out).is_err());
}

#[test]
fn bad_health_restarts_one_that_lives() {
    let mut world = World::new(&[critical("web", &[], RestartPolicy::OnFailure)]);
    world.up("web");
    world.restarts.unhealthy(&name("web"), &mut world.out);
    world.restarts.healthy(&name("web"));
    assert_eq!(world.restarts.next_timeout(), None, "it has recovered before");
    world.restarts.unhealthy(&name("web"), &mut world.out);
    world.next();
    world.dies("web", Some(Status::Signal { number: 15, core: false }));
    world.up("web");
    world.answer(done());
    assert_eq!(world.told, [(name("web"), RestartResult::Restarted)]);
}

#[test]
fn a_long_life_does_not_make_good_for_attempts_to_end_it() {
    let mut world = World::new(&[critical("web", &[], RestartPolicy::OnFailure)]);
    let failed = || Restarted::Failed { error: "no".to_owned() };
    world.up("web");
    for moment in [200, 400] {
        world.to(at(moment * SECOND));
        world.restarts.unhealthy(&name("web"), &mut world.out);
        world.next();
        world.answer(failed());
    }
    world.to(at(601 * SECOND));
    world.dies("web", KILLED);
    world.next();
    world.answer(failed());
    let results: Vec<RestartResult> = world.told.iter().map(|(_, result)| *result).collect();
    let (no, over) = (RestartResult::Failed, RestartResult::GivenUp);
    assert_eq!(results, [no, no, no, over], "three attempts within ten minutes are enough");
}

#[test]
fn a_new_agent_goes_on_counting() {
    let attempts = vec![at(10 * SECOND), at(20 * SECOND), at(30 * SECOND)];
    let remember = |given_up, down| {
        let mut world = World::new(&[]);
        world.to(at(60 * SECOND));
        let remembered = Remembered { name: name("web"), attempts: attempts.clone(), given_up, down };
        world.restarts.remember(vec![remembered]);
        world.restarts.renew(&[critical("web", &[], RestartPolicy::Always)], &mut world.out);
        world.take();
        world
    };
    let mut world = remember(false, None);
    world.up("web");
    world.dies("web", KILLED);
    assert_eq!(world.told, [(name("web"), RestartResult::GivenUp)]);
    let mut world = remember(true, None);
    world.up("web");
    world.dies("web", KILLED);
    assert!(world.told.is_empty() && world.restarts.next_timeout().is_none(), "that is told already");
    let world = remember(false, Some((at(59 * SECOND), KILLED)));
    assert_eq!(world.told, [(name("web"), RestartResult::GivenUp)]);
}

#[test]
fn a_name_alone_earns_no_restart() {
    let comm = Match::Comm(Pattern::Exact("web".to_owned()));
    let world = World::new(&[Critical { matches: comm, ..critical("web", &[], RestartPolicy::Always) }]);
    assert!(world.restarts.view(&name("web")).is_none());
}

#[derive(Clone, Debug)]
enum Op {
    Up(usize),
    Dies(usize, u8),
    Answer(u8),
    Sleep(u64),
    Due,
    Unhealthy(usize),
    Healthy(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3usize).prop_map(Op::Up),
        6 => (0..3usize, 0..4u8).prop_map(|(who, how)| Op::Dies(who, how)),
        6 => (0..5u8).prop_map(Op::Answer),
        2 => (1..200_000u64).prop_map(Op::Sleep),
        8 => Just(Op::Due),
        1 => (0..3usize).prop_map(Op::Unhealthy),
        1 => (0..3usize).prop_map(Op::Healthy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn restarts_are_bounded_whatever_happens(ops in proptest::collection::vec(op(), 1..120)) {
        const WHO: [&str; 3] = ["app", "db", "never"];
        let mut world = World::new(&[
            critical("app", &["db"], RestartPolicy::Always),
            critical("db", &[], RestartPolicy::OnFailure),
            critical("never", &[], RestartPolicy::Never),
        ]);
        let mut counted: BTreeMap<Name, Vec<Timestamp>> = BTreeMap::new();
        let mut open: Vec<ActionId> = Vec::new();
        let mut given_up: BTreeMap<Name, u32> = BTreeMap::new();
        for op in ops {
            let (asked, told) = (world.asked.len(), world.told.len());
            match op {
                Op::Up(who) => world.up(WHO[who]),
                Op::Dies(who, how) => {
                    if world.restarts.up.contains(&name(WHO[who])) {
                        let statuses = [KILLED, None, Some(Status::Code(0)), Some(Status::Code(1))];
                        world.dies(WHO[who], statuses[usize::from(how)]);
                    }
                }
                Op::Answer(how) => {
                    if let Some(id) = open.pop() {
                        let restarted = match how {
                            0 => Restarted::Pending { why: String::new() },
                            1 => Restarted::Declined { why: String::new() },
                            2 => Restarted::Failed { error: String::new() },
                            _ => done(),
                        };
                        if how < 2 {
                            // Nothing was restarted: it does not count.
                            let (at, who, _) = world.asked.iter().find(|(_, _, other)| *other == id).unwrap();
                            counted.get_mut(who).unwrap().retain(|one| one != at);
                        }
                        world.restarts.restarted(id, restarted, &mut world.out);
                        world.take();
                    }
                }
                Op::Sleep(millis) => world.to(world.now.after(Duration::from_millis(millis))),
                Op::Due => {
                    if world.restarts.next_timeout().is_some() {
                        world.next();
                        // What was due was done, or it will not be asked for again at once.
                        if let Some(next) = world.restarts.next_timeout() {
                            prop_assert!(next > world.now, "{:?}", world.restarts);
                        }
                    }
                }
                Op::Unhealthy(who) => {
                    if world.restarts.up.contains(&name(WHO[who])) {
                        world.restarts.unhealthy(&name(WHO[who]), &mut world.out);
                        world.take();
                    }
                }
                Op::Healthy(who) => world.restarts.healthy(&name(WHO[who])),
            }
            for (at, who, id) in &world.asked[asked..] {
                prop_assert_ne!(who.as_str(), "never");
                let attempts = counted.entry(who.clone()).or_default();
                attempts.push(*at);
                open.push(*id);
                let within = attempts.iter().filter(|one| at.since(**one) < Duration::from_secs(600)).count();
                let revival = &world.restarts.revivals[who];
                prop_assert!(within <= 3, "{within} within the window");
                prop_assert!(revival.backoff() <= Duration::from_secs(8));
                // One that is needed is there first.
                prop_assert!(who.as_str() != "app" || world.restarts.up.contains(&name("db")));
            }
            for (who, result) in &world.told[told..] {
                if *result == RestartResult::GivenUp {
                    *given_up.entry(who.clone()).or_default() += 1;
                    prop_assert!(world.restarts.revivals[who].given_up);
                }
            }
            for (who, revival) in &world.restarts.revivals {
                // Told once for each time that it is given up, and then it rests.
                if revival.given_up {
                    prop_assert!(given_up.get(who).copied().unwrap_or(0) >= 1);
                    let due = matches!(revival.phase, Phase::Due { .. });
                    prop_assert!(!due);
                }
            }
        }
    }
}
