//! Files and answers that the agent wrote itself, as somebody else may have written them.

use std::collections::VecDeque;
use std::fs;

use process_throttler::audit::chain;
use process_throttler::audit::files::Place;
use process_throttler::audit::query::{Filter, search, stats};
use process_throttler::audit::record::Body;
use process_throttler::audit::verify::verify;
use process_throttler::control::proto::{Envelope, EventRecord, Reply, StreamEnd};
use process_throttler::engine::action::{Action, What};
use process_throttler::engine::input::{Input, Outcome};
use process_throttler::engine::{Engine, EngineConfig, Own};
use process_throttler::model::id::ProcKey;
use process_throttler::model::time::Timestamp;
use process_throttler::source::record::{Entry, Reader};

use super::text::is_plain;
use super::{Run, scratch};

/// Inputs of a recording that are run through an engine; more say nothing new and take long.
const INPUTS_MAX: usize = 200;
/// Actions that are fetched after an input.
const ACTIONS_MAX: usize = 20_000;
/// Deadlines that are met before an input: an engine may have any number of them before a time far away.
const DEADLINES_MAX: usize = 50;

/// A recording, its inputs through an engine. Two engines that are told the same decide the same.
pub(super) fn recording() -> Run {
    Box::new(|bytes| {
        let reader = match Reader::new(bytes) {
            Ok(reader) => reader,
            Err(error) => return is_plain(&error),
        };
        let inputs: Vec<Entry> = reader.map_while(Result::ok).take(INPUTS_MAX).collect();
        assert_eq!(replayed(&inputs), replayed(&inputs), "an engine is told all that it decides by");
    })
}

fn replayed(inputs: &[Entry]) -> Vec<String> {
    let own = Own { key: ProcKey { pid: 0, start: 0 }, ancestors: Vec::new() };
    let mut engine = Engine::new(EngineConfig { capacity: 64, ..EngineConfig::new(own) });
    let mut now = Timestamp::default();
    let mut shown = Vec::new();
    for Entry { at, input } in inputs {
        for _ in 0..DEADLINES_MAX {
            let Some(due) = engine.poll_timeout().filter(|due| due <= at) else { break };
            now = now.max(due);
            engine.handle_timeout(now);
            fetch(&mut engine, now, &mut shown);
        }
        now = now.max(*at);
        engine.handle(input.clone(), now);
        fetch(&mut engine, now, &mut shown);
    }
    shown
}

/// Every action goes well where that is possible, as in a replay.
fn fetch(engine: &mut Engine, now: Timestamp, shown: &mut Vec<String>) {
    let mut waiting: VecDeque<Action> = VecDeque::new();
    for _ in 0..ACTIONS_MAX {
        match engine.next_action() {
            Some(action) => {
                shown.push(serde_json::to_string(&action).unwrap());
                waiting.push_back(action);
            }
            None => match waiting.pop_front() {
                Some(action) => {
                    let outcome = well(&action);
                    engine.handle(Input::Outcome { id: action.id, outcome }, now);
                }
                None => return,
            },
        }
    }
    panic!("{ACTIONS_MAX} actions after one input");
}

fn well(action: &Action) -> Outcome {
    let What::Apply(apply) = &action.what else { return Outcome::Released };
    Outcome::Applied {
        how: "here".to_owned(),
        members: apply.members.clone(),
        refused: Vec::new(),
        borrowed: false,
        at: action.at,
    }
}

/// What a client of the control socket reads.
pub(super) fn reply() -> Run {
    Box::new(|bytes| {
        if let Ok(reply) = serde_json::from_slice::<Reply>(bytes) {
            let text = serde_json::to_vec(&Envelope::new(reply)).unwrap();
            let again: Reply = serde_json::from_slice(&text).unwrap();
            // By text: a number that is none is not equal to itself.
            assert_eq!(serde_json::to_vec(&Envelope::new(again)).unwrap(), text);
        }
        if let Ok(event) = serde_json::from_slice::<EventRecord>(bytes) {
            let _shown = (event.notice.to_string(), serde_json::to_vec(&event).unwrap());
        }
        drop(serde_json::from_slice::<StreamEnd>(bytes));
    })
}

/// The audit log. Lines that lack their hash get it, so that what is behind it is reached.
pub(super) fn audit() -> Run {
    let dir = scratch();
    let place = Place::new(dir.path().to_owned());
    Box::new(move |bytes| {
        let _kept = &dir;
        let mut lines = Vec::new();
        let mut prev = chain::GENESIS.to_owned();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Body>(line) {
                Ok(mut body) if !line.windows(7).any(|part| part == b"\"hash\":") => {
                    body.prev.clone_from(&prev);
                    let (sealed, hash) = chain::seal(&body).unwrap();
                    let record = chain::open(&sealed).unwrap();
                    assert_eq!(record.body, body, "what was sealed is what is opened");
                    prev = hash;
                    lines.extend(sealed);
                    lines.push(b'\n');
                }
                Ok(_) | Err(_) => lines.extend_from_slice(line),
            }
            drop(chain::open(line.strip_suffix(b"\n").unwrap_or(line)));
        }
        fs::write(place.current(), &lines).unwrap();
        let verified = verify(&place).unwrap();
        assert_eq!(verified.intact, verified.bad.is_none());
        verified.bad.iter().for_each(|bad| is_plain(&bad.why));
        let found = search(&place, &Filter::default(), 100).unwrap();
        assert!(found.records.len() <= 100);
        stats(&place).unwrap();
    })
}
