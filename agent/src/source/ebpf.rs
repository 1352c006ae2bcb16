//! The eBPF source: two rings, the task iterator, and the sleep between them.
//!
//! Records that must be known at once come on the priority ring, which is also the one descriptor to sleep
//! on: the kernel side wakes it for a first event of any kind while the source is armed. Ended processes
//! come on the bulk ring, which never wakes and is drained at intervals. Processes that are alive and were
//! not reported are found by a sweep at the same intervals. When a whole round brings nothing, the source
//! arms itself and sleeps.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use agent_common::gate;
use agent_common::loss;
use agent_common::settings::{Prefix, Settings};
use agent_common::{abi, text::COMM_LEN};
use aya::maps::hash_map::HashMap as KernelMap;
use aya::maps::{MapData, MapError};
use aya_log::EbpfLogger;

use crate::clock;
use crate::decode::Decoder;
use crate::model::event::Event;
use crate::model::id::{ProcKey, TICK_NANOS};
use crate::model::time::Timestamp;
use crate::procfs::Proc;
use crate::source::attach::{self, Fit, Kernel, Options};
use crate::source::pace::Pace;
use crate::source::ring::Ring;
use crate::source::snapshot::Walker;
use crate::source::{Counts, Drained, EAGER_INTERVAL, Fill, Hints, LAZY_INTERVAL, Source, SourceError};

/// Most records taken from a ring by one drain.
const DRAIN_LIMIT: u64 = 16_384;
/// Most events between two rounds after which the source still goes to sleep: about two short lives. Above
/// it, the next event would come at once, and each sleep cost a wake-up for nothing.
const CALM_EVENTS: u64 = 8;
/// How far a sweep looks back behind the beginning of the last one: a hook that ran just before it may not
/// have written its slot yet. Processes told twice are harmless.
const OVERLAP: Duration = Duration::from_millis(5);

// The critical set is compared in the unit of the identity.
const _: () = assert!(gate::TICK_NANOS == TICK_NANOS);

type Totals = [u64; loss::COUNT as usize];

/// The source.
pub struct EbpfSource {
    kernel: Kernel,
    priority: Ring,
    bulk: Ring,
    walker: Walker,
    logger: Option<EbpfLogger<LogToTracing>>,
    settings: Settings,
    hints: Hints,
    proc: Proc,
    pace: Pace,
    /// When the last walk began, less the overlap: what the next sweep must report is not older.
    since: Timestamp,
    last: Totals,
}

impl std::fmt::Debug for EbpfSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EbpfSource").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl EbpfSource {
    /// Loads and attaches the programs. Events count from here on; call [`Source::snapshot`] for what is
    /// alive already.
    ///
    /// # Errors
    /// [`SourceError::Btf`] names what the kernel lacks, [`SourceError::Bpf`] what it refuses: the programs
    /// need `CAP_BPF` and `CAP_PERFMON`.
    pub fn open(options: &Options) -> Result<Self, SourceError> {
        Self::open_fit(options, &Fit::to_kernel(options)?)
    }

    fn open_fit(options: &Options, fit: &Fit) -> Result<Self, SourceError> {
        let (mut kernel, rings) = attach::load(options, fit)?;
        let logger = if options.debug_log {
            let logger = EbpfLogger::init_with_logger(&mut kernel.ebpf, LogToTracing);
            Some(logger.map_err(|error| attach::bpf("debug output", &error))?)
        } else {
            None
        };
        let since = clock::now();
        let settings = Settings {
            since_ns: since.as_nanos(),
            own_tgid: std::process::id(),
            cgroup_v1: u32::from(options.cgroup_v1),
            ..Settings::default()
        };
        let decoder = Decoder::new(u64::try_from(rustix::param::page_size()).unwrap_or(4096));
        let mut source = Self {
            kernel,
            priority: Ring::new(rings.priority, decoder, options.priority_bytes),
            bulk: Ring::new(rings.bulk, decoder, options.bulk_bytes),
            walker: Walker::new(decoder),
            logger,
            settings,
            hints: Hints::default(),
            proc: Proc::of_host(&options.proc)?,
            pace: Pace::new(),
            since,
            last: Totals::default(),
        };
        source.write_settings()?;
        attach::attach(&mut source.kernel, fit)?;
        Ok(source)
    }

    /// One round: rings, then a sweep when it is due, then to sleep if nothing has come meanwhile.
    fn round(
        &mut self,
        now: Timestamp,
        sink: &mut dyn FnMut(Event),
        done: &mut Drained,
    ) -> Result<(), SourceError> {
        let before = self.totals()?;
        done.dropped = dropped(&before).saturating_sub(dropped(&self.last));
        let taken_over =
            before.get(loss::SLOT_TAKEOVERS as usize) != self.last.get(loss::SLOT_TAKEOVERS as usize);
        let taken = self.bulk.drain(DRAIN_LIMIT, sink);
        done.events += taken;
        if taken == DRAIN_LIMIT {
            // Not seen through yet: what the totals tell stays to be told.
            done.dropped = 0;
            self.pace.again(now);
            return Ok(());
        }
        if !self.pace.sweep_is_due(now) && !taken_over {
            self.last = before;
            self.pace.next(now);
            return Ok(());
        }
        let since = if taken_over { Timestamp::ZERO } else { self.since };
        done.events += self.walk(since, sink)?;
        let calm = events(&before).wrapping_sub(events(&self.last)) <= CALM_EVENTS;
        self.last = before;
        if calm && self.try_to_sleep(&before)? {
            self.pace.sleep();
        } else {
            self.pace.next(now);
        }
        Ok(())
    }

    /// Arms the wake-up; not when something has come since the totals were read. With the kernel side's
    /// opposite order (count, then look whether armed) no event is lost in between.
    fn try_to_sleep(&mut self, before: &Totals) -> Result<bool, SourceError> {
        self.arm(1)?;
        fence(Ordering::SeqCst);
        if events(&self.totals()?) == events(before) {
            return Ok(true);
        }
        self.arm(0)?;
        Ok(false)
    }

    /// Walks the processes; those born or exec'd since then are reported, all of them since zero.
    fn walk(&mut self, since: Timestamp, sink: &mut dyn FnMut(Event)) -> Result<u64, SourceError> {
        let began = clock::now();
        self.settings.since_ns = since.as_nanos();
        self.write_settings()?;
        let events = self.walker.walk(&mut self.kernel.ebpf, sink)?;
        self.since = Timestamp::from_nanos(
            began.as_nanos().saturating_sub(u64::try_from(OVERLAP.as_nanos()).unwrap_or(0)),
        );
        if since == Timestamp::ZERO {
            // The kernel side takes it for the bound of what is not swept yet, too.
            self.settings.since_ns = self.since.as_nanos();
            self.write_settings()?;
        } else {
            self.pace.swept(began, clock::now());
        }
        Ok(events)
    }

    fn totals(&self) -> Result<Totals, SourceError> {
        let values =
            self.kernel.counters.get(&0, 0).map_err(|error| attach::bpf("read the counters", &error))?;
        let mut totals = Totals::default();
        for of_cpu in values.iter() {
            for (total, value) in totals.iter_mut().zip(of_cpu) {
                *total = total.wrapping_add(*value);
            }
        }
        Ok(totals)
    }

    fn arm(&mut self, armed: u32) -> Result<(), SourceError> {
        self.kernel.armed.set(0, armed, 0).map_err(|error| attach::bpf("arm the wake-up", &error))
    }

    fn write_settings(&mut self) -> Result<(), SourceError> {
        self.kernel
            .settings
            .set(0, self.settings, 0)
            .map_err(|error| attach::bpf("write the settings", &error))
    }

    /// Writes the prefixes that the kernel side can hold; how many they are.
    fn write_prefixes(&mut self, prefixes: &[Vec<u8>]) -> Result<u32, SourceError> {
        let mut count = 0;
        let usable = prefixes.iter().filter(|prefix| (1..COMM_LEN).contains(&prefix.len()));
        for (index, prefix) in (0..abi::PREFIX_ENTRIES).zip(usable) {
            self.kernel
                .prefixes
                .set(index, Prefix::new(prefix), 0)
                .map_err(|error| attach::bpf("write a prefix", &error))?;
            count = index + 1;
        }
        Ok(count)
    }
}

impl Source for EbpfSource {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    /// The priority ring alone: the bulk ring is readable all the time under load and wakes nobody.
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.priority.as_fd()]
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.pace.deadline()
    }

    fn drain(&mut self, now: Timestamp, sink: &mut dyn FnMut(Event)) -> Result<Drained, SourceError> {
        let mut done = Drained { events: self.priority.drain(DRAIN_LIMIT, sink), ..Drained::default() };
        if self.pace.is_asleep() {
            let armed =
                self.kernel.armed.get(&0, 0).map_err(|error| attach::bpf("read the wake-up", &error))?;
            if armed == 0 {
                self.pace.wake(now);
            } else {
                // The thread was woken for something else: rare, and a chance to see why no event comes.
                self.kernel.check_hooks()?;
            }
        }
        if self.pace.drain_is_due(now) {
            self.round(now, sink, &mut done)?;
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        Ok(done)
    }

    /// The kernel side leaves the agent out, whose events nobody wants, and some kernels' iterators leave
    /// out the first process: these two come from `/proc`.
    fn snapshot(&mut self, sink: &mut dyn FnMut(Event)) -> Result<(), SourceError> {
        let mut absent = [true; 2];
        let apart = [1, self.settings.own_tgid];
        self.walk(Timestamp::ZERO, &mut |event| {
            for (pid, absent) in apart.iter().zip(&mut absent) {
                *absent &= event.process().key.pid != *pid;
            }
            sink(event);
        })?;
        for (pid, _) in apart.into_iter().zip(absent).filter(|(_, absent)| *absent) {
            if let Some(process) = self.proc.process(pid)? {
                sink(Event::Alive(process));
            }
        }
        Ok(())
    }

    fn set_hints(&mut self, hints: &Hints) -> Result<(), SourceError> {
        let old = std::mem::replace(&mut self.hints, hints.clone());
        let keys = |hints: &Hints| hints.comms.iter().map(|comm| comm.0).collect::<Vec<_>>();
        replace(&mut self.kernel.comms, &keys(&old), &keys(hints), "comms")?;
        replace(&mut self.kernel.uids, &old.uids, &hints.uids, "uids")?;
        replace(&mut self.kernel.cgroups, &old.cgroups, &hints.cgroups, "cgroups")?;
        self.settings.prefixes = self.write_prefixes(&hints.prefixes)?;
        self.settings.has_comms = u32::from(!hints.comms.is_empty());
        self.settings.has_uids = u32::from(!hints.uids.is_empty());
        self.settings.has_cgroups = u32::from(!hints.cgroups.is_empty());
        self.write_settings()?;
        self.pace.set_interval(if hints.eager { EAGER_INTERVAL } else { LAZY_INTERVAL });
        Ok(())
    }

    fn watch(&mut self, key: ProcKey, on: bool) -> Result<(), SourceError> {
        let critical = &mut self.kernel.critical;
        if on {
            critical.insert(key.pid, key.start, 0).map_err(|e| attach::bpf("watch a process", &e))?;
        } else {
            absent_is_fine(critical.remove(&key.pid)).map_err(|e| attach::bpf("unwatch a process", &e))?;
        }
        self.kernel.watched.set(key.pid, on)?;
        if on && self.settings.has_critical == 0 {
            self.settings.has_critical = 1;
            self.write_settings()?;
        }
        Ok(())
    }

    fn lacks(&self) -> &[String] {
        &self.kernel.lacks
    }

    fn fills(&self) -> Vec<Fill> {
        let rings = [self.priority.fill("priority"), self.bulk.fill("bulk")];
        let told = |fill: std::io::Result<Fill>| {
            fill.inspect_err(|error| tracing::debug!(%error, "a ring is not told"))
        };
        rings.into_iter().filter_map(|fill| told(fill).ok()).collect()
    }

    fn counts(&self) -> Counts {
        // Reading a map of one's own does not fail; if it does, the last round's totals are told.
        let totals = self.totals().unwrap_or(self.last);
        let sum = |fields: [u32; 2]| {
            fields
                .iter()
                .filter_map(|field| totals.get(*field as usize))
                .fold(0, |a: u64, b| a.wrapping_add(*b))
        };
        Counts {
            produced: sum([loss::PRIORITY_PRODUCED, loss::BULK_PRODUCED]),
            sent: sum([loss::PRIORITY_SENT, loss::BULK_SENT]),
            dropped: dropped(&totals),
            malformed: self.priority.malformed() + self.bulk.malformed() + self.walker.malformed(),
            wakeups: totals.get(loss::WAKEUPS as usize).copied().unwrap_or(0),
            exact: true,
        }
    }
}

fn dropped(totals: &Totals) -> u64 {
    [loss::PRIORITY_DROPPED, loss::BULK_DROPPED].iter().filter_map(|field| totals.get(*field as usize)).sum()
}

/// Whatever the kernel side saw, reported or not.
fn events(totals: &Totals) -> u64 {
    [loss::EXECS, loss::FORKS, loss::EXITS].iter().filter_map(|field| totals.get(*field as usize)).sum()
}

/// Makes a map hold the new keys; those it held already stay in it throughout.
fn replace<K: aya::Pod + Ord>(
    map: &mut KernelMap<MapData, K, u32>,
    old: &[K],
    new: &[K],
    what: &str,
) -> Result<(), SourceError> {
    let limit = abi::RULE_ENTRIES as usize;
    for key in old.iter().filter(|key| !new.contains(key)) {
        absent_is_fine(map.remove(key)).map_err(|error| attach::bpf(what, &error))?;
    }
    if new.len() > limit {
        tracing::warn!(what, hints = new.len(), limit, "the kernel-side hints are cut: the rest is swept");
    }
    for key in new.iter().take(limit) {
        map.insert(key, 1, 0).map_err(|error| attach::bpf(what, &error))?;
    }
    Ok(())
}

pub(super) fn absent_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Passes the programs' debug output on to the agent's log.
struct LogToTracing;

impl log::Log for LogToTracing {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: "process_throttler::ebpf", "{}", record.args());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests;
