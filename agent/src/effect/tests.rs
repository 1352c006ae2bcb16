//! On the real kernel: what is applied is in force, what is released is exactly as before, whenever it ends.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cgroup::Controller::{Cpu, Io, Memory, Pids};
use crate::effect::attribute;
use crate::effect::bed::value::{
    IO_READ, MEMORY_MAX, PIDS, QUOTA, WEIGHT, name, quota, set, set_quota, value,
};
use crate::effect::bed::{
    Bed, action, applied, apply, attributes, detach, error, in_place, limits, nice, reap, release, renice,
    run, set_attribute,
};
use crate::effect::dry;
use crate::effect::fail_point::Point;
use crate::effect::restore::{recover, release_all};
use crate::effect::throttle::Step;
use crate::engine::action::{Apply, What};
use crate::engine::input::Outcome;
use crate::model::attribute::Attribute;
use crate::model::id::ProcKey;
use crate::model::limits::{Limits, Scope};
use crate::model::reason::Reason;
use crate::store::Tables;
use crate::systemd::{Bus, Sockets};

fn everything() -> Limits {
    limits(&[
        ("cpu", "30%"),
        ("cpu_weight", "50"),
        ("memory_high", "32M"),
        ("memory_max", "64M"),
        ("pids", "50"),
        ("io_read", "10M"),
        ("nice", "7"),
        ("sched", "batch"),
        ("io_priority", "7"),
        ("cpu_affinity", "0-0"),
        ("oom_score_adj", "400"),
    ])
}

fn moving(apply: Apply) -> What {
    What::Apply(apply)
}

/// A process in a foreign cgroup of each controller, with values that are not the defaults.
fn settled(bed: &mut Bed) -> ProcKey {
    let process = bed.sleeper();
    renice(&bed.kernel.roots.proc, process, 3);
    let cpu = bed.foreign(Cpu, "job", &[process]);
    set_quota(&cpu, "45000 50000");
    set(&cpu, WEIGHT, "777");
    let memory = bed.foreign(Memory, "job", &[process]);
    set(&memory, MEMORY_MAX, "512M");
    let pids = bed.foreign(Pids, "job", &[process]);
    set(&pids, PIDS, "99");
    bed.foreign(Io, "job", &[process]);
    process
}

#[test]
fn in_place_every_limit_comes_and_goes_exactly() {
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    let before = bed.capture();
    let throttle = bed.throttle();
    let (how, members, refused) = applied(run(&throttle, in_place(apply("g", everything(), &[process]))));
    assert_eq!((how.as_str(), members, refused), ("in place", vec![process], vec![]));
    let dir = bed.cgroup(process, Cpu);
    assert_eq!(quota(&dir), "30000 100000");
    assert_eq!(value(&dir, WEIGHT), if bed.is_v2() { "50" } else { "512" });
    assert_eq!(value(&bed.cgroup(process, Memory), MEMORY_MAX), (64 << 20).to_string());
    assert_eq!(value(&bed.cgroup(process, Pids), PIDS), "50");
    let io = value(&bed.cgroup(process, Io), IO_READ);
    assert!(io.contains(if bed.is_v2() { " rbps=10485760 " } else { " 10485760" }), "{io}");
    assert!(bed.capture().contains("nice 7"));
    // Already in force: nothing to write, and the same answer.
    let rows = bed.store().read(Tables::intents).unwrap();
    let again = applied(run(&throttle, in_place(apply("g", everything(), &[process]))));
    assert_eq!(again.1, [process]);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), rows);
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    assert_eq!(bed.capture(), before);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
    assert_eq!(bed.store().read(Tables::groups).unwrap(), []);
}

#[test]
fn by_moving_processes_return_to_where_each_was() {
    let mut bed = Bed::new();
    let (a, b, c) = (settled(&mut bed), bed.sleeper(), bed.sleeper());
    bed.foreign(Cpu, "other", &[b]);
    let before = bed.capture();
    let throttle = bed.throttle();
    let what = moving(apply("g", everything(), &[a, b, c]));
    let Some(Step::Moves(batch)) = throttle.execute(&action(what), &BTreeSet::new()) else { panic!() };
    // What comes later on the group waits behind it.
    let Some(Step::Moves(later)) = throttle.execute(&action(release("g")), &BTreeSet::new()) else {
        panic!()
    };
    let (how, members, _) = applied(std::thread::spawn(move || batch.run()).join().unwrap());
    assert_eq!((how.as_str(), members), ("by moving", vec![a, b, c]));
    for process in [a, b, c] {
        for controller in [Cpu, Memory, Pids, Io] {
            assert_eq!(bed.cgroup(process, controller), bed.own(controller, "g"));
        }
    }
    assert_eq!(quota(&bed.own(Cpu, "g")), "30000 100000");
    assert_eq!(value(&bed.own(Memory, "g"), MEMORY_MAX), (64 << 20).to_string());
    assert_eq!(later.run(), Outcome::Released);
    assert_eq!(bed.capture(), before);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn only_the_hierarchies_with_limits_are_moved_in() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let memory = bed.cgroup(process, Memory);
    let throttle = bed.throttle();
    // Out of a root it needs no permission.
    let what = What::Apply(Apply { allow_move: false, ..apply("g", limits(&[("cpu", "20%")]), &[process]) });
    assert_eq!(applied(run(&throttle, what)).0, "by moving");
    assert_eq!(bed.cgroup(process, Cpu), bed.own(Cpu, "g"));
    if bed.is_v2() {
        // There is one hierarchy; only the controller that limits is handed down in it.
        assert_eq!(bed.cgroup(process, Memory), bed.own(Memory, "g"));
        assert_eq!(value(bed.own(Cpu, "g").parent().unwrap(), ["cgroup.subtree_control"; 2]), "cpu");
    } else {
        assert_eq!(bed.cgroup(process, Memory), memory);
        assert!(!bed.own(Memory, "g").exists());
    }
}

#[test]
fn a_shared_cgroup_is_not_limited_in_place() {
    let mut bed = Bed::new();
    let (inside, other) = (bed.sleeper(), bed.sleeper());
    bed.foreign(Cpu, "job", &[inside, other]);
    let before = bed.capture();
    let throttle = bed.throttle();
    let (_, members, refused) =
        applied(run(&throttle, in_place(apply("g", limits(&[("cpu", "20%")]), &[inside]))));
    assert_eq!(members, []);
    let expected = format!("process {} in ", other.pid);
    assert!(refused[0].1.contains(&expected) && refused[0].1.contains("needs allow_move"), "{refused:?}");
    assert_eq!(bed.capture(), before);
    // A sub-cgroup counts, too.
    bed.foreign(Cpu, "job/below", &[]);
    let dir = bed.cgroup(inside, Cpu).join("below");
    fs::write(dir.join("cgroup.procs"), other.pid.to_string()).unwrap();
    let (_, members, _) = applied(run(&throttle, in_place(apply("g", limits(&[("cpu", "20%")]), &[inside]))));
    assert_eq!(members, []);
    let both = applied(run(&throttle, in_place(apply("g", limits(&[("cpu", "20%")]), &[inside, other]))));
    assert_eq!((both.0.as_str(), both.1.len()), ("in place", 2));
}

#[test]
fn a_part_that_fails_undoes_all_of_it() {
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    bed.claim_absent_device();
    let before = bed.capture();
    let throttle = bed.throttle();
    let failed = error(run(&throttle, in_place(apply("g", everything(), &[process]))));
    assert!(failed.contains("4095:1048575") && failed.contains("10485760"), "{failed}");
    assert_eq!(bed.capture(), before);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
    assert_eq!(bed.store().read(Tables::groups).unwrap(), []);
    let wanted = Limits { pids: Some(5_000_000), ..everything() };
    let failed = error(run(&throttle, moving(apply("g", wanted, &[process]))));
    assert!(failed.starts_with("limit pids: 5000000"), "{failed}");
    assert_eq!(bed.capture(), before);
}

#[test]
fn changed_limits_replace_and_a_failed_change_keeps_the_old_ones() {
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    let before = bed.capture();
    let throttle = bed.throttle();
    applied(run(&throttle, in_place(apply("g", everything(), &[process]))));
    let first = bed.capture();
    bed.claim_absent_device();
    let too_much = Limits { cpu_weight: "3".parse().ok(), io_read: "11M".parse().ok(), ..everything() };
    error(run(&throttle, in_place(apply("g", too_much, &[]))));
    assert_eq!(bed.capture(), first);
    applied(run(&throttle, in_place(apply("g", limits(&[("cpu", "10%"), ("nice", "9")]), &[process]))));
    let dir = bed.cgroup(process, Cpu);
    assert_eq!((quota(&dir), value(&dir, WEIGHT)), ("10000 100000".into(), "777".into()));
    assert_eq!(value(&bed.cgroup(process, Pids), PIDS), "99");
    assert!(bed.capture().contains("nice 9"));
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    assert_eq!(bed.capture(), before);
}

#[test]
fn wherever_the_agent_dies_recovery_restores() {
    let points = [
        (Point::DirsPlanned, 0),
        (Point::DirMade, 0),
        (Point::DirMade, 3),
        (Point::Planned, 0),
        (Point::Written, 0),
        (Point::Written, 2),
        (Point::Moved, 0),
        (Point::AttributeSet, 0),
        (Point::AttributeSet, 3),
        (Point::Applied, 0),
        (Point::RowUndone, 0),
        (Point::RowUndone, 3),
        (Point::Undone, 0),
    ];
    for (point, after) in points {
        for moved in [false, true] {
            for again in [false, true] {
                let mut bed = Bed::new();
                let process = settled(&mut bed);
                let before = bed.capture();
                let what = || {
                    let apply = apply("g", everything(), &[process]);
                    if moved { moving(apply) } else { in_place(apply) }
                };
                let throttle = bed.throttle();
                bed.kernel.fail.die_at(point, after);
                let died = catch_unwind(AssertUnwindSafe(|| {
                    run(&throttle, what());
                    run(&throttle, release("g"));
                }));
                drop(throttle);
                let only_when_moving = matches!(point, Point::DirsPlanned | Point::DirMade);
                assert_eq!(died.is_err(), moved || !only_when_moving, "{point:?}");
                if again {
                    // Without recovery: what is in the kernel now may be our own value, and is not the prior.
                    let throttle = bed.throttle();
                    applied(run(&throttle, what()));
                    let dir = bed.cgroup(process, Cpu);
                    assert_eq!(quota(&dir), "30000 100000", "{point:?}");
                    assert_eq!(run(&throttle, release("g")), Outcome::Released, "{point:?} {moved}");
                } else {
                    let report = recover(&bed.kernel, &mut bed.store()).unwrap();
                    assert_eq!(report.failures, Vec::<String>::new(), "{point:?}");
                    let again = recover(&bed.kernel, &mut bed.store()).unwrap();
                    assert_eq!(again.restored, 0, "{point:?}");
                }
                assert_eq!(bed.capture(), before, "{point:?} moved: {moved} again: {again}");
                assert_eq!(bed.store().read(Tables::intents).unwrap(), [], "{point:?}");
                assert_eq!(bed.store().read(Tables::groups).unwrap(), [], "{point:?}");
            }
        }
    }
}

#[test]
fn what_must_not_be_touched_is_not() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let gone = bed.sleeper();
    bed.end(gone);
    let reused = ProcKey { start: process.start + 1, ..process };
    let own = bed.key(std::process::id());
    let critical = BTreeSet::from([process]);
    let before = bed.capture();
    let throttle = bed.throttle();
    let keys = [bed.key(1), own, process, gone, reused];
    for wanted in [limits(&[("cpu", "20%")]), limits(&[("nice", "5")])] {
        let what = action(moving(apply("g", wanted, &keys)));
        let outcome = match throttle.execute(&what, &critical).unwrap() {
            Step::Done(outcome) => outcome,
            Step::Moves(batch) => batch.run(),
        };
        let (how, members, refused) = applied(outcome);
        assert_eq!((how.as_str(), members), ("not at all", vec![]));
        let reasons: Vec<&str> = refused.iter().map(|(_, why)| why.as_str()).collect();
        let expected = [
            "never touched: pid 1",
            "never touched: the agent and its ancestors",
            "never touched: a critical process",
            "the process is gone",
            "the process is gone",
        ];
        assert_eq!(reasons, expected);
    }
    assert_eq!(bed.capture(), before);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn two_groups_do_not_share_a_cgroup() {
    let mut bed = Bed::new();
    let (a, b) = (bed.sleeper(), bed.sleeper());
    let dir = bed.foreign(Cpu, "job", &[a]);
    let before = bed.capture();
    let throttle = bed.throttle();
    applied(run(&throttle, in_place(apply("one", limits(&[("cpu", "20%")]), &[a]))));
    let failed = error(run(&throttle, in_place(apply("two", limits(&[("cpu", "40%")]), &[a]))));
    assert!(failed.ends_with("is limited by group one already"), "{failed}");
    assert_eq!(quota(&dir), "20000 100000");
    applied(run(&throttle, moving(apply("two", limits(&[("cpu", "40%")]), &[b]))));
    let (_, members, refused) =
        applied(run(&throttle, moving(apply("three", limits(&[("cpu", "40%")]), &[b]))));
    assert!(members.is_empty() && refused[0].1.contains("limits it already"), "{refused:?}");
    assert_eq!(throttle.groups().len(), 2);
    assert_eq!(run(&throttle, release("two")), Outcome::Released);
    assert_eq!(quota(&dir), "20000 100000");
    assert_eq!(run(&throttle, release("one")), Outcome::Released);
    assert_eq!(bed.capture(), before);
}

#[test]
fn a_newcomer_from_elsewhere_takes_the_group_along() {
    let mut bed = Bed::new();
    let (a, b) = (bed.sleeper(), bed.sleeper());
    let dir = bed.foreign(Cpu, "job", &[a]);
    let before = bed.capture();
    let throttle = bed.throttle();
    let wanted = limits(&[("cpu", "20%")]);
    applied(run(&throttle, in_place(apply("g", wanted.clone(), &[a]))));
    let refused = applied(run(&throttle, in_place(apply("g", wanted.clone(), &[b])))).2;
    assert!(refused[0].1.contains("cannot come along"), "{refused:?}");
    let (how, members, _) = applied(run(&throttle, moving(apply("g", wanted, &[b]))));
    assert_eq!((how.as_str(), members), ("by moving", vec![b]));
    assert_eq!(quota(&dir), "max 100000");
    for process in [a, b] {
        assert_eq!(bed.cgroup(process, Cpu), bed.own(Cpu, "g"));
    }
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    assert_eq!(bed.capture(), before);
}

#[test]
fn each_process_can_have_the_limits_to_itself() {
    let mut bed = Bed::new();
    let (a, b) = (bed.sleeper(), bed.sleeper());
    let before = bed.capture();
    let throttle = bed.throttle();
    let each = |keys: &[ProcKey]| {
        moving(Apply { scope: Scope::Process, ..apply("g", limits(&[("cpu", "20%"), ("pids", "9")]), keys) })
    };
    applied(run(&throttle, each(&[a])));
    applied(run(&throttle, each(&[b])));
    for process in [a, b] {
        let dir = bed.own(Cpu, "g").join(format!("{}-{}", process.pid, process.start));
        assert_eq!(bed.cgroup(process, Cpu), dir);
        assert_eq!(quota(&dir), "20000 100000");
    }
    assert_eq!(run(&throttle, detach("g", a)), Outcome::Released);
    for controller in [Cpu, Pids] {
        assert_eq!(bed.cgroup(a, controller), bed.mount(controller));
        assert!(!bed.own(controller, "g").join(format!("{}-{}", a.pid, a.start)).exists());
    }
    assert_eq!(run(&throttle, reap("g")), Outcome::Busy);
    assert_eq!(run(&throttle, detach("g", b)), Outcome::Released);
    assert_eq!(bed.capture(), before);
    assert!(throttle.groups().is_empty());
}

#[test]
fn a_group_whose_processes_ended_is_reaped() {
    let mut bed = Bed::new();
    let (a, b) = (bed.sleeper(), bed.sleeper());
    bed.foreign(Cpu, "job", &[b]);
    let throttle = bed.throttle();
    applied(run(&throttle, moving(apply("own", limits(&[("cpu", "20%"), ("nice", "4")]), &[a]))));
    applied(run(&throttle, in_place(apply("place", limits(&[("cpu", "20%")]), &[b]))));
    for group in ["own", "place"] {
        assert_eq!(run(&throttle, reap(group)), Outcome::Busy);
    }
    bed.end(a);
    bed.end(b);
    for group in ["own", "place", "never-was"] {
        assert_eq!(run(&throttle, reap(group)), Outcome::Released);
    }
    assert!(!bed.own(Cpu, "own").exists());
    assert_eq!(quota(&bed.foreign(Cpu, "job", &[])), "max 100000");
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn children_forked_inside_go_back_with_their_parent() {
    let mut bed = Bed::new();
    let shell = bed.spawn("sh", &["-c", "read go; sleep 1000 & sleep 1000 & wait"]);
    let origin = bed.foreign(Cpu, "job", &[shell]);
    let throttle = bed.throttle();
    applied(run(&throttle, moving(apply("g", limits(&[("cpu", "20%")]), &[shell]))));
    let own = bed.own(Cpu, "g");
    bed.go(shell);
    let pids = || crate::cgroup::membership::procs(&own).unwrap();
    let children = wait_until(|| Some(pids()).filter(|pids| pids.len() == 3));
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    for pid in children {
        assert_eq!(bed.cgroup(bed.key(pid), Cpu), origin);
    }
}

/// Polls what only other processes can bring about; gives up after a bounded number of looks.
fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1_000_000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("it did not come about");
}

#[test]
fn what_somebody_else_changed_since_is_left() {
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    let throttle = bed.throttle();
    applied(run(&throttle, in_place(apply("g", everything(), &[process]))));
    let dir = bed.cgroup(process, Cpu);
    set(&dir, WEIGHT, "4321");
    drop(throttle);
    let report = recover(&bed.kernel, &mut bed.store()).unwrap();
    assert_eq!(value(&dir, WEIGHT), "4321");
    assert_eq!(quota(&dir), "45000 50000");
    assert_eq!(report.notes.len(), 1);
    let expected = format!("{} was set to \"4321\" by somebody else", name(&dir, WEIGHT));
    assert!(report.notes[0].contains(&expected), "{:?}", report.notes);
    assert_eq!(report.groups, ["g".parse().unwrap()]);
}

#[test]
fn cgroups_without_records_are_released_by_their_marks() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let before = bed.capture();
    let throttle = bed.throttle();
    applied(run(&throttle, moving(apply("g", limits(&[("cpu", "20%"), ("pids", "9")]), &[process]))));
    let ids: Vec<i64> = bed.store().read(Tables::intents).unwrap().iter().map(|row| row.id).collect();
    bed.store().write(|tables| tables.delete_intents(&ids)).unwrap();
    drop(throttle);
    let report = release_all(&bed.kernel, &mut bed.store()).unwrap();
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(bed.capture(), before);
}

#[test]
fn a_full_disk_changes_nothing_and_keeps_nothing_in_force() {
    let mut bed = Bed::new();
    let (process, other) = (settled(&mut bed), bed.sleeper());
    let before = bed.capture();
    let throttle = bed.throttle();
    applied(run(&throttle, in_place(apply("g", everything(), &[process]))));
    let limited = bed.capture();
    throttle.fill_disk();
    // Enough for rows that are in the pages there are, so: more than fits into them.
    let reason = Reason::Operator { uid: 0, request: "x".repeat(100_000) };
    let wanted = limits(&[("cpu", "10%")]);
    let failed = error(run(&throttle, moving(Apply { reason, ..apply("full", wanted, &[other]) })));
    assert!(failed.contains("full"), "{failed}");
    assert_eq!(bed.capture(), limited);
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    assert_eq!(bed.capture(), before);
}

#[test]
fn what_others_manage_is_left_to_them() {
    let mut bed = Bed::new();
    bed.kernel.systemd = true;
    let (unit, container) = (bed.sleeper(), bed.sleeper());
    bed.foreign(Cpu, "job.service", &[unit]);
    bed.foreign(Cpu, "docker-0123.scope", &[container]);
    let before = bed.capture();
    let throttle = bed.throttle();
    let wanted = limits(&[("cpu", "20%")]);
    // Only systemd can tell whose a unit's cgroup is, and there is none.
    bed.kernel.bus = Bus::new(Sockets::below(Path::new("/nowhere")));
    let throttle_without = bed.throttle();
    let failed = error(run(&throttle_without, in_place(apply("g", wanted.clone(), &[unit]))));
    assert!(failed.starts_with("systemd cannot be reached over D-Bus: /nowhere/systemd/private"), "{failed}");
    let refused = applied(run(&throttle, moving(apply("g", wanted, &[container])))).2;
    assert!(
        refused[0].1.contains("belongs to a container runtime: observed only, unless allow_containers"),
        "{refused:?}"
    );
    assert_eq!(bed.capture(), before);
}

#[test]
fn rows_of_an_earlier_boot_change_nothing() {
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    let throttle = bed.throttle();
    applied(run(&throttle, in_place(apply("g", everything(), &[process]))));
    let limited = bed.capture();
    drop(throttle);
    let later = crate::effect::Kernel { boot: "another boot".to_owned(), ..bed.kernel.clone() };
    let report = recover(&later, &mut bed.store()).unwrap();
    assert_eq!((report.restored, report.notes.len()), (0, 1));
    assert_eq!(bed.capture(), limited);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    let before = bed.capture();
    let what = action(moving(apply("g", everything(), &[process])));
    let lines = dry::describe(&bed.kernel, &what, &BTreeSet::new()).unwrap();
    let text = lines.join("\n");
    for expected in ["would make cgroup", "would write \"30000", "would move process", "would set nice 7"] {
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(bed.capture(), before);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn every_attribute_of_every_thread_comes_and_goes_exactly() {
    let mut bed = Bed::new();
    let proc = bed.kernel.roots.proc.clone();
    let process = bed.spawn("/usr/bin/python3", &["-c", THREADS]);
    let threads = wait_until(|| {
        Some(attribute::threads(&proc, process.pid).unwrap()).filter(|threads| threads.len() == 5)
    });
    // One has a value of its own, one the wanted one already, one is real-time, and none is like another.
    let special = [
        (threads[1], Attribute::Nice, "7"),
        (threads[1], Attribute::Sched, "idle"),
        (threads[2], Attribute::Nice, "3"),
        (threads[2], Attribute::IoPriority, "best-effort/2"),
        (threads[2], Attribute::Sched, "batch reset-on-fork"),
    ];
    for (thread, attribute, value) in special {
        assert!(attribute::set(&proc, attribute, process, thread, value, value).unwrap());
    }
    let tid = threads[3].pid.to_string();
    assert!(Command::new("chrt").args(["-f", "-p", "1", &tid]).status().unwrap().success());
    let before = attributes(&proc, process);
    let throttle = bed.throttle();
    let wanted = limits(&[
        ("nice", "7"),
        ("sched", "batch"),
        ("io_class", "idle"),
        ("cpu_affinity", "0-0"),
        ("oom_score_adj", "400"),
    ]);
    let Outcome::Applied { how, members, .. } =
        run(&throttle, moving(apply("g", wanted.clone(), &[process])))
    else {
        panic!()
    };
    assert_eq!(members, [process]);
    assert!(how.contains("1 of 5 threads") && how.contains("real-time"), "{how}");
    let value = |thread, attribute| attribute::read(&proc, attribute, process, thread).unwrap().unwrap();
    for thread in [threads[0], threads[1], threads[2], threads[4]] {
        let reset = if thread == threads[2] { "batch reset-on-fork" } else { "batch" };
        let all = Attribute::ALL.map(|attribute| value(thread, attribute));
        assert_eq!(all, ["7", reset, "idle", "0", "400"]);
    }
    assert_eq!(value(threads[3], Attribute::Sched), "fifo");
    assert_eq!(value(threads[3], Attribute::IoPriority), "none");
    // A thread that is born now has the values, and they are not its own.
    bed.go(process);
    wait_until(|| Some(attribute::threads(&proc, process.pid).unwrap()).filter(|all| all.len() == 6));
    let changed = limits(&[("nice", "9"), ("oom_score_adj", "300")]);
    applied(run(&throttle, moving(apply("g", changed, &[process]))));
    let late = *attribute::threads(&proc, process.pid).unwrap().last().unwrap();
    assert_eq!(Attribute::ALL.map(|attribute| value(late, attribute))[0], "9");
    assert_eq!(Attribute::ALL.map(|attribute| value(threads[0], attribute))[4], "300");
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    let after = attributes(&proc, process);
    assert!(after.starts_with(&before), "{before}\n{after}");
    let first = Attribute::ALL.map(|attribute| value(threads[0], attribute));
    assert_eq!(Attribute::ALL.map(|attribute| value(late, attribute)), first);
}

/// Four threads besides the first, and one more when its standard input ends.
const THREADS: &str = "
import sys, threading
def start():
    threading.Thread(target=threading.Event().wait, daemon=True).start()
[start() for _ in range(4)]
sys.stdin.read()
start()
threading.Event().wait()
";

#[test]
fn a_score_is_raised_and_never_lowered() {
    let mut bed = Bed::new();
    let proc = bed.kernel.roots.proc.clone();
    let (low, high) = (bed.sleeper(), bed.sleeper());
    set_attribute(&proc, Attribute::OomScoreAdj, low, "10");
    set_attribute(&proc, Attribute::OomScoreAdj, high, "900");
    let before = bed.capture();
    let throttle = bed.throttle();
    applied(run(&throttle, moving(apply("g", limits(&[("oom_score_adj", "500")]), &[low, high]))));
    let score = |key| attribute::read(&proc, Attribute::OomScoreAdj, key, key).unwrap().unwrap();
    assert_eq!((score(low), score(high)), ("500".to_owned(), "900".to_owned()));
    run(&throttle, release("g"));
    assert_eq!(bed.capture(), before);
}

#[test]
fn cpus_that_are_not_online_and_contradictions_are_refused() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let before = bed.capture();
    let throttle = bed.throttle();
    for (wanted, why) in [
        (limits(&[("cpu_affinity", "1020-1023")]), "none of these CPUs is online"),
        (limits(&[("io_class", "idle"), ("io_priority", "3")]), "no priorities within the idle I/O class"),
    ] {
        let told = error(run(&throttle, moving(apply("g", wanted, &[process]))));
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(bed.capture(), before);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn a_child_that_inherited_our_nice_gets_its_parents_back() {
    let mut bed = Bed::new();
    let shell = bed.spawn("sh", &["-c", "sleep 1000 & sleep 1000 & wait"]);
    let proc = bed.kernel.roots.proc.clone();
    let children = wait_until(|| {
        Some(crate::effect::moves::children_since(&proc, shell.pid, 0)).filter(|found| found.len() == 2)
    });
    let throttle = bed.throttle();
    let wanted = limits(&[("nice", "11")]);
    assert_eq!(applied(run(&throttle, moving(apply("g", wanted.clone(), &[shell])))).0, "per process");
    // As if it had been forked after its parent was set.
    renice(&proc, children[0], 11);
    applied(run(&throttle, moving(apply("g", wanted, &children))));
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    for key in [shell, children[0], children[1]] {
        assert_eq!(nice(&proc, key), "0", "{key}");
    }
}

/// Prints the numbers; fails only when the order of magnitude is lost.
#[test]
fn cost_of_applying() {
    const ROUNDS: usize = 1_000;
    let mut bed = Bed::new();
    let process = bed.sleeper();
    bed.foreign(Cpu, "job", &[process]);
    // The first quota of a host switches code in the kernel on, and the last one off: another one is there.
    let other = bed.foreign(Cpu, "other", &[]);
    set(&other, QUOTA, "50000");
    let throttle = bed.throttle();
    let what = action(in_place(apply("g", limits(&[("cpu", "30%")]), &[process])));
    let mut times = Vec::with_capacity(ROUNDS);
    let mut planning = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let What::Apply(apply) = &what.what else { panic!() };
        let began = crate::clock::now();
        throttle.plan(apply, &BTreeSet::new()).unwrap();
        planning.push(crate::clock::now().since(began));
        let began = crate::clock::now();
        let step = throttle.execute(&what, &BTreeSet::new());
        times.push(crate::clock::now().since(began));
        assert!(matches!(step, Some(Step::Done(Outcome::Applied { .. }))));
        run(&throttle, release("g"));
    }
    times.sort_unstable();
    planning.sort_unstable();
    println!("of it, reading: p50 {:?}", planning[ROUNDS / 2]);
    println!("in place: p50 {:?} p99 {:?}", times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    assert!(times[ROUNDS / 2] < crate::clock::patience(Duration::from_millis(10)));
    let many: Vec<ProcKey> = (0..100).map(|_| bed.sleeper()).collect();
    let began = crate::clock::now();
    let members = applied(run(&throttle, moving(apply("m", limits(&[("cpu", "30%")]), &many)))).1;
    println!("100 moves: {:?}", crate::clock::now().since(began));
    assert_eq!(members.len(), 100);
    let began = crate::clock::now();
    assert_eq!(run(&throttle, release("m")), Outcome::Released);
    println!("100 moves back: {:?}", crate::clock::now().since(began));
}
