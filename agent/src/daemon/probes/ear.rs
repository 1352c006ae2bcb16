//! The engine thread's end of listening: whom it wants listened to, and what was heard. It must not wait for the thread
//! of the probes, nor that for it.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::probes::ProbesMode;
use crate::control::proto::FeatureState;
use crate::daemon::probes::Told;
use crate::daemon::waker::Waker;
use crate::engine::action::Listener;
use crate::engine::input::Waited;
use crate::model::notice::Notice;
use crate::model::signal::Hundredths;
use crate::model::time::Timestamp;

/// Measurements that wait for the engine thread: a second of them.
const HEARD_MAX: usize = 10;

/// See the module.
#[derive(Debug)]
pub struct Ear {
    mode: ProbesMode,
    wish: Wish,
    heard: Receiver<Waited>,
    /// Wakes the thread of the probes.
    waker: Waker,
    told: Arc<Mutex<Told>>,
    shed: Shed,
}

/// Whom the engine wants listened to, until it was taken notice of.
type Wish = Arc<Mutex<Option<Vec<Listener>>>>;

/// That the probes were shed, until that is told: they are away for longer than that takes.
type Shed = Arc<Mutex<Option<(Timestamp, Notice)>>>;

/// The end of the thread of the probes.
#[derive(Debug)]
pub(super) struct Mouth {
    wish: Wish,
    heard: SyncSender<Waited>,
    shed: Shed,
    /// Wakes the engine thread.
    engine: Waker,
}

/// Both ends. `probes` wakes the thread of the probes, `engine` that of the engine.
pub(super) fn pair(mode: ProbesMode, probes: Waker, engine: Waker, told: Arc<Mutex<Told>>) -> (Ear, Mouth) {
    let wish = Wish::default();
    let (sender, heard) = sync_channel(HEARD_MAX);
    let shed = Shed::default();
    let ear = Ear { mode, wish: Arc::clone(&wish), heard, waker: probes, told, shed: Arc::clone(&shed) };
    (ear, Mouth { wish, heard: sender, shed, engine })
}

impl Ear {
    /// Has these listened to from now on, and nobody else.
    pub fn listen(&self, to: Vec<Listener>) {
        if self.mode == ProbesMode::Off {
            return self.say_deaf(&to);
        }
        *self.wish.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        self.waker.wake();
    }

    /// What was heard next.
    pub fn next(&self) -> Option<Waited> {
        self.heard.try_recv().ok()
    }

    /// That the probes were shed, and when: once each time.
    pub fn shed(&self) -> Option<(Timestamp, Notice)> {
        self.shed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Says that nobody measures whether these objectives hold.
    fn say_deaf(&self, to: &[Listener]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = to.first() else {
            *told = Told::default();
            return;
        };
        let why = format!(
            "off; whether {} keeps its latency_slo is not measured: set scheduler_probes: {{ mode: auto }} and restart the daemon",
            first.critical
        );
        if told.why != why {
            tracing::warn!(critical = %first.critical, "nobody measures a latency_slo: scheduler_probes is off");
        }
        *told = Told { state: Some(FeatureState::Degraded), why };
    }
}

impl Mouth {
    /// Whom to listen to from now on, if that has changed.
    pub(super) fn wish(&self) -> Option<Vec<Listener>> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Has it told that the probes were shed.
    pub(super) fn tell_shed(&self, at: Timestamp, cost: Hundredths, budget: Hundredths) {
        let notice = Notice::ProbesShed { cost, budget };
        *self.shed.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, notice));
        self.engine.wake();
    }

    /// Tells what was heard; whether there was room for it.
    pub(super) fn tell(&self, waited: Waited) -> bool {
        match self.heard.try_send(waited) {
            Ok(()) => {
                self.engine.wake();
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Listener {
        Listener { critical: "web".parse().unwrap(), objective_us: 5_000, instances: Vec::new() }
    }

    fn both(mode: ProbesMode) -> (Ear, Mouth, Arc<Mutex<Told>>) {
        let told = Arc::new(Mutex::new(Told::default()));
        let (ear, mouth) = pair(mode, Waker::new().unwrap(), Waker::new().unwrap(), Arc::clone(&told));
        (ear, mouth, told)
    }

    #[test]
    fn the_last_wish_counts_and_nobody_waits() {
        let (ear, mouth, _) = both(ProbesMode::Auto);
        ear.listen(vec![listener()]);
        ear.listen(Vec::new());
        assert_eq!((mouth.wish(), mouth.wish()), (Some(Vec::new()), None));
        let taken = (0..100).filter(|_| mouth.tell(Waited::default())).count();
        assert_eq!(taken, HEARD_MAX);
        assert_eq!(std::iter::from_fn(|| ear.next()).count(), HEARD_MAX);
        assert!(mouth.tell(Waited::default()));
    }

    #[test]
    fn a_shedding_is_told_once() {
        let (ear, mouth, _) = both(ProbesMode::On);
        assert_eq!(ear.shed(), None);
        let at = Timestamp::from_nanos(7);
        mouth.tell_shed(at, Hundredths(90), Hundredths(50));
        let notice = Notice::ProbesShed { cost: Hundredths(90), budget: Hundredths(50) };
        assert_eq!((ear.shed(), ear.shed()), (Some((at, notice)), None));
    }

    #[test]
    fn where_the_probes_are_off_that_is_said() {
        let (ear, mouth, told) = both(ProbesMode::Off);
        ear.listen(vec![listener()]);
        assert_eq!(mouth.wish(), None);
        let said = told.lock().unwrap().clone();
        assert_eq!(said.state, Some(FeatureState::Degraded));
        assert!(said.why.contains("web") && said.why.contains("mode: auto"), "{}", said.why);
        ear.listen(Vec::new());
        assert_eq!(told.lock().unwrap().state, None);
    }
}
