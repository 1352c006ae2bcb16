//! The daemon's working life on the main thread: calls, signals, deliveries, the service manager; then the
//! stop in order.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep};

use crate::config::settings::OnStop;
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::EmergencyOrder;
use crate::control::server::{Call, Doors, Server};
use crate::daemon::care::Caretaker;
use crate::daemon::command::Command;
use crate::daemon::requests::Office;
use crate::daemon::turn::TurnError;
use crate::daemon::violations::Violations;
use crate::model::chain::chain;
use crate::model::rule::Profile;
use crate::store::block::Block;
use crate::store::history::Actor;
use crate::telemetry::Question;

/// Calls on their way from the control socket.
const CALLS: usize = 64;
/// Time for releasing limits at a stop. What is left then is undone at the next start, or by `release --all`.
const RELEASE_GRACE: Duration = Duration::from_secs(4);
/// Time for deliveries that are due at a stop. What is left then is due at the next start.
const DELIVERY_GRACE: Duration = Duration::from_secs(1);

/// What the main thread is given to serve with.
pub struct Duty {
    /// The bound control socket.
    pub server: Server,
    /// The profile to begin with.
    pub profile: Option<Profile>,
    /// Tells that the engine thread has ended.
    pub end: oneshot::Receiver<Result<(), TurnError>>,
    /// Checks and restarts critical processes.
    pub caretaker: Caretaker,
    /// Tells what is denied.
    pub violations: Violations,
    /// From whoever reads metrics.
    pub questions: mpsc::Receiver<Question>,
}

/// Serves until SIGTERM or SIGINT, then stops in order.
///
/// # Errors
/// When the engine thread ends by itself, or limits could not be released.
pub async fn until_stopped(office: &Arc<Office>, duty: Duty) -> Result<(), Failure> {
    let Duty { server, profile, mut end, caretaker, mut violations, mut questions } = duty;
    let mut signals = Signals::new().map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
    let (calls, mut inbox) = mpsc::channel::<Call>(CALLS);
    let (stop, stopped) = watch::channel(false);
    let doors = Doors { calls, refusals: office.refusals.clone(), access: office.access.subscribe() };
    let served = tokio::spawn(server.serve(doors, stopped));
    let mut answers = JoinSet::new();
    let mut care = std::pin::pin!(caretaker.run());

    begin(office, profile).await;
    let mut watchdog = Watchdog::new();
    let mut later = Later::default();
    later.stir();
    let mut died = None;
    loop {
        tokio::select! {
            Some(call) = inbox.recv() => {
                let office = Arc::clone(office);
                answers.spawn(async move { office.answer(call).await });
                later.stir();
            }
            Some(_answered) = answers.join_next() => {}
            () = care.as_mut() => {}
            () = violations.turn() => {}
            () = office.probes.wants_critical() => {
                let office = Arc::clone(office);
                answers.spawn(async move { office.tell_critical().await });
            }
            Some(question) = questions.recv() => {
                let office = Arc::clone(office);
                answers.spawn(async move { office.answer_question(question).await });
            }
            () = office.wait_for_turn() => {
                office.take_turn().await;
                later.stir();
            }
            () = later.come() => settle(),
            () = office.wait_for_backup() => if office.backup_is_due() {
                let office = Arc::clone(office);
                answers.spawn(async move { office.take_backup().await });
            },
            () = watchdog.due() => watchdog.feed(office).await,
            ended = &mut end => {
                died = Some(ended);
                break;
            }
            order = signals.next() => match order {
                Order::Stop => break,
                Order::Reload => {
                    reload(office).await;
                    later.stir();
                }
                Order::Emergency(order) => emergency(office, order).await,
            },
        }
    }
    notify(&[NotifyState::Stopping]);
    // No new commands while limits are released; running ones get their answers.
    stop.send_replace(true);
    let result = match died {
        None => release(office, end).await,
        Some(ended) => Err(ended_early(ended)),
    };
    violations.finish();
    // Among what is due may be the news of this stop.
    office.deliveries.stop(DELIVERY_GRACE).await;
    drop(inbox);
    answers.shutdown().await;
    if let Err(error) = served.await {
        tracing::error!(%error, "the control server panicked");
    }
    result
}

/// Brings limits set by hand and the first profile into force and reports readiness. A profile that cannot be brought into force
/// does not keep the agent from watching; it is reported.
async fn begin(office: &Office, profile: Option<Profile>) {
    if hold(office).await {
        tracing::info!("limits set by hand do not come back during an emergency stop");
    } else if let Err(failure) = office.ask(Command::Recall).await {
        tracing::error!("limits set by hand do not come back: {failure}");
    }
    office.remember().await;
    if let Some(profile) = profile {
        let name = profile.name.clone();
        if let Err(failure) = office.put_in_force(Some(profile), &Actor { uid: None, by: "start" }).await {
            office.tell_change(format!("profile {name} is not in force: {failure}"), false);
        }
    }
    notify(&[NotifyState::Ready]);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), source = office.source, "ready");
}

/// How long after somebody has asked for something the memory that it took is given back.
const LATER: Duration = Duration::from_secs(5);

/// Waits until a while after something rare was done, not longer for what is done meanwhile; wakes nobody when nothing was.
#[derive(Default)]
struct Later(Option<Pin<Box<Sleep>>>);

impl Later {
    fn stir(&mut self) {
        self.0.get_or_insert_with(|| Box::pin(sleep(LATER)));
    }

    async fn come(&mut self) {
        match &mut self.0 {
            Some(sleep) => sleep.await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}

/// Gives back the memory of what is done rarely and was done just now.
fn settle() {
    crate::sys::trim_heap();
    if let Err(error) = crate::sys::unmap_used_code() {
        tracing::warn!(%error, "code that is needed rarely stays in memory");
    }
}

/// An emergency stop holds across restarts. One that cannot be read holds, too.
async fn hold(office: &Office) -> bool {
    let block = match Block::read(&office.emergency_file()) {
        Ok(None) => {
            // Whoever resumed without a daemon told nobody.
            if let Err(failure) = office.journal.over("emergency_stop", "") {
                tracing::error!("the end of an emergency is not told: {failure}");
            }
            return false;
        }
        Ok(Some(block)) => block,
        Err(error) => Block { reason: chain(&error), uid: 0, user: None, at: 0, released: None, told: false },
    };
    tracing::warn!(reason = block.reason, "an emergency stop is in force: nothing is limited");
    let (stop, told, uid) = (Some(block.reason.clone()), block.told, block.uid);
    if !told && let Err(error) = (Block { told: true, ..block }).write(&office.emergency_file()) {
        tracing::warn!("the emergency stop will be told again: {}", chain(&error));
    }
    match office.ask(|answer| Command::Emergency { stop, told, uid, answer }).await {
        Ok((_, errors)) => errors.iter().for_each(|error| tracing::error!("not lifted: {error}")),
        Err(failure) => tracing::error!("emergency: {failure}"),
    }
    true
}

async fn reload(office: &Office) {
    notify(&[
        NotifyState::Reloading,
        NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Status("reloading")),
    ]);
    // The outcome is told as an event by the office; whoever sent the signal reads the log.
    if let Err(failure) = office.reload(false).await {
        tracing::error!("reload refused, the last good configuration is kept: {failure}");
    }
    notify(&[NotifyState::Ready]);
}

/// Carries out what a signal asks for. Who sent it is not known: only root and the daemon's own user can.
async fn emergency(office: &Office, order: EmergencyOrder) {
    if let Err(failure) = office.emergency(order, false, 0).await {
        tracing::error!("emergency: {failure}");
    }
}

/// Lets the engine thread release or keep, and end.
async fn release(office: &Office, end: oneshot::Receiver<Result<(), TurnError>>) -> Result<(), Failure> {
    let release = office.on_stop() == OnStop::Release;
    let asked = office.ask(|answer| Command::Stop { release, answer });
    let late = || {
        let message = format!("limits could not all be released within {RELEASE_GRACE:?}");
        Failure::new(FailureKind::Partial, message).with_hint("process-throttler release --all")
    };
    let errors = tokio::time::timeout(RELEASE_GRACE, asked).await.map_err(|_elapsed| late())??;
    office.waker.wake();
    if tokio::time::timeout(RELEASE_GRACE, end).await.is_err() {
        return Err(late());
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(FailureKind::Partial, format!("not released: {}", errors.join("; "))))
    }
}

fn ended_early(ended: Result<Result<(), TurnError>, oneshot::error::RecvError>) -> Failure {
    match ended {
        Ok(Ok(())) => Failure::new(FailureKind::Failed, "the engine thread ended by itself"),
        Ok(Err(error)) => Failure::from_error(FailureKind::Failed, &error),
        Err(_) => Failure::new(FailureKind::Failed, "the engine thread panicked"),
    }
}

/// What a signal asks for.
enum Order {
    Stop,
    Reload,
    Emergency(EmergencyOrder),
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.term.recv() => Order::Stop,
            _ = self.int.recv() => Order::Stop,
            _ = self.hup.recv() => Order::Reload,
            _ = self.usr1.recv() => {
                Order::Emergency(EmergencyOrder::Stop { reason: "signal SIGUSR1".to_owned() })
            }
            _ = self.usr2.recv() => Order::Emergency(EmergencyOrder::Resume),
        }
    }
}

/// Feeds systemd's watchdog, but only while the engine thread turns.
struct Watchdog {
    tick: Option<Interval>,
}

impl Watchdog {
    fn new() -> Self {
        // Twice as often as asked for, as sd_watchdog_enabled(3) recommends.
        Self { tick: sd_notify::watchdog_enabled().map(|interval| tick(interval / 2)) }
    }

    /// Ends at the next tick, however often it is dropped before and asked again.
    async fn due(&mut self) {
        match &mut self.tick {
            Some(tick) => {
                tick.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    async fn feed(&self, office: &Office) {
        let Some(every) = self.tick.as_ref().map(Interval::period) else { return };
        match tokio::time::timeout(every, office.ask(Command::Status)).await {
            Ok(Ok(_)) => notify(&[NotifyState::Watchdog]),
            Ok(Err(failure)) => tracing::error!(%failure, "the engine thread does not answer"),
            Err(_elapsed) => tracing::error!("the engine thread does not answer in time"),
        }
    }
}

fn tick(every: Duration) -> Interval {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
