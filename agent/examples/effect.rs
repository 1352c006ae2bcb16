//! Measures the executor alone: processes moved into a group in one batch, and a limit written in place, many times.
//! One JSON line. The first process must be alone in a cgroup; the others are moved out of theirs, and back. Usage:
//! `effect STATE_DIR ROUNDS PID PID...`.
#![expect(clippy::print_stdout, reason = "the measurements are this program's output")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use process_throttler::cgroup::Roots;
use process_throttler::clock;
use process_throttler::effect::throttle::Step;
use process_throttler::effect::{Kernel, Throttle};
use process_throttler::engine::action::{Action, ActionId, Apply, What};
use process_throttler::engine::input::Outcome;
use process_throttler::model::id::{Name, ProcKey};
use process_throttler::model::limits::{Limits, Scope};
use process_throttler::model::reason::Reason;
use process_throttler::model::time::Timestamp;
use process_throttler::procfs::stat::Stat;
use process_throttler::store::{Durability, Store};

/// Batches of moves.
const BATCHES: usize = 10;
/// For how long nothing happens before each: what closes files and removes cgroups leaves the kernel grace periods to wait
/// for, in which a move has to wait for the one under way and for its own.
const SETTLED: Duration = Duration::from_millis(200);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let usage = "usage: effect STATE_DIR ROUNDS PID PID...";
    let mut arguments = std::env::args().skip(1);
    let state = PathBuf::from(arguments.next().ok_or(usage)?);
    let rounds: usize = arguments.next().ok_or(usage)?.parse()?;
    let keys = arguments.map(|pid| key(pid.parse()?)).collect::<Result<Vec<_>>>()?;
    let (alone, many) = keys.split_first().ok_or(usage)?;

    let kernel =
        Kernel::open(Roots::of_agent(PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/proc"), &state))?;
    let store = Store::open(&state.join("effect.db"), Durability::Process)?.store;
    // As the agent does.
    store.keep_locks()?;
    let throttle = Throttle::open(kernel, store)?;

    let (mut moved, mut back) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        std::thread::sleep(SETTLED);
        let begun = clock::now();
        let outcome = run(&throttle, apply("many", false, many)?);
        moved.push(micros(limited(&outcome, many.len())?.since(begun)));
        let begun = clock::now();
        released(&throttle, "many")?;
        back.push(micros(clock::now().since(begun)));
    }
    let mut in_place = Vec::new();
    for _ in 0..rounds {
        let begun = clock::now();
        let outcome = run(&throttle, apply("alone", true, std::slice::from_ref(alone))?);
        in_place.push(micros(limited(&outcome, 1)?.since(begun)));
        released(&throttle, "alone")?;
    }
    println!("{}", serde_json::json!({ "in_place_us": in_place, "moved_us": moved, "back_us": back }));
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn key(pid: u32) -> Result<ProcKey> {
    Ok(ProcKey { pid, start: Stat::read(Path::new("/proc"), pid)?.start })
}

fn apply(group: &str, in_place: bool, members: &[ProcKey]) -> Result<What> {
    Ok(What::Apply(Apply {
        group: group.parse::<Name>()?,
        limits: Limits { cpu: Some("30%".parse()?), ..Limits::default() },
        scope: Scope::Group,
        allow_move: true,
        whole_unit: false,
        in_place,
        sharers: Vec::new(),
        rewrite: false,
        members: members.to_vec(),
        reason: Reason::Operator { uid: 0, request: "measurement".to_owned() },
        caused_at: Timestamp::ZERO,
    }))
}

fn run(throttle: &Throttle, what: What) -> Option<Outcome> {
    match throttle.execute(&Action { id: ActionId(1), at: Timestamp::ZERO, what }, &BTreeSet::new())? {
        Step::Done(outcome) => Some(outcome),
        Step::Moves(batch) => Some(batch.run()),
    }
}

/// When the limits were read back.
fn limited(outcome: &Option<Outcome>, count: usize) -> Result<Timestamp> {
    match outcome {
        Some(Outcome::Applied { members, at, .. }) if members.len() == count => Ok(*at),
        other => Err(format!("{count} processes were to be limited: {other:?}").into()),
    }
}

fn released(throttle: &Throttle, group: &str) -> Result<()> {
    let what = What::Release { group: group.parse()?, reason: Reason::Stopping };
    match run(throttle, what) {
        Some(Outcome::Released) => Ok(()),
        other => Err(format!("{group} was to be released: {other:?}").into()),
    }
}
