//! Protection on the real kernel: it comes and goes exactly, wherever the agent dies, and nobody inherits it.
//!
//! Scores stay above 0, which is as low as anybody may go without `CAP_SYS_RESOURCE`: not every machine that tests
//! run on has it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::effect::attribute;
use crate::effect::bed::{Bed, action, applied, apply, error, limits, run, set_attribute};
use crate::effect::fail_point::Point;
use crate::effect::moves::children_since;
use crate::effect::restore::{recover, release_all};
use crate::effect::throttle::Step;
use crate::engine::action::What;
use crate::engine::input::Outcome;
use crate::model::attribute::{Attribute, OomScoreAdj};
use crate::model::critical::Protection;
use crate::model::id::{Name, ProcKey, TICK_NANOS};
use crate::model::unit::Nice;
use crate::store::Tables;

fn protection(oom: i64, nice: i64) -> Protection {
    Protection { oom_score_adj: OomScoreAdj::new(oom), nice: Nice::new(nice), ..Protection::NONE }
}

fn protect(key: ProcKey, protection: Protection) -> What {
    let critical = "web".parse().unwrap();
    What::Protect { group: Name::of_protection(key), key, critical, protection }
}

fn unprotect(key: ProcKey) -> What {
    What::Unprotect { group: Name::of_protection(key), key }
}

fn values(key: ProcKey) -> (String, String) {
    let read = |attribute| attribute::read(Path::new("/proc"), attribute, key, key).unwrap().unwrap();
    (read(Attribute::OomScoreAdj), read(Attribute::Nice))
}

/// A process that the OOM killer likes.
fn victim(bed: &mut Bed) -> ProcKey {
    let process = bed.sleeper();
    set_attribute(&bed.kernel.roots.proc, Attribute::OomScoreAdj, process, "600");
    process
}

fn pair(oom: &str, nice: &str) -> (String, String) {
    (oom.to_owned(), nice.to_owned())
}

#[test]
fn protection_comes_and_goes_exactly_and_lowers_nobodys() {
    let mut bed = Bed::new();
    let proc = bed.kernel.roots.proc.clone();
    let (plain, better) = (victim(&mut bed), bed.sleeper());
    set_attribute(&proc, Attribute::OomScoreAdj, better, "50");
    set_attribute(&proc, Attribute::Nice, better, "-15");
    let before = bed.capture();
    let throttle = bed.throttle();
    for key in [plain, better] {
        let (_, members, refused) = applied(run(&throttle, protect(key, protection(100, -10))));
        assert_eq!((members, refused), (vec![key], vec![]));
    }
    assert_eq!((values(plain), values(better)), (pair("100", "-10"), pair("50", "-15")));
    // Another profile states less of it.
    applied(run(&throttle, protect(plain, Protection { nice: None, ..protection(300, 0) })));
    assert_eq!(values(plain).0, "300");
    assert!(!before.contains("nice -10") && !bed.capture().contains("nice -10"), "{}", bed.capture());
    for key in [plain, better] {
        assert_eq!(run(&throttle, unprotect(key)), Outcome::Released);
    }
    assert_eq!(bed.capture(), before);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
    assert_eq!(bed.store().read(Tables::groups).unwrap(), []);
    // Who ended has nothing to give back.
    applied(run(&throttle, protect(plain, protection(100, -10))));
    bed.end(plain);
    assert_eq!(run(&throttle, unprotect(plain)), Outcome::Released);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn wherever_the_agent_dies_protection_is_taken_back() {
    let points = [(Point::Planned, 0), (Point::AttributeSet, 0), (Point::AttributeSet, 1)];
    let later = [(Point::Applied, 0), (Point::RowUndone, 0), (Point::Undone, 0)];
    for (point, after) in points.into_iter().chain(later) {
        for by_hand in [false, true] {
            let mut bed = Bed::new();
            let process = victim(&mut bed);
            let before = bed.capture();
            let throttle = bed.throttle();
            bed.kernel.fail.die_at(point, after);
            let died = catch_unwind(AssertUnwindSafe(|| {
                run(&throttle, protect(process, protection(100, -10)));
                run(&throttle, unprotect(process));
            }));
            assert!(died.is_err(), "{point:?}");
            drop(throttle);
            let mut store = bed.store();
            let report = if by_hand {
                release_all(&bed.kernel, &mut store).unwrap()
            } else {
                recover(&bed.kernel, &mut store).unwrap()
            };
            assert_eq!(report.failures, Vec::<String>::new(), "{point:?}");
            assert_eq!(bed.capture(), before, "{point:?}");
            assert_eq!(store.read(Tables::intents).unwrap(), [], "{point:?}");
        }
    }
}

#[test]
fn a_child_keeps_nothing_of_it() {
    let mut bed = Bed::new();
    let proc = bed.kernel.roots.proc.clone();
    let shell = bed.spawn("sh", &["-c", "sleep 1000 & read line; sleep 1000 & wait"]);
    let children = |count: usize| {
        let mut found = Vec::new();
        let end = crate::clock::now().after(std::time::Duration::from_secs(10));
        while found.len() != count && crate::clock::now() < end {
            found = children_since(&proc, shell.pid, 0);
        }
        found
    };
    let old = children(1)[0];
    set_attribute(&proc, Attribute::OomScoreAdj, shell, "600");
    let before = values(shell);
    // By its own doing, and before: not ours to change.
    set_attribute(&proc, Attribute::OomScoreAdj, old, "100");
    // Births are known to a tick or two.
    while crate::clock::now().as_nanos() / TICK_NANOS < old.start + 4 {
        std::thread::yield_now();
    }
    let throttle = bed.throttle();
    applied(run(&throttle, protect(shell, protection(100, -10))));
    bed.go(shell);
    let young = children(2).into_iter().find(|child| *child != old).unwrap();
    assert_eq!(values(young), pair("100", "-10"), "a child inherits");
    let group = Name::of_protection(shell);
    for key in [young, old] {
        let what = What::Disinherit { group: group.clone(), key, from: shell };
        assert_eq!(run(&throttle, what), Outcome::Released);
    }
    assert_eq!(values(young), before);
    assert_eq!(values(old).0, "100");
    // One that the agent never heard of.
    set_attribute(&proc, Attribute::OomScoreAdj, young, "100");
    assert_eq!(run(&throttle, unprotect(shell)), Outcome::Released);
    assert_eq!((values(shell), values(young)), (before.clone(), before));
    assert_eq!(values(old).0, "100");
}

#[test]
fn an_emergency_leaves_protection_and_lifts_limits() {
    let mut bed = Bed::new();
    let (kept, limited) = (victim(&mut bed), bed.sleeper());
    let before = values(limited);
    let throttle = bed.throttle();
    applied(run(&throttle, protect(kept, protection(100, -10))));
    applied(run(&throttle, What::Apply(apply("g", limits(&[("nice", "9")]), &[limited]))));
    assert_eq!(throttle.lift().run(), Outcome::Released);
    assert_eq!((values(kept), values(limited)), (pair("100", "-10"), before));
    let late = victim(&mut bed);
    applied(run(&throttle, protect(late, protection(100, -10))));
    assert_eq!(values(late), pair("100", "-10"), "protection is given during an emergency, too");
    throttle.block(false);
    let taken = apply("protected.1.2", limits(&[("nice", "9")]), &[limited]);
    let told = error(run(&throttle, What::Apply(taken)));
    assert!(told.contains("are protection's"), "{told}");
    for key in [kept, late] {
        assert_eq!(run(&throttle, unprotect(key)), Outcome::Released);
    }
}

#[test]
fn who_is_never_touched_is_not_protected_either() {
    let bed = Bed::new();
    let throttle = bed.throttle();
    let own = bed.key(std::process::id());
    let Some(Step::Done(outcome)) =
        throttle.execute(&action(protect(own, protection(100, -10))), &BTreeSet::new())
    else {
        panic!()
    };
    let (_, members, refused) = applied(outcome);
    assert!(members.is_empty() && refused[0].1.contains("the agent and its ancestors"), "{refused:?}");
}
