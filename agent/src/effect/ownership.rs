//! Only ours, on the real kernel: a cgroup is released because it is recorded or marked, never for its name; and ours
//! also when all records are lost.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use rustix::fs::XattrFlags;

use crate::cgroup::Cgroup as _;
use crate::cgroup::Controller::{Cpu, Io, Pids};
use crate::cgroup::mark::{self, Mark};
use crate::effect::bed::value::{PIDS, QUOTA, name as name_of, quota, set, set_quota, value};
use crate::effect::bed::{Bed, applied, apply, error, limits, release, run};
use crate::effect::fail_point::Point;
use crate::effect::restore::{Report, release_all};
use crate::engine::action::{Apply, What};
use crate::engine::input::Outcome;
use crate::model::id::ProcKey;

/// A group of these processes, by moving; then all records of it are lost.
fn group_without_records(bed: &Bed, processes: &[ProcKey]) {
    let throttle = bed.throttle();
    let what = What::Apply(apply("g", limits(&[("cpu", "20%"), ("pids", "9")]), processes));
    assert_eq!(applied(run(&throttle, what)).1.len(), processes.len());
    lose_records(bed);
}

fn lose_records(bed: &Bed) {
    let rows = bed.store().read(|tables| tables.intents()).unwrap();
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    assert!(!ids.is_empty());
    bed.store().write(|tables| tables.delete_intents(&ids)).unwrap();
}

/// Quota and period that somebody else has set.
const THEIRS: &str = "70000 100000";

/// Somebody else's cgroup inside of our subtree, with a limit and a process.
fn intruder(bed: &mut Bed, name: &str) -> (PathBuf, ProcKey) {
    let process = bed.sleeper();
    let dir = bed.own(Cpu, name);
    fs::create_dir_all(&dir).unwrap();
    // On v2 nobody can hand controllers down in a cgroup that has processes.
    if dir.join(name_of(&dir, QUOTA)).exists() {
        set_quota(&dir, THEIRS);
    }
    fs::write(dir.join("cgroup.procs"), process.pid.to_string()).unwrap();
    (dir, process)
}

fn stands(bed: &Bed, dir: &PathBuf, process: ProcKey) -> bool {
    // On v2 a cgroup may get the controller later, and no quota with it.
    let unset = || bed.kernel.driver.version() == "v2" && quota(dir).starts_with("max");
    let limited = dir.join(name_of(dir, QUOTA)).exists();
    (!limited || quota(dir) == THEIRS || unset()) && bed.cgroup(process, Cpu) == *dir
}

#[test]
fn without_records_each_process_goes_back_to_where_it_came_from() {
    let mut bed = Bed::new();
    let (a, b, c) = (bed.sleeper(), bed.sleeper(), bed.sleeper());
    bed.foreign(Cpu, "one", &[a]);
    bed.foreign(Cpu, "two", &[b]);
    bed.foreign(Pids, "two", &[b]);
    let before = bed.capture();
    group_without_records(&bed, &[a, b, c]);
    assert_ne!(bed.capture(), before);

    let report = release_all(&bed.kernel, &mut bed.store()).unwrap();

    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(bed.capture(), before);
}

#[test]
fn a_cgroup_in_our_subtree_that_nobody_marked_is_left_alone() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    group_without_records(&bed, &[process]);
    let (dir, other) = intruder(&mut bed, "foreign");

    let Report { failures, notes, .. } = release_all(&bed.kernel, &mut bed.store()).unwrap();

    assert_eq!(failures, Vec::<String>::new());
    assert!(stands(&bed, &dir, other), "somebody else's cgroup was touched");
    assert_eq!(bed.cgroup(process, Cpu), bed.mount(Cpu));
    assert!(!bed.own(Cpu, "g").exists());
    let one_hierarchy = bed.mount(Pids) == bed.mount(Cpu);
    assert_eq!(bed.mount(Pids).join(&bed.kernel.roots.subtree).exists(), one_hierarchy);
    assert!(notes.iter().any(|note| note.contains("cgroups of others are in it")), "{notes:?}");
}

#[test]
fn a_cgroup_of_another_agent_is_left_alone() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let (dir, other) = intruder(&mut bed, "g-of-another");
    mark::claim(&dir, "/var/lib/another");
    group_without_records(&bed, &[process]);
    if Mark::read(&dir).is_none() {
        return;
    }

    let report = release_all(&bed.kernel, &mut bed.store()).unwrap();

    assert_eq!(report.failures, Vec::<String>::new());
    assert!(stands(&bed, &dir, other), "another agent's cgroup was touched");
    assert!(!bed.own(Cpu, "g").exists());
}

#[test]
fn a_cgroup_that_others_made_in_a_group_of_ours_stays_with_it() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let throttle = bed.throttle();
    applied(run(&throttle, What::Apply(apply("g", limits(&[("cpu", "90%")]), &[process]))));
    let (dir, other) = intruder(&mut bed, "g/below");
    drop(throttle);

    let report = release_all(&bed.kernel, &mut bed.store()).unwrap();

    assert_eq!(report.failures, Vec::<String>::new());
    assert!(stands(&bed, &dir, other), "somebody else's cgroup was touched");
    assert_eq!(quota(&bed.own(Cpu, "g")), "max 100000", "our limit is lifted all the same");
    assert_eq!(bed.cgroup(process, Cpu), bed.mount(Cpu));
}

#[test]
fn a_cgroup_that_has_the_name_of_one_of_ours_is_not_taken_over() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let (dir, other) = intruder(&mut bed, "g");
    let throttle = bed.throttle();

    let what = What::Apply(apply("g", limits(&[("cpu", "90%"), ("pids", "9")]), &[process]));
    let refused = error(run(&throttle, what));

    assert!(refused.contains("exists already and is not ours"), "{refused}");
    assert!(stands(&bed, &dir, other), "somebody else's cgroup was touched");
    assert_eq!(bed.cgroup(process, Pids), bed.mount(Pids));
    assert_eq!(bed.store().read(|tables| tables.intents()).unwrap(), []);
}

/// Limits in the cgroup that these processes have for themselves.
fn in_place(cpu: &str, processes: &[ProcKey]) -> What {
    let wanted = limits(&[("cpu", cpu), ("io_read", "10M"), ("pids", "50")]);
    What::Apply(Apply { in_place: true, allow_move: false, ..apply("g", wanted, processes) })
}

/// A process in cgroups of its own, with values that are not the defaults.
fn settled(bed: &mut Bed) -> ProcKey {
    let process = bed.sleeper();
    for controller in [Cpu, Io, Pids] {
        bed.foreign(controller, "job", &[process]);
    }
    set_quota(&bed.cgroup(process, Cpu), THEIRS);
    set(&bed.cgroup(process, Pids), PIDS, "99");
    process
}

#[test]
fn limits_in_place_are_put_back_without_any_record() {
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    let before = bed.capture();
    let throttle = bed.throttle();
    // Written once, then written anew.
    for quotas in [&["30%"][..], &["30%", "20%", "10%"]] {
        for cpu in quotas {
            assert_eq!(applied(run(&throttle, in_place(cpu, &[process]))).0, "in place");
        }
        lose_records(&bed);
        let report = release_all(&bed.kernel, &mut bed.store()).unwrap();
        assert_eq!(report.failures, Vec::<String>::new());
        assert!(report.notes.iter().any(|note| note.contains("without a record")), "{report:?}");
        assert_eq!(bed.capture(), before);
        assert_eq!(run(&throttle, release("g")), Outcome::Released);
    }
}

#[test]
fn wherever_it_dies_marks_put_back_what_was_written() {
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    let before = bed.capture();
    // Three values on v2, four on v1, and more where there are more devices.
    for (point, after) in [(Point::Planned, 0), (Point::Written, 0), (Point::Written, 2), (Point::Applied, 0)]
    {
        for first in [None, Some("60%")] {
            let throttle = bed.throttle();
            if let Some(cpu) = first {
                applied(run(&throttle, in_place(cpu, &[process])));
            }
            bed.kernel.fail.die_at(point, after);
            let died = catch_unwind(AssertUnwindSafe(|| run(&throttle, in_place("30%", &[process]))));
            // A change of one value passes its point once.
            assert!(died.is_err() || after > 0, "{point:?} was not passed");
            bed.kernel.fail.disarm();
            lose_records(&bed);
            let report = release_all(&bed.kernel, &mut bed.store()).unwrap();
            assert_eq!(report.failures, Vec::<String>::new());
            assert_eq!(bed.capture(), before, "{point:?} {after} {first:?}");
        }
    }
}

#[test]
fn without_records_a_value_that_somebody_else_set_stays() {
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    let throttle = bed.throttle();
    applied(run(&throttle, in_place("30%", &[process])));
    lose_records(&bed);
    let (cpu, pids) = (bed.cgroup(process, Cpu), bed.cgroup(process, Pids));
    set_quota(&cpu, "55000 100000");
    release_all(&bed.kernel, &mut bed.store()).unwrap();
    assert_eq!(quota(&cpu), "55000 100000");
    assert_eq!(value(&pids, PIDS), "99");
    assert_eq!(Mark::read(&cpu), None);
}

#[test]
fn in_a_users_cgroup_only_root_can_mark() {
    const USER: Option<u32> = Some(65_534);
    let mut bed = Bed::new();
    let process = settled(&mut bed);
    let cpu = bed.cgroup(process, Cpu);
    std::os::unix::fs::chown(&cpu, USER, USER).unwrap();
    let before = bed.capture();
    // The user would have root lift what root has set.
    let file = name_of(&cpu, QUOTA);
    let (prior, new) = if bed.is_v2() { ("max 100000", THEIRS) } else { ("-1", "70000") };
    let owner = &bed.kernel.roots.owner;
    let forged = serde_json::json!({
        "owner": owner, "replaced": [{ "file": file, "item": "", "prior": prior, "new": new }],
    });
    let name = "user.process-throttler";
    rustix::fs::setxattr(&cpu, name, forged.to_string().as_bytes(), XattrFlags::empty()).unwrap();
    release_all(&bed.kernel, &mut bed.store()).unwrap();
    assert_eq!(bed.capture(), before);
    // Ours is another one.
    applied(run(&bed.throttle(), in_place("30%", &[process])));
    lose_records(&bed);
    assert_ne!(bed.capture(), before);
    release_all(&bed.kernel, &mut bed.store()).unwrap();
    assert_eq!(bed.capture(), before);
}
