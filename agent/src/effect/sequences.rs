//! Whatever is applied, changed, released and detached in whatever order, by an agent that may die at any
//! point, on cgroups that others write, too: in the end everything is as it was, and theirs is theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::cgroup::{Cgroup as _, Controller};
use crate::effect::attribute;
use crate::effect::bed::{Bed, action, cpu, detach, limits, release, reserve, set_attribute, unreserve};
use crate::effect::fail_point::Point;
use crate::effect::restore::{recover, release_all};
use crate::effect::throttle::{Step, Throttle};
use crate::engine::action::{Apply, What};
use crate::model::attribute::Attribute;
use crate::model::id::ProcKey;
use crate::model::limits::{Limits, Scope};
use crate::model::reason::Reason;
use crate::model::time::Timestamp;
use crate::store::Tables;

/// Sequences tried; more with the environment variable `PT_SEQUENCES`.
const CASES: u32 = 192;
/// Processes of a bed: the first alone in a cgroup, two together in another, the others in the root.
const PROCESSES: usize = 5;
const GROUPS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Op {
    Apply {
        group: usize,
        limits: usize,
        members: Vec<usize>,
        in_place: bool,
        allow_move: bool,
        each: bool,
    },
    Release {
        group: usize,
    },
    Detach {
        group: usize,
        process: usize,
    },
    Reap {
        group: usize,
    },
    /// Somebody else writes a value.
    Write {
        job: usize,
        file: usize,
        value: usize,
    },
    /// Somebody else sets an attribute.
    Set {
        process: usize,
        attribute: Attribute,
        value: usize,
    },
    End {
        process: usize,
    },
    /// The agent dies at this point, the next time but `after` that it comes by.
    DieAt {
        point: usize,
        after: u32,
    },
    /// A critical process alone in a cgroup is to have its share, or no more.
    Reserve {
        weight: u64,
    },
    Unreserve,
    /// The agent ends, and another one starts, which releases what it finds or goes on with it.
    Restart {
        recover: bool,
    },
}

fn choices() -> Vec<Limits> {
    [
        &[("cpu", "30%")][..],
        &[("cpu", "20%"), ("cpu_weight", "50")],
        &[("memory_high", "32M"), ("memory_max", "64M")],
        &[("pids", "50"), ("nice", "7"), ("sched", "idle")],
        &[("nice", "12"), ("io_class", "idle"), ("cpu_affinity", "0-0"), ("oom_score_adj", "300")],
        &[("sched", "batch"), ("io_priority", "6"), ("oom_score_adj", "100")],
        &[("cpu", "45%"), ("memory_max", "128M"), ("pids", "60"), ("nice", "5"), ("oom_score_adj", "-7")],
    ]
    .into_iter()
    .map(limits)
    .collect()
}

/// Values that no limit of [`choices`] sets and no bed starts with.
fn foreign(version: &str) -> [(Controller, &'static str, [&'static str; 2]); 4] {
    if version == "v1" {
        [
            (Controller::Cpu, "cpu.cfs_quota_us", ["71000", "72000"]),
            (Controller::Cpu, "cpu.shares", ["333", "334"]),
            (Controller::Memory, "memory.soft_limit_in_bytes", ["4194304", "8388608"]),
            (Controller::Pids, "pids.max", ["301", "302"]),
        ]
    } else {
        [
            (Controller::Cpu, "cpu.max", ["71000 100000", "72000 100000"]),
            (Controller::Cpu, "cpu.weight", ["333", "334"]),
            (Controller::Memory, "memory.high", ["4194304", "8388608"]),
            (Controller::Pids, "pids.max", ["301", "302"]),
        ]
    }
}

/// Values that no limit of [`choices`] sets and no bed starts with. Those of the OOM score are above all of
/// them, or below: where it is higher already it stays.
const fn others(attribute: Attribute) -> [&'static str; 2] {
    match attribute {
        Attribute::Nice => ["1", "3"],
        Attribute::Sched => ["other", "other reset-on-fork"],
        Attribute::IoPriority => ["best-effort/1", "best-effort/3"],
        Attribute::CpuAffinity => ["1", "1"],
        Attribute::OomScoreAdj => ["50", "500"],
    }
}

fn op() -> impl Strategy<Value = Op> {
    let group = 0..GROUPS.len();
    let process = 0..PROCESSES;
    let members = proptest::collection::btree_set(0..PROCESSES, 1..4);
    let apply = (group.clone(), 0..choices().len(), members, any::<[bool; 3]>()).prop_map(
        |(group, limits, members, [in_place, allow_move, each])| Op::Apply {
            group,
            limits,
            members: members.into_iter().collect(),
            in_place,
            allow_move,
            each,
        },
    );
    prop_oneof![
        6 => apply,
        2 => group.clone().prop_map(|group| Op::Release { group }),
        2 => (group.clone(), process.clone()).prop_map(|(group, process)| Op::Detach { group, process }),
        1 => group.prop_map(|group| Op::Reap { group }),
        2 => (0..2usize, 0..4usize, 0..2usize).prop_map(|(job, file, value)| Op::Write { job, file, value }),
        2 => (process.clone(), proptest::sample::select(Attribute::ALL.to_vec()), 0..2usize)
            .prop_map(|(process, attribute, value)| Op::Set { process, attribute, value }),
        1 => process.prop_map(|process| Op::End { process }),
        3 => (0..Point::ALL.len(), 0..3u32).prop_map(|(point, after)| Op::DieAt { point, after }),
        2 => proptest::sample::select(vec![150u64, 400, 800]).prop_map(|weight| Op::Reserve { weight }),
        1 => Just(Op::Unreserve),
        2 => any::<bool>().prop_map(|recover| Op::Restart { recover }),
    ]
}

/// A bed, and what must be in it in the end.
struct World {
    bed: Bed,
    throttle: Option<Throttle>,
    processes: Vec<Option<ProcKey>>,
    expected: BTreeMap<String, String>,
}

impl World {
    fn new() -> Self {
        let mut bed = Bed::new();
        let processes: Vec<ProcKey> = (0..PROCESSES).map(|_| bed.sleeper()).collect();
        for controller in [Controller::Cpu, Controller::Memory, Controller::Pids] {
            bed.foreign(controller, "job0", &processes[..1]);
            bed.foreign(controller, "job1", &processes[1..3]);
        }
        let throttle = Some(bed.throttle());
        let processes = processes.into_iter().map(Some).collect();
        let mut world = Self { bed, throttle, processes, expected: BTreeMap::new() };
        world.expected = world.capture();
        world
    }

    fn job(&self, controller: Controller, job: usize) -> PathBuf {
        self.bed
            .mount(controller)
            .join(format!("{}-x", self.bed.kernel.roots.subtree))
            .join(format!("job{job}"))
    }

    /// Everything that an application may change and a release must put back, by what it is.
    fn capture(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (controller, job) in Controller::ALL.into_iter().flat_map(|one| [(one, 0), (one, 1)]) {
            for entry in fs::read_dir(self.job(controller, job)).into_iter().flatten() {
                let path = entry.unwrap().path();
                if is_limit(&path) {
                    let value = fs::read_to_string(&path).unwrap();
                    all.insert(path.display().to_string(), value.trim_end().to_owned());
                }
            }
        }
        for controller in Controller::ALL {
            let own = self.bed.mount(controller).join(&self.bed.kernel.roots.subtree);
            all.insert(own.display().to_string(), own.exists().to_string());
        }
        for (index, key) in self.processes.iter().enumerate() {
            let Some(key) = key else { continue };
            for controller in Controller::ALL {
                let cgroup = self.bed.cgroup(*key, controller);
                all.insert(format!("{index} {controller:?}"), cgroup.display().to_string());
            }
            for attribute in Attribute::ALL {
                let value = attribute::read(&self.bed.kernel.roots.proc, attribute, *key, *key).unwrap();
                all.insert(format!("{index} {attribute}"), value.unwrap());
            }
        }
        all
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Apply { group, limits, members, in_place, allow_move, each } => {
                let members: Vec<ProcKey> =
                    members.iter().filter_map(|index| self.processes[*index]).collect();
                self.execute(What::Apply(Apply {
                    group: GROUPS[*group].parse().unwrap(),
                    limits: choices().remove(*limits),
                    scope: if *each { Scope::Process } else { Scope::Group },
                    allow_move: *allow_move,
                    whole_unit: false,
                    in_place: *in_place,
                    sharers: Vec::new(),
                    rewrite: false,
                    members,
                    reason: Reason::Operator { uid: 0, request: "test".to_owned() },
                    caused_at: Timestamp::ZERO,
                }));
            }
            Op::Release { group } => self.execute(release(GROUPS[*group])),
            Op::Detach { group, process } => {
                if let Some(key) = self.processes[*process] {
                    self.execute(detach(GROUPS[*group], key));
                }
            }
            Op::Reap { group } => self.execute(What::Reap { group: GROUPS[*group].parse().unwrap() }),
            Op::Write { job, file, value } => {
                let (controller, file, values) = foreign(self.bed.kernel.driver.version())[*file];
                let path = self.job(controller, *job).join(file);
                fs::write(&path, values[*value]).unwrap();
                self.expected.insert(path.display().to_string(), values[*value].to_owned());
            }
            Op::Set { process, attribute, value } => {
                let one_cpu = std::thread::available_parallelism().unwrap().get() == 1;
                let possible = *attribute != Attribute::CpuAffinity || !one_cpu;
                if let Some(key) = self.processes[*process].filter(|_| possible) {
                    let value = others(*attribute)[*value];
                    set_attribute(&self.bed.kernel.roots.proc, *attribute, key, value);
                    self.expected.insert(format!("{process} {attribute}"), value.to_owned());
                }
            }
            Op::End { process } => {
                if let Some(key) = self.processes[*process].take() {
                    self.bed.end(key);
                    let of_it = format!("{process} ");
                    self.expected.retain(|what, _| !what.starts_with(&of_it));
                }
            }
            Op::DieAt { point, after } => {
                self.bed.kernel.fail.die_at(Point::ALL[*point], *after);
            }
            Op::Reserve { weight } => {
                if let Some(key) = self.processes[0] {
                    self.execute(reserve("web", cpu(*weight), &[key]));
                }
            }
            Op::Unreserve => self.execute(unreserve("web")),
            Op::Restart { recover: false } => self.restart(),
            Op::Restart { recover: true } => {
                self.throttle = None;
                let attempt = || recover(&self.bed.kernel, &mut self.bed.store()).unwrap();
                let report = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_died| attempt());
                assert_eq!(report.failures, Vec::<String>::new());
                assert_eq!(self.capture(), self.expected, "after recovery");
                self.restart();
            }
        }
    }

    fn restart(&mut self) {
        self.throttle = None;
        self.throttle = Some(self.bed.throttle());
    }

    /// Refusals and failures are as good as successes: they must not leave anything either.
    fn execute(&mut self, what: What) {
        let Some(throttle) = &self.throttle else { return };
        let died = catch_unwind(AssertUnwindSafe(|| {
            match throttle.execute(&action(what), &BTreeSet::new()).unwrap() {
                Step::Done(outcome) => drop(outcome),
                Step::Moves(batch) => drop(batch.run()),
            }
        }));
        if died.is_err() {
            self.restart();
        }
    }

    fn finish(mut self, by_hand: bool) {
        self.throttle = None;
        let kernel = &self.bed.kernel;
        let attempt = || {
            let mut store = self.bed.store();
            if by_hand {
                release_all(kernel, &mut store).unwrap()
            } else {
                recover(kernel, &mut store).unwrap()
            }
        };
        let report = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_died| attempt());
        let store = self.bed.store();
        assert_eq!(report.failures, Vec::<String>::new());
        assert_eq!(self.capture(), self.expected);
        assert_eq!(store.read(Tables::intents).unwrap(), []);
        assert_eq!(store.read(Tables::groups).unwrap(), []);
    }
}

fn is_limit(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let limit = [
        "cpu.cfs_",
        "cpu.shares",
        "cpu.max",
        "cpu.weight",
        "cpu.idle",
        "pids.max",
        "memory.high",
        "memory.max",
    ];
    let limit = limit.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with("limit_in_bytes");
    // `cpu.weight.nice` is `cpu.weight` on another scale.
    limit && !name.contains("max_usage") && !["cpu.max.burst", "cpu.weight.nice"].contains(&name)
}

#[test]
fn whatever_the_order_everything_comes_back() {
    let cases = std::env::var("PT_SEQUENCES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let hook = std::panic::take_hook();
    // A death at a point is a panic with that point, and nothing to report.
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Point>() {
            hook(info);
        }
    }));
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let sequences = (proptest::collection::vec(op(), 1..16), any::<bool>());
    let result = runner.run(&sequences, |(ops, by_hand)| {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
        }
        world.finish(by_hand);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
