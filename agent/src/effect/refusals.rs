//! cgroups that cannot be limited, or not as wanted, on the real kernel: the error names operation, path and value, and
//! whatever was done is undone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::Controller::Cpu;
use crate::cgroup::knob::refusing;
use crate::effect::bed::value::{quota, set_quota};
use crate::effect::bed::{Bed, applied, apply, error, limits, release, run};
use crate::engine::action::{Apply, What};
use crate::engine::input::Outcome;
use crate::model::id::ProcKey;
use crate::store::Tables;

fn moving(limit: &[(&str, &str)], process: ProcKey) -> What {
    What::Apply(apply("g", limits(limit), &[process]))
}

fn in_place(limit: &[(&str, &str)], process: ProcKey) -> What {
    What::Apply(Apply { in_place: true, allow_move: false, ..apply("g", limits(limit), &[process]) })
}

/// Why the only process was refused.
fn refusal(outcome: Outcome) -> String {
    let (how, members, refused) = applied(outcome);
    assert_eq!((how.as_str(), members.len(), refused.len()), ("not at all", 0, 1), "{refused:?}");
    refused[0].1.clone()
}

fn is_clean(bed: &Bed, before: &str) {
    assert_eq!(bed.capture(), before);
    assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
}

/// What freezes a cgroup with a process in it, until this is dropped.
struct Frozen {
    dir: PathBuf,
    v2: bool,
}

impl Frozen {
    fn new(bed: &mut Bed, process: ProcKey) -> Self {
        if bed.is_v2() {
            let dir = bed.foreign(Cpu, "job", &[process]);
            fs::write(dir.join("cgroup.freeze"), "1").unwrap();
            return Self { dir, v2: true };
        }
        let dir = Path::new("/sys/fs/cgroup/freezer").join(&bed.kernel.roots.subtree);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cgroup.procs"), process.pid.to_string()).unwrap();
        fs::write(dir.join("freezer.state"), "FROZEN").unwrap();
        bed.foreign(Cpu, "job", &[process]);
        Self { dir, v2: false }
    }

    fn is_frozen(&self) -> bool {
        let (file, text) = if self.v2 { ("cgroup.events", "frozen 1") } else { ("freezer.state", "FROZEN") };
        fs::read_to_string(self.dir.join(file)).unwrap().lines().any(|line| line == text)
    }

    fn wait(&self) {
        let end = crate::clock::now().after(crate::clock::patience(std::time::Duration::from_secs(5)));
        while !self.is_frozen() {
            assert!(crate::clock::now() < end, "{} does not freeze", self.dir.display());
            std::thread::yield_now();
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if self.v2 {
            // Its cgroup is the bed's to remove.
            fs::write(self.dir.join("cgroup.freeze"), "0").ok();
            return;
        }
        fs::write(self.dir.join("freezer.state"), "THAWED").ok();
        let root = self.dir.with_file_name("cgroup.procs");
        for pid in crate::cgroup::membership::procs(&self.dir).unwrap_or_default() {
            fs::write(&root, pid.to_string()).ok();
        }
        crate::cgroup::subtree::remove(&self.dir).ok();
    }
}

#[test]
fn what_is_frozen_is_limited_and_stays_frozen() {
    const LIMIT: &[(&str, &str)] = &[("cpu", "30%"), ("nice", "7")];
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let frozen = Frozen::new(&mut bed, process);
    frozen.wait();
    let before = bed.capture();
    let throttle = bed.throttle();

    assert_eq!(applied(run(&throttle, in_place(LIMIT, process))).0, "in place");
    assert_eq!(quota(&bed.cgroup(process, Cpu)), "30000 100000");
    assert!(frozen.is_frozen());
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    is_clean(&bed, &before);

    // A cgroup of v2 freezes what is in it: out of it, the process would run.
    let moved = run(&throttle, moving(LIMIT, process));
    if bed.is_v2() {
        let why = refusal(moved);
        assert!(why.contains("/job is frozen: moving it would let it run"), "{why}");
    } else {
        assert_eq!(applied(moved).0, "by moving");
        assert!(frozen.is_frozen());
        assert_eq!(run(&throttle, release("g")), Outcome::Released);
    }
    is_clean(&bed, &before);
    assert!(frozen.is_frozen());
}

#[test]
fn what_is_threaded_is_not_moved() {
    let mut bed = Bed::new();
    if !bed.is_v2() {
        return;
    }
    let (process, other) = (bed.sleeper(), bed.sleeper());
    let job = bed.foreign(Cpu, "job", &[process, other]);
    let threads = bed.foreign(Cpu, "job/threads", &[]);
    fs::write(threads.join("cgroup.type"), "threaded").unwrap();
    fs::write(threads.join("cgroup.procs"), process.pid.to_string()).unwrap();
    let before = bed.capture();
    let throttle = bed.throttle();
    let limit = &[("cpu", "30%")];

    let why = refusal(run(&throttle, in_place(limit, process)));
    assert!(why.contains("/job/threads"), "{why}");
    for (process, dir) in [(process, "/job/threads"), (other, "/job")] {
        let why = refusal(run(&throttle, moving(limit, process)));
        assert!(why.contains(&format!("{dir} is threaded: its threads would not all come back")), "{why}");
    }
    is_clean(&bed, &before);

    // All of them together are those of the cgroup above, which can be limited.
    let all = Apply { in_place: true, ..apply("g", limits(limit), &[process, other]) };
    assert_eq!(applied(run(&throttle, What::Apply(all))).0, "in place");
    assert_eq!(quota(&job), "30000 100000");
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    is_clean(&bed, &before);
}

#[test]
fn who_has_more_cgroups_than_are_looked_at_is_limited_by_moving() {
    const MANY: usize = 4_097;
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let dir = bed.foreign(Cpu, "job", &[process]);
    let below: Vec<PathBuf> = (0..MANY).map(|number| dir.join(number.to_string())).collect();
    // Those that could be made are to be removed, whatever happens.
    let made: Vec<&PathBuf> = below.iter().filter(|dir| fs::create_dir(dir).is_ok()).collect();
    let throttle = bed.throttle();
    let limit = &[("cpu", "30%")];
    let found = (made.len(), run(&throttle, in_place(limit, process)));
    let moved = run(&throttle, moving(limit, process));
    let released = run(&throttle, release("g"));
    let removed = made.iter().filter(|dir| fs::remove_dir(dir).is_ok()).count();

    assert_eq!((found.0, removed), (MANY, MANY));
    let why = refusal(found.1);
    assert!(why.contains("more than 4096 cgroups below it"), "{why}");
    assert_eq!(applied(moved).0, "by moving");
    assert_eq!(released, Outcome::Released);
}

#[test]
fn a_controller_that_is_not_handed_down_is_named() {
    let mut bed = Bed::new();
    if !bed.is_v2() {
        return;
    }
    let process = bed.sleeper();
    bed.foreign(Cpu, "plain", &[]);
    bed.foreign(Cpu, "plain/inner", &[process]);
    let before = bed.capture();
    let throttle = bed.throttle();
    let limit = &[("cpu", "30%")];
    let why = refusal(run(&throttle, in_place(limit, process)));
    assert!(why.contains("controller cpu is not handed down to ") && why.contains("/plain/inner"), "{why}");
    // Where it may be moved, that is what happens.
    let movable = Apply { in_place: true, ..apply("g", limits(limit), &[process]) };
    assert_eq!(applied(run(&throttle, What::Apply(movable))).0, "by moving");
    assert_eq!(run(&throttle, release("g")), Outcome::Released);
    is_clean(&bed, &before);
}

#[test]
fn what_the_kernel_refuses_is_named_and_undone() {
    let mut bed = Bed::new();
    let process = bed.sleeper();
    let limit: &[(&str, &str)] = &[("cpu_weight", "50"), ("cpu", "60%"), ("pids", "40"), ("nice", "7")];
    if bed.is_v2() {
        // There, a quota above that of the cgroup above is taken.
        return;
    }
    // EINVAL: a quota above that of the cgroup above.
    let parent = bed.foreign(Cpu, "job", &[]);
    let job = bed.foreign(Cpu, "job/inner", &[process]);
    set_quota(&parent, "50000 100000");
    let before = bed.capture();
    let failed = error(run(&bed.throttle(), in_place_without_pids(limit, process)));
    let expected = format!("write \"60000\" to {}/cpu.cfs_quota_us: Invalid argument", job.display());
    assert!(failed.starts_with(&expected), "{failed}");
    is_clean(&bed, &before);
}

/// On v1 the process is in the root of the hierarchy of pids.
fn in_place_without_pids(limit: &[(&str, &str)], process: ProcKey) -> What {
    let limit: Vec<_> = limit.iter().copied().filter(|(name, _)| *name != "pids").collect();
    in_place(&limit, process)
}

#[test]
fn whichever_value_is_refused_it_is_named_and_all_is_undone() {
    const LIMIT: &[(&str, &str)] =
        &[("cpu_weight", "50"), ("cpu", "60%"), ("memory_high", "1G"), ("memory_max", "2G"), ("pids", "40")];
    type How = fn(&[(&str, &str)], ProcKey) -> What;
    let mut refused = std::collections::BTreeSet::new();
    for (how, limit) in [(moving as How, LIMIT), (in_place_without_pids as How, &LIMIT[..2])] {
        for (errno, text) in [
            (libc::EBUSY, "Device or resource busy"),
            (libc::EINVAL, "Invalid argument"),
            (libc::ENODEV, "No such device"),
        ] {
            for nth in 0.. {
                let mut bed = Bed::new();
                let process = bed.sleeper();
                bed.foreign(Cpu, "job", &[process]);
                let before = bed.capture();
                let throttle = bed.throttle();
                refusing::after(nth, errno);
                let outcome = run(&throttle, how(limit, process));
                if !refusing::was_refused() {
                    assert_eq!(applied(outcome).1.len(), 1);
                    assert_eq!(run(&throttle, release("g")), Outcome::Released);
                    is_clean(&bed, &before);
                    break;
                }
                let failed = matches!(outcome, Outcome::Failed { .. });
                let why = if failed { error(outcome) } else { refusal(outcome) };
                assert!(why.starts_with("write \"") && why.contains(" to /") && why.contains(text), "{why}");
                let path = why.split(" to ").nth(1).and_then(|rest| rest.split(": ").next()).unwrap();
                refused.insert(Path::new(path).file_name().unwrap().to_owned());
                is_clean(&bed, &before);
            }
        }
    }
    // The files of all five.
    assert!(refused.len() >= 5, "{refused:?}");
}
