//! Random worlds: whatever happens in whatever order, the engine keeps its promises.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use crate::engine::action::{Action, ActionId, SampleWants, What};
use crate::engine::input::{
    ClockSample, CpuSample, GroupSample, Input, ManualThrottle, Outcome, Override, PressureSample,
    ReleaseTarget, Sample,
};
use crate::engine::policy::protect;
use crate::engine::rule::testing::{facts, profile, rule};
use crate::engine::testing::{at, engine};
use crate::engine::{Engine, Own};
use crate::model::death::Cause;
use crate::model::event::{Event, Exit, Status};
use crate::model::id::{Name, ProcKey};
use crate::model::limits::{Limits, Scope};
use crate::model::notice::Clash;
use crate::model::policy::{Adaptive, Gradual, Policy, Schedule, Side, Span, Target, Threshold, When, Zone};
use crate::model::process::{Comm, Process};
use crate::model::reason::Reason;
use crate::model::rule::{Critical, Match, Pattern, Profile};
use crate::model::signal::Hundredths;

const COMMS: [&str; 6] = ["rsync", "cc", "nginx", "sshd", "sh", "exe-bound"];

#[derive(Clone, Debug)]
enum Op {
    Spawn {
        pid: u32,
        ppid: u32,
        comm: usize,
        uid: u32,
        cgroup: u64,
    },
    Exec {
        pid: u32,
        comm: usize,
    },
    Report {
        pid: u32,
    },
    Move {
        pid: u32,
        cgroup: u64,
    },
    Exit {
        pid: u32,
    },
    /// Dies unseen.
    Vanish {
        pid: u32,
    },
    /// A report of one who died before.
    Ghost {
        nth: usize,
        exit: bool,
    },
    /// Answers the oldest open action.
    Answer {
        how: u8,
    },
    Facts {
        matching: bool,
        gone: bool,
    },
    Sleep {
        millis: u64,
    },
    Profile {
        which: u8,
    },
    ByHand {
        group: u8,
        pids: Vec<u32>,
        each: bool,
        millis: Option<u64>,
    },
    Release {
        which: u8,
        pid: u32,
    },
    Lost,
    Snapshot,
    Emergency {
        stop: bool,
    },
    Clash {
        group: usize,
        found: u8,
    },
    /// The machine gets busier or idler; the clock is set.
    Weather {
        pressure: u32,
        use_of_cpu: u64,
        clock: i64,
    },
    /// A policy over a rule or a group.
    Override {
        hand: bool,
        policy: Option<u8>,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let pid = || prop_oneof![1 => 1..3u32, 12 => 10..26u32, 1 => Just(800u32)];
    let cgroup = || 0..4u64;
    let comm = || 0..COMMS.len();
    prop_oneof![
        8 => (pid(), pid(), comm(), prop_oneof![Just(0u32), Just(1000)], cgroup())
            .prop_map(|(pid, ppid, comm, uid, cgroup)| Op::Spawn { pid, ppid, comm, uid, cgroup }),
        5 => (pid(), comm()).prop_map(|(pid, comm)| Op::Exec { pid, comm }),
        2 => pid().prop_map(|pid| Op::Report { pid }),
        1 => (pid(), cgroup()).prop_map(|(pid, cgroup)| Op::Move { pid, cgroup }),
        4 => pid().prop_map(|pid| Op::Exit { pid }),
        1 => pid().prop_map(|pid| Op::Vanish { pid }),
        1 => (0..8usize, any::<bool>()).prop_map(|(nth, exit)| Op::Ghost { nth, exit }),
        8 => (0..8u8).prop_map(|how| Op::Answer { how }),
        6 => (any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(matching, gone)| Op::Facts { matching, gone }),
        2 => (1..40_000u64).prop_map(|millis| Op::Sleep { millis }),
        1 => (0..4u8).prop_map(|which| Op::Profile { which }),
        2 => (0..2u8, prop::collection::vec(pid(), 1..3), any::<bool>(), prop::option::of(1..9_000u64))
            .prop_map(|(group, pids, each, millis)| Op::ByHand { group, pids, each, millis }),
        2 => (0..4u8, pid()).prop_map(|(which, pid)| Op::Release { which, pid }),
        3 => (0..10_000u32, 0..400u64, 0..700_000_000i64)
            .prop_map(|(pressure, use_of_cpu, clock)| Op::Weather { pressure, use_of_cpu, clock }),
        1 => (any::<bool>(), prop::option::of(0..4u8))
            .prop_map(|(hand, policy)| Op::Override { hand, policy }),
        1 => Just(Op::Lost),
        1 => Just(Op::Snapshot),
        1 => any::<bool>().prop_map(|stop| Op::Emergency { stop }),
        1 => (0..3usize, 0..3u8).prop_map(|(group, found)| Op::Clash { group, found }),
    ]
}

fn fixed() -> Limits {
    Limits { cpu: Some("30%".parse().unwrap()), pids: Some(5), ..Limits::default() }
}

fn policies(which: u8) -> Policy {
    let percent = |text: &str| text.parse().unwrap();
    match which {
        0 => Policy::Fixed,
        1 => Policy::Gradual(Gradual { from: percent("100%"), over_ms: 60_000, interval_ms: 5_000 }),
        2 => Policy::Adaptive(Adaptive {
            target: Target::Cpu(percent("40%")),
            min: percent("5%"),
            max: percent("200%"),
            interval_ms: 1_000,
            cooldown_ms: 3_000,
            deadband_permille: 50,
        }),
        _ => Policy::Schedule(Schedule {
            windows: vec![Span { hours: "08:00-20:00".parse().unwrap(), limits: fixed() }],
            timezone: Zone::default(),
        }),
    }
}

fn exact(comm: &str) -> Match {
    Match::Comm(Pattern::Exact(comm.to_owned()))
}

fn profiles(which: u8) -> Option<Profile> {
    let bound = Match::All(vec![exact("exe-bound"), Match::Exe(Pattern::Exact("/yes".to_owned()))]);
    let mut rules = vec![
        rule("copies", Match::Any(vec![exact("rsync"), exact("sshd")])),
        rule("bound", bound),
        rule("children", Match::Parent(Box::new(exact("cc")))),
    ];
    match which {
        0 => {
            let threshold = Threshold {
                signal: "pressure_cpu_some_avg10".parse().unwrap(),
                side: Side::Above,
                on: Hundredths(5_000),
                off: Hundredths(3_000),
            };
            rules[0].when = Some(When {
                thresholds: vec![threshold],
                hours: Some("Mon..Fri 22:00-06:00".parse().unwrap()),
                timezone: Zone::default(),
                cooldown_ms: 10_000,
            });
            rules[1].policy = policies(2);
        }
        1 => {
            rules[0].policy = policies(1);
            rules[1].limits = Limits::default();
            rules[1].policy = policies(3);
            rules[0].limits.pids = Some(7);
            rules[1].scope = Scope::Process;
        }
        2 => {
            rules.remove(0);
            rules[0].matches = Match::Not(Box::new(exact("cc")));
        }
        _ => return None,
    }
    let mut profile = profile(rules);
    let exe = Match::Exe(Pattern::Exact("/yes".to_owned()));
    let root_web = || Match::All(vec![exact("nginx"), Match::Uid(0)]);
    let mut critical = |text, matches| profile.critical.push(Critical::new(name(text), matches));
    critical("web", if which == 2 { root_web() } else { exact("nginx") });
    critical("copy", Match::All(vec![exact("rsync"), Match::CmdlineRegex("^/yes".to_owned())]));
    critical("root-web", root_web());
    critical("shell", Match::All(vec![exact("sh"), exe]));
    Some(profile)
}

/// Whether such a process is watched under the profile, and if so, whether it is protected. `None` when that
/// depends on what the answers to questions told.
fn standing(which: u8, process: &Process) -> Option<Option<bool>> {
    let root = process.uid == 0;
    match (process.comm.bytes(), which) {
        _ if process.kthread => Some(None),
        (_, 3..) => Some(None),
        (b"nginx", 2) => Some(root.then_some(true)),
        (b"nginx", _) => Some(Some(root)),
        (b"rsync" | b"sh", _) => None,
        (_, _) => Some(None),
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// What is measured of the machine.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// In hundredths of a percent.
    pressure: u32,
    load: u32,
    /// Of every group, in percent.
    use_of_cpu: u64,
    /// Ahead of the time since boot, in ms.
    clock: i64,
}

/// The kernel, the executor and what the engine may know, in the simplest form.
struct World {
    engine: Engine,
    now: u64,
    alive: BTreeMap<u32, Process>,
    /// What the table must hold: the living, and those that died unseen.
    known: BTreeMap<u32, ProcKey>,
    dead: Vec<Process>,
    open: VecDeque<Action>,
    asked: VecDeque<ProcKey>,
    /// Which group the executor holds each process in.
    held: BTreeMap<ProcKey, Name>,
    /// Who is watched, and whether the executor refuses to limit it.
    watched: BTreeMap<ProcKey, bool>,
    which: u8,
    ancestor: bool,
    /// Whether the executor refuses to limit anybody.
    blocked: bool,
    weather: Weather,
    wanted: VecDeque<SampleWants>,
    /// When pressure was measured last, and how much of it there has been.
    measured: u64,
    stalled_us: u64,
    log: String,
    last: ActionId,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            engine: engine(),
            now: 100_000,
            alive: BTreeMap::new(),
            known: BTreeMap::new(),
            dead: Vec::new(),
            open: VecDeque::new(),
            asked: VecDeque::new(),
            held: BTreeMap::new(),
            watched: BTreeMap::new(),
            which: 3,
            ancestor: false,
            blocked: false,
            weather: Weather::default(),
            wanted: VecDeque::new(),
            measured: 0,
            stalled_us: 0,
            log: String::new(),
            last: ActionId(0),
        };
        world.run(Op::Profile { which: 0 });
        world
    }

    fn input(&mut self, input: Input) {
        let text = serde_json::to_string(&input).unwrap();
        assert_eq!(serde_json::from_str::<Input>(&text).unwrap(), input);
        self.now += 1;
        self.engine.handle(input, at(self.now));
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(action) = self.engine.next_action() {
            self.log.push_str(&serde_json::to_string(&action).unwrap());
            self.log.push('\n');
            assert!(action.id > self.last);
            self.last = action.id;
            self.check(&action);
            match &action.what {
                What::Inspect { key, .. } => self.asked.push_back(*key),
                What::Watch { key, on: true, protected } => {
                    let before = self.watched.insert(*key, *protected);
                    assert_ne!(before, Some(*protected), "told twice");
                }
                What::Watch { key, on: false, protected } => {
                    assert!(!protected, "protected and not watched");
                    assert!(self.watched.remove(key).is_some(), "was not watched");
                }
                What::Apply(_)
                | What::Release { .. }
                | What::Detach { .. }
                | What::Reap { .. }
                | What::Lift => {
                    self.blocked |= action.what == What::Lift;
                    self.open.push_back(action);
                }
                What::Resume => self.blocked = false,
                What::Sample(wants) => self.wanted.push_back(wants.clone()),
                What::Resync
                | What::Listen { .. }
                | What::Check { .. }
                | What::Restart { .. }
                | What::Notify { .. }
                | What::Protect { .. }
                | What::Unprotect { .. }
                | What::Disinherit { .. }
                | What::Reserve { .. }
                | What::Unreserve { .. } => {}
            }
        }
        if let Some(wants) = self.wanted.pop_front() {
            let sample = self.measure(&wants);
            self.input(Input::Sample(Box::new(sample)));
        }
    }

    /// What is measured in the present weather.
    fn measure(&mut self, wants: &SampleWants) -> Sample {
        let Weather { pressure, load, use_of_cpu, clock } = self.weather;
        let mut sample = Sample::default();
        if wants.pressure {
            let passed = self.now.saturating_sub(self.measured);
            self.measured = self.now;
            self.stalled_us += passed * 10 * u64::from(pressure) / 100;
            let one = PressureSample {
                some: [Hundredths(pressure); 3],
                full: [Hundredths(pressure / 2); 3],
                some_us: self.stalled_us,
            };
            sample.pressure = Some([one; 3]);
        }
        if wants.cpu {
            sample.cpu = Some(CpuSample { cpus: 2, busy_us: self.now * 500, throttled_us: self.now * 100 });
        }
        sample.load = wants.load.then_some([Hundredths(load); 3]);
        let used_ns = self.now * 1_000_000 / 100 * use_of_cpu;
        let (periods, throttled) = (self.now / 100, self.now / 100);
        let group = |group: &Name| GroupSample { group: group.clone(), used_ns, periods, throttled };
        sample.groups = wants.groups.iter().map(group).collect();
        if !wants.zones.is_empty() {
            let unix_ms = clock.saturating_add_unsigned(self.now);
            let offsets = wants.zones.iter().map(|zone| (zone.clone(), 3_600)).collect();
            sample.clock = Some(ClockSample { unix_ms, offsets });
        }
        sample
    }

    fn check(&self, action: &Action) {
        let What::Apply(apply) = &action.what else { return };
        assert!(!self.blocked, "limited during an emergency stop: {apply:?}");
        let own =
            Own { key: ProcKey { pid: 900, start: 100 }, ancestors: vec![ProcKey { pid: 800, start: 100 }] };
        for key in &apply.members {
            let process = self.alive.get(&key.pid).filter(|process| process.key == *key);
            if let Some(process) = process {
                assert_eq!(protect::verdict(process, &own), None, "{process:?}");
                assert_ne!(standing(self.which, process), Some(Some(true)), "{process:?} is protected");
            }
            assert_ne!(self.watched.get(key), Some(&true), "the executor refuses {key}");
            let holder = self.held.get(key);
            assert!(holder.is_none_or(|group| *group == apply.group), "{key} is held by {holder:?}");
        }
        if apply.in_place {
            let ids: BTreeSet<u64> =
                apply.members.iter().filter_map(|key| self.alive.get(&key.pid)).map(|p| p.cgroup).collect();
            assert!(ids.len() <= 1);
        }
    }

    fn report(&mut self, process: Process, exec: bool) {
        self.known.insert(process.key.pid, process.key);
        let event = if exec { Event::Exec(process) } else { Event::Alive(process) };
        self.input(Input::Event { event });
    }

    fn exited(&mut self, process: Process) {
        self.known.retain(|_, key| *key != process.key);
        self.held.remove(&process.key);
        let status = Some(Status::Code(0));
        let exit =
            Exit { process, at: at(self.now), status, cpu: None, peak_rss: None, cause: Cause::UNKNOWN };
        self.input(Input::Event { event: Event::Exit(exit) });
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Spawn { pid, ppid, comm, uid, cgroup } => self.spawn(pid, ppid, comm, uid, cgroup),
            Op::Exec { pid, comm } => {
                let now = at(self.now);
                if let Some(process) = self.alive.get_mut(&pid) {
                    process.comm = Comm::from_bytes(COMMS[comm].as_bytes());
                    process.execed = Some(now);
                    let process = *process;
                    self.report(process, true);
                }
            }
            Op::Report { pid } => {
                if let Some(process) = self.alive.get(&pid) {
                    self.report(*process, false);
                }
            }
            Op::Move { pid, cgroup } => {
                if let Some(process) = self.alive.get_mut(&pid) {
                    process.cgroup = cgroup;
                    let process = *process;
                    self.report(process, false);
                }
            }
            Op::Exit { pid } => {
                if let Some(process) = self.alive.remove(&pid) {
                    self.dead.push(process);
                    self.exited(process);
                }
            }
            Op::Vanish { pid } => {
                if let Some(process) = self.alive.remove(&pid) {
                    self.held.remove(&process.key);
                }
            }
            Op::Ghost { nth, exit } => {
                if let Some(ghost) = self.dead.iter().rev().nth(nth).copied() {
                    let event = if exit {
                        Event::Exit(Exit {
                            process: ghost,
                            at: at(self.now),
                            status: None,
                            cpu: None,
                            peak_rss: None,
                            cause: Cause::UNKNOWN,
                        })
                    } else {
                        Event::Alive(ghost)
                    };
                    self.input(Input::Event { event });
                }
            }
            Op::Answer { how } => self.answer(how),
            Op::Facts { matching, gone } => {
                if let Some(key) = self.asked.pop_front() {
                    let told = if matching { "/yes" } else { "/no" };
                    let told = facts(told, told, "");
                    self.input(Input::Inspected { key, facts: (!gone).then_some(told) });
                }
            }
            Op::Sleep { millis } => self.sleep(millis),
            Op::Profile { which } => {
                self.which = which;
                self.input(Input::Profile { profile: profiles(which).map(Box::new) });
            }
            Op::ByHand { group, pids, each, millis } => {
                let processes =
                    pids.iter().filter_map(|pid| self.alive.get(pid)).map(|process| process.key).collect();
                self.input(Input::Throttle(ManualThrottle {
                    group: name(if group == 0 { "hand" } else { "copies" }),
                    limits: fixed(),
                    scope: if each { Scope::Process } else { Scope::Group },
                    allow_move: true,
                    whole_unit: false,
                    processes,
                    policy: policies(u8::try_from(pids.len()).unwrap_or(0)),
                    until: millis.map(|millis| at(self.now + millis)),
                    reason: Reason::Operator { uid: 0, request: "test".to_owned() },
                }));
            }
            Op::Release { which, pid } => {
                let target = match which {
                    0 => ReleaseTarget::All,
                    1 => ReleaseTarget::Group(name("hand")),
                    2 => ReleaseTarget::Rule(name("copies")),
                    _ => match self.alive.get(&pid) {
                        Some(process) => ReleaseTarget::Process(process.key),
                        None => ReleaseTarget::Group(name("copies")),
                    },
                };
                let reason = Reason::Operator { uid: 0, request: "test".to_owned() };
                self.input(Input::Release { target, reason });
            }
            Op::Emergency { stop: true } => {
                self.input(Input::EmergencyStop { reason: "test".to_owned(), uid: 0, told: false });
            }
            Op::Emergency { stop: false } => self.input(Input::EmergencyResume { uid: 0 }),
            Op::Clash { group, found } => {
                let clash = |found| Clash { at: "file".into(), ours: "0".into(), found: format!("{found}") };
                let group = name(["hand", "copies", "children"][group]);
                let clashes = (found > 0).then(|| clash(found)).into_iter().collect();
                self.input(Input::Clashes { group, clashes });
            }
            Op::Weather { pressure, use_of_cpu, clock } => {
                self.weather = Weather { pressure, load: pressure / 10, use_of_cpu, clock };
            }
            Op::Override { hand, policy } => self.input(Input::Override(Override {
                target: name(if hand { "hand" } else { "bound" }),
                terms: policy.map(|which| (fixed(), policies(which))),
                reason: Reason::Operator { uid: 0, request: "test".to_owned() },
            })),
            Op::Lost => self.input(Input::Lost { dropped: 3 }),
            Op::Snapshot => self.snapshot(),
        }
    }

    fn spawn(&mut self, pid: u32, ppid: u32, comm: usize, uid: u32, cgroup: u64) {
        if self.alive.contains_key(&pid) {
            return;
        }
        // A pid cannot come round within a tick.
        self.now += 20;
        let process = Process {
            key: ProcKey { pid, start: if pid == 800 { 100 } else { self.now / 10 } },
            started: at(self.now),
            execed: None,
            ppid,
            uid,
            gid: uid,
            cgroup,
            comm: Comm::from_bytes(COMMS[comm].as_bytes()),
            kthread: pid == 2,
        };
        // The agent's ancestor is born once.
        if pid == 800 && std::mem::replace(&mut self.ancestor, true) {
            return;
        }
        self.alive.insert(pid, process);
        self.report(process, false);
    }

    fn answer(&mut self, how: u8) {
        let Some(action) = self.open.pop_front() else { return };
        let failed = Outcome::Failed { error: format!("error {}", how % 2) };
        let outcome = match &action.what {
            _ if how == 0 => failed,
            What::Apply(apply) => {
                let mut members: Vec<ProcKey> = apply.members.clone();
                // Some are gone, and sometimes the executor knows better.
                let refuse = if how == 1 { members.pop() } else { None };
                members.retain(|key| self.alive.get(&key.pid).is_some_and(|process| process.key == *key));
                for key in &members {
                    self.held.insert(*key, apply.group.clone());
                }
                let refused = refuse.map(|key| (key, "no".to_owned())).into_iter().collect();
                Outcome::Applied {
                    how: "by moving".to_owned(),
                    members,
                    refused,
                    borrowed: self.now.is_multiple_of(2),
                    at: at(self.now),
                }
            }
            What::Release { group, .. } => {
                self.held.retain(|_, held| held != group);
                Outcome::Released
            }
            What::Detach { key, .. } => {
                self.held.remove(key);
                Outcome::Released
            }
            What::Reap { .. } if how < 3 => Outcome::Busy,
            What::Reap { .. } => Outcome::Released,
            What::Lift => {
                self.held.clear();
                Outcome::Released
            }
            What::Resume
            | What::Inspect { .. }
            | What::Watch { .. }
            | What::Resync
            | What::Sample(_)
            | What::Listen { .. }
            | What::Check { .. }
            | What::Restart { .. }
            | What::Protect { .. }
            | What::Unprotect { .. }
            | What::Disinherit { .. }
            | What::Reserve { .. }
            | What::Unreserve { .. }
            | What::Notify { .. } => failed,
        };
        self.input(Input::Outcome { id: action.id, outcome });
    }

    fn sleep(&mut self, millis: u64) {
        self.now += millis;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= at(self.now)) {
            self.engine.handle_timeout(due);
            self.collect();
        }
    }

    fn snapshot(&mut self) {
        self.now += 1;
        let began = at(self.now);
        for process in self.alive.values().copied().collect::<Vec<_>>() {
            self.report(process, false);
        }
        self.input(Input::SnapshotEnd { began });
        self.sleep(200);
        self.known = self.alive.values().map(|process| (process.key.pid, process.key)).collect();
    }

    fn invariants(&self) {
        let known: Vec<ProcKey> = self.known.values().copied().collect();
        assert_eq!(self.engine.processes(), known);
        let view = self.engine.snapshot();
        let mut seen = BTreeSet::new();
        for member in view.groups.iter().flat_map(|group| &group.members) {
            assert!(seen.insert(member.key), "{} is in two groups", member.key);
            assert!(known.contains(&member.key), "{} is a member and unknown", member.key);
            assert!(self.engine.explain(member.key.pid).unwrap().limited.is_some());
        }
        let instances: BTreeSet<ProcKey> =
            view.critical.iter().flat_map(|critical| critical.instances.iter().copied()).collect();
        assert!(instances.iter().eq(self.watched.keys()));
        let protected = self.watched.iter().filter(|(_, protected)| **protected).map(|(key, _)| *key);
        assert!(seen.is_disjoint(&protected.collect()));
        for process in self.alive.values() {
            if let Some(expected) = standing(self.which, process) {
                assert_eq!(self.watched.get(&process.key).copied(), expected, "{process:?}");
            }
        }
    }

    /// Everything succeeds from here on: nothing may be left.
    fn wind_down(&mut self) {
        self.input(Input::Release { target: ReleaseTarget::All, reason: Reason::Stopping });
        for _ in 0..10_000 {
            if self.open.is_empty() && self.held.is_empty() && self.engine.snapshot().groups.is_empty() {
                break;
            }
            while !self.open.is_empty() {
                self.answer(7);
            }
            self.sleep(1_000);
        }
        assert_eq!(self.engine.snapshot().groups, Vec::new());
        assert_eq!(self.held, BTreeMap::new());
        for pid in self.alive.keys().copied().collect::<Vec<_>>() {
            self.run(Op::Exit { pid });
        }
        self.snapshot();
        assert_eq!(self.watched, BTreeMap::new());
        assert!(self.engine.throttle.is_idle() && self.engine.waiting.is_empty());
    }
}

fn live(ops: &[Op]) -> String {
    let mut world = World::new();
    for op in ops {
        world.run(op.clone());
        world.invariants();
    }
    world.wind_down();
    world.log
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn promises_hold_and_replays_are_identical(ops in prop::collection::vec(op(), 1..120)) {
        let first = live(&ops);
        prop_assert_eq!(first, live(&ops));
    }
}

#[test]
fn many_short_lives_leave_nothing_behind() {
    let mut world = World::new();
    world.run(Op::Spawn { pid: 10, ppid: 1, comm: 4, uid: 1000, cgroup: 1 });
    for round in 0..100_000u32 {
        let pid = 1_000 + round % 30_000;
        let process = Process {
            key: ProcKey { pid, start: u64::from(round) + 20_000 },
            comm: Comm::from_bytes(b"true"),
            ppid: 10,
            ..world.alive[&10]
        };
        if round % 10 == 0 {
            world.engine.handle(Input::Event { event: Event::Alive(process) }, at(world.now));
        }
        let exit = Exit {
            process,
            at: at(world.now),
            status: None,
            cpu: None,
            peak_rss: None,
            cause: Cause::UNKNOWN,
        };
        world.engine.handle(Input::Event { event: Event::Exit(exit) }, at(world.now));
    }
    assert_eq!(world.engine.next_action(), None);
    assert_eq!((world.engine.counts().processes, world.engine.counts().exits), (1, 100_000));
    assert!(world.engine.throttle.is_idle() && world.engine.waiting.is_empty());
}
