//! What tests of effects stand on: real processes and real cgroups of their own, gone afterwards.
//!
//! On v2 the root must hand its controllers down already, and nobody may take them back meanwhile: a host
//! without a service manager, such as the first half of the VM of `cargo xtask vm`.

pub(super) mod value;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::cgroup::mark::Mark;
use crate::cgroup::{Cgroup as _, Controller, Roots, membership};
use crate::clock;
use crate::effect::attribute;
use crate::effect::kernel::Kernel;
use crate::effect::moves::children_since;
use crate::effect::throttle::{Step, Throttle};
use crate::engine::action::{Action, ActionId, Apply, What};
use crate::engine::input::Outcome;
use crate::model::attribute::Attribute;
use crate::model::id::{Name, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::reason::Reason;
use crate::model::reservation::{Reservation, Share};
use crate::model::time::Timestamp;
use crate::model::unit::Weight;
use crate::procfs::stat::Stat;
use crate::store::{Durability, Store};

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(super) struct Bed {
    dir: tempfile::TempDir,
    /// Stands for `/sys/block`: the host's devices, and those that a test claims to be there.
    block: tempfile::TempDir,
    pub(super) kernel: Kernel,
    children: Vec<Child>,
    foreign: Vec<PathBuf>,
}

impl Bed {
    pub(super) fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let subtree = format!("pt-test-{}-{number}", std::process::id());
        let block = tempfile::tempdir().unwrap();
        for device in fs::read_dir("/sys/block").unwrap() {
            let device = device.unwrap();
            symlink(device.path(), block.path().join(device.file_name())).unwrap();
        }
        // Marks of tests that run beside it are another agent's.
        let owner = subtree.clone();
        let roots = Roots { subtree, block: block.path().to_owned(), owner, ..Roots::default() };
        let kernel = Kernel::open(roots).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let bed = Self { dir, block, kernel, children: Vec::new(), foreign: Vec::new() };
        if bed.is_v2() {
            let held = fs::read_to_string(bed.mount(Controller::Cpu).join(SUBTREE_CONTROL)).unwrap();
            for controller in Controller::ALL.map(Controller::v2_name) {
                assert!(held.contains(controller), "the root cgroup does not hand {controller} down: {held}");
            }
        }
        bed
    }

    pub(super) fn is_v2(&self) -> bool {
        self.kernel.driver.version() == "v2"
    }

    /// From now on there is a block device that the kernel does not know: it refuses every limit on it.
    pub(super) fn claim_absent_device(&self) {
        let dir = self.block.path().join("zz-absent");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("dev"), "4095:1048575\n").unwrap();
        fs::write(dir.join("size"), "8\n").unwrap();
    }

    pub(super) fn store(&self) -> Store {
        Store::open(&self.dir.path().join("state.db"), Durability::Process).unwrap().store
    }

    pub(super) fn throttle(&self) -> Throttle {
        Throttle::open(self.kernel.clone(), self.store()).unwrap()
    }

    pub(super) fn spawn(&mut self, program: &str, arguments: &[&str]) -> ProcKey {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let key = self.key(child.id());
        self.children.push(child);
        key
    }

    pub(super) fn sleeper(&mut self) -> ProcKey {
        self.spawn("sleep", &["1000"])
    }

    pub(super) fn key(&self, pid: u32) -> ProcKey {
        ProcKey { pid, start: Stat::read(&self.kernel.roots.proc, pid).unwrap().start }
    }

    /// Lets a process go on that waits for a line.
    pub(super) fn go(&mut self, key: ProcKey) {
        for child in self.children.iter_mut().filter(|child| child.id() == key.pid) {
            drop(child.stdin.take());
        }
    }

    /// Ends a process and reaps it.
    pub(super) fn end(&mut self, key: ProcKey) {
        for child in self.children.iter_mut().filter(|child| child.id() == key.pid) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(super) fn mount(&self, controller: Controller) -> &Path {
        self.kernel.driver.mount(controller).unwrap()
    }

    /// A cgroup that is not the agent's, with these processes in it.
    pub(super) fn foreign(&mut self, controller: Controller, name: &str, members: &[ProcKey]) -> PathBuf {
        let dir = self.mount(controller).join(format!("{}-x", self.kernel.roots.subtree)).join(name);
        for made in [dir.parent().unwrap(), &dir] {
            if !made.exists() {
                fs::create_dir(made).unwrap();
                self.foreign.push(made.to_owned());
                if self.is_v2() && made != dir {
                    let all = Controller::ALL.map(|one| format!("+{}", one.v2_name())).join(" ");
                    fs::write(made.join(SUBTREE_CONTROL), all).unwrap();
                }
            }
        }
        for member in members {
            fs::write(dir.join("cgroup.procs"), member.pid.to_string()).unwrap();
        }
        dir
    }

    pub(super) fn cgroup(&self, key: ProcKey, controller: Controller) -> PathBuf {
        let memberships = crate::cgroup::Memberships::read(&self.kernel.roots.proc, key.pid).unwrap();
        self.kernel.driver.directory(&memberships, controller).unwrap()
    }

    pub(super) fn own(&self, controller: Controller, group: &str) -> PathBuf {
        self.mount(controller).join(&self.kernel.roots.subtree).join(group)
    }

    /// Everything that an application may change and a release must put back.
    pub(super) fn capture(&self) -> String {
        let mut text = String::new();
        for dir in &self.foreign {
            // What is ours in it may be told in two ways, what was there before in one.
            for one in Mark::read(dir).iter().flat_map(|mark| &mark.replaced) {
                writeln!(text, "{}: mark {} {} {}", dir.display(), one.file, one.item, one.prior).unwrap();
            }
            for file in FILES {
                if let Ok(value) = fs::read_to_string(dir.join(file)) {
                    writeln!(text, "{}: {}", dir.join(file).display(), value.trim_end()).unwrap();
                }
            }
        }
        for controller in Controller::ALL {
            let own = self.mount(controller).join(&self.kernel.roots.subtree);
            writeln!(text, "{}: {}", own.display(), own.exists()).unwrap();
        }
        for child in &self.children {
            if let Ok(stat) = Stat::read(&self.kernel.roots.proc, child.id())
                && stat.state != b'Z'
            {
                let key = ProcKey { pid: child.id(), start: stat.start };
                for controller in Controller::ALL {
                    writeln!(text, "{}: {}", child.id(), self.cgroup(key, controller).display()).unwrap();
                }
                writeln!(text, "{}: {}", child.id(), attributes(&self.kernel.roots.proc, key)).unwrap();
            }
        }
        text
    }
}

const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

const FILES: [&str; 16] = [
    SUBTREE_CONTROL,
    "cpu.max",
    "cpu.weight",
    "memory.high",
    "memory.low",
    "io.weight",
    "memory.max",
    "io.max",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.shares",
    "memory.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "pids.max",
    "blkio.throttle.read_bps_device",
    "blkio.bfq.weight",
];

impl Drop for Bed {
    fn drop(&mut self) {
        // Grandchildren first: they would outlive their parents.
        for child in &self.children {
            for key in children_since(&self.kernel.roots.proc, child.id(), 0) {
                let pid = key.pid.cast_signed();
                rustix::process::Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL).ok());
            }
        }
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
        let own = Controller::ALL.map(|one| self.mount(one).join(&self.kernel.roots.subtree));
        let mut dirs = self.foreign.clone();
        for dir in own.into_iter().filter(|dir| dir.exists()) {
            dirs.extend(membership::descendants(&dir).unwrap_or_default());
            dirs.push(dir);
        }
        dirs.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
        let end = clock::now().after(CLEANED);
        for dir in dirs {
            remove(&dir, end);
        }
    }
}

/// How long the test's processes may take to be gone.
const CLEANED: Duration = Duration::from_secs(10);

/// Removes a cgroup of the test, killing whoever was born in it meanwhile: nobody else's process is there.
fn remove(dir: &Path, end: Timestamp) {
    while crate::cgroup::subtree::remove(dir).is_err() {
        if clock::now() > end {
            eprintln!("left behind: {}", dir.display());
            return;
        }
        for pid in membership::procs(dir).unwrap_or_default() {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed());
            pid.map(|pid| kill_process(pid, Signal::KILL).ok());
        }
        // An unreaped process keeps its cgroup busy; its new parent reaps it in a moment.
        let moment = rustix::time::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        rustix::event::poll(&mut [], Some(&moment)).ok();
    }
}

/// Every attribute of every thread of a process.
pub(super) fn attributes(proc: &Path, process: ProcKey) -> String {
    let threads = attribute::threads(proc, process.pid).unwrap();
    let mut text = String::new();
    for (thread, attribute) in threads.iter().flat_map(|thread| Attribute::ALL.map(|one| (thread, one))) {
        let value = attribute::read(proc, attribute, process, *thread).unwrap().unwrap_or_default();
        write!(text, "{} {attribute} {value}, ", thread.pid).unwrap();
    }
    text
}

/// The nice value of a process's first thread.
pub(super) fn nice(proc: &Path, process: ProcKey) -> String {
    attribute::read(proc, Attribute::Nice, process, process).unwrap().unwrap()
}

/// Sets an attribute of a process's first thread, as somebody else would.
pub(super) fn set_attribute(proc: &Path, attribute: Attribute, process: ProcKey, value: &str) {
    assert!(attribute::set(proc, attribute, process, process, value, value).unwrap());
}

pub(super) fn renice(proc: &Path, process: ProcKey, nice: i64) {
    set_attribute(proc, Attribute::Nice, process, &nice.to_string());
}

pub(super) fn limits(text: &[(&str, &str)]) -> Limits {
    let map: serde_json::Map<String, serde_json::Value> = text
        .iter()
        .map(|(key, value)| {
            let number = value.parse::<i64>().map(serde_json::Value::from);
            ((*key).to_owned(), number.unwrap_or_else(|_| (*value).into()))
        })
        .collect();
    serde_json::from_value(map.into()).unwrap()
}

pub(super) fn apply(group: &str, limits: Limits, members: &[ProcKey]) -> Apply {
    Apply {
        group: group.parse().unwrap(),
        limits,
        scope: Scope::Group,
        allow_move: true,
        whole_unit: false,
        in_place: false,
        sharers: Vec::new(),
        rewrite: false,
        members: members.to_vec(),
        reason: Reason::Operator { uid: 0, request: "test".to_owned() },
        caused_at: Timestamp::ZERO,
    }
}

/// To be limited where the processes are, or not at all.
pub(super) fn in_place(apply: Apply) -> What {
    What::Apply(Apply { in_place: true, allow_move: false, ..apply })
}

/// A CPU weight that a profile states.
pub(super) fn cpu(weight: u64) -> Reservation {
    let weight = Weight::new(weight).unwrap();
    Reservation { cpu: Some(Share { weight, stated: true }), ..Reservation::NONE }
}

pub(super) fn reserve(critical: &str, reservation: Reservation, members: &[ProcKey]) -> What {
    let critical: Name = critical.parse().unwrap();
    let group = Name::of_reservation(&critical);
    What::Reserve { group, critical, reservation, members: members.to_vec() }
}

pub(super) fn unreserve(critical: &str) -> What {
    let critical: Name = critical.parse().unwrap();
    What::Unreserve { group: Name::of_reservation(&critical), critical }
}

pub(super) fn action(what: What) -> Action {
    Action { id: ActionId(1), at: Timestamp::ZERO, what }
}

/// Carries it out to the end, on this thread.
pub(super) fn run(throttle: &Throttle, what: What) -> Outcome {
    match throttle.execute(&action(what), &BTreeSet::new()).unwrap() {
        Step::Done(outcome) => outcome,
        Step::Moves(batch) => batch.run(),
    }
}

pub(super) fn release(group: &str) -> What {
    What::Release { group: group.parse().unwrap(), reason: Reason::Stopping }
}

pub(super) fn reap(group: &str) -> What {
    What::Reap { group: group.parse().unwrap() }
}

pub(super) fn detach(group: &str, key: ProcKey) -> What {
    What::Detach { group: group.parse().unwrap(), key, reason: Reason::Stopping }
}

/// The members and the rung of an application that must have succeeded.
pub(super) fn applied(outcome: Outcome) -> (String, Vec<ProcKey>, Vec<(ProcKey, String)>) {
    match outcome {
        Outcome::Applied { how, members, refused, .. } => {
            (how.split(": ").next().unwrap_or_default().to_owned(), members, refused)
        }
        other @ (Outcome::Released | Outcome::Busy | Outcome::Entangled { .. } | Outcome::Failed { .. }) => {
            panic!("{other:?}")
        }
    }
}

pub(super) fn error(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { error } | Outcome::Entangled { why: error } => error,
        other @ (Outcome::Released | Outcome::Busy | Outcome::Applied { .. }) => panic!("{other:?}"),
    }
}
