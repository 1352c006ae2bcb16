//! The engine thread: waits for the kernel, an operator or a timer, lets the engine decide, and carries out
//! what it decided. Moves of processes go to the worker, because one costs milliseconds; everything else is
//! microseconds and is done here, so that an exec meets its limit without a change of thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Receiver;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::clock;
use crate::daemon::care::{ByHand, Care, Carer, Job};
use crate::daemon::command::Command;
use crate::daemon::course::Courses;
use crate::daemon::journal::Journal;
use crate::daemon::lookout::Lookout;
use crate::daemon::pending::{Pending, Settled};
use crate::daemon::probes::Ear;
use crate::daemon::recorder::Recorder;
use crate::daemon::sampler::Sampler;
use crate::daemon::tally::Tally;
use crate::daemon::waker::{Waker, timespec};
use crate::daemon::wishes::Wishes;
use crate::daemon::worker::{Finished, Worker};
use crate::effect::drift::Drift;
use crate::effect::{Step, Throttle};
use crate::engine::action::{Action, What};
use crate::engine::input::{Input, Outcome};
use crate::engine::{Engine, Own};
use crate::model::chain::chain;
use crate::model::circumstances::Circumstances;
use crate::model::id::{Name, ProcKey};
use crate::model::rule::Profile;
use crate::model::time::Timestamp;
use crate::procfs::Proc;
use crate::source::SourceError;
use crate::source::select::{self, Choice, Degradation, Selected, Unavailable};

/// What the engine thread works with.
pub struct Parts {
    /// Where events come from.
    pub source: Selected,
    /// Decides.
    pub engine: Engine,
    /// Carries out what the engine decides about groups.
    pub throttle: Throttle,
    /// Notices changes of its values by others.
    pub drift: Drift,
    /// Carries out what of it takes milliseconds.
    pub worker: Worker,
    /// Checks critical processes and restarts them.
    pub carer: Carer,
    /// How long critical processes wait.
    pub ear: Ear,
    /// Facts of single processes.
    pub proc: Proc,
    /// Measures.
    pub sampler: Sampler,
    /// Looks at critical processes that live.
    pub lookout: Lookout,
    /// Makes notices durable.
    pub journal: Journal,
    /// What operators asked for of an earlier agent.
    pub wishes: Wishes,
    /// Hands inputs to recordings.
    pub recorder: Recorder,
    /// Wakes the thread for commands and outcomes.
    pub waker: Waker,
    /// Which sources may follow one that breaks.
    pub choice: Choice,
    /// The agent itself.
    pub own: Own,
    /// The cgroup driver in words.
    pub cgroups: String,
    /// When the daemon was started.
    pub started: Timestamp,
}

/// Commands on their way to the engine thread.
pub const COMMANDS: usize = 64;

/// Why the thread ended.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The process table cannot be built.
    #[error("no picture of the processes can be had")]
    Snapshot(#[from] SourceError),
    /// The source broke, and no other can be used.
    #[error(transparent)]
    NoSource(#[from] Unavailable),
}

/// The thread's state.
pub struct Turn {
    pub(super) parts: Parts,
    pub(super) pending: Pending,
    /// The profile in force.
    pub(super) active: Option<Box<Profile>>,
    /// Critical processes that are exempt from limits, for the executor to refuse.
    pub(super) critical: BTreeSet<ProcKey>,
    pub(super) stopping: bool,
    /// What operators have asked for.
    pub(super) wishes: Wishes,
    /// Restarts by hand that are under way.
    pub(super) by_hand: ByHand,
    /// What the machine was like at the last death of each that was told, and of whom.
    pub(super) last_found: BTreeMap<Name, (ProcKey, Circumstances)>,
    /// What is counted for metrics.
    pub(super) tally: Tally,
    /// How actions go, while that is traced.
    pub(super) courses: Courses,
    /// When to look who came into a limited cgroup.
    pub(super) look: Option<Timestamp>,
    /// When that was done last.
    pub(super) looked: Timestamp,
}

impl Turn {
    /// A thread that has yet to run.
    #[must_use]
    pub fn new(mut parts: Parts) -> Self {
        Self {
            wishes: std::mem::take(&mut parts.wishes),
            parts,
            pending: Pending::default(),
            active: None,
            critical: BTreeSet::new(),
            stopping: false,
            by_hand: ByHand::default(),
            last_found: BTreeMap::new(),
            tally: Tally::default(),
            courses: Courses::default(),
            look: None,
            looked: Timestamp::ZERO,
        }
    }

    /// Turns until a stop command is carried out and answered.
    ///
    /// # Errors
    /// When no event source is left.
    pub fn run(mut self, commands: &Receiver<Command>) -> Result<(), TurnError> {
        self.snapshot()?;
        while !(self.stopping && self.pending.is_empty()) {
            self.act();
            self.wait();
            self.watch_values();
            let now = clock::now();
            self.drain(now)?;
            self.parts.engine.handle_timeout(now);
            self.act();
            self.look_out(now);
            self.collect();
            self.collect_care();
            self.collect_waits();
            while let Ok(command) = commands.try_recv() {
                self.obey(command);
            }
            self.complete();
        }
        Ok(())
    }

    /// Sleeps until a descriptor is readable or a timer of the source or the engine is due.
    fn wait(&self) {
        let Parts { source, engine, waker, drift, lookout, .. } = &self.parts;
        let due = [source.source.deadline(), engine.poll_timeout(), self.look, lookout.due()];
        let deadline = due.into_iter().flatten().min();
        let timeout = deadline.map(|at| timespec(at.since(clock::now())));
        let mut fds: Vec<PollFd<'_>> =
            source.source.fds().into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        fds.push(PollFd::new(waker, PollFlags::IN));
        fds.push(PollFd::new(drift, PollFlags::IN));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => tracing::error!(%error, "poll"),
        }
        waker.clear();
    }

    /// Feeds the engine with what the source has.
    fn drain(&mut self, now: Timestamp) -> Result<(), TurnError> {
        let Parts { source, engine, recorder, .. } = &mut self.parts;
        let (recording, received) = (recorder.is_on(), &mut self.tally.received);
        let result = source.source.drain(now, &mut |event| {
            received.count(&event);
            let input = Input::Event { event };
            if recording {
                recorder.take(now, &input);
            }
            engine.handle(input, now);
        });
        match result {
            Ok(drained) => {
                if drained.dropped > 0 || drained.resync {
                    self.feed(Input::Lost { dropped: drained.dropped }, now);
                }
                Ok(())
            }
            Err(error) => self.fall_back(&error),
        }
    }

    /// Replaces a source that broke for good.
    fn fall_back(&mut self, error: &SourceError) -> Result<(), TurnError> {
        let Parts { source, choice, proc, .. } = &mut self.parts;
        let failed = Degradation { source: source.kind, reason: chain(error) };
        tracing::error!(%failed, "event source broke, falling back");
        *source = select::after(*choice, proc.path(), std::mem::take(&mut source.degradations), failed)?;
        self.renew_hints();
        // Nobody knows what happened between the last event and this: the snapshot tells who has gone.
        self.feed(Input::Lost { dropped: 0 }, clock::now());
        self.snapshot()?;
        Ok(())
    }

    /// Gives the engine an input, and recordings a copy.
    pub(super) fn feed(&mut self, input: Input, now: Timestamp) {
        if self.parts.recorder.is_on() {
            self.parts.recorder.take(now, &input);
        }
        self.parts.engine.handle(input, now);
    }

    /// Rebuilds the process table.
    pub(super) fn snapshot(&mut self) -> Result<(), SourceError> {
        let began = clock::now();
        let Parts { source, engine, recorder, .. } = &mut self.parts;
        let (recording, received) = (recorder.is_on(), &mut self.tally.received);
        source.source.snapshot(&mut |event| {
            received.count(&event);
            let input = Input::Event { event };
            if recording {
                recorder.take(began, &input);
            }
            engine.handle(input, began);
        })?;
        self.feed(Input::SnapshotEnd { began }, clock::now());
        self.tell_who_lives();
        Ok(())
    }

    /// Writes the kernel-side hints of the present rules.
    pub(super) fn renew_hints(&mut self) {
        let hints = self.parts.engine.hints();
        if let Err(error) = self.parts.source.source.set_hints(&hints) {
            // Matches are found all the same, by the sweep: later, not never.
            tracing::error!(%error, "cannot write the kernel-side rules");
        }
    }

    /// Carries out what the engine has decided.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.parts.engine.next_action() {
            match action.what {
                What::Inspect { key, wants } => {
                    let facts = match self.parts.proc.facts(key, wants) {
                        Ok(facts) => facts,
                        Err(error) => {
                            tracing::debug!(%error, %key, "facts of a process cannot be read");
                            None
                        }
                    };
                    self.feed(Input::Inspected { key, facts }, clock::now());
                }
                What::Watch { key, on, protected } => {
                    if protected {
                        self.critical.insert(key);
                    } else {
                        self.critical.remove(&key);
                    }
                    if let Err(error) = self.parts.source.source.watch(key, on) {
                        tracing::error!(%error, %key, on, "cannot change the kernel-side set of critical processes");
                    }
                    self.parts.lookout.watch(key, on);
                    if on {
                        self.tell_who_lives();
                    }
                }
                What::Resync => {
                    if let Err(error) = self.snapshot() {
                        tracing::error!(%error, "cannot rebuild the process table");
                    }
                }
                What::Sample(wants) => {
                    let Parts { sampler, throttle, proc, engine, .. } = &mut self.parts;
                    let sample = sampler.sample(&wants, throttle, proc, |group| engine.members(group));
                    self.feed(Input::Sample(Box::new(sample)), clock::now());
                }
                What::Listen { to } => self.parts.ear.listen(to),
                What::Check { name, check } => {
                    self.care(Job { id: action.id, name, what: Care::Check(check) })
                }
                What::Restart { name, by, force } => {
                    if self.parts.journal.outlet().is_tracing() {
                        self.courses.restarting(&name, action.at);
                    }
                    self.care(Job { id: action.id, name, what: Care::Restart { by, force } });
                }
                What::Notify { notice } => self.notify(action.at, notice),
                What::Resume => self.parts.throttle.block(false),
                What::Lift => {
                    self.pending.issued(action.id, &action.what);
                    self.tally.began(&action);
                    let batch = self.parts.throttle.lift();
                    if let Some(finished) = self.parts.worker.submit(action.id, batch) {
                        self.finish(finished);
                    }
                }
                // Nobody waits for a protection: one that fails is told and tried again.
                What::Protect { .. } | What::Disinherit { .. } => self.carry_out(&action),
                What::Reserve { .. } => self.carry_out(&action),
                What::Unprotect { .. }
                | What::Unreserve { .. }
                | What::Apply(_)
                | What::Release { .. }
                | What::Detach { .. }
                | What::Reap { .. } => {
                    self.pending.issued(action.id, &action.what);
                    self.carry_out(&action);
                }
            }
        }
    }

    fn carry_out(&mut self, action: &Action) {
        self.tally.began(action);
        if self.parts.journal.outlet().is_tracing() {
            self.courses.began(action, self.parts.engine.ruled());
        }
        let finished = match self.parts.throttle.execute(action, &self.critical) {
            Some(Step::Done(outcome)) => {
                Some(Finished { id: action.id, group: action.what.group().cloned(), outcome })
            }
            Some(Step::Moves(batch)) => self.parts.worker.submit(action.id, batch),
            None => {
                self.tally.dropped(action.id);
                self.courses.ended(action.id, None, None);
                None
            }
        };
        if let Some(finished) = finished {
            self.finish(finished);
        }
    }

    /// Feeds the engine with the outcomes that the worker has.
    fn collect(&mut self) {
        while let Some(finished) = self.parts.worker.next_finished() {
            self.finish(finished);
            self.act();
            self.pending.settled_down();
        }
    }

    fn finish(&mut self, Finished { id, group, outcome }: Finished) {
        self.pending.settle(id, &outcome);
        self.tally.ended(id, &outcome);
        self.courses.ended(id, group.as_ref(), Some(&outcome));
        let released = outcome == Outcome::Released;
        self.feed(Input::Outcome { id, outcome }, clock::now());
        if released {
            self.bury_wishes();
        }
        let Parts { throttle, drift, lookout, .. } = &mut self.parts;
        lookout.stir();
        let Some(group) = group else { return drift.follow_none() };
        // What somebody else makes of a protection is found when it is taken back.
        if group.is_of_protection() {
            return;
        }
        if let Err(error) = drift.follow(throttle.kernel(), &group, throttle.group(&group).as_ref()) {
            tracing::warn!("changes by others to group {group} will go unnoticed: {}", chain(&error));
        }
        // What was written while the action was on its way did not count.
        self.tell_clashes(&group);
    }

    /// Gives the engine an input on a command's account; `then` runs when all that comes of it is done.
    pub(super) fn feed_and_wait(
        &mut self,
        input: Input,
        then: impl FnOnce(&mut Self, Vec<Settled>) + Send + 'static,
    ) {
        self.pending.open(Box::new(then));
        self.feed(input, clock::now());
        self.act();
        self.pending.settled_down();
    }

    /// Answers the commands whose actions all have their outcomes.
    fn complete(&mut self) {
        while let Some((then, settled)) = self.pending.next_complete() {
            then(self, settled);
        }
    }
}
