//! `replay`: a recording through the engine, offline. Nothing is limited: outcomes are the recorded ones, or
//! assumed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::error::{CliError, CliResult};
use super::globals::Context;
use super::output::{Format, View};
use super::page::{Always, Page};
use super::profile;
use crate::control::failure::{Failure, FailureKind};
use crate::engine::action::{Action, ActionId, SampleWants, What};
use crate::engine::input::{Input, Outcome};
use crate::engine::{Engine, EngineConfig, Own};
use crate::model::id::{Name, ProcKey};
use crate::model::time::Timestamp;
use crate::source::record::{Entry, Reader, RecordError};

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub(super) struct Replay {
    /// The recording
    file: PathBuf,
    /// Under this profile, in place of the recorded ones
    #[arg(long, value_name = "NAME")]
    profile: Option<Name>,
    /// What becomes of the actions
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    outcomes: Outcomes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Outcomes {
    /// Every action succeeds at once
    #[default]
    Assumed,
    /// As recorded; for recordings that begin with the daemon's start
    Recorded,
}

impl Replay {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let profile = self.profile.as_ref().map(|name| profile::load(context, name)).transpose()?;
        let file = File::open(&self.file).map_err(|error| unreadable(&self.file, &error))?;
        let reader = Reader::new(BufReader::new(file)).map_err(|error| self.malformed(&error))?;
        let began = reader.header().began;
        let mut actions = Vec::new();
        let mut emit = |action: Action| {
            let shown = Shown::new(action, began);
            if context.output.format == Format::Jsonl {
                return context.output.stream_item(&shown);
            }
            actions.push(shown);
            Ok(())
        };
        let mut player = Player::new(self.outcomes, profile.is_some(), began);
        if let Some(profile) = profile {
            player.input(Input::Profile { profile: Some(Box::new(profile)) }, &mut emit)?;
        }
        for entry in reader {
            player.entry(entry.map_err(|error| self.malformed(&error))?, &mut emit)?;
        }
        if player.engine.snapshot().profile.is_none() {
            context.output.message("Warning: no profile was active at the end; name one with --profile");
        }
        if context.output.format == Format::Jsonl { Ok(()) } else { context.output.show(&actions) }
    }

    fn malformed(&self, error: &RecordError) -> CliError {
        let failure = Failure::from_error(FailureKind::Invalid, error);
        Failure { message: format!("{}: {}", self.file.display(), failure.message), ..failure }.into()
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    let failure = |kind| Failure::new(kind, format!("open {}: {error}", path.display()));
    if error.kind() == std::io::ErrorKind::NotFound {
        failure(FailureKind::NotFound).with_hint("process-throttler record makes such a file").into()
    } else if error.kind() == std::io::ErrorKind::PermissionDenied {
        failure(FailureKind::Denied).into()
    } else {
        failure(FailureKind::Failed).into()
    }
}

/// Drives an engine as the daemon would.
struct Player {
    engine: Engine,
    outcomes: Outcomes,
    own_profile: bool,
    now: Timestamp,
    /// The last action seen: later ones cannot have recorded outcomes yet.
    last: ActionId,
}

impl Player {
    fn new(outcomes: Outcomes, own_profile: bool, began: Timestamp) -> Self {
        // No process has pid 0: the recording does not say which one was the agent.
        let own = Own { key: ProcKey { pid: 0, start: 0 }, ancestors: Vec::new() };
        let engine = Engine::new(EngineConfig::new(own));
        Self { engine, outcomes, own_profile, now: began, last: ActionId(0) }
    }

    fn entry(&mut self, entry: Entry, emit: &mut impl FnMut(Action) -> CliResult) -> CliResult {
        let Entry { at, input } = entry;
        // Inputs of one moment may have been written out of order by a hair; time does not run backwards.
        let at = at.max(self.now);
        let mut before = None;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= at)
            && before != Some(due)
        {
            before = Some(due);
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            self.drain(emit)?;
        }
        self.now = at;
        match &input {
            Input::Profile { .. } if self.own_profile => return Ok(()),
            Input::Outcome { .. } if self.outcomes == Outcomes::Assumed => return Ok(()),
            Input::Outcome { id, .. } if id > &self.last => {
                let message =
                    format!("the recording tells the outcome of action {}, which did not happen here", id.0);
                let failure = Failure::new(FailureKind::Invalid, message);
                return Err(failure.with_hint("replay it with --outcomes assumed").into());
            }
            Input::Event { .. }
            | Input::SnapshotEnd { .. }
            | Input::Lost { .. }
            | Input::Inspected { .. }
            | Input::Profile { .. }
            | Input::Throttle(_)
            | Input::Release { .. }
            | Input::EmergencyStop { .. }
            | Input::EmergencyResume { .. }
            | Input::Clashes { .. }
            | Input::Sample(_)
            | Input::Waited(_)
            | Input::Override(_)
            | Input::Remembered { .. }
            | Input::Checked { .. }
            | Input::Restarted { .. }
            | Input::RestartByHand { .. }
            | Input::Outcome { .. } => {}
        }
        self.input(input, emit)
    }

    fn input(&mut self, input: Input, emit: &mut impl FnMut(Action) -> CliResult) -> CliResult {
        self.engine.handle(input, self.now);
        self.drain(emit)
    }

    fn drain(&mut self, emit: &mut impl FnMut(Action) -> CliResult) -> CliResult {
        let mut answers = BTreeMap::new();
        loop {
            while let Some(action) = self.engine.next_action() {
                self.last = action.id;
                if self.outcomes == Outcomes::Assumed
                    && let Some(outcome) = assumed(&action)
                {
                    answers.insert(action.id, outcome);
                }
                emit(action)?;
            }
            let Some((id, outcome)) = answers.pop_first() else { return Ok(()) };
            self.engine.handle(Input::Outcome { id, outcome }, self.now);
        }
    }
}

/// The outcome of an action that goes well; `None` for actions without one.
fn assumed(action: &Action) -> Option<Outcome> {
    match &action.what {
        What::Apply(apply) => Some(given(apply.members.clone(), action.at)),
        What::Release { .. }
        | What::Detach { .. }
        | What::Reap { .. }
        | What::Lift
        | What::Unprotect { .. }
        | What::Unreserve { .. }
        | What::Disinherit { .. } => Some(Outcome::Released),
        What::Protect { key, .. } => Some(given(vec![*key], action.at)),
        What::Reserve { members, .. } => Some(given(members.clone(), action.at)),
        What::Inspect { .. }
        | What::Watch { .. }
        | What::Resume
        | What::Resync
        | What::Sample(_)
        | What::Listen { .. }
        | What::Check { .. }
        | What::Restart { .. }
        | What::Notify { .. } => None,
    }
}

fn given(members: Vec<ProcKey>, at: Timestamp) -> Outcome {
    Outcome::Applied { how: "assumed".to_owned(), members, refused: Vec::new(), borrowed: false, at }
}

/// An action with its time since the recording began.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Shown {
    /// In seconds.
    after: f64,
    #[serde(flatten)]
    action: Action,
}

impl Shown {
    fn new(action: Action, began: Timestamp) -> Self {
        Self { after: action.at.since(began).as_secs_f64(), action }
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, detail) = describe(&self.action.what);
        write!(f, "{:.6} {} {kind} {detail}", self.after, self.action.id.0)
    }
}

impl View for Vec<Shown> {
    const KIND: &'static str = "ActionList";

    fn page(&self, page: &mut Page) {
        page.table(
            [Always("AFTER"), Always("ID"), Always("ACTION"), Always("WHAT")],
            self.iter().map(|shown| {
                let (kind, detail) = describe(&shown.action.what);
                [format!("{:.6}s", shown.after), shown.action.id.0.to_string(), kind.to_owned(), detail]
            }),
        );
    }
}

fn describe(what: &What) -> (&'static str, String) {
    match what {
        What::Inspect { key, .. } => ("inspect", format!("process {}", key.pid)),
        What::Apply(apply) => {
            let pids: Vec<String> = apply.members.iter().map(|key| key.pid.to_string()).collect();
            let (group, limits, reason) = (&apply.group, &apply.limits, &apply.reason);
            let processes = if pids.len() == 1 { "process" } else { "processes" };
            ("apply", format!("{limits} to group {group}, {processes} {}: {reason}", pids.join(" ")))
        }
        What::Release { group, reason } => ("release", format!("group {group}: {reason}")),
        What::Detach { group, key, reason } => {
            ("detach", format!("process {} from group {group}: {reason}", key.pid))
        }
        What::Reap { group } => ("reap", format!("group {group}")),
        What::Watch { key, on: false, .. } => ("unwatch", format!("process {}", key.pid)),
        What::Watch { key, on: true, protected } => {
            let note = if *protected { "never to be limited" } else { "for alerts only" };
            ("watch", format!("process {}, {note}", key.pid))
        }
        What::Protect { key, critical, protection, .. } => {
            ("protect", format!("process {} of {critical}: {protection}", key.pid))
        }
        What::Unprotect { key, .. } => ("unprotect", format!("process {}", key.pid)),
        What::Disinherit { key, from, .. } => {
            ("disinherit", format!("process {}, born of {}", key.pid, from.pid))
        }
        What::Reserve { critical, reservation, members, .. } => {
            let pids: Vec<String> = members.iter().map(|key| key.pid.to_string()).collect();
            ("reserve", format!("{reservation} for {critical}, processes {}", pids.join(" ")))
        }
        What::Unreserve { critical, .. } => ("unreserve", format!("what {critical} has")),
        What::Lift => ("lift", "everything".to_owned()),
        What::Resume => ("resume", String::new()),
        What::Resync => ("resync", String::new()),
        What::Sample(wants) => ("sample", sampled(wants)),
        What::Listen { to } => {
            let names: Vec<String> = to.iter().map(|one| one.critical.to_string()).collect();
            let whom = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            ("listen", format!("how long {whom} waits for a CPU"))
        }
        What::Check { name, .. } => ("check", format!("critical process {name}")),
        What::Restart { name, by, .. } => ("restart", format!("critical process {name} by {by}")),
        What::Notify { notice } => ("notify", notice.to_string()),
    }
}

/// What a measurement is of.
fn sampled(wants: &SampleWants) -> String {
    let SampleWants { pressure, cpu, load, groups, zones } = wants;
    let named = [(*pressure, "pressure"), (*cpu, "cpu"), (*load, "load"), (!zones.is_empty(), "clock")];
    let named = named.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name.to_owned());
    named.chain(groups.iter().map(|group| format!("group {group}"))).collect::<Vec<_>>().join(", ")
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    let action = |id: u64, what: serde_json::Value| {
        let mut action = serde_json::json!({ "id": id, "at": 1_500_000_000 + id });
        if let (serde_json::Value::Object(action), serde_json::Value::Object(what)) = (&mut action, what) {
            action.extend(what);
        }
        Shown::new(serde_json::from_value(action).unwrap(), Timestamp::default())
    };
    let key = serde_json::json!({ "pid": 4711, "start": 12 });
    let reason = serde_json::json!({ "cause": "empty" });
    gallery.show(
        "replay /tmp/x --profile web",
        &vec![
            action(1, serde_json::json!({ "action": "watch", "key": key, "on": true, "protected": true })),
            action(
                2,
                serde_json::json!({
                    "action": "apply", "group": "backups", "limits": { "cpu": "30%" }, "scope": "group",
                    "allow_move": false, "in_place": true, "members": [key], "reason": reason,
                    "caused_at": 1_000,
                }),
            ),
            action(3, serde_json::json!({ "action": "sample", "pressure": true, "groups": ["backups"] })),
            action(
                4,
                serde_json::json!({
                    "action": "restart", "name": "nginx", "by": { "unit": "nginx.service" }, "force": false,
                }),
            ),
            action(5, serde_json::json!({ "action": "release", "group": "backups", "reason": reason })),
        ],
    );
}
