//! `daemon run`: brings everything up in order, serves until a signal, takes everything down in order.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::unistd::Gid;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::audit::Log;
use crate::audit::files::Place;
use crate::audit::ship::Shipping;
use crate::cgroup::{Cgroup as _, Roots};
use crate::clock;
use crate::config::host::Host;
use crate::config::paths::Dirs;
use crate::config::profiles::ProfileStore;
use crate::config::settings::{LogLevel, OnStop, Settings, SourceChoice};
use crate::control::failure::{Failure, FailureKind};
use crate::control::server::Server;
use crate::control::stream::Publisher;
use crate::daemon::audit::{self, Audit, Running};
use crate::daemon::backups::Calendar;
use crate::daemon::care::{self, Carer};
use crate::daemon::command::Command;
use crate::daemon::delays::Delays;
use crate::daemon::deliveries::Dispatcher;
use crate::daemon::export::Export;
use crate::daemon::journal::{self, Journal};
use crate::daemon::lock::{LockError, PidLock};
use crate::daemon::lookout::Lookout;
use crate::daemon::metrics::{Exporter, QUESTIONS};
use crate::daemon::opening::{by_the_calendar, first_profile};
use crate::daemon::probes::Ear;
use crate::daemon::recorder::Recorder;
use crate::daemon::reload::{self, Loaded};
use crate::daemon::requests::Office;
use crate::daemon::sampler::Sampler;
use crate::daemon::serve::{self, Duty};
use crate::daemon::turn::{COMMANDS, Parts, Turn, TurnError};
use crate::daemon::violations::{self, Violations};
use crate::daemon::waker::Waker;
use crate::daemon::wishes::Wishes;
use crate::daemon::worker::Worker;
use crate::daemon::{logging, preflight, privilege, probes};
use crate::effect::drift::Drift;
use crate::effect::{Kernel, Throttle, restore};
use crate::engine::{Engine, EngineConfig};
use crate::model::chain::chain;
use crate::model::time::Timestamp;
use crate::procfs::Proc;
use crate::procfs::cgroup::Version;
use crate::source::attach::Options;
use crate::source::ebpf::EbpfSource;
use crate::source::run_time::RunTime;
use crate::source::select::{self, Choice, Kind, Selected};
use crate::store::{Durability, Store};
use crate::sys;
use crate::telemetry::otlp::Origin;
use crate::telemetry::outlet::Outlet;

/// Lines that a follower or a recording may lag behind.
const STREAM: usize = 8_192;
/// Time for shipping audit records at a stop, of which what is left then is shipped after the next start, and for sending
/// events and traces.
const SHIPPING_GRACE: Duration = Duration::from_millis(500);
/// At the end, for look-ups of names that nothing can break off.
const LOOK_UPS: Duration = Duration::from_millis(100);

type Result<T> = std::result::Result<T, Failure>;

fn failed(error: impl std::error::Error) -> Failure {
    Failure::from_error(FailureKind::Failed, &error)
}

/// Runs the daemon in the foreground until SIGTERM or SIGINT.
///
/// # Errors
/// When something it cannot do without fails, in words for people. Limits are not left behind then, unless
/// the configuration says to keep them.
pub fn run(dirs: &Dirs, socket: &Path) -> Result<()> {
    let started = clock::now();
    preflight::make_dirs(dirs).map_err(failed)?;
    let lock = PidLock::take(&dirs.pid_file()).map_err(|error| match error {
        LockError::Held { .. } => Failure::from_error(FailureKind::Conflict, &error),
        LockError::Io { .. } => failed(error),
    })?;
    // Before anything is read that it may have half replaced.
    let undone = crate::backup::recover(dirs).map_err(|error| crate::daemon::backups::failure(&error))?;
    let (settings, warnings) = Settings::load(dirs).map_err(|findings| reload::invalid(&findings))?;
    logging::start(&settings);
    reload::warn(&warnings);
    if undone {
        tracing::warn!("a restore was killed half-way and has been undone");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let result = runtime.block_on(live(dirs, socket, settings, started, lock.was_abandoned()));
    // A health check may hang in a call that nothing interrupts, and so may a look-up.
    runtime.shutdown_timeout(LOOK_UPS);
    drop(lock);
    result
}

async fn live(
    dirs: &Dirs,
    socket: &Path,
    settings: Settings,
    started: Timestamp,
    after_death: bool,
) -> Result<()> {
    let profiles = ProfileStore::new(dirs);
    let endpoints = settings.endpoints.clone();
    let roots = Roots::of_agent(settings.cgroup_root.clone(), dirs.host.proc.clone(), &dirs.state);
    let kernel = Kernel::open(roots).map_err(failed)?;
    let kernel = Kernel { allow_containers: settings.allow_containers, ..kernel };
    let (store, wishes) = open_store(dirs, &kernel, after_death)?;
    store.keep_locks().map_err(failed)?;
    let host = kernel.clone();
    let book = Store::open(&dirs.journal_db(), Durability::Power).map_err(failed)?;
    if let Some((aside, _)) = &book.set_aside {
        tracing::error!(kept = %aside.display(), "the journal was damaged and has been set aside: past events and owed alerts are in it");
    }
    let mut book = book.store;
    let profile = first_profile(&settings, &book, &profiles)?;
    let (profile, scheduler) = by_the_calendar(&settings, &mut book, &profiles, profile)?;
    let group = Gid::from_raw(settings.socket_group.as_ref().map_or(0, |group| group.gid));
    let server = serve_on(socket, group)?;
    let outbox = book.again().map_err(failed)?;
    // A delivery that a power cut makes forgotten is made again, under the same id.
    outbox.commit_without_flush().map_err(failed)?;
    let past = book.again().map_err(failed)?;
    let source = open_source(&settings, &dirs.host.proc)?;
    let waker = Waker::new().map_err(failed)?;
    let (probes, ear) = probes::start(&settings, &dirs.host.proc, &waker).map_err(failed)?;
    let run_time = settings.metrics.bpf_run_time.then(RunTime::count);
    // Nothing that follows needs more, on any thread: the programs are loaded, the socket has its group.
    if let Err(error) = privilege::reduce(kernel.systemd) {
        tracing::warn!(%error, "cannot give up the capabilities that only a start needs");
    }
    let (followers, recordings) = (Publisher::new(STREAM), Publisher::new(STREAM));
    let due = Arc::new(Notify::new());
    let origin = origin(started);
    let (audit, auditing) = start_audit(dirs, &settings, &origin)?;
    let outlet = Arc::new(Outlet::default());
    let (journal, journal_thread) = journal::start(journal::Parts {
        store: book,
        followers: followers.clone(),
        due: Arc::clone(&due),
        endpoints: endpoints.clone(),
        host: hostname(),
        audit: Some(audit.clone()),
        outlet: Arc::clone(&outlet),
    })
    .map_err(failed)?;
    let dispatcher = Dispatcher::start(outbox, endpoints, due, Some(journal.clone()), hostname());
    let deliveries = Arc::new(dispatcher.map_err(failed)?);

    let recorder = Recorder::new(recordings.clone());
    let (carer, caretaker) = care::pair(waker.clone(), &kernel, dirs.runtime.clone()).map_err(failed)?;
    let opened = Opened { source, kernel, store, carer, ear };
    let mut parts = parts(&settings, opened, &journal, recorder, &waker, started)?;
    parts.wishes = wishes;
    let source_name = parts.source.source.name().to_owned();
    let (commands, inbox) = sync_channel(COMMANDS);
    let (ended, end) = oneshot::channel();
    let engine_thread = spawn(parts, inbox, ended).map_err(failed)?;

    let (refusals, refused) = mpsc::channel(violations::QUEUE);
    let violations = Violations::new(refused, journal.clone());
    let (asks, questions) = mpsc::channel(QUESTIONS);
    let exporter = Exporter::new(asks, origin, started, &dirs.host.proc).map_err(failed)?;
    let exporter = exporter.with_run_time(run_time);
    exporter.apply(&settings.metrics).await;
    let export = Arc::new(Export::new(outlet, exporter.origin()));
    export.apply(settings.metrics.otlp.as_ref());
    let office = Arc::new(Office {
        access: watch::Sender::new(Arc::new(settings.access.clone())),
        refusals,
        exporter,
        export: Arc::clone(&export),
        probes,
        delays: Delays::default(),
        commands,
        waker,
        profiles,
        backups: Mutex::new(Calendar::resume(past.read(|tables| tables.backup_turn()).map_err(failed)?)),
        store: Mutex::new(past),
        followers,
        recordings,
        proc: Mutex::new(Proc::of_host(&dirs.host.proc).map_err(failed)?),
        systemd: host.systemd,
        source: source_name,
        loaded: Mutex::new(Loaded { dirs: dirs.clone(), settings, profile: None, since: None, error: None }),
        scheduler: Mutex::new(scheduler),
        journal,
        audit: audit.clone(),
        deliveries,
    });
    let duty = Duty { server, profile, end, caretaker, violations, questions };
    let result = serve::until_stopped(&office, duty).await;
    let on_stop = office.on_stop();
    drop(office);
    join(engine_thread, "engine");
    join(journal_thread, "journal");
    // By now all has been told.
    export.stop(SHIPPING_GRACE).await;
    let limits = match on_stop {
        OnStop::Release => "limits are released",
        OnStop::Keep => "limits are kept",
    };
    audit.tell("daemon.stopped", limits);
    drop(audit);
    auditing.join(SHIPPING_GRACE);
    if on_stop == OnStop::Release {
        // Whatever the engine did not know of any more, such as a group that failed half-way.
        drop(open_store(dirs, &host, false)?);
    }
    result
}

/// The control socket: the service manager's, where it has opened one.
fn serve_on(socket: &Path, group: Gid) -> Result<Server> {
    let mut passed = sys::passed_sockets().map_err(failed)?;
    let server = match (passed.pop(), passed.len()) {
        (None, _) => Server::bind(socket, group),
        (Some(only), 0) => Server::adopt(only, socket, group),
        (Some(_), others) => {
            let message =
                format!("the service manager passed {} sockets; there is one to serve on", others + 1);
            return Err(Failure::new(FailureKind::Failed, message));
        }
    };
    server.map_err(failed)
}

/// Opens the store and puts back what an agent left that did not stop in order. What operators asked of it is to
/// be brought into force anew. After a death the records may be incomplete without a sign of it, if a disk lost what was in
/// their log: then the marks of cgroups are looked for, too.
fn open_store(dirs: &Dirs, kernel: &Kernel, after_death: bool) -> Result<(Store, Wishes)> {
    let opened = Store::open(&dirs.state_db(), Durability::Process).map_err(failed)?;
    let mut store = opened.store;
    let wishes = Wishes::recover(kernel, &mut store).unwrap_or_else(|error| {
        tracing::error!("limits set by hand do not come back: {}", chain(&error));
        Wishes::default()
    });
    if let Some((aside, carried)) = &opened.set_aside {
        tracing::error!(kept = %aside.display(), changes = carried, "the database was damaged and has been set aside");
    }
    let thorough = after_death || opened.set_aside.is_some();
    let undo = if thorough { restore::release_all } else { restore::recover };
    let report = undo(kernel, &mut store).map_err(failed)?;
    for note in &report.notes {
        tracing::warn!("{note}");
    }
    for failure in &report.failures {
        tracing::error!("left behind by an earlier agent and cannot be undone: {failure}");
    }
    if report.restored > 0 {
        tracing::info!(
            changes = report.restored,
            groups = report.groups.len(),
            "undone what an earlier agent left"
        );
    }
    Ok((store, wishes))
}

/// The audit log, with the record of this start.
fn start_audit(dirs: &Dirs, settings: &Settings, origin: &Origin) -> Result<(Audit, Running)> {
    let place = Place::new(dirs.log.clone());
    let shipping = Shipping::start(&place, &settings.audit.ship, origin).map_err(failed)?;
    let started = audit::start(Log::new(place, settings.audit.rotation), shipping).map_err(failed)?;
    started.0.tell("daemon.started", concat!("version ", env!("CARGO_PKG_VERSION")));
    Ok(started)
}

/// What receivers are told of this run of the agent.
fn origin(started: Timestamp) -> Origin {
    let since_ns = clock::unix_nanos(clock::wall_at(started));
    Origin { host: hostname(), instance: uuid::Uuid::now_v7().to_string(), since_ns }
}

/// This host's name, for receivers.
pub(super) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn choice(settings: &Settings) -> Choice {
    match settings.source {
        SourceChoice::Auto => Choice::Auto,
        SourceChoice::Ebpf => Choice::Only(Kind::Ebpf),
        SourceChoice::Netlink => Choice::Only(Kind::Netlink),
        SourceChoice::Poll => Choice::Only(Kind::Poll),
    }
}

/// Opens the best event source there is.
fn open_source(settings: &Settings, proc: &Path) -> Result<Selected> {
    let host = Proc::of_host(proc).map_err(failed)?;
    let options = Options {
        priority_bytes: settings.priority_ring,
        bulk_bytes: settings.bulk_ring,
        debug_log: settings.log_level == LogLevel::Trace,
        cgroup_v1: host.hierarchy().is_some_and(|hierarchy| hierarchy.version == Version::V1Cpu),
        proc: proc.to_owned(),
        ..Options::default()
    };
    let source =
        select::open(choice(settings), proc, || Ok(Box::new(EbpfSource::open(&options)?))).map_err(failed)?;
    for degradation in &source.degradations {
        tracing::warn!("degraded: {degradation}");
    }
    for lack in source.source.lacks() {
        tracing::warn!("degraded: causes of death will not tell {lack}");
    }
    Ok(source)
}

/// What is opened before any thread is started.
struct Opened {
    source: Selected,
    kernel: Kernel,
    store: Store,
    carer: Carer,
    ear: Ear,
}

fn parts(
    settings: &Settings,
    opened: Opened,
    journal: &Journal,
    recorder: Recorder,
    waker: &Waker,
    started: Timestamp,
) -> Result<Parts> {
    let Opened { source, kernel, store, carer, ear } = opened;
    let proc = Proc::of_host(&kernel.roots.proc).map_err(failed)?;
    let own = preflight::own(&proc).map_err(failed)?;
    let cpus = Host::detect().cpus;
    let lookout = Lookout::new(cpus, &kernel.driver);
    let cgroups = format!("{} at {}", kernel.driver.version(), settings.cgroup_root.display());
    Ok(Parts {
        source,
        engine: Engine::new(EngineConfig::new(own.clone())),
        drift: Drift::new().map_err(failed)?,
        throttle: Throttle::open(kernel, store).map_err(failed)?,
        worker: Worker::start(waker.clone()).map_err(failed)?,
        carer,
        ear,
        proc,
        sampler: Sampler::new(cpus),
        lookout,
        journal: journal.clone(),
        wishes: Wishes::default(),
        recorder,
        waker: waker.clone(),
        choice: choice(settings),
        own,
        cgroups,
        started,
    })
}

type End = std::result::Result<(), TurnError>;

fn spawn(parts: Parts, inbox: Receiver<Command>, ended: oneshot::Sender<End>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
        privilege::hurry();
        // The receiver is gone only when the main thread has given up waiting.
        drop(ended.send(Turn::new(parts).run(&inbox)));
    })
}

fn join(thread: JoinHandle<()>, name: &str) {
    if thread.join().is_err() {
        tracing::error!(thread = name, "a thread panicked");
    }
}
