//! What the engine costs per event, with a profile of 20 rules. Run optimised:
//! `cargo run --release --package process-throttler --example engine_bench`.

use std::io::Write as _;

use anyhow::Context as _;
use process_throttler::clock::now;
use process_throttler::engine::input::Input;
use process_throttler::engine::{Engine, EngineConfig, Own};
use process_throttler::model::death::Cause;
use process_throttler::model::event::{Event, Exit, Status};
use process_throttler::model::id::ProcKey;
use process_throttler::model::limits::{Limits, Scope};
use process_throttler::model::policy::Policy;
use process_throttler::model::process::{Comm, Process};
use process_throttler::model::rule::{Critical, Match, OnConflict, Pattern, Profile, Rule};
use process_throttler::model::time::Timestamp;

/// Processes alive throughout.
const RESIDENTS: u32 = 4_000;
/// Events per measurement.
const EVENTS: u32 = 1_000_000;
/// First pid of the storm.
const STORM: u32 = 10_000;
/// Pids that the storm goes round in.
const PIDS: u32 = 30_000;

fn main() -> anyhow::Result<()> {
    let mut engine =
        Engine::new(EngineConfig::new(Own { key: ProcKey { pid: 9_999, start: 1 }, ancestors: Vec::new() }));
    engine.handle(Input::Profile { profile: Some(Box::new(profile()?)) }, Timestamp::from_nanos(1));
    for pid in 10..RESIDENTS {
        engine.handle(Input::Event { event: Event::Alive(process(pid, 1, "resident")) }, Timestamp::ZERO);
    }
    while engine.next_action().is_some() {}

    let before = resident_bytes()?;
    let exits = measure(|round| {
        let event = exit(process(STORM + round % PIDS, u64::from(round) + 2, "true"));
        engine.handle(Input::Event { event }, Timestamp::from_nanos(u64::from(round)));
    });
    let lives = measure(|round| {
        let process = process(STORM + round % PIDS, u64::from(round + EVENTS) + 2, "true");
        let at = Timestamp::from_nanos(u64::from(round));
        engine.handle(Input::Event { event: Event::Exec(process) }, at);
        engine.handle(Input::Event { event: exit(process) }, at);
    });
    let mut nth = 0u64;
    let execs = measure(|round| {
        nth += 1;
        let mut process = process(10 + round % (RESIDENTS - 10), 1, "resident");
        process.execed = Some(Timestamp::from_nanos(nth));
        engine.handle(Input::Event { event: Event::Exec(process) }, Timestamp::from_nanos(nth));
    });
    anyhow::ensure!(engine.next_action().is_none(), "the storm must match nothing");
    let grown = resident_bytes()?.saturating_sub(before);

    let mut out = std::io::stdout().lock();
    writeln!(out, "exit of an unknown process      {exits:>6} ns")?;
    writeln!(out, "exec and exit of a new process  {lives:>6} ns")?;
    writeln!(out, "exec, 20 rules, no match        {execs:>6} ns")?;
    writeln!(out, "growth of the resident set      {:>6} KiB over {} lives", grown / 1024, 2 * EVENTS)?;
    Ok(())
}

/// Mean time of one call, in ns.
fn measure(mut call: impl FnMut(u32)) -> u128 {
    let start = now();
    for round in 0..EVENTS {
        call(round);
    }
    now().since(start).as_nanos() / u128::from(EVENTS)
}

fn process(pid: u32, start: u64, comm: &str) -> Process {
    Process {
        key: ProcKey { pid, start },
        started: Timestamp::from_nanos(start),
        execed: None,
        ppid: 1,
        uid: 1_000,
        gid: 1_000,
        cgroup: 5,
        comm: Comm::from_bytes(comm.as_bytes()),
        kthread: false,
    }
}

fn exit(process: Process) -> Event {
    let at = process.started;
    Event::Exit(Exit {
        process,
        at,
        status: Some(Status::Code(0)),
        cpu: None,
        peak_rss: None,
        cause: Cause::UNKNOWN,
    })
}

/// All forms that are decided without `/proc`, and command lines of other users' processes.
fn profile() -> anyhow::Result<Profile> {
    let condition = |n: u32| match n % 5 {
        0 => Match::Comm(Pattern::Exact(format!("job-{n}"))),
        1 => Match::Comm(Pattern::Prefix(format!("backup-{n}"))),
        2 => Match::Comm(Pattern::Glob(format!("build-*-{n}"))),
        3 => Match::Comm(Pattern::Regex(format!("(index|scan)er-{n}[a-z]*"))),
        _ => Match::All(vec![Match::Uid(2_000 + n), Match::CmdlineRegex(format!("task {n}"))]),
    };
    let rules = (0..20).map(|n| {
        Ok(Rule {
            description: String::new(),
            name: format!("rule-{n}").parse()?,
            matches: condition(n),
            when: None,
            limits: Limits { cpu: Some("30%".parse()?), ..Limits::default() },
            policy: Policy::Fixed,
            scope: Scope::Group,
            on_conflict: OnConflict::Yield,
            allow_move: false,
            whole_unit: false,
            priority: i32::try_from(n)?,
            enabled: true,
        })
    });
    let nginx = Match::All(vec![Match::Uid(33), Match::Exe(Pattern::Exact("/usr/sbin/nginx".to_owned()))]);
    Ok(Profile {
        name: "bench".parse()?,
        version: "1".to_owned(),
        description: String::new(),
        critical: vec![Critical::new("nginx".parse()?, nginx)],
        rules: rules.collect::<anyhow::Result<_>>()?,
        schedule: Vec::new(),
    })
}

fn resident_bytes() -> anyhow::Result<u64> {
    let path = "/proc/self/statm";
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let pages: u64 = text.split(' ').nth(1).context("field 2 of statm")?.parse()?;
    Ok(pages * u64::try_from(rustix::param::page_size())?)
}
