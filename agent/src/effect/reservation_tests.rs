//! Reservations on the real kernel, without a service manager: in place where the critical process is alone, else
//! not at all; exact when they go, wherever the agent dies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::cgroup::Controller;
use crate::effect::bed::value::{WEIGHT, set, value};
use crate::effect::bed::{Bed, applied, apply, cpu, error, limits, reserve, run, unreserve};
use crate::effect::fail_point::Point;
use crate::effect::restore::{recover, release_all};
use crate::effect::task::Hold;
use crate::engine::action::What;
use crate::engine::input::Outcome;
use crate::model::id::{Name, ProcKey};
use crate::model::reservation::{Reservation, Share};
use crate::store::Tables;

/// A cgroup with these processes in the hierarchy of the CPU.
fn home(bed: &mut Bed, members: &[ProcKey]) -> PathBuf {
    bed.foreign(Controller::Cpu, "web", members)
}

fn weight(bed: &Bed, dir: &Path) -> u64 {
    let text = value(dir, WEIGHT).parse().unwrap();
    if bed.is_v2() { text } else { text * 100 / 1_024 }
}

fn is_clean(bed: &Bed, before: &str) {
    assert_eq!(bed.capture(), before);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
    assert_eq!(bed.store().read(Tables::groups).unwrap(), []);
}

#[test]
fn a_critical_process_alone_in_a_cgroup_gets_its_share_there() {
    let mut bed = Bed::new();
    let members = [bed.sleeper(), bed.sleeper()];
    let dir = home(&mut bed, &members);
    let before = bed.capture();
    let throttle = bed.throttle();
    let (how, given, refused) = applied(run(&throttle, reserve("web", cpu(400), &members)));
    assert_eq!((how.as_str(), given, refused), ("in place", members.to_vec(), vec![]));
    assert_eq!(weight(&bed, &dir), 400);
    // One that comes later changes nothing.
    let late = bed.sleeper();
    std::fs::write(dir.join("cgroup.procs"), late.pid.to_string()).unwrap();
    assert_eq!(applied(run(&throttle, reserve("web", cpu(400), &[late]))).1, [late]);
    applied(run(&throttle, reserve("web", cpu(200), &[members[0], members[1], late])));
    assert_eq!(weight(&bed, &dir), 200);
    bed.end(late);
    assert_eq!(run(&throttle, unreserve("web")), Outcome::Released);
    is_clean(&bed, &before);
}

#[test]
fn nobody_is_moved_and_no_stranger_profits() {
    let mut bed = Bed::new();
    let (critical, stranger, loose) = (bed.sleeper(), bed.sleeper(), bed.sleeper());
    home(&mut bed, &[critical, stranger]);
    let before = bed.capture();
    let throttle = bed.throttle();
    let refused = applied(run(&throttle, reserve("web", cpu(400), &[critical]))).2;
    let why = format!("process {} in ", stranger.pid);
    assert!(refused[0].1.contains(&why) && refused[0].1.ends_with("is never moved"), "{refused:?}");
    let refused = applied(run(&throttle, reserve("web", cpu(400), &[loose]))).2;
    assert!(refused[0].1.contains("is never moved"), "{refused:?}");
    let hold = Hold {
        group: Name::of_reservation(&"web".parse().unwrap()),
        critical: "web".parse().unwrap(),
        reservation: cpu(400),
        members: vec![critical],
    };
    let planned = throttle.plan_reservation(&hold);
    assert!(planned[0].starts_with(&format!("nothing for {}: ", critical.pid)), "{planned:?}");
    is_clean(&bed, &before);
}

#[test]
fn a_child_of_a_critical_process_is_no_stranger() {
    let mut bed = Bed::new();
    let shell = bed.spawn("sh", &["-c", "read line; sleep 1000 & wait"]);
    let dir = home(&mut bed, &[shell]);
    bed.go(shell);
    let end = crate::clock::now().after(std::time::Duration::from_secs(10));
    while crate::effect::moves::children_since(&bed.kernel.roots.proc, shell.pid, 0).is_empty() {
        assert!(crate::clock::now() < end, "no child");
    }
    let throttle = bed.throttle();
    assert_eq!(applied(run(&throttle, reserve("web", cpu(400), &[shell]))).0, "in place");
    assert_eq!(weight(&bed, &dir), 400);
    assert_eq!(run(&throttle, unreserve("web")), Outcome::Released);
}

#[test]
fn who_has_more_keeps_it_and_others_values_stay() {
    let mut bed = Bed::new();
    let member = bed.sleeper();
    let dir = home(&mut bed, &[member]);
    let more = if bed.is_v2() { "900" } else { "9000" };
    set(&dir, WEIGHT, more);
    let before = bed.capture();
    let throttle = bed.throttle();
    let Outcome::Applied { how, members, .. } = run(&throttle, reserve("web", cpu(400), &[member])) else {
        panic!()
    };
    assert!(how.contains("it has cpu_weight 9") && members == [member], "{how}");
    is_clean(&bed, &before);
    applied(run(&throttle, reserve("web", cpu(1_000), &[member])));
    assert_eq!(weight(&bed, &dir), 1_000);
    // Somebody else sets it since: theirs stays.
    let theirs = if bed.is_v2() { "333" } else { "3333" };
    set(&dir, WEIGHT, theirs);
    assert_eq!(run(&throttle, unreserve("web")), Outcome::Released);
    assert_eq!(value(&dir, WEIGHT), theirs);
}

#[test]
fn what_a_level_implies_may_be_missing_and_what_is_stated_may_not() {
    let mut bed = Bed::new();
    let member = bed.sleeper();
    // Of the I/O hierarchy it is in the root cgroup, on v1.
    let dir = home(&mut bed, &[member]);
    let before = bed.capture();
    let throttle = bed.throttle();
    let implied = cpu(400).cpu.map(|share| Share { stated: false, ..share });
    let level = Reservation { cpu: implied, io: implied, memory_low: None };
    applied(run(&throttle, reserve("web", level, &[member])));
    assert_eq!(weight(&bed, &dir), 400);
    assert_eq!(applied(run(&throttle, reserve("web", level, &[member]))).1, [member]);
    assert_eq!(run(&throttle, unreserve("web")), Outcome::Released);
    is_clean(&bed, &before);
    let memory = Reservation { memory_low: "64M".parse().ok(), ..cpu(400) };
    if bed.is_v2() {
        applied(run(&throttle, reserve("web", memory, &[member])));
        assert_eq!(std::fs::read_to_string(dir.join("memory.low")).unwrap(), "67108864\n");
        assert_eq!(run(&throttle, unreserve("web")), Outcome::Released);
    } else {
        let told = error(run(&throttle, reserve("web", memory, &[member])));
        assert!(told.contains("cgroup v1 has no memory that reclaim spares"), "{told}");
    }
    is_clean(&bed, &before);
    let limit = What::Apply(apply("g", limits(&[("memory_low", "64M")]), &[member]));
    assert!(error(run(&throttle, limit)).contains("it is for critical processes"));
}

#[test]
fn wherever_the_agent_dies_a_reservation_is_taken_back() {
    let points = [Point::Planned, Point::Written, Point::Applied, Point::RowUndone, Point::Undone];
    for point in points {
        for by_hand in [false, true] {
            let mut bed = Bed::new();
            let member = bed.sleeper();
            home(&mut bed, &[member]);
            let before = bed.capture();
            let throttle = bed.throttle();
            bed.kernel.fail.die_at(point, 0);
            let died = catch_unwind(AssertUnwindSafe(|| {
                run(&throttle, reserve("web", cpu(400), &[member]));
                run(&throttle, unreserve("web"));
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
            is_clean(&bed, &before);
        }
    }
}
