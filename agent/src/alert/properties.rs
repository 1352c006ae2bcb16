//! Whatever happens in whatever order, and wherever the agent dies: nobody is told twice, nor too little.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use crate::alert::rig::{Rig, endpoint};
use crate::model::alert::AlertState;
use crate::model::endpoint::{Endpoint, Noise};
use crate::model::notice::testing::{applied, conflict, down, removed, stopped};
use crate::model::notice::{Notice, Response, Severity};

const NAMES: [&str; 4] = ["db", "app", "web", "mail"];

#[derive(Clone, Debug)]
enum Op {
    Down(usize, usize),
    Over(usize),
    Stop,
    Resume,
    Conflict(usize, bool),
    Removed(usize),
    Applied(usize),
    Acknowledge(usize, Option<u64>),
    Pass(u64),
    /// Commits, and dies.
    Die(u64),
    /// Dies before the commit of this one.
    DieWith(usize),
    /// The wall clock is set.
    Step(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..NAMES.len();
    prop_oneof![
        4 => (name(), 0..3_usize).prop_map(|(name, left)| Op::Down(name, left)),
        3 => name().prop_map(Op::Over),
        1 => Just(Op::Stop),
        1 => Just(Op::Resume),
        2 => (name(), any::<bool>()).prop_map(|(name, yielded)| Op::Conflict(name, yielded)),
        2 => name().prop_map(Op::Removed),
        3 => name().prop_map(Op::Applied),
        1 => (name(), proptest::option::of(1..20_000_u64)).prop_map(|(name, time)| Op::Acknowledge(name, time)),
        4 => (0..20_000_u64).prop_map(Op::Pass),
        2 => (0..2_000_u64).prop_map(Op::Die),
        1 => name().prop_map(Op::DieWith),
        1 => (-1_000_000_000..1_000_000_000_i64).prop_map(Op::Step),
    ]
}

fn endpoints() -> Vec<Endpoint> {
    let mut often = endpoint("often", Severity::Info);
    often.noise = Noise { repeat_interval: Duration::from_secs(600), ..Noise::DEFAULT };
    let mut picky = endpoint("picky", Severity::Critical);
    picky.noise.send_resolved = false;
    vec![endpoint("ops", Severity::Warning), often, picky]
}

const NEEDS: [(&str, &[&str]); 4] = [("db", &[]), ("app", &["db"]), ("web", &["app", "db"]), ("mail", &[])];

struct World {
    rig: Rig,
    /// Committed events, by type.
    events: BTreeMap<&'static str, u64>,
}

impl World {
    fn tell(&mut self, notice: &Notice) {
        self.rig.tell(notice);
        *self.events.entry(notice.kind()).or_default() += 1;
    }

    fn apply(&mut self, op: &Op) {
        let name = |index: &usize| NAMES[*index];
        match op {
            Op::Down(who, left) => self.tell(&down(name(who), *left)),
            Op::Over(who) => {
                self.rig.ledger.over("critical_process_down", name(who), self.rig.at());
                self.rig.commit();
            }
            Op::Stop => self.tell(&stopped()),
            Op::Resume => self.tell(&Notice::EmergencyResumed { uid: 0 }),
            Op::Conflict(who, true) => self.tell(&conflict(name(who), Response::Yielded)),
            Op::Conflict(who, false) => self.tell(&conflict(name(who), Response::Reasserted)),
            Op::Removed(who) => self.tell(&removed(name(who))),
            Op::Applied(who) => self.tell(&applied(name(who))),
            Op::Acknowledge(who, time) => drop(self.rig.acknowledge(name(who), *time)),
            Op::Pass(seconds) => self.rig.pass(*seconds),
            Op::Die(seconds) => self.die(*seconds),
            Op::DieWith(who) => {
                self.rig.hear(&down(name(who), 0));
                self.die(1);
            }
            Op::Step(ms) => self.rig.wall += ms,
        }
    }

    fn die(&mut self, seconds: u64) {
        self.rig.die(seconds);
        self.rig.watch(&NEEDS);
    }
}

/// What each endpoint was told of each alert, in order, with how grave it was.
fn check(world: &World) -> Result<(), TestCaseError> {
    let mut last: BTreeMap<(String, String), (AlertState, u64)> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for one in &world.rig.disk.owed {
        prop_assert!(ids.insert((one.endpoint.clone(), one.id.clone())), "twice: {one:?}");
        let Some(alert) = &one.alert else { continue };
        let key = (one.endpoint.to_string(), alert.key.clone());
        let before = last.get(&key).map(|(state, _)| *state);
        let worsened = matches!(&one.notice, Notice::CriticalProcessDown { remaining: 0, .. });
        let sound = match alert.state {
            AlertState::Firing => match before {
                None | Some(AlertState::Resolved) => true,
                // Once, when the last instance goes; or its end was nothing to that endpoint.
                Some(_) => worsened || one.endpoint.as_str() == "picky",
            },
            AlertState::Repeated => !matches!(before, None | Some(AlertState::Resolved)),
            AlertState::Acknowledged => !matches!(before, None | Some(AlertState::Resolved)),
            AlertState::Resolved => {
                one.endpoint.as_str() != "picky" && !matches!(before, None | Some(AlertState::Resolved))
            }
        };
        prop_assert!(sound, "after {before:?}: {one:?}");
        last.insert(key, (alert.state, alert.events));
    }
    // What stands was told, unless it is held back; what was told and is over was told to be over.
    for (key, standing) in &world.rig.disk.alerts {
        let stands = standing.alert.state != AlertState::Resolved;
        for name in ["ops", "often"] {
            let told = last.get(&(name.to_owned(), key.clone())).map(|(state, _)| *state);
            let knows = !matches!(told, None | Some(AlertState::Resolved));
            let should = stands && standing.told.keys().any(|endpoint| endpoint.as_str() == name);
            prop_assert_eq!(knows, should, "{} of {:?}", name, standing);
            if stands && standing.held_back_by.is_none() {
                prop_assert!(should, "{name} was never told of {standing:?}");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_told_twice_nor_too_little(ops in proptest::collection::vec(op(), 0..60)) {
        let mut world = World { rig: Rig::new(endpoints()), events: BTreeMap::new() };
        world.rig.watch(&NEEDS);
        for op in &ops {
            world.apply(op);
            check(&world)?;
        }
        // Every event that is told together is told in the end, and counted.
        world.rig.pass(700);
        check(&world)?;
        let told = |kind: &str| -> u64 {
            let rows = world.rig.disk.owed.iter().filter(|one| {
                one.endpoint.as_str() == "often" && one.notice.kind() == kind && one.alert.is_none()
            });
            rows.map(|one| one.alike).sum()
        };
        prop_assert_eq!(told("throttle_applied"), world.events.get("throttle_applied").copied().unwrap_or(0));
    }

    /// A death of the agent between any two commits changes nothing of what is told in the next moments.
    #[test]
    fn a_death_changes_nothing(ops in proptest::collection::vec(op(), 0..30), when in 0..30_usize) {
        let run = |death: Option<usize>| {
            let mut world = World { rig: Rig::new(endpoints()), events: BTreeMap::new() };
            world.rig.watch(&NEEDS);
            for (index, op) in ops.iter().enumerate() {
                if death == Some(index) {
                    world.die(0);
                }
                // What was wrong with limits ends with the agent.
                // How long a wait took before the clock was set cannot be known after a death.
                match op {
                    Op::Conflict(_, true) | Op::Die(_) | Op::DieWith(_) | Op::Step(_) | Op::Pass(_) => {}
                    Op::Down(..) | Op::Over(_) | Op::Stop | Op::Resume | Op::Conflict(_, false) | Op::Removed(_)
                    | Op::Applied(_) | Op::Acknowledge(..) => world.apply(op),
                }
            }
            let told = |one: &crate::alert::Owed| format!("{one:?}");
            world.rig.disk.owed.iter().map(told).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(None), run(Some(when)));
    }
}
