//! On the real kernel: cgroups that are removed and made again under the same path, and processes that come after others
//! in one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::Controller::Cpu;
use crate::effect::Throttle;
use crate::effect::bed::value::{quota, set_quota};
use crate::effect::bed::{Bed, applied, apply, detach, error, in_place, limits, reap, release, run};
use crate::engine::action::{Apply, What};
use crate::engine::input::Outcome;
use crate::model::id::ProcKey;
use crate::model::limits::Scope;
use crate::store::Tables;

/// A process in a cgroup of its own, which goes with the last one that was there.
fn made_anew(bed: &mut Bed, last: Option<ProcKey>) -> (PathBuf, ProcKey) {
    if let Some(last) = last {
        let dir = bed.cgroup(last, Cpu);
        bed.end(last);
        fs::remove_dir(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
    }
    let process = bed.sleeper();
    (bed.foreign(Cpu, "job", &[process]), process)
}

fn each(name: &str, key: ProcKey, cpu: &str) -> What {
    in_place(Apply { scope: Scope::Process, ..apply(name, limits(&[("cpu", cpu)]), &[key]) })
}

#[test]
fn a_cgroup_that_was_made_anew_is_another_one() {
    let mut bed = Bed::new();
    let throttle = bed.throttle();
    // The same group, others beside it that still have a process, and one each.
    for scope in [Scope::Group, Scope::Process] {
        let (mut last, elsewhere) = (None, bed.sleeper());
        bed.foreign(Cpu, "elsewhere", &[elsewhere]);
        for round in 0..4 {
            let (dir, process) = made_anew(&mut bed, last);
            assert!(round == 0 || quota(&dir) == "max 100000", "a new one has the kernel's");
            set_quota(&dir, "70000 100000");
            let name = if scope == Scope::Group { "one" } else { ["a", "b", "c", "d"][round] };
            let wanted = Apply { scope, ..apply(name, limits(&[("cpu", "20%")]), &[process]) };
            if round == 0 {
                applied(run(&throttle, each("beside", elsewhere, "30%")));
            }
            let (how, members, _) = applied(run(&throttle, in_place(wanted)));
            assert_eq!((how.as_str(), members), ("in place", vec![process]), "{scope:?} {round}");
            assert_eq!(quota(&dir), "20000 100000", "{scope:?} {round}");
            last = Some(process);
        }
        let last = last.unwrap();
        let dir = bed.cgroup(last, Cpu);
        for name in ["a", "b", "c"] {
            assert_eq!(run(&throttle, release(name)), Outcome::Released);
            assert_eq!(quota(&dir), "20000 100000", "of {name}, whose cgroup is gone");
        }
        for name in ["one", "d", "beside"] {
            assert_eq!(run(&throttle, release(name)), Outcome::Released);
        }
        assert_eq!(quota(&dir), "70000 100000");
        for key in [last, elsewhere] {
            bed.end(key);
        }
    }
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn what_is_restored_is_not_written_to_a_later_cgroup() {
    let mut bed = Bed::new();
    let (dir, first) = made_anew(&mut bed, None);
    set_quota(&dir, "70000 100000");
    let throttle = bed.throttle();
    applied(run(&throttle, each("a", first, "20%")));
    let (dir, _second) = made_anew(&mut bed, Some(first));
    // As ours was, by chance.
    set_quota(&dir, "20000 100000");
    assert_eq!(run(&throttle, release("a")), Outcome::Released);
    assert_eq!(quota(&dir), "20000 100000");
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn what_was_planned_for_a_cgroup_is_not_written_to_a_later_one() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let dir = bed.foreign(Cpu, "job", &[process]);
    let throttle = bed.throttle();
    let wanted = Apply { in_place: true, ..apply("a", limits(&[("cpu", "20%")]), &[process]) };
    let planned = throttle.plan(&wanted, &BTreeSet::new()).unwrap();
    bed.foreign(Cpu, "elsewhere", &[process]);
    fs::remove_dir(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    bed.foreign(Cpu, "job", &[process]);
    let failed = throttle.shared.bring_in(&wanted, planned, None, &BTreeSet::new());
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(quota(&dir), "max 100000");
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
    assert_eq!(applied(run(&throttle, What::Apply(wanted))).1, [process]);
    assert_eq!(quota(&dir), "20000 100000");
}

/// Limits of the one that comes next, where 20 % are in force: another limit, and the same one, which the cgroup has
/// already.
const NEXT: [(&str, &str); 2] = [("30%", "30000 100000"), ("20%", "20000 100000")];

/// The first of two processes in a cgroup that has a quota of somebody else's.
fn successors() -> (Bed, PathBuf, [ProcKey; 2]) {
    let mut bed = Bed::new();
    let both = [bed.sleeper(), bed.sleeper()];
    let dir = bed.foreign(Cpu, "job", &both[..1]);
    set_quota(&dir, "70000 100000");
    (bed, dir, both)
}

/// That the quota is b's, which nothing of a's release changes, and goes with b.
#[track_caller]
fn b_has_taken_over(throttle: &Throttle, dir: &Path, limited: &str) {
    assert_eq!(quota(dir), limited);
    assert_eq!(run(throttle, release("a")), Outcome::Released);
    assert_eq!(quota(dir), limited);
    assert_eq!(run(throttle, release("b")), Outcome::Released);
    assert_eq!(quota(dir), "70000 100000");
}

#[test]
fn who_ended_gives_way_to_who_comes_after_it_in_the_same_cgroup() {
    for (cpu, limited) in NEXT {
        let (mut bed, dir, [first, second]) = successors();
        let throttle = bed.throttle();
        applied(run(&throttle, each("a", first, "20%")));
        let refused = error(run(&throttle, each("b", first, cpu)));
        assert!(refused.ends_with("is limited by group a already"), "{refused}");
        bed.end(first);
        bed.foreign(Cpu, "job", &[second]);
        assert_eq!(applied(run(&throttle, each("b", second, cpu))).1, [second]);
        b_has_taken_over(&throttle, &dir, limited);
    }
}

#[test]
fn a_group_gives_way_to_who_comes_when_nobody_of_it_is_left() {
    for (cpu, limited) in NEXT {
        let (mut bed, dir, [first, second]) = successors();
        let throttle = bed.throttle();
        applied(run(&throttle, in_place(apply("a", limits(&[("cpu", "20%"), ("nice", "5")]), &[first]))));
        let wanted = || in_place(apply("b", limits(&[("cpu", cpu)]), &[second]));
        bed.foreign(Cpu, "elsewhere", &[first]);
        bed.foreign(Cpu, "job", &[second]);
        let refused = || {
            let refused = error(run(&throttle, wanted()));
            assert!(refused.ends_with("is limited by group a already"), "{refused}");
        };
        refused();
        // One that it has changed lives on, though the group is to be removed.
        assert_eq!(run(&throttle, reap("a")), Outcome::Busy);
        refused();
        bed.end(first);
        assert_eq!(applied(run(&throttle, wanted())).1, [second]);
        b_has_taken_over(&throttle, &dir, limited);
    }
}

#[test]
fn who_comes_after_one_of_its_own_group_keeps_its_limit() {
    let (mut bed, dir, [first, second]) = successors();
    let elsewhere = bed.sleeper();
    bed.foreign(Cpu, "elsewhere", &[elsewhere]);
    let throttle = bed.throttle();
    applied(run(&throttle, each("a", first, "20%")));
    bed.end(first);
    bed.foreign(Cpu, "job", &[second]);
    assert_eq!(applied(run(&throttle, each("a", second, "20%"))).1, [second]);
    // Whoever ended is forgotten when another process is moved.
    let moved = Apply { scope: Scope::Process, ..apply("a", limits(&[("cpu", "20%")]), &[elsewhere]) };
    assert_ne!(applied(run(&throttle, What::Apply(moved))).0, "in place");
    assert_eq!(throttle.group(&"a".parse().unwrap()).unwrap().places.len(), 2);
    assert_eq!(quota(&dir), "20000 100000");
    assert_eq!(run(&throttle, detach("a", second)), Outcome::Released);
    assert_eq!(quota(&dir), "70000 100000");
}

#[test]
fn who_shared_the_cgroup_and_ended_is_not_in_the_way() {
    let mut bed = Bed::new();
    let (process, other) = (bed.sleeper(), bed.sleeper());
    let dir = bed.foreign(Cpu, "job", &[process, other]);
    let throttle = bed.throttle();
    let wanted = |sharers: &[ProcKey]| {
        let sharers = sharers.to_vec();
        What::Apply(Apply { allow_move: false, sharers, ..apply("g", limits(&[("cpu", "20%")]), &[process]) })
    };
    for ended in [false, true] {
        if ended {
            bed.end(other);
        }
        let refused = applied(run(&throttle, wanted(&[]))).2;
        assert!(refused[0].1.contains("other processes share their cgroup"), "{refused:?}");
        let (how, _, refused) = applied(run(&throttle, wanted(&[other])));
        if ended {
            assert_eq!((how.as_str(), quota(&dir).as_str()), ("in place", "20000 100000"));
        } else {
            assert!(refused[0].1.contains("other processes share their cgroup"), "{refused:?}");
        }
    }
}
