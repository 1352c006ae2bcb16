//! The thread of the probes: waits, arms, reads, answers, disarms.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::Notify;

use crate::clock;
use crate::config::probes::{ProbesMode, ProbesSettings};
use crate::control::failure::{Failure, FailureKind};
use crate::daemon::probes::answer::{self, Subject, Throttled};
use crate::daemon::probes::duty::{ArmedBy, Duty, Step};
use crate::daemon::probes::ear::Mouth;
use crate::daemon::probes::ledger::{Counted, Ledger};
use crate::daemon::probes::listening::{Counters, Listening};
use crate::daemon::probes::programs::Programs;
use crate::daemon::probes::rate;
use crate::daemon::probes::recent::{Ask, Recently};
use crate::daemon::probes::trigger::Trigger;
use crate::daemon::probes::{LOOKS_MAX, Look, Order, Place, Told};
use crate::daemon::waker::{Waker, timespec};
use crate::model::chain::chain;
use crate::model::id::ProcKey;
use crate::model::latency::{ByCpu, Delay, Reading};
use crate::model::time::Timestamp;
use crate::source::SourceError;
use crate::source::sched::Probes;

/// Long waits that are remembered.
const DELAYS_KEPT: usize = 64;
/// Between two looks at what the programs cost while they are armed.
const TICK: Duration = Duration::from_secs(1);
/// Between two questions which processes are critical, while they are armed.
const ASK_PACE: Duration = Duration::from_secs(5);

/// The programs while they are armed.
struct Armed {
    probes: Probes,
    delays: VecDeque<Delay>,
    /// What was read at the last tick, for the cost since.
    switches: u64,
    at: Timestamp,
}

/// A look under way.
struct UnderWay {
    look: Look,
    from: Reading,
    throttled: Throttled,
    until: Timestamp,
    alone: bool,
}

/// How the thread is told, and tells.
pub(super) struct Lines {
    pub(super) inbox: Receiver<Order>,
    pub(super) mouth: Mouth,
    pub(super) waker: Waker,
    pub(super) told: Arc<Mutex<Told>>,
    pub(super) wanted: Arc<Notify>,
}

/// The thread's work.
pub(super) struct Shift {
    settings: ProbesSettings,
    place: Place,
    lines: Lines,
    /// When the critical processes were asked for last.
    asked: Option<Timestamp>,
    duty: Duty,
    trigger: Option<Trigger>,
    armed: Option<Armed>,
    programs: Programs,
    looks: Vec<UnderWay>,
    critical: Vec<ProcKey>,
    listening: Listening,
    ledger: Ledger,
    /// Who is watched.
    watched: BTreeSet<ProcKey>,
    recently: Recently,
}

impl Shift {
    pub(super) fn new(settings: ProbesSettings, place: Place, lines: Lines) -> Self {
        let trigger = match settings.mode {
            ProbesMode::Auto => Trigger::open(&place.proc).map_err(|error| {
                tracing::warn!("pressure does not arm the scheduler's probes: {}", chain(&error));
            }),
            ProbesMode::On | ProbesMode::Off => Err(()),
        };
        Self {
            duty: Duty::new(settings),
            settings,
            place,
            lines,
            asked: None,
            listening: Listening::default(),
            recently: Recently::default(),
            trigger: trigger.ok(),
            armed: None,
            programs: Programs::new(&settings),
            looks: Vec::new(),
            critical: Vec::new(),
            ledger: Ledger::default(),
            watched: BTreeSet::new(),
        }
    }

    pub(super) fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let now = clock::now();
            self.obey(now);
            self.tell(now);
            let pressed = match self.wait(now) {
                Ok(pressed) => pressed,
                Err(error) => {
                    tracing::error!(%error, "the scheduler's probes are given up");
                    return;
                }
            };
            self.programs.prepare(&self.place.options);
            let now = clock::now();
            if pressed && self.trigger.as_mut().is_some_and(|trigger| trigger.is_true(&self.place.proc)) {
                self.duty.pressed(now);
            }
            self.lines.waker.clear();
            while let Ok(order) = self.lines.inbox.try_recv() {
                match order {
                    Order::Look(look) => self.begin(*look, now),
                    Order::Ask(ask) => self.ask(ask, now),
                    Order::Critical(keys) => {
                        self.critical = keys;
                        self.watch(None);
                    }
                    Order::Count(answer) => {
                        self.note();
                        let counted = Counted { armed: self.armed.is_some(), grown: self.ledger.hand_over() };
                        // Whoever asked may have gone away; it is told the next one.
                        if let Err(unheard) = answer.send(counted) {
                            self.ledger.add(unheard.grown);
                        }
                    }
                }
            }
            if let Some(to) = self.lines.mouth.wish() {
                self.listening.to(to);
                self.duty.listens(self.listening.is_on());
                self.watch(None);
            }
            self.tick(now);
            self.hear(now);
            self.finish(now);
        }
    }

    /// Until something is to be done; whether processes have waited for CPUs.
    fn wait(&self, now: Timestamp) -> io::Result<bool> {
        let looks = self.looks.iter().map(|look| look.until);
        let tick = self.armed.as_ref().map(|armed| armed.at.after(TICK));
        let heard = self.armed.as_ref().and_then(|_| self.listening.due());
        let asked = self.recently.due();
        let programs = self.programs.due();
        let due = looks.chain(tick).chain(heard).chain(asked).chain(programs).chain(self.duty.due()).min();
        let timeout = due.map(|due| timespec(due.since(now)));
        let mut fds = vec![PollFd::new(&self.lines.waker, PollFlags::IN)];
        if let Some(trigger) = &self.trigger {
            fds.push(PollFd::new(trigger, PollFlags::PRI));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(fds.get(1).is_some_and(|fd| fd.revents().contains(PollFlags::PRI)))
    }

    /// Arms or disarms as the duty says.
    fn obey(&mut self, now: Timestamp) {
        match self.duty.step(now, !self.looks.is_empty()) {
            Step::Nothing => {}
            Step::Arm => {
                if let Err(error) = self.arm() {
                    tracing::error!("the scheduler's probes cannot be armed: {}", chain(&error));
                    self.duty.failed(now, chain(&error));
                }
            }
            Step::Disarm => {
                if self.ledger.is_wanted() {
                    self.note();
                }
                if self.armed.is_some() {
                    self.drop_programs(now);
                    tracing::info!("the scheduler's probes are disarmed");
                }
            }
        }
    }

    fn drop_programs(&mut self, now: Timestamp) {
        self.armed = None;
        self.programs.gone(now);
    }

    fn arm(&mut self) -> Result<(), SourceError> {
        if self.armed.is_some() {
            return Ok(());
        }
        let began = clock::now();
        let probes = self.programs.arm(&self.place.options)?;
        let at = clock::now();
        tracing::info!(took = ?at.since(began), "the scheduler's probes are armed");
        self.armed = Some(Armed { probes, delays: VecDeque::new(), switches: 0, at });
        self.listening.restart();
        self.ledger.restart();
        self.watched.clear();
        self.recently.begin(at);
        self.watch(None);
        self.asked = None;
        Ok(())
    }

    /// Watches those with an objective, those that are looked at or about to be, and the other critical processes, in
    /// this order where there is no room for all.
    fn watch(&mut self, next: Option<&Subject>) {
        let subjects = self.looks.iter().map(|look| &look.look.subject).chain(next);
        let looked_at = subjects.flat_map(Subject::processes);
        let mut seen = BTreeSet::new();
        let keys = self.listening.processes().chain(looked_at).chain(self.critical.iter().copied());
        let keys: Vec<ProcKey> = keys.filter(|key| seen.insert(*key)).collect();
        if seen != self.watched && self.ledger.is_wanted() {
            // Before the slots of those who are no longer watched are somebody else's.
            self.note();
        }
        let Some(armed) = &mut self.armed else { return };
        self.watched = seen;
        if let Err(error) = armed.probes.watch(&keys) {
            tracing::error!("processes are not watched: {}", chain(&error));
        }
    }

    /// Notes for metrics what has been counted so far.
    fn note(&mut self) {
        let Some(armed) = &self.armed else { return };
        match armed.probes.read() {
            Ok(reading) => self.ledger.take(&reading),
            Err(error) => {
                tracing::error!("waits for CPUs are lost to metrics: {}", chain(&error));
                self.ledger.lose();
            }
        }
    }

    fn begin(&mut self, look: Look, now: Timestamp) {
        if self.looks.len() >= LOOKS_MAX {
            let failure = Failure::new(FailureKind::Conflict, "too many look at the scheduler already");
            drop(look.answer.send(Err(failure)));
            return;
        }
        let alone = self.armed.is_none();
        if let Err(error) = self.arm() {
            drop(look.answer.send(Err(Failure::from_error(FailureKind::Failed, &error))));
            return;
        }
        self.duty.looked(now);
        self.watch(Some(&look.subject));
        // Read after its processes are watched, so that they are in it.
        let Some(armed) = &self.armed else { return };
        match armed.probes.read() {
            Ok(from) => {
                // From here on, since arming has taken its time.
                let (throttled, until) = (answer::throttled(&look.subject), clock::now().after(look.time));
                self.looks.push(UnderWay { look, from, throttled, until, alone });
            }
            Err(error) => drop(look.answer.send(Err(Failure::from_error(FailureKind::Failed, &error)))),
        }
    }

    /// Tells how long somebody waited of late, if the probes are armed: they are not on account of it.
    fn ask(&mut self, ask: Ask, now: Timestamp) {
        match &self.armed {
            Some(armed) if self.recently.open() < LOOKS_MAX => {
                self.recently.ask(ask, &armed.probes, self.place.mount.as_deref(), now);
            }
            Some(_) => drop(ask.answer.send(Err("too many ask at once; try again in a moment".to_owned()))),
            None => drop(ask.answer.send(Err(self.duty.unarmed(now)))),
        }
    }

    /// Takes what was reported, and weighs what the programs cost.
    fn tick(&mut self, now: Timestamp) {
        let Some(armed) = &mut self.armed else { return };
        if self.asked.is_none_or(|asked| now.since(asked) >= ASK_PACE) {
            self.asked = Some(now);
            self.lines.wanted.notify_one();
        }
        armed.probes.delays(&mut |delay| {
            if armed.delays.len() == DELAYS_KEPT {
                armed.delays.pop_front();
            }
            armed.delays.push_back(delay);
        });
        let since = now.since(armed.at);
        if since < TICK {
            return;
        }
        armed.at = now;
        match armed.probes.totals().and_then(|totals| Ok((totals, armed.probes.timing()?))) {
            Ok((totals, timing)) => {
                if let Some(nanos) = rate::per_switch(timing) {
                    self.duty.reckon(nanos);
                }
                let switches = totals.switches.wrapping_sub(armed.switches);
                armed.switches = totals.switches;
                if let Some(cost) = self.duty.weigh(now, switches, since, !self.looks.is_empty()) {
                    self.lines.mouth.tell_shed(now, cost, self.settings.budget);
                    tracing::warn!(
                        cost = %cost,
                        budget = %self.settings.budget,
                        "the scheduler's probes cost more percent of a CPU than they may and are shed"
                    );
                }
            }
            Err(error) => {
                tracing::error!("the scheduler's probes cannot be read: {}", chain(&error));
                self.duty.failed(now, chain(&error));
                self.drop_programs(now);
            }
        }
    }

    /// Tells the engine how long those with an objective waited.
    fn hear(&mut self, now: Timestamp) {
        let Some(armed) = &self.armed else { return };
        let mouth = &self.lines.mouth;
        if let Err(error) = self.listening.hear(&armed.probes, now, |waited| mouth.tell(waited)) {
            tracing::error!("the scheduler's probes cannot be read: {}", chain(&error));
            self.duty.failed(now, chain(&error));
            self.drop_programs(now);
        }
    }

    /// Answers the looks whose time has come.
    fn finish(&mut self, now: Timestamp) {
        let probes = self.armed.as_ref().map(|armed| &armed.probes);
        self.recently.finish(probes, self.place.mount.as_deref(), now);
        let (due, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.looks).into_iter().partition(|look| look.until <= now);
        self.looks = open;
        let ended = !due.is_empty();
        for UnderWay { look, from, throttled, until: _, alone } in due {
            let Some(armed) = &self.armed else {
                let failure = Failure::new(FailureKind::Failed, "the scheduler's probes went away meanwhile");
                drop(look.answer.send(Err(failure)));
                continue;
            };
            let answer = match armed.probes.read() {
                Ok(reading) => {
                    let seen = answer::Seen {
                        from: &from,
                        to: &reading,
                        delays: armed.delays.iter(),
                        throttled: &throttled,
                        alone,
                        armed_by: self.duty.armed_by().map_or("a look", ArmedBy::as_str),
                        per_switch_ns: self.duty.per_switch_ns(),
                    };
                    Ok(answer::latency(&look.subject, seen, self.place.mount.as_deref()))
                }
                Err(error) => Err(Failure::from_error(FailureKind::Failed, &error)),
            };
            // Whoever asked may have gone away.
            drop(look.answer.send(answer));
        }
        if ended {
            self.watch(None);
        }
    }

    /// Says how things are, for `daemon status`.
    fn tell(&self, now: Timestamp) {
        let (state, why) = self.duty.words(now, self.trigger.is_some());
        let told = Told { state: Some(state), why };
        *self.lines.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

impl Counters for Probes {
    fn watched(&self) -> Result<Vec<(ProcKey, ByCpu)>, SourceError> {
        self.watched()
    }

    fn all(&self) -> Result<Reading, SourceError> {
        self.read()
    }
}
