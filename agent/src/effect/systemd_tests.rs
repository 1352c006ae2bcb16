//! On a host that systemd runs, with a systemd of the test's own: what is applied is in force, what is released is
//! exactly as before, whenever it ends.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::cgroup::Controller::Cpu;
use crate::cgroup::{Driver, Roots, V2};
use crate::effect::bed::{
    Bed, action, applied, apply, cpu, detach, error, limits, nice, reap, release, reserve, run, unreserve,
};
use crate::effect::fail_point::Point;
use crate::effect::kernel::Kernel;
use crate::effect::restore::{recover, release_all};
use crate::effect::throttle::Step;
use crate::engine::action::{Apply, What};
use crate::engine::input::Outcome;
use crate::model::id::ProcKey;
use crate::model::limits::Limits;
use crate::model::reservation::{Reservation, Share};
use crate::store::Tables;
use crate::systemd::fake::FakeSystemd;
use crate::systemd::{Bus, Sockets};

struct Host {
    bed: Bed,
    systemd: FakeSystemd,
}

impl Host {
    fn new() -> Self {
        let mut bed = Bed::new();
        let systemd = FakeSystemd::start(&format!("{}-systemd", bed.kernel.roots.subtree));
        bed.kernel = kernel(&systemd);
        assert!(bed.kernel.systemd);
        Self { bed, systemd }
    }

    /// A service with so many processes.
    fn service(&mut self, name: &str, count: usize) -> Vec<ProcKey> {
        let keys: Vec<ProcKey> = (0..count).map(|_| self.bed.sleeper()).collect();
        self.systemd.service(name, &keys.iter().map(|key| key.pid).collect::<Vec<_>>());
        keys
    }

    fn is_clean(&self, before: &str) {
        assert_eq!(self.systemd.capture(), before);
        assert_eq!(self.systemd.state().killed, Vec::<String>::new());
        assert_eq!(self.bed.store().read(Tables::intents).unwrap(), []);
        assert_eq!(self.bed.store().read(Tables::groups).unwrap(), []);
    }

    fn property(&self, unit: &str, name: &str) -> Option<u64> {
        self.systemd.state().units[unit].properties.get(name).copied()
    }
}

fn kernel(systemd: &FakeSystemd) -> Kernel {
    let (mirror, run) = (systemd.path().join("cgroup"), systemd.path().join("run"));
    let real = Kernel::open(Roots { run: run.clone(), ..Roots::default() }).unwrap();
    let roots = Roots { run, cgroup: mirror.clone(), ..Roots::default() };
    Kernel { driver: Driver::V2(V2::new(mirror, systemd.path().join("block"))), roots, ..real }
}

fn everything() -> Limits {
    limits(&[("cpu", "30%"), ("cpu_weight", "50"), ("memory_max", "64M"), ("pids", "50"), ("nice", "7")])
}

fn staying(apply: Apply) -> What {
    What::Apply(Apply { in_place: true, allow_move: false, ..apply })
}

fn moving(apply: Apply) -> What {
    What::Apply(Apply { in_place: true, allow_move: true, ..apply })
}

#[test]
fn a_unit_that_is_all_of_the_group_is_limited_off_the_engine_thread() {
    let mut host = Host::new();
    let members = host.service("a.service", 2);
    let before = host.systemd.capture();
    let throttle = host.bed.throttle();
    let what = action(staying(apply("g", everything(), &members)));
    let Some(Step::Moves(batch)) = throttle.execute(&what, &BTreeSet::new()) else { panic!() };
    let (how, limited, _) = applied(batch.run());
    assert_eq!((how.as_str(), limited), ("on unit a.service", members.clone()));
    assert_eq!(host.property("a.service", "CPUQuotaPerSecUSec"), Some(300_000));
    assert_eq!(host.property("a.service", "MemoryMax"), Some(64 << 20));
    // A child that was born there is limited already: nothing to ask systemd.
    let known = throttle.execute(&what, &BTreeSet::new());
    assert!(matches!(known, Some(Step::Done(Outcome::Applied { .. }))), "{known:?}");
    let Some(Step::Moves(batch)) = throttle.execute(&action(release("g")), &BTreeSet::new()) else {
        panic!()
    };
    assert_eq!(batch.run(), Outcome::Released);
    host.is_clean(&before);
}

#[test]
fn wherever_the_agent_dies_recovery_restores() {
    let points = [
        (Point::DirsPlanned, 0),
        (Point::DirMade, 0),
        (Point::DirMade, 2),
        (Point::Planned, 0),
        (Point::UnitSet, 0),
        (Point::ScopesPlanned, 0),
        (Point::ScopesMade, 0),
        (Point::Moved, 0),
        (Point::AttributeSet, 0),
        (Point::Applied, 0),
        (Point::Undone, 0),
    ];
    for (point, after) in points {
        for moved in [false, true] {
            for ending in ["recover", "release all", "again"] {
                let mut host = Host::new();
                let members = host.service("a.service", 2);
                let before = host.systemd.capture();
                let what = || {
                    if moved {
                        moving(apply("g", everything(), &members[1..]))
                    } else {
                        staying(apply("g", everything(), &members))
                    }
                };
                let throttle = host.bed.throttle();
                host.bed.kernel.fail.die_at(point, after);
                let died = catch_unwind(AssertUnwindSafe(|| {
                    run(&throttle, what());
                    run(&throttle, release("g"));
                }));
                drop(throttle);
                let only_when_moving = matches!(
                    point,
                    Point::DirsPlanned | Point::DirMade | Point::ScopesPlanned | Point::ScopesMade
                );
                assert_eq!(died.is_err(), moved || !only_when_moving, "{point:?}");
                let report = match ending {
                    "again" => {
                        let throttle = host.bed.throttle();
                        applied(run(&throttle, what()));
                        assert_eq!(run(&throttle, release("g")), Outcome::Released, "{point:?} {moved}");
                        recover(&host.bed.kernel, &mut host.bed.store()).unwrap()
                    }
                    "recover" => recover(&host.bed.kernel, &mut host.bed.store()).unwrap(),
                    _ => release_all(&host.bed.kernel, &mut host.bed.store()).unwrap(),
                };
                assert_eq!(report.failures, Vec::<String>::new(), "{point:?} {moved} {ending}");
                assert_eq!(report.notes, Vec::<String>::new(), "{point:?} {moved} {ending}");
                host.is_clean(&before);
                for member in &members {
                    let nice = nice(&host.bed.kernel.roots.proc, *member);
                    assert_eq!(nice, "0", "{point:?} {moved} {ending}");
                }
            }
        }
    }
}

#[test]
fn a_refusal_undoes_all_of_it_and_names_property_and_value() {
    let mut host = Host::new();
    let members = host.service("a.service", 2);
    host.systemd.state().refuse = Some("TasksMax");
    let before = host.systemd.capture();
    let throttle = host.bed.throttle();
    for what in [staying(apply("g", everything(), &members)), moving(apply("g", everything(), &members[1..]))]
    {
        let failed = error(run(&throttle, what));
        assert!(failed.contains("TasksMax=50") && failed.contains("out of range"), "{failed}");
        host.is_clean(&before);
    }
    // A change that is refused leaves the limits that were there.
    host.systemd.state().refuse = None;
    applied(run(&throttle, staying(apply("g", limits(&[("cpu", "20%")]), &members))));
    host.systemd.state().refuse = Some("TasksMax");
    error(run(&throttle, staying(apply("g", everything(), &[]))));
    assert_eq!(host.property("a.service", "CPUQuotaPerSecUSec"), Some(200_000));
    assert_eq!(host.property("a.service", "MemoryMax"), None);
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    host.is_clean(&before);
}

#[test]
fn a_systemd_that_is_stuck_holds_nobody_up() {
    let mut host = Host::new();
    let members = host.service("a.service", 1);
    let before = host.systemd.capture();
    host.systemd.state().silent = Some("SetUnitProperties");
    let patience = Duration::from_secs(1);
    host.bed.kernel.bus = Bus::with_patience(Sockets::below(&host.bed.kernel.roots.run), patience);
    let throttle = host.bed.throttle();
    let failed = error(run(&throttle, staying(apply("g", limits(&[("cpu", "20%")]), &members))));
    assert!(failed.contains("set CPUQuotaPerSecUSec=200000 of unit a.service"), "{failed}");
    assert!(failed.contains("did not answer within 1s"), "{failed}");
    host.systemd.state().silent = None;
    host.is_clean(&before);
}

#[test]
fn a_unit_that_vanishes_half_way_leaves_nothing_behind() {
    for method in ["LoadUnit", "SetUnitProperties"] {
        let mut host = Host::new();
        let members = host.service("a.service", 1);
        let throttle = host.bed.throttle();
        host.systemd.state().vanish_at = Some(method);
        let failed = error(run(&throttle, staying(apply("g", everything(), &members))));
        assert!(failed.contains("a.service"), "{method}: {failed}");
        assert_eq!(host.systemd.state().vanish_at, None, "{method} was not called");
        assert!(!host.systemd.state().units.contains_key("a.service"));
        let nice = nice(&host.bed.kernel.roots.proc, members[0]);
        assert_eq!(nice, "0", "{method}");
        host.is_clean(&host.systemd.capture());
    }
}

#[test]
fn without_systemd_the_error_names_its_sockets() {
    let mut host = Host::new();
    let members = host.service("a.service", 1);
    let run_dir = host.bed.kernel.roots.run.join("nowhere");
    host.bed.kernel.bus = Bus::new(Sockets::below(&run_dir));
    let throttle = host.bed.throttle();
    let failed = error(run(&throttle, staying(apply("g", limits(&[("cpu", "20%")]), &members))));
    assert!(failed.starts_with("systemd cannot be reached over D-Bus: "), "{failed}");
    assert!(failed.contains("nowhere/systemd/private") && failed.contains("system_bus_socket"), "{failed}");
    assert_eq!(host.bed.store().read(Tables::intents).unwrap(), []);
}

#[test]
fn others_in_the_unit_and_other_groups_are_respected() {
    let mut host = Host::new();
    let members = host.service("a.service", 3);
    let before = host.systemd.capture();
    let throttle = host.bed.throttle();
    let wanted = limits(&[("cpu", "20%")]);
    let refused = applied(run(&throttle, staying(apply("g", wanted.clone(), &members[..1])))).2;
    assert!(refused[0].1.contains("shares a.service with 2 others ("), "{refused:?}");
    assert!(refused[0].1.ends_with("use --whole-unit or --allow-move"), "{refused:?}");
    let whole =
        |group: &str, of: &[ProcKey]| staying(Apply { whole_unit: true, ..apply(group, wanted.clone(), of) });
    let critical = BTreeSet::from([members[2]]);
    let Some(Step::Moves(batch)) = throttle.execute(&action(whole("g", &members[..1])), &critical) else {
        panic!()
    };
    let refused = applied(batch.run()).2;
    assert!(refused[0].1.contains("never touched: a critical process"), "{refused:?}");
    host.is_clean(&before);
    assert_eq!(applied(run(&throttle, whole("g", &members[..1]))).0, "on unit a.service");
    let taken = error(run(&throttle, whole("h", &members[1..2])));
    let other = Limits { cpu: "40%".parse().ok(), ..Limits::default() };
    assert!(taken.contains("unit") || taken.contains("already"), "{taken}");
    let taken =
        error(run(&throttle, staying(Apply { whole_unit: true, ..apply("h", other, &members[1..2]) })));
    assert!(taken.ends_with("a.service CPUQuotaPerSecUSec is limited by group g already"), "{taken}");
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    host.is_clean(&before);
}

#[test]
fn a_container_is_limited_as_a_unit_and_only_where_that_is_allowed() {
    let mut host = Host::new();
    let members = host.service("docker-0123.scope", 2);
    let before = host.systemd.capture();
    let wanted = || apply("g", limits(&[("cpu", "20%")]), &members[..1]);
    let refused = applied(run(&host.bed.throttle(), moving(wanted()))).2;
    assert!(refused[0].1.contains("observed only, unless allow_containers is set"), "{refused:?}");
    host.bed.kernel.allow_containers = true;
    let throttle = host.bed.throttle();
    let refused = applied(run(&throttle, moving(wanted()))).2;
    assert!(refused[0].1.ends_with("is a container's: nothing is moved out of it"), "{refused:?}");
    host.is_clean(&before);
    let all = apply("g", limits(&[("cpu", "20%")]), &members);
    assert_eq!(applied(run(&throttle, staying(all))).0, "on unit docker-0123.scope");
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    host.is_clean(&before);
}

#[test]
fn a_unit_is_released_when_only_others_are_left_in_it() {
    let mut host = Host::new();
    let members = host.service("a.service", 2);
    let throttle = host.bed.throttle();
    let whole = Apply { whole_unit: true, ..apply("g", limits(&[("cpu", "20%")]), &members[1..]) };
    applied(run(&throttle, staying(whole)));
    host.bed.end(members[1]);
    let before = host.systemd.capture();
    assert!(before.contains("CPUQuotaPerSecUSec"), "{before}");
    assert_eq!(run(&throttle, reap("g")), Outcome::Released);
    assert_eq!(host.property("a.service", "CPUQuotaPerSecUSec"), None);
    assert_eq!(host.systemd.state().killed, Vec::<String>::new());
}

#[test]
fn a_silent_systemd_is_waited_for_once_per_release() {
    let mut host = Host::new();
    let members = host.service("a.service", 1);
    let before = host.systemd.capture();
    applied(run(&host.bed.throttle(), staying(apply("g", everything(), &members))));
    host.systemd.state().silent = Some("LoadUnit");
    let patience = Duration::from_secs(1);
    host.bed.kernel.bus = Bus::with_patience(Sockets::below(&host.bed.kernel.roots.run), patience);
    let began = crate::clock::now();
    let report = recover(&host.bed.kernel, &mut host.bed.store()).unwrap();
    let took = crate::clock::now().since(began);
    assert!(took < patience * 4, "{took:?} for {} failures", report.failures.len());
    assert_eq!(report.failures.len(), 4, "{report:?}");
    host.systemd.state().silent = None;
    let report = recover(&host.bed.kernel, &mut host.bed.store()).unwrap();
    assert_eq!(report.failures, Vec::<String>::new());
    host.is_clean(&before);
}

#[test]
fn slices_of_which_no_record_is_left_are_found_by_name_and_description() {
    let mut host = Host::new();
    let members = host.service("a.service", 2);
    let throttle = host.bed.throttle();
    applied(run(&throttle, moving(apply("g", limits(&[("cpu", "20%")]), &members[1..]))));
    drop(throttle);
    let rows: Vec<i64> =
        host.bed.store().read(Tables::intents).unwrap().into_iter().map(|row| row.id).collect();
    host.bed.store().write(|tables| tables.delete_intents(&rows)).unwrap();
    let report = release_all(&host.bed.kernel, &mut host.bed.store()).unwrap();
    assert_eq!(report.failures, Vec::<String>::new());
    let cgroup = host.bed.cgroup(members[1], Cpu);
    assert!(cgroup.to_string_lossy().contains("/system.slice/process-throttler-returned-"), "{cgroup:?}");
    assert!(!host.systemd.state().units.keys().any(|id| id.starts_with("process-throttler-g")));
    assert_eq!(host.systemd.state().killed, Vec::<String>::new());
}

fn with_memory(weight: u64) -> Reservation {
    Reservation { memory_low: "512M".parse().ok(), ..cpu(weight) }
}

#[test]
fn a_critical_service_gets_its_share_on_its_unit() {
    let mut host = Host::new();
    let members = host.service("web.service", 2);
    let before = host.systemd.capture();
    let throttle = host.bed.throttle();
    let what = action(reserve("web", with_memory(400), &members));
    let Some(Step::Moves(batch)) = throttle.execute(&what, &BTreeSet::new()) else { panic!() };
    let Outcome::Applied { how, members: given, .. } = batch.run() else { panic!() };
    assert_eq!(given, members);
    assert!(how.starts_with("on unit web.service: all of its processes belong to the group; "), "{how}");
    // Nobody protects the slice above.
    assert!(
        how.contains("of memory_low no more than the 0 bytes of ") && how.contains("/system.slice"),
        "{how}"
    );
    assert_eq!(host.property("web.service", "CPUWeight"), Some(400));
    assert_eq!(host.property("web.service", "MemoryLow"), Some(512 << 20));
    let known = throttle.execute(&what, &BTreeSet::new());
    assert!(matches!(known, Some(Step::Done(Outcome::Applied { .. }))), "{known:?}");
    // Another profile reserves less, and something else.
    let share = cpu(300).cpu;
    applied(run(&throttle, reserve("web", Reservation { cpu: None, io: share, memory_low: None }, &members)));
    assert_eq!(host.property("web.service", "CPUWeight"), None);
    assert_eq!(host.property("web.service", "MemoryLow"), None);
    assert_eq!(host.property("web.service", "IOWeight"), Some(300));
    // An emergency limits nobody less by it.
    assert_eq!(throttle.lift().run(), Outcome::Released);
    assert_eq!(host.property("web.service", "IOWeight"), Some(300));
    assert_eq!(run(&throttle, unreserve("web")), Outcome::Released);
    host.is_clean(&before);
}

#[test]
fn others_in_its_unit_and_what_it_has_already_are_respected() {
    let mut host = Host::new();
    let members = host.service("web.service", 2);
    let before = host.systemd.capture();
    let throttle = host.bed.throttle();
    let refused = applied(run(&throttle, reserve("web", cpu(400), &members[..1]))).2;
    assert!(refused[0].1.contains("shares web.service with 1 other ("), "{refused:?}");
    assert!(refused[0].1.ends_with("a critical process is never moved"), "{refused:?}");
    host.is_clean(&before);
    // The administrator has given it more.
    applied(run(&throttle, staying(apply("admin", limits(&[("cpu_weight", "900")]), &members))));
    let Outcome::Applied { how, .. } = run(&throttle, reserve("web", cpu(400), &members)) else { panic!() };
    assert_eq!(how, "it has cpu_weight 900 already");
    let taken = error(run(&throttle, reserve("web", cpu(950), &members)));
    assert!(taken.contains("CPUWeight is limited by group admin already"), "{taken}");
    assert_eq!(run(&throttle, release("admin")), Outcome::Released);
    host.is_clean(&before);
}

#[test]
fn a_container_is_reserved_for_only_where_that_is_allowed() {
    let mut host = Host::new();
    let members = host.service("docker-0123.scope", 2);
    let before = host.systemd.capture();
    let refused = applied(run(&host.bed.throttle(), reserve("web", cpu(400), &members))).2;
    assert!(refused[0].1.contains("observed only, unless allow_containers is set"), "{refused:?}");
    host.bed.kernel.allow_containers = true;
    let throttle = host.bed.throttle();
    assert_eq!(applied(run(&throttle, reserve("web", cpu(400), &members))).0, "on unit docker-0123.scope");
    assert_eq!(run(&throttle, unreserve("web")), Outcome::Released);
    host.is_clean(&before);
}

#[test]
fn what_a_level_implies_is_left_out_where_systemd_refuses_it() {
    let mut host = Host::new();
    let members = host.service("web.service", 1);
    let before = host.systemd.capture();
    host.systemd.state().refuse = Some("IOWeight");
    let throttle = host.bed.throttle();
    let implied = cpu(400).cpu.map(|share| Share { stated: false, ..share });
    let level = Reservation { cpu: implied, io: implied, memory_low: None };
    applied(run(&throttle, reserve("web", level, &members)));
    assert_eq!(host.property("web.service", "CPUWeight"), Some(400));
    assert_eq!(host.property("web.service", "IOWeight"), None);
    assert_eq!(run(&throttle, unreserve("web")), Outcome::Released);
    host.is_clean(&before);
    let stated = Reservation { io: cpu(400).cpu, ..level };
    let told = error(run(&throttle, reserve("web", stated, &members)));
    assert!(told.contains("IOWeight=400"), "{told}");
    host.is_clean(&before);
}

#[test]
fn wherever_the_agent_dies_a_reservation_is_taken_back() {
    for (point, after) in [
        (Point::Planned, 0),
        (Point::UnitSet, 0),
        (Point::Applied, 0),
        (Point::RowUndone, 0),
        (Point::Undone, 0),
    ] {
        for by_hand in [false, true] {
            let mut host = Host::new();
            let members = host.service("web.service", 2);
            let before = host.systemd.capture();
            let throttle = host.bed.throttle();
            host.bed.kernel.fail.die_at(point, after);
            let died = catch_unwind(AssertUnwindSafe(|| {
                run(&throttle, reserve("web", with_memory(400), &members));
                run(&throttle, unreserve("web"));
            }));
            assert!(died.is_err(), "{point:?}");
            drop(throttle);
            let mut store = host.bed.store();
            let report = if by_hand {
                release_all(&host.bed.kernel, &mut store).unwrap()
            } else {
                recover(&host.bed.kernel, &mut store).unwrap()
            };
            assert_eq!((report.failures, report.notes), (Vec::new(), Vec::new()), "{point:?}");
            host.is_clean(&before);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 24, failure_persistence: None, ..Default::default()
    })]

    /// Whatever the order of actions, refusals, deaths and restarts: after the last release all is as before.
    #[test]
    fn any_sequence_ends_where_it_began(
        steps in proptest::collection::vec((0u8..11, 0usize..3, 0usize..4, 0u8..3), 1..14),
    ) {
        let mut host = Host::new();
        let mut processes = host.service("a.service", 2);
        processes.extend(host.service("b.service", 2));
        let before = host.systemd.capture();
        let mut throttle = host.bed.throttle();
        let groups = ["one", "two", "three"];
        let choices = [
            limits(&[("cpu", "20%")]),
            limits(&[("cpu", "40%"), ("pids", "20"), ("nice", "3")]),
            everything(),
        ];
        for (step, group, process, choice) in steps {
            let (name, key) = (groups[group], processes[process]);
            let limits = choices[usize::from(choice)].clone();
            let unit = &processes[process / 2 * 2..process / 2 * 2 + 2];
            // Any outcome will do: a refusal or a failure must leave nothing behind, too.
            let what = match step {
                0 => staying(apply(name, limits, unit)),
                1 => staying(Apply { whole_unit: true, ..apply(name, limits, &[key]) }),
                2 | 3 => moving(apply(name, limits, &[key])),
                4 => release(name),
                5 => detach(name, key),
                6 => What::Reap { group: name.parse().unwrap() },
                9 => reserve(name, cpu(200 + 100 * u64::from(choice)), unit),
                10 => unreserve(name),
                7 => {
                    let refused = host.systemd.state().refuse.take();
                    host.systemd.state().refuse = if refused.is_none() { Some("TasksMax") } else { None };
                    continue;
                }
                _ => {
                    let points = [Point::UnitSet, Point::ScopesMade, Point::Moved];
                    host.bed.kernel.fail.die_at(points[usize::from(choice)], 0);
                    // It dies, or it never comes to that point: either way the next one takes over.
                    let died = catch_unwind(AssertUnwindSafe(|| {
                        run(&throttle, moving(apply(name, limits, &[key])))
                    }));
                    drop(died);
                    host.bed.kernel.fail.disarm();
                    throttle = host.bed.throttle();
                    continue;
                }
            };
            run(&throttle, what);
        }
        drop(throttle);
        host.systemd.state().refuse = None;
        let report = recover(&host.bed.kernel, &mut host.bed.store()).unwrap();
        proptest::prop_assert_eq!(report.failures, Vec::<String>::new());
        proptest::prop_assert_eq!(host.systemd.capture(), before);
        proptest::prop_assert_eq!(&host.systemd.state().killed, &Vec::<String>::new());
    }
}
