//! Decisions, and nothing else: what happened goes in, what to do comes out.
//!
//! No I/O, clock, randomness, logging, async or hash-map iteration: the same rules and the same inputs give
//! the same actions, byte for byte, so that a recording replays.
//!
//! The caller hands every input to [`Engine::handle`], fetches actions with [`Engine::next_action`] until
//! there is none, and calls [`Engine::handle_timeout`] when [`Engine::poll_timeout`] has come. Inputs may be
//! handed over many at a time before actions are fetched: what they add to one group becomes one action.

pub mod action;
pub mod input;
pub mod rule;
pub mod policy;
pub mod view;
pub mod replay;
mod process;
mod care;
mod emergency;
mod outbox;
mod observe;
mod keep;
mod decide;
mod refused;
mod adjust;
mod objectives;
mod request;
mod report;
mod plan;
#[cfg(test)]
mod holding;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod keeping;
#[cfg(test)]
mod reserving;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenario;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::action::{Action, What};
use crate::engine::adjust::{Conditions, Overrides};
use crate::engine::emergency::Emergency;
use crate::engine::input::Input;
use crate::engine::objectives::Objectives;
use crate::engine::outbox::Outbox;
use crate::engine::policy::critical::Criticals;
use crate::engine::policy::dynamic::gauge::Gauge;
use crate::engine::policy::health::Health;
use crate::engine::policy::protection::Protections;
use crate::engine::policy::refusal::Refusals;
use crate::engine::policy::reservation::Reservations;
use crate::engine::policy::restart::Restarts;
use crate::engine::policy::throttle::Throttle;
use crate::engine::process::Table;
use crate::engine::rule::RuleSet;
use crate::engine::view::Counts;
use crate::model::hints::Hints;
use crate::model::id::ProcKey;
use crate::model::reason::Reason;
use crate::model::time::Timestamp;

pub use crate::engine::plan::plan;
pub use crate::engine::policy::protect::Own;

/// Processes known at a time; more than `kernel.pid_max` of most hosts.
pub const PROCESSES_MAX: usize = 131_072;

/// Between full snapshots: they find what no event tells, such as a changed user or cgroup.
pub const RESYNC_INTERVAL: Duration = Duration::from_secs(60);

/// How long the exit record of a critical process that a snapshot misses may take to come in. Without it
/// the alert would have to do without the cause.
const EXIT_GRACE: Duration = Duration::from_millis(100);

/// What the engine must be told before the first input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// The agent itself and its ancestors: never limited.
    pub own: Own,
    /// Most processes known at a time, such as [`PROCESSES_MAX`].
    pub capacity: usize,
    /// Between full snapshots, such as [`RESYNC_INTERVAL`].
    pub resync: Duration,
}

impl EngineConfig {
    /// The defaults.
    #[must_use]
    pub const fn new(own: Own) -> Self {
        Self { own, capacity: PROCESSES_MAX, resync: RESYNC_INTERVAL }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    table: Table,
    rules: Option<Arc<RuleSet>>,
    /// When the rules came into force: no latency is counted from before.
    ruled: Timestamp,
    throttle: Throttle,
    criticals: Criticals,
    health: Health,
    restarts: Restarts,
    protections: Protections,
    reservations: Reservations,
    refusals: Refusals,
    /// Critical processes that a snapshot missed, and until when their exit records may come in.
    missing: BTreeSet<(Timestamp, ProcKey)>,
    /// Processes whose evaluation waits for facts of an ancestor: ancestor, process.
    waiting: BTreeSet<(ProcKey, ProcKey)>,
    resync: Resync,
    /// Measures of the machine.
    gauge: Gauge,
    /// Which rules hold at present.
    conditions: Conditions,
    objectives: Objectives,
    /// Policies that an operator has put over those of rules and groups.
    overrides: Overrides,
    /// After a release for a stop: nothing is limited any more.
    stopping: bool,
    emergency: Emergency,
    counts: Counts,
    out: Outbox,
}

/// The state of snapshots.
#[derive(Debug, Default)]
struct Resync {
    /// When the next one is due.
    due: Option<Timestamp>,
    /// Whether one has been asked for and has not ended.
    asked: bool,
    /// Records lost since the last notice.
    lost: u64,
    /// When the last loss was reported.
    lost_at: Option<Timestamp>,
}

impl Engine {
    /// An engine that knows no process and no profile.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            table: Table::new(config.capacity),
            config,
            rules: None,
            ruled: Timestamp::ZERO,
            throttle: Throttle::default(),
            criticals: Criticals::default(),
            health: Health::default(),
            restarts: Restarts::default(),
            protections: Protections::default(),
            reservations: Reservations::default(),
            refusals: Refusals::default(),
            missing: BTreeSet::new(),
            waiting: BTreeSet::new(),
            resync: Resync::default(),
            gauge: Gauge::default(),
            conditions: Conditions::default(),
            objectives: Objectives::default(),
            overrides: Overrides::default(),
            stopping: false,
            emergency: Emergency::default(),
            counts: Counts::default(),
            out: Outbox::default(),
        }
    }

    /// Takes in one input at `now`.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.out.set_now(now);
        if self.resync.due.is_none() {
            self.resync.due = Some(now.after(self.config.resync));
        }
        match input {
            Input::Event { event } => self.event(&event),
            Input::SnapshotEnd { began } => self.snapshot_end(began),
            Input::Lost { dropped } => self.lost(dropped),
            Input::Inspected { key, facts } => {
                if self.table.answer(key, facts) {
                    self.evaluate(key);
                    self.wake_waiting(key);
                }
            }
            Input::Profile { profile } => self.activate(profile),
            Input::Throttle(request) => self.throttle_by_hand(request),
            Input::Release { target, reason } => self.release(target, &reason),
            Input::EmergencyStop { reason, uid, told } => self.emergency_stop(reason, uid, told),
            Input::EmergencyResume { uid } => self.emergency_resume(uid),
            Input::Clashes { group, clashes } => self.throttle.clash(&group, clashes, &mut self.out),
            Input::Outcome { id, outcome } if self.lifted(id, &outcome) => {}
            Input::Outcome { id, outcome } if self.protections.outcome(id, &outcome, &mut self.out) => {}
            Input::Outcome { id, outcome } if self.reservations.outcome(id, &outcome, &mut self.out) => {}
            Input::Sample(sample) => self.sampled(&sample),
            Input::Waited(waited) => self.waited(*waited),
            Input::Override(request) => self.override_policy(request),
            Input::Remembered { restarts } => self.restarts.remember(restarts),
            Input::Checked { id, checked } => self.checked(id, checked),
            Input::Restarted { id, restarted } => self.restarts.restarted(id, restarted, &mut self.out),
            Input::RestartByHand { name } => self.restart_by_hand(&name),
            Input::Outcome { id, outcome } => {
                let refused = self.throttle.outcome(id, outcome, &mut self.counts, &mut self.out);
                self.refused(refused);
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.out.set_now(now);
        for group in self.throttle.expire(now) {
            self.release_group(&group, &Reason::Expired);
        }
        self.lift_again(now);
        self.criticals.advance(now, &mut self.out);
        self.protections.expire(now, &mut self.out);
        self.reservations.expire(now, &mut self.out);
        self.advance(now);
        self.miss_waits(now);
        self.look_after(now);
        self.ask_again(now);
        while let Some(&(until, key)) = self.missing.first()
            && until <= now
        {
            self.missing.pop_first();
            self.ended_unseen(key);
        }
        if self.resync.due.is_some_and(|due| due <= now) {
            self.resync.due = Some(now.after(self.config.resync));
            // Asked again even if the last one never ended: that heals a snapshot that failed.
            self.resync.asked = false;
            self.ask_resync();
        }
    }

    /// When [`Self::handle_timeout`] must be called next; `None` before the first input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let missing = self.missing.first().map(|(until, _)| *until);
        let due = [
            self.resync.due,
            self.throttle.next_timeout(),
            self.emergency.next_timeout(),
            self.protections.next_timeout(),
            self.reservations.next_timeout(),
            self.refusals.next_timeout(),
            self.conditions.due,
            self.next_objective(),
            self.criticals.next_timeout(),
            self.next_care(),
            missing,
        ];
        due.into_iter().flatten().min()
    }

    /// The next thing to do; `None` when all is done.
    pub fn next_action(&mut self) -> Option<Action> {
        if let Some(action) = self.out.pop() {
            return Some(action);
        }
        self.throttle.flush(&self.table, &mut self.out);
        self.out.pop()
    }

    /// What the kernel side should report at once under the active profile. Changes with `Input::Profile`
    /// only.
    #[must_use]
    pub fn hints(&self) -> Hints {
        self.rules.as_ref().map(|rules| rules.hints()).unwrap_or_default()
    }

    fn ask_resync(&mut self) {
        if !self.resync.asked {
            self.resync.asked = true;
            self.counts.resyncs += 1;
            self.out.push(What::Resync);
        }
    }
}
