//! Puts all figures together: what the engine thread knows, what other threads count, and what `/proc` and the cgroups
//! say now. Reads what takes time on a thread of the runtime's pool, and decides nothing.

use std::sync::Arc;
use std::time::Duration;

use super::waits::{WaitMeters, Waiters};
use super::{Exporter, cgroups, lock, own};
use crate::clock;
use crate::control::proto::{BreakerState, WebhookState};
use crate::daemon::command::Command;
use crate::daemon::figures::{Figures, GroupFigure};
use crate::daemon::probes::Counted;
use crate::daemon::requests::Office;
use crate::engine::view::CriticalView;
use crate::model::notice::table::EVENT_TYPES;
use crate::procfs::Proc;
use crate::procfs::pressure::Resource;
use crate::source::Fill;
use crate::telemetry::catalogue::{self as of, of_event};
use crate::telemetry::sheet::Sheet;
use crate::telemetry::{Family, Number, Question, Reader, push};

/// Figures that are not older than this are not collected anew: many that ask at once cost one collection.
const FRESH: Duration = Duration::from_millis(100);
/// Longest time that the engine thread may take to answer.
const ENGINE: Duration = Duration::from_secs(5);
/// And the probes, which take half a second to be armed.
const PROBES: Duration = Duration::from_secs(2);
/// And the outbox, without whose figures the others are told, when its disk hangs.
const OUTBOX: Duration = Duration::from_secs(1);

/// What is read from files, and what has to be remembered of them.
#[derive(Debug)]
pub(super) struct Reading {
    proc: Proc,
    meters: cgroups::Meters,
    waits: WaitMeters,
    /// Whether the agent has the kernel count what BPF programs take.
    pub(super) counts_run_time: bool,
}

impl Reading {
    pub(super) fn new(proc: Proc) -> Self {
        Self {
            proc,
            meters: cgroups::Meters::default(),
            waits: WaitMeters::default(),
            counts_run_time: false,
        }
    }

    /// Everything that takes system calls, some of them milliseconds under load.
    fn put(&mut self, all: Waiters<'_>, counted: &Counted, now_ns: u64, sheet: &mut Sheet) {
        own::put(sheet, self.counts_run_time);
        self.meters.put(all.groups, now_ns, sheet);
        self.waits.put(all, counted, now_ns, sheet);
        for resource in Resource::ALL {
            // Absent where the kernel keeps none; `health` says so.
            let Ok(Some(pressure)) = self.proc.pressure(resource) else { continue };
            let micros = Duration::from_micros;
            sheet.add(&of::PRESSURE_WAITING, &[resource.as_str()], micros(pressure.some.total_us));
            if let Some(full) = pressure.full {
                sheet.add(&of::PRESSURE_STALLED, &[resource.as_str()], micros(full.total_us));
            }
        }
    }
}

impl Office {
    /// Answers whoever reads figures.
    pub async fn answer_question(&self, Question { reader, answer }: Question) {
        let figures = self.all_figures(reader).await;
        // Whoever asked may have gone away.
        drop(answer.send(figures));
    }

    /// All figures as they are now.
    ///
    /// # Errors
    /// Why there are none, in words.
    pub async fn all_figures(&self, reader: Reader) -> Result<Arc<Vec<Family>>, String> {
        let exporter = &self.exporter;
        exporter.count(reader);
        let mut last = exporter.last.lock().await;
        let began = clock::now();
        if let Some((at, families)) = &*last
            && began.since(*at) < FRESH
        {
            return Ok(Arc::clone(families));
        }
        let families = Arc::new(self.collect().await?);
        let ended = clock::now();
        lock(&exporter.times).observe(ended.since(began));
        *last = Some((ended, Arc::clone(&families)));
        Ok(families)
    }

    async fn collect(&self) -> Result<Vec<Family>, String> {
        let figures = tokio::time::timeout(ENGINE, self.ask(Command::Figures)).await;
        let late = |_elapsed| format!("the engine thread did not answer within {} s", ENGINE.as_secs());
        let figures = figures.map_err(late)?.map_err(|failure| failure.message)?;
        let mut sheet = Sheet::default();
        put_figures(&mut sheet, &figures);
        self.put_deliveries(&mut sheet).await;
        self.put_threads(&mut sheet);
        self.exporter.put(&mut sheet);
        self.export.put(&mut sheet);
        let reading = Arc::clone(&self.exporter.reading);
        let counted = tokio::time::timeout(PROBES, self.probes.counted()).await.unwrap_or_else(|_elapsed| {
            tracing::warn!("waits for CPUs are left out of metrics: the scheduler's probes are too slow");
            Counted::default()
        });
        let read = tokio::task::spawn_blocking(move || {
            let now_ns = clock::unix_nanos(clock::wall());
            let all = Waiters { criticals: &figures.criticals, groups: &figures.groups };
            lock(&reading).put(all, &counted, now_ns, &mut sheet);
            sheet.finish()
        });
        read.await.map_err(|error| format!("figures cannot be read: {error}"))
    }

    /// What the other threads count.
    fn put_threads(&self, sheet: &mut Sheet) {
        sheet.add(&of::EVENTS_LOST, &["journal"], self.journal.lost());
        sheet.add(&of::EVENTS_LOST, &["outbox"], self.journal.overflown());
        sheet.add(&of::JOURNAL_WAITING, &[], self.journal.on_their_way());
        // Those that never happened too: a counter that appears with 1 has not risen.
        let told = self.journal.told();
        for row in EVENT_TYPES {
            if let Some(instrument) = of_event(row.name) {
                sheet.add(&instrument, &[], told.get(row.name).copied().unwrap_or(0));
            }
        }
        sheet.add(&of::AUDIT_RECORDS, &["written"], self.audit.written());
        sheet.add(&of::AUDIT_RECORDS, &["failed"], self.audit.failed());
        sheet.add(&of::CONFIG_REFUSED, &[], self.loaded().error.is_some());
    }

    async fn put_deliveries(&self, sheet: &mut Sheet) {
        let oldest = self.deliveries.ledger().run(|store| store.read(|tables| tables.oldest_pending()));
        let both = async { (self.webhook_states().await, oldest.await) };
        let (states, oldest) = match tokio::time::timeout(OUTBOX, both).await {
            Ok((Ok(states), Ok(oldest))) => (states, oldest),
            Ok((Err(failure), _)) => return tracing::warn!("deliveries are left out of metrics: {failure}"),
            Ok((_, Err(error))) => return tracing::warn!("deliveries are left out of metrics: {error}"),
            Err(_elapsed) => {
                return tracing::warn!("deliveries are left out of metrics: the outbox is too slow");
            }
        };
        let now = clock::unix_millis(clock::wall());
        for state in &states {
            let since =
                oldest.iter().find(|(name, _)| name == state.endpoint.as_str()).map(|(_, since)| *since);
            let age = since.map_or(0, |since| u64::try_from(now.saturating_sub(since)).unwrap_or(0));
            put_endpoint(sheet, state, Duration::from_millis(age));
        }
    }
}

impl Exporter {
    /// How the export itself goes.
    fn put(&self, sheet: &mut Sheet) {
        sheet.add(&of::BUILD, &[env!("CARGO_PKG_VERSION")], 1_u64);
        sheet.add(&of::UPTIME, &[], clock::now().since(self.started));
        sheet.histogram(&of::COLLECT_TIME, lock(&self.times).buckets());
        for (reader, reads) in ["prometheus", "otlp", "socket"].into_iter().zip(&self.reads) {
            sheet.add(&of::READS, &[reader], reads.load(std::sync::atomic::Ordering::Relaxed));
        }
        let pushes = push::lock(&self.pushes);
        sheet.add(&of::PUSHES, &["ok"], pushes.ok);
        sheet.add(&of::PUSHES, &["failed"], pushes.failed);
        sheet.add(&of::PUSH_REJECTED, &[], pushes.rejected);
    }
}

fn put_figures(sheet: &mut Sheet, figures: &Figures) {
    let Figures { counts, source, fills, groups, criticals, emergency, tally } = figures;
    let exact = if source.exact { "yes" } else { "no" };
    sheet.add(&of::SOURCE, &[&source.name, exact], 1_u64);
    sheet.add(&of::SOURCE_DEGRADED, &[], !source.degraded.is_empty());
    for (kind, events) in tally.received.by_kind() {
        sheet.add(&of::EVENTS_RECEIVED, &[kind], events);
    }
    sheet.add(&of::EVENTS_LOST, &["ring"], source.dropped);
    sheet.add(&of::EVENTS_LOST, &["decode"], source.malformed);
    sheet.add(&of::RING_RECORDS, &["sent"], source.sent);
    sheet.add(&of::RING_RECORDS, &["dropped"], source.dropped);
    sheet.add(&of::RING_WAKEUPS, &[], source.wakeups);
    for Fill { ring, waiting, capacity } in fills {
        sheet.add(&of::RING_WAITING, &[ring], *waiting);
        sheet.add(&of::RING_CAPACITY, &[ring], *capacity);
    }
    sheet.add(&of::PROCESSES, &[], counts.processes);
    sheet.add(&of::RESYNCS, &[], counts.resyncs);
    sheet.add(&of::EVALUATIONS, &[], counts.evaluations);
    sheet.add(&of::MATCHES, &[], counts.matches);
    sheet.add(&of::EMERGENCY, &[], *emergency);
    for ((action, result), actions) in &tally.effects {
        sheet.add(&of::EFFECTS, &[action, result], *actions);
    }
    sheet.histogram(&of::EFFECT_TIME, tally.effect_time.buckets());
    sheet.histogram(&of::REACTION_TIME, tally.reaction_time.buckets());
    for GroupFigure { name: _, label, profile, resources, processes, cgroups: _ } in groups {
        sheet.add(&of::GROUP_PROCESSES, &[label], processes.len());
        for resource in resources {
            sheet.add(&of::THROTTLES, &[profile, resource], 1_u64);
        }
    }
    for critical in criticals {
        put_critical(sheet, critical);
    }
    for ((name, result), checks) in &tally.checks {
        sheet.add(&of::HEALTH_CHECKS, &[name.as_str(), result], *checks);
    }
    for ((name, result), restarts) in &tally.restarts {
        sheet.add(&of::CRITICAL_RESTARTS, &[name.as_str(), result], *restarts);
    }
}

fn put_critical(sheet: &mut Sheet, critical: &CriticalView) {
    let name = critical.name.as_str();
    let health = critical.health.as_ref().filter(|health| health.last.is_some());
    let healthy = health.map(|health| health.unhealthy_since.is_none());
    let up = critical.instances.len() >= critical.wanted && healthy.unwrap_or(true);
    sheet.add(&of::CRITICAL_UP, &[name], up);
    sheet.add(&of::CRITICAL_INSTANCES, &[name], critical.instances.len());
    sheet.add(&of::CRITICAL_WANTED, &[name], critical.wanted);
    if let Some(healthy) = healthy {
        sheet.add(&of::CRITICAL_HEALTHY, &[name], healthy);
    }
    if let Some(violated) = critical.latency_violated {
        sheet.add(&of::CRITICAL_LATENCY, &[name], violated);
    }
    for (cause, deaths) in critical.toll.by_cause() {
        sheet.add(&of::CRITICAL_DEATHS, &[name, cause], deaths);
    }
}

fn put_endpoint(sheet: &mut Sheet, state: &WebhookState, age: Duration) {
    let name = state.endpoint.as_str();
    for (result, attempts) in [
        ("delivered", state.attempts.delivered),
        ("failed", state.attempts.failed),
        ("rejected", state.attempts.rejected),
    ] {
        sheet.add(&of::DELIVERIES, &[name, result], attempts);
    }
    sheet.add(&of::GIVEN_UP, &[name], state.given_up);
    sheet.add(&of::QUEUE_SIZE, &[name, "pending"], state.pending);
    sheet.add(&of::QUEUE_SIZE, &[name, "dead"], state.dead);
    sheet.add(&of::QUEUE_AGE, &[name], Number::from(age));
    sheet.add(&of::ENDPOINT_OPEN, &[name], state.breaker == BreakerState::Open);
}
