//! What the engine thread counts for metrics beyond what the engine does: plain numbers of its own, which it hands out
//! when it is asked. Nothing here is per event but the addition of one.

use std::collections::BTreeMap;

use crate::engine::action::{Action, ActionId, Apply, What};
use crate::engine::input::Outcome;
use crate::model::critical::{Checked, Restarted};
use crate::model::event::Event;
use crate::model::id::Name;
use crate::model::reason::Reason;
use crate::model::time::Timestamp;
use crate::telemetry::histogram::Histogram;

/// Most counts by critical process that are kept: of the largest profile, and of one that has just gone.
const CRITICALS_MAX: usize = 8_192;

/// Counts by name and result.
pub type ByName = BTreeMap<(Name, &'static str), u64>;

/// Process events by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    exec: u64,
    fork: u64,
    alive: u64,
    exit: u64,
}

impl Received {
    /// Counts an event.
    pub const fn count(&mut self, event: &Event) {
        match event {
            Event::Exec(_) => self.exec += 1,
            Event::Fork(_) => self.fork += 1,
            Event::Alive(_) => self.alive += 1,
            Event::Exit(_) => self.exit += 1,
        }
    }

    /// By kind.
    #[must_use]
    pub const fn by_kind(&self) -> [(&'static str, u64); 4] {
        [("exec", self.exec), ("fork", self.fork), ("alive", self.alive), ("exit", self.exit)]
    }
}

/// An action that has no outcome yet.
#[derive(Clone, Copy, Debug)]
struct Flight {
    action: &'static str,
    decided: Timestamp,
    /// For limits: when what they answer to happened, if that was no request.
    caused: Option<Timestamp>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Process events.
    pub received: Received,
    /// Actions by kind and result.
    pub effects: BTreeMap<(&'static str, &'static str), u64>,
    /// From decisions to limits.
    pub effect_time: Histogram,
    /// From execs to limits.
    pub reaction_time: Histogram,
    /// Health checks by critical process and result.
    pub checks: ByName,
    /// Restarts likewise.
    pub restarts: ByName,
    flights: BTreeMap<ActionId, Flight>,
}

impl Tally {
    /// Notes that an action is being carried out. Those that are under way bound how many are kept.
    pub fn began(&mut self, action: &Action) {
        let Some(name) = kind(&action.what) else { return };
        let caused = if let What::Apply(Apply { reason: Reason::Rule { .. }, members, caused_at, .. }) =
            &action.what
            && !members.is_empty()
        {
            Some(*caused_at)
        } else {
            None
        };
        self.flights.insert(action.id, Flight { action: name, decided: action.at, caused });
    }

    /// Notes that nothing was to be done for it.
    pub fn dropped(&mut self, id: ActionId) {
        self.flights.remove(&id);
    }

    /// Notes what became of it.
    pub fn ended(&mut self, id: ActionId, outcome: &Outcome) {
        let Some(Flight { action, decided, caused }) = self.flights.remove(&id) else { return };
        *self.effects.entry((action, result(outcome))).or_default() += 1;
        if let ("apply", Outcome::Applied { at, .. }) = (action, outcome)
            && result(outcome) != "refused"
        {
            self.effect_time.observe(at.since(decided));
            if let Some(caused) = caused {
                self.reaction_time.observe(at.since(caused));
            }
        }
    }

    /// Counts a health check.
    pub fn checked(&mut self, name: &Name, checked: &Checked) {
        let result = match checked {
            Checked::Healthy => "healthy",
            Checked::Unhealthy { .. } => "unhealthy",
            Checked::NotRun { .. } => "not_run",
        };
        count(&mut self.checks, name, result);
    }

    /// Counts an attempt to restart.
    pub fn restarted(&mut self, name: &Name, restarted: &Restarted) {
        let result = match restarted {
            Restarted::Done { .. } => "done",
            Restarted::Pending { .. } => "pending",
            Restarted::Declined { .. } => "declined",
            Restarted::Failed { .. } => "failed",
        };
        count(&mut self.restarts, name, result);
    }

    /// Forgets critical processes that are none any more.
    pub fn keep(&mut self, is_critical: impl Fn(&Name) -> bool) {
        self.checks.retain(|(name, _), _| is_critical(name));
        self.restarts.retain(|(name, _), _| is_critical(name));
    }
}

fn count(counts: &mut ByName, name: &Name, result: &'static str) {
    *counts.entry((name.clone(), result)).or_default() += 1;
    // Nobody asks, and profiles come and go.
    if counts.len() > CRITICALS_MAX {
        counts.pop_first();
    }
}

fn kind(what: &What) -> Option<&'static str> {
    match what {
        What::Apply(_) => Some("apply"),
        What::Release { .. } => Some("release"),
        What::Detach { .. } => Some("detach"),
        What::Reap { .. } => Some("reap"),
        What::Lift => Some("lift"),
        What::Protect { .. } => Some("protect"),
        What::Unprotect { .. } => Some("unprotect"),
        What::Disinherit { .. } => Some("disinherit"),
        What::Reserve { .. } => Some("reserve"),
        What::Unreserve { .. } => Some("unreserve"),
        What::Inspect { .. }
        | What::Resume
        | What::Watch { .. }
        | What::Listen { .. }
        | What::Resync
        | What::Sample(_)
        | What::Check { .. }
        | What::Restart { .. }
        | What::Notify { .. } => None,
    }
}

fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Applied { refused, .. } if refused.is_empty() => "applied",
        Outcome::Applied { members, .. } if members.is_empty() => "refused",
        Outcome::Applied { .. } => "partly",
        Outcome::Released => "released",
        Outcome::Busy => "kept",
        Outcome::Entangled { .. } => "refused",
        Outcome::Failed { .. } => "failed",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(reason: &serde_json::Value, members: &serde_json::Value) -> Action {
        serde_json::from_value(json!({
            "id": 7, "at": 2_000_000, "action": "apply", "group": "backups", "limits": {}, "scope": "group",
            "allow_move": false, "in_place": true, "members": members, "reason": reason, "caused_at": 1_000_000,
        }))
        .unwrap()
    }

    fn applied(members: &serde_json::Value, refused: &serde_json::Value) -> Outcome {
        serde_json::from_value(json!({
            "outcome": "applied", "how": "in place", "members": members, "refused": refused, "at": 5_000_000,
        }))
        .unwrap()
    }

    #[test]
    fn actions_are_counted_by_their_end_and_timed_from_decision_and_cause() {
        let (one, nobody) = (json!([{ "pid": 5, "start": 1 }]), json!([]));
        let rule =
            json!({ "cause": "rule", "profile": "web", "rule": "backups", "matched": "comm is rsync" });
        let operator = json!({ "cause": "operator", "uid": 0, "request": "throttle" });
        let mut tally = Tally::default();
        tally.began(&apply(&rule, &one));
        tally.ended(ActionId(7), &applied(&one, &nobody));
        assert_eq!(tally.effects, BTreeMap::from([(("apply", "applied"), 1)]));
        assert!((tally.effect_time.buckets().sum - 0.003).abs() < 1e-12);
        assert!((tally.reaction_time.buckets().sum - 0.004).abs() < 1e-12);
        tally.ended(ActionId(7), &applied(&one, &nobody));
        assert_eq!(tally.effect_time.buckets().count(), 1, "an outcome counts once");

        let refused = json!([[{ "pid": 5, "start": 1 }, "gone"]]);
        for (outcome, result) in [
            (applied(&nobody, &refused), "refused"),
            (applied(&one, &refused), "partly"),
            (Outcome::Failed { error: "no".to_owned() }, "failed"),
            (Outcome::Busy, "kept"),
        ] {
            tally.began(&apply(&operator, &one));
            tally.ended(ActionId(7), &outcome);
            assert_eq!(tally.effects.get(&("apply", result)), Some(&1), "{result}");
        }
        assert_eq!(tally.effect_time.buckets().count(), 2, "the one that was limited in part");
        assert_eq!(tally.reaction_time.buckets().count(), 1, "a request is no exec");
        assert!(tally.flights.is_empty());
    }

    #[test]
    fn what_is_no_critical_process_any_more_is_forgotten() {
        let (gone, stays): (Name, Name) = ("gone".parse().unwrap(), "stays".parse().unwrap());
        let mut tally = Tally::default();
        tally.checked(&gone, &Checked::Healthy);
        tally.checked(&stays, &Checked::Unhealthy { error: String::new() });
        tally.restarted(&stays, &Restarted::Done { how: String::new() });
        tally.keep(|name| *name == stays);
        assert_eq!(tally.checks, BTreeMap::from([((stays.clone(), "unhealthy"), 1)]));
        assert_eq!(tally.restarts, BTreeMap::from([((stays, "done"), 1)]));
    }
}
