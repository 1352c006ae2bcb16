//! Requests of the control socket, on the main thread: what needs the engine goes to its thread as a
//! command, what needs files or the store is done here.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;
use crate::config::profiles::ProfileStore;
use crate::config::settings::OnStop;
use crate::control::access::Refusal;
use crate::control::failure::{Failure, FailureKind};
use crate::control::peer::Peer;
use crate::control::proto::{
    Activated, ActiveProfile, CriticalRestart, DynamicApply, DynamicRemove, EVENTS_MAX, Emergency,
    EventQuery, EventRecord, Explanation, ProcRef, Release, ReleaseOf, Reply, Request, Throttle,
};
use crate::control::server::{Answer, Call};
use crate::control::stream::Publisher;
use crate::daemon::audit::Audit;
use crate::daemon::backups::Calendar;
use crate::daemon::command::Command;
use crate::daemon::delays::Delays;
use crate::daemon::deliveries::Dispatcher;
use crate::daemon::export::Export;
use crate::daemon::journal::Journal;
use crate::daemon::metrics::Exporter;
use crate::daemon::probes;
use crate::daemon::scheduler::Scheduler;
use crate::daemon::waker::Waker;
use crate::daemon::{audited, journal, reload};
use crate::engine::input::{ManualThrottle, ReleaseTarget};
use crate::model::access::Access;
use crate::model::id::{Name, ProcKey};
use crate::model::notice::Notice;
use crate::model::reason::Reason;
use crate::model::rule::Profile;
use crate::procfs::Proc;
use crate::store::Store;
use crate::store::events::EventFilter;
use crate::store::history::Actor;
use crate::telemetry::Reader;

/// Past events that `explain` looks through for a process.
const HISTORY: u32 = 1_000;

/// What requests are answered with.
pub struct Office {
    /// To the engine thread.
    pub commands: SyncSender<Command>,
    /// Wakes it.
    pub waker: Waker,
    /// Profiles of the configuration directory.
    pub profiles: ProfileStore,
    /// A connection of its own: past events, the active profile.
    pub store: Mutex<Store>,
    /// Followers of events.
    pub followers: Publisher,
    /// Recordings.
    pub recordings: Publisher,
    /// Identity of processes named by pid only.
    pub proc: Mutex<Proc>,
    /// Whether systemd runs the host.
    pub systemd: bool,
    /// Name of the event source, for recordings.
    pub source: String,
    /// What a reload compares with and replaces.
    pub loaded: Mutex<reload::Loaded>,
    /// Profiles that come by the calendar.
    pub scheduler: Mutex<Scheduler>,
    /// Backups that come by the calendar.
    pub backups: Mutex<Calendar>,
    /// Notices of what the main thread does.
    pub journal: Journal,
    /// Who changed what.
    pub audit: Audit,
    /// Webhook deliveries.
    pub deliveries: Arc<Dispatcher>,
    /// Who may do what; the control socket follows it.
    pub access: watch::Sender<Arc<Access>>,
    /// The scheduler's probes.
    pub probes: probes::Desk,
    /// What was read of quotas for whoever asked last.
    pub delays: Delays,
    /// Who reads metrics.
    pub exporter: Exporter,
    /// Who receives events and traces.
    pub export: Arc<Export>,
    /// To where refusals are told.
    pub refusals: mpsc::Sender<Refusal>,
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Office {
    /// Answers a request.
    pub async fn answer(&self, call: Call) {
        let Call { request, peer, within, reply } = call;
        let change = audited::change(&request, crate::audit::Actor::peer(peer.uid, peer.gid, peer.pid));
        let checked = match within {
            None => Ok(request),
            Some(reaches) => self.keep_within(request, peer, &reaches).await,
        };
        let result = match checked {
            Ok(request) => self.handle(request, peer).await,
            Err(failure) => Err(failure),
        };
        if let Some(entry) = change {
            self.audit.record(audited::answered(entry, &result)).await;
        }
        if let Err(failure) = &result {
            tracing::debug!(uid = peer.uid, %failure, "request refused");
        }
        // Whoever asked may have gone away.
        drop(reply.send(result));
    }

    async fn handle(&self, request: Request, peer: Peer) -> Result<Answer> {
        let reply = match request {
            Request::Status => Reply::Status(Box::new(self.status().await?)),
            Request::Groups => Reply::Groups(self.groups().await?),
            Request::Throttle(throttle) => self.throttle(throttle, peer).await?,
            Request::Release(release) => self.release(release, peer).await?,
            Request::Explain { pid } => Reply::Explanation(Box::new(self.explain(pid).await?)),
            Request::Plan { profile } => Reply::Plan(self.plan(Box::new(self.load(&profile)?)).await?),
            Request::Activate(activate) => {
                let profile = self.load(&activate.profile)?;
                Reply::Activated(self.activate(Some(profile), activate.dry_run, peer).await?)
            }
            Request::Deactivate(dry) => Reply::Activated(self.activate(None, dry.dry_run, peer).await?),
            Request::ActiveProfile => {
                let profile = self.ask(Command::Status).await?.profile;
                let since = self.loaded().since.filter(|_| profile.is_some());
                Reply::Profile(ActiveProfile { profile, since })
            }
            Request::Events(query) => Reply::Events(self.events(query)?),
            Request::Follow(query) => {
                return Ok(Answer::Stream(self.followers.subscribe(Vec::new(), query.kind)));
            }
            Request::Record => return self.record().await,
            Request::Emergency(Emergency { order, dry_run }) => {
                Reply::Emergency(self.emergency(order, dry_run, peer.uid).await?)
            }
            Request::Dynamics => Reply::Dynamics(self.ask(Command::Dynamics).await?),
            Request::DynamicApply(DynamicApply { target, limits, policy, dry_run }) => {
                let reason = operator(peer, &format!("dynamic apply {target} --policy {}", policy.kind()));
                let command =
                    |answer| Command::ApplyPolicy { target, limits, policy, reason, dry_run, answer };
                Reply::DynamicApplied(Box::new(self.ask(command).await?))
            }
            Request::DynamicRemove(DynamicRemove { target, dry_run }) => {
                let reason = operator(peer, &format!("dynamic remove {target}"));
                let command = |answer| Command::RemovePolicy { target, reason, dry_run, answer };
                Reply::DynamicRemoved(self.ask(command).await?)
            }
            Request::WebhookStates => Reply::WebhookStates(self.webhook_states().await?),
            Request::Deliveries(query) => Reply::Deliveries(self.webhook_deliveries(query).await?),
            Request::Delivery { id } => Reply::Delivery(Box::new(self.webhook_delivery(id).await?)),
            Request::WebhookTest(test) => Reply::WebhookTested(self.webhook_test(test).await?),
            Request::WebhookReplay(replay) => Reply::WebhookReplayed(self.webhook_replay(replay).await?),
            Request::Criticals => Reply::Criticals(self.criticals().await?),
            Request::CriticalRestart(CriticalRestart { name, dry_run }) => {
                Reply::CriticalRestarted(self.restart_critical(name, dry_run, peer).await?)
            }
            Request::Reload(dry) => Reply::Reloaded(self.reload(dry.dry_run).await?),
            Request::Alerts => Reply::Alerts(self.alerts()?),
            Request::Acknowledge(asked) => Reply::Acknowledged(self.acknowledge(asked, peer.uid).await?),
            Request::BackUp(asked) => Reply::BackedUp(self.back_up(asked, peer).await?),
            Request::Latency(look) => Reply::Latency(Box::new(self.latency(look).await?)),
            Request::State => Reply::State(self.check_state().await?),
            Request::Metrics => {
                let families = self.all_figures(Reader::Socket).await;
                let families = families.map_err(|why| Failure::new(FailureKind::Failed, why))?;
                Reply::Metrics(Arc::unwrap_or_clone(families))
            }
        };
        Ok(Answer::Reply(reply))
    }

    /// Puts a command to the engine thread and waits for its answer.
    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let (answer, result) = oneshot::channel();
        let refused = |why: &str| Failure::new(FailureKind::Conflict, why).with_hint("try again in a moment");
        self.commands.try_send(command(answer)).map_err(|error| match error {
            TrySendError::Full(_) => refused("too many commands are under way"),
            TrySendError::Disconnected(_) => refused("the daemon is stopping"),
        })?;
        self.waker.wake();
        result.await.map_err(|_closed| refused("the daemon is stopping"))?
    }

    pub(super) fn load(&self, name: &Name) -> Result<Profile> {
        reload::profile(&self.profiles, name)
    }

    pub(super) fn loaded(&self) -> std::sync::MutexGuard<'_, reload::Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an emergency stop is on record.
    pub fn emergency_file(&self) -> std::path::PathBuf {
        self.loaded().dirs.emergency_file()
    }

    /// What becomes of the limits at a stop.
    pub fn on_stop(&self) -> OnStop {
        self.loaded().settings.on_stop
    }

    /// The connection of its own.
    pub(super) fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn status(&self) -> Result<crate::control::proto::DaemonStatus> {
        let mut status = self.ask(Command::Status).await?;
        let loaded = self.loaded();
        status.config_error.clone_from(&loaded.error);
        drop(loaded);
        self.complete(&mut status.features);
        status.audit_failed = self.audit.failed();
        Ok(status)
    }

    async fn throttle(&self, throttle: Throttle, peer: Peer) -> Result<Reply> {
        let allow_move = throttle.may_move(self.systemd);
        let group = group_of(&throttle)?;
        let Throttle {
            processes,
            limits,
            policy,
            group: _,
            scope,
            allow_move: _,
            whole_unit,
            for_ms,
            dry_run,
        } = throttle;
        let keys = processes.iter().map(|process| self.identify(*process)).collect::<Result<Vec<_>>>()?;
        let until = for_ms.map(|millis| clock::now().after(Duration::from_millis(millis)));
        let reason = operator(peer, &format!("throttle group {group} to {limits}"));
        let throttle = ManualThrottle {
            group,
            limits,
            scope,
            allow_move,
            whole_unit,
            processes: keys,
            policy,
            until,
            reason,
        };
        let throttled = self.ask(|answer| Command::Throttle { throttle, dry_run, answer }).await?;
        Ok(Reply::Throttled(Box::new(throttled)))
    }

    async fn release(&self, release: Release, peer: Peer) -> Result<Reply> {
        let Release { target, dry_run } = release;
        let (target, request) = match target {
            ReleaseOf::All => (ReleaseTarget::All, "release --all".to_owned()),
            ReleaseOf::Group(group) => {
                let request = format!("release --group {group}");
                (ReleaseTarget::Group(group), request)
            }
            ReleaseOf::Rule(rule) => {
                let request = format!("release --rule {rule}");
                (ReleaseTarget::Rule(rule), request)
            }
            ReleaseOf::Process(process) => {
                (ReleaseTarget::Process(self.identify(process)?), format!("release --pid {}", process.pid))
            }
        };
        let reason = operator(peer, &request);
        Ok(Reply::Released(self.ask(|answer| Command::Release { target, reason, dry_run, answer }).await?))
    }

    /// The identity of a process that may have been named by its pid alone.
    pub(super) fn identify(&self, process: ProcRef) -> Result<ProcKey> {
        let ProcRef { pid, start } = process;
        if let Some(start) = start {
            return Ok(ProcKey { pid, start });
        }
        let proc = self.proc.lock().unwrap_or_else(PoisonError::into_inner);
        match proc.process(pid) {
            Ok(Some(process)) => Ok(process.key),
            Ok(None) => Err(Failure::new(FailureKind::NotFound, format!("no process {pid}"))),
            Err(error) => Err(Failure::from_error(FailureKind::Failed, &error)),
        }
    }

    async fn explain(&self, pid: u32) -> Result<Explanation> {
        let mut explanation = self.ask(|answer| Command::Explain { pid, answer }).await?;
        let key = explanation.key;
        let rows =
            self.store().read(|tables| tables.events(&EventFilter::default(), HISTORY)).map_err(failed)?;
        let about = rows.into_iter().filter(|row| row.notice.concerns(key));
        explanation.history = about.map(|row| journal::record(row.seq, row.at, row.notice)).collect();
        self.add_delay(&mut explanation).await?;
        Ok(explanation)
    }

    async fn plan(&self, profile: Box<Profile>) -> Result<crate::control::proto::Plan> {
        self.ask(|answer| Command::Plan { profile, answer }).await
    }

    async fn activate(&self, profile: Option<Profile>, dry_run: bool, peer: Peer) -> Result<Activated> {
        let plan = match &profile {
            Some(profile) => Some(self.plan(Box::new(profile.clone())).await?),
            None => None,
        };
        let name = profile.as_ref().map(|profile| profile.name.clone());
        if dry_run {
            let previous = self.ask(Command::Status).await?.profile;
            return Ok(Activated { profile: name, previous, plan, dry_run });
        }
        let actor = Actor { uid: Some(peer.uid), by: "request" };
        let previous = self.put_in_force(profile.clone(), &actor).await?;
        self.own_schedule(profile.as_ref())?;
        Ok(Activated { profile: name, previous, plan, dry_run })
    }

    fn events(&self, query: EventQuery) -> Result<Vec<EventRecord>> {
        let EventQuery { since_ms, kind, limit } = query;
        let limit = u32::try_from(limit.unwrap_or(EVENTS_MAX).min(EVENTS_MAX)).unwrap_or(u32::MAX);
        let filter = EventFilter { since: since_ms, kind, after: None };
        let rows = self.store().read(|tables| tables.events(&filter, limit)).map_err(failed)?;
        Ok(rows.into_iter().map(|row| journal::record(row.seq, row.at, row.notice)).collect())
    }

    /// Tells that a configuration came into force, or was refused.
    pub fn tell_change(&self, detail: String, accepted: bool) {
        self.journal.tell(clock::now(), Notice::ConfigurationChanged { detail, accepted });
    }
}

/// The group that processes are to be limited in: the one that is named, or one named after the first pid.
///
/// # Errors
/// When there is no process.
pub(super) fn group_of(throttle: &Throttle) -> Result<Name> {
    let Throttle { group, processes, .. } = throttle;
    let first = processes.first().ok_or_else(|| Failure::new(FailureKind::Usage, "no process is named"))?;
    match group {
        Some(group) => Ok(group.clone()),
        None => format!("pid-{}", first.pid).parse().map_err(failed),
    }
}

fn operator(peer: Peer, request: &str) -> Reason {
    Reason::Operator { uid: peer.uid, request: request.to_owned() }
}

fn failed(error: impl std::error::Error) -> Failure {
    Failure::from_error(FailureKind::Failed, &error)
}
