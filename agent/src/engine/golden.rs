//! Golden replays: `tests/scenarios/<name>/` holds a profile, recorded inputs and the actions they must give.
//!
//! After a deliberate change of behaviour, run the test with `UPDATE_SCENARIOS=1` and review the difference.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::input::Input;
use crate::engine::replay::{Recorded, step};
use crate::engine::testing::engine;
use crate::model::rule::Profile;
use crate::model::time::Timestamp;

fn scenarios() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
    let mut found: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn recording(directory: &Path) -> Vec<Recorded> {
    let text = fs::read_to_string(directory.join("input.jsonl")).unwrap();
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{}/input.jsonl:{}: {error}", directory.display(), number + 1))
    };
    text.lines().enumerate().map(parse).collect()
}

fn run(directory: &Path) -> String {
    let profile: Profile =
        serde_json::from_str(&fs::read_to_string(directory.join("profile.json")).unwrap()).unwrap();
    let mut engine = engine();
    let activate = Input::Profile { profile: Some(Box::new(profile)) };
    let first = Recorded { now: Timestamp::from_nanos(1), input: activate };
    let mut told = String::new();
    for recorded in std::iter::once(first).chain(recording(directory)) {
        for action in step(&mut engine, recorded) {
            writeln!(told, "{}", serde_json::to_string(&action).unwrap()).unwrap();
        }
    }
    told
}

#[test]
fn recordings_give_the_expected_actions() {
    let found = scenarios();
    assert!(found.len() >= 5, "the scenarios are missing");
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    for directory in found {
        let actual = run(&directory);
        let path = directory.join("expected.jsonl");
        if update {
            fs::write(&path, &actual).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        for (number, (is, should)) in actual.lines().zip(expected.lines()).enumerate() {
            assert_eq!(is, should, "{}:{}", path.display(), number + 1);
        }
        assert_eq!(actual.lines().count(), expected.lines().count(), "{}", path.display());
    }
}

#[test]
fn recordings_survive_being_written_again() {
    for directory in scenarios() {
        for recorded in recording(&directory) {
            let text = serde_json::to_string(&recorded).unwrap();
            assert_eq!(serde_json::from_str::<Recorded>(&text).unwrap(), recorded, "{text}");
        }
        for line in run(&directory).lines() {
            let action: crate::engine::action::Action = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&action).unwrap(), line);
        }
    }
}
