//! Critical processes over time, without rules or processes: what is told when, and that nothing is lost.

use super::*;
use crate::engine::testing::{at, process};
use crate::model::event::{Event, Status};

const NAME: &str = "web";

struct World {
    criticals: Criticals,
    out: Outbox,
}

impl World {
    fn new(expect: Option<(u32, u64)>) -> Self {
        let mut world = Self { criticals: Criticals::default(), out: Outbox::default() };
        world.renew(0, Some(expect));
        world
    }

    /// A profile with `web`, or without it.
    fn renew(&mut self, millis: u64, web: Option<Option<(u32, u64)>>) {
        self.pass(millis);
        let expect =
            |(min_instances, seconds)| Expect { min_instances, start_within: Duration::from_secs(seconds) };
        let expected = web.map(|expected| (name(), expected.map(expect)));
        self.criticals.renew(expected, &mut self.out);
    }

    fn born(&mut self, millis: u64, pid: u32) {
        self.pass(millis);
        self.criticals.add(&name(), &process(pid, "web").ppid(1).build(), at(millis));
    }

    fn execed(&mut self, millis: u64, pid: u32) {
        self.pass(millis);
        self.criticals.remove(&name(), &process(pid, "bash").build(), at(millis));
    }

    fn dies(&mut self, millis: u64, pid: u32) -> bool {
        self.pass(millis);
        let Event::Exit(exit) = process(pid, "web").exit(millis, Status::Code(1)) else { unreachable!() };
        self.criticals.died(&name(), &exit, None, &mut self.out)
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, millis: u64) {
        while let Some(due) = self.criticals.next_timeout().filter(|due| *due <= at(millis)) {
            self.out.set_now(due);
            self.criticals.advance(due, &mut self.out);
        }
        self.out.set_now(at(millis));
    }

    /// What is told until then and was not asked for before.
    fn until(&mut self, millis: u64) -> Vec<String> {
        self.pass(millis);
        let mut told = Vec::new();
        while let Some(action) = self.out.pop() {
            let crate::engine::action::What::Notify { notice } = action.what else { panic!("{action:?}") };
            told.push(line(&notice));
        }
        told
    }
}

fn line(notice: &Notice) -> String {
    if let Notice::CriticalProcessDown { remaining, wanted, flapping, exit, .. } = notice {
        return match flapping {
            None => format!("down {} {remaining}/{wanted}", exit.process.key.pid),
            Some(many) => format!("down x{} in {:?}, {} held back", many.deaths, many.over, many.held),
        };
    }
    if let Notice::CriticalProcessMissing { instances, wanted, absent, why, .. } = notice {
        return format!("missing {instances}/{wanted} for {absent:?}: {why}");
    }
    let Notice::CriticalProcessRecovered { how, absent, .. } = notice else { panic!("{notice}") };
    match how {
        Revival::ByOthers { key, comm, .. } if comm.to_string() == NAME => {
            format!("back {} after {absent:?}", key.pid)
        }
        Revival::ByOthers { key, comm, .. } => format!("back {} ({comm}) after {absent:?}", key.pid),
        Revival::NotRequired => "not required".to_owned(),
    }
}

fn name() -> Name {
    NAME.parse().unwrap()
}

#[test]
fn what_never_starts_is_told_once() {
    let mut world = World::new(Some((2, 30)));
    world.born(1_000, 10);
    assert_eq!(world.until(29_999), [""; 0]);
    let told = "missing 1/2 for 30s: it has not started since the profile came into force";
    assert_eq!(world.until(600_000), [told]);
    world.born(601_000, 11);
    assert_eq!(world.until(601_999), [""; 0], "it may die at once");
    assert_eq!(world.until(602_000), ["back 11 after 601s"]);
    assert_eq!(world.until(9_000_000), [""; 0]);
}

#[test]
fn what_starts_in_time_is_not_told() {
    let mut world = World::new(Some((2, 30)));
    world.born(1_000, 10);
    world.born(29_000, 11);
    world.renew(30_000, Some(Some((2, 30))));
    assert_eq!(world.until(900_000), [""; 0]);
    assert_eq!(world.criticals.next_timeout(), None);
}

#[test]
fn without_expectations_only_deaths_are_told() {
    let mut world = World::new(None);
    assert_eq!(world.criticals.next_timeout(), None);
    world.born(1_000, 10);
    world.born(1_000, 11);
    world.execed(1_500, 11);
    world.born(1_600, 11);
    assert!(world.dies(2_000, 10));
    assert!(!world.dies(2_000, 10), "told twice by two sources");
    assert_eq!(world.until(90_000), ["down 10 1/1"], "one is left, and that is enough");
    world.dies(90_000, 11);
    assert_eq!(world.until(500_000), ["down 11 0/1"]);
    world.born(500_250, 12);
    assert_eq!(world.until(600_000), ["back 12 after 410.25s"]);
}

#[test]
fn a_death_and_a_return_are_one_spell() {
    let mut world = World::new(Some((1, 5)));
    world.born(100, 10);
    world.dies(1_000, 10);
    world.born(1_200, 11);
    world.dies(1_300, 11);
    assert_eq!(world.until(1_300), ["down 10 0/1", "down 11 0/1"]);
    assert_eq!(world.until(6_000), ["missing 0/1 for 5s: it has not come back since it died"]);
    world.born(7_000, 12);
    assert_eq!(world.until(60_000), ["back 12 after 6s"]);
}

#[test]
fn it_is_back_under_the_name_that_it_has_by_then() {
    let mut world = World::new(None);
    world.born(100, 10);
    world.dies(1_000, 10);
    world.criticals.add(&name(), &process(11, "systemd").ppid(1).build(), at(1_200));
    for (pid, comm) in [(11, "daemon"), (12, "other")] {
        world.criticals.called(&name(), &process(pid, comm).ppid(1).build());
    }
    assert_eq!(world.until(9_000), ["down 10 0/1", "back 11 (daemon) after 200ms"]);
}

#[test]
fn one_that_became_another_program_is_missing() {
    let mut world = World::new(Some((1, 5)));
    world.born(100, 10);
    world.execed(10_000, 10);
    assert_eq!(world.until(15_000), ["missing 0/1 for 5s: pid 10 is something else by now (bash)"]);
    world.born(16_000, 10);
    assert_eq!(world.until(90_000), ["back 10 after 6s"]);
}

#[test]
fn a_profile_that_asks_for_less_ends_it() {
    let mut world = World::new(Some((2, 5)));
    world.born(100, 10);
    assert_eq!(world.until(5_000).len(), 1);
    world.renew(6_000, Some(Some((1, 5))));
    assert_eq!(world.until(90_000), ["not required"]);
    world.dies(91_000, 10);
    assert_eq!(world.until(91_000).len(), 1);
    world.renew(92_000, None);
    assert_eq!(world.until(900_000), ["not required"]);
    world.renew(900_000, Some(Some((1, 5))));
    assert_eq!(world.until(990_000).len(), 1, "a new profile begins anew");
}

#[test]
fn a_return_just_before_a_new_profile_is_told_as_one() {
    let mut world = World::new(None);
    world.born(0, 10);
    world.dies(1_000, 10);
    world.born(2_000, 11);
    world.renew(2_500, Some(None));
    assert_eq!(world.until(9_000), ["down 10 0/1", "back 11 after 1s"]);
}

#[test]
fn a_thousand_deaths_a_minute_are_few_notices_and_one_return() {
    let mut world = World::new(Some((1, 30)));
    for death in 0..3_000_u32 {
        let millis = u64::from(death) * 60;
        world.born(millis, 100 + death);
        assert!(world.dies(millis + 50, 100 + death));
    }
    let told = world.until(180_000);
    assert_eq!(told.len(), 7, "{told:?}");
    assert_eq!(told[..4], ["down 100 0/1", "down 101 0/1", "down 102 0/1", "down 103 0/1"]);
    assert_eq!(told[4], "down x5 in 240ms, 0 held back");
    let state = &world.criticals.states[&name()];
    assert_eq!((state.deaths, state.is_flapping()), (3_000, true));
    world.born(180_100, 9_999);
    let told = world.until(600_000);
    assert!(told.iter().any(|line| line.starts_with("back 9999")), "{told:?}");
    assert!(told.last().unwrap().starts_with("back"), "{told:?}");
    assert!(!world.criticals.states[&name()].is_flapping());
}

#[test]
fn deaths_that_were_held_back_are_told_when_the_profile_goes() {
    let mut world = World::new(None);
    for pid in 1..=7 {
        world.dies(u64::from(pid), pid);
    }
    assert_eq!(world.until(1_000).len(), 5);
    world.renew(2_000, None);
    assert_eq!(world.until(2_000), ["down x2 in 1.995s, 2 held back", "not required"]);
    assert_eq!(world.criticals.next_timeout(), None);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
    /// Whatever happens: beginnings and ends alternate, every death is counted, and few notices go out.
    #[test]
    fn spells_begin_and_end_in_turn(
        steps in proptest::collection::vec((0_u64..20_000, 0_u32..6, 0_u8..8), 1..200),
        expect in proptest::option::of((1_u32..4, 1_u64..40)),
    ) {
        let mut world = World::new(expect);
        let (mut now, mut deaths, mut told_deaths, mut open) = (0, 0_u64, 0_u64, false);
        let mut lives: BTreeMap<u32, u32> = BTreeMap::new();
        let mut watch = |told: Vec<String>| {
            for line in told {
                if line.starts_with("down x") {
                    let held = line.rsplit(", ").next().unwrap().strip_suffix(" held back").unwrap();
                    told_deaths += held.parse::<u64>().unwrap().max(1);
                    // Whether it is down, the numbers of the summary tell; not looked at here.
                    open = true;
                } else if line.starts_with("down") {
                    told_deaths += 1;
                    let (left, wanted) = line.rsplit(' ').next().unwrap().split_once('/').unwrap();
                    open |= left.parse::<u32>().unwrap() < wanted.parse::<u32>().unwrap();
                } else if line.starts_with("missing") {
                    open = true;
                } else {
                    assert!(open, "an end without a beginning: {line}");
                    open = false;
                }
            }
        };
        for (wait, slot, what) in steps {
            now += wait;
            watch(world.until(now));
            let life = lives.entry(slot).or_insert(0);
            let pid = 1 + slot + *life * 10;
            match what {
                0..=3 => world.born(now, pid),
                4 => world.execed(now, pid),
                _ => {
                    deaths += u64::from(world.dies(now, pid));
                    *life += 1;
                }
            }
        }
        world.renew(now, None);
        watch(world.until(now));
        proptest::prop_assert_eq!(told_deaths, deaths);
        proptest::prop_assert_eq!(world.criticals.next_timeout(), None);
    }
}
