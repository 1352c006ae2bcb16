//! The program on the scheduler's tracepoint: armed on demand, read while it is, gone when dropped.
//!
//! It is loaded as an instance of the object of its own, with maps and a priority ring of its own: the source of events is
//! the same whether it is armed or not, a flood of long waits cannot crowd out a death, and dropping the instance leaves
//! nothing behind. Decides nothing.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};

use agent_common::abi::{self, global, map, program};
use agent_common::loss;
use agent_common::offsets::{Offsets, WaitOffsets};
use agent_common::sched::{self, Cell, CpuState, ReportLimit, SchedSettings, Watch};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Ebpf, EbpfLoader};

use crate::clock;
use crate::decode;
use crate::model::id::ProcKey;
use crate::model::latency::{self, ByCpu, Delay, Reading, Timing, Totals, Waits};
use crate::source::SourceError;
use crate::source::attach::{self, Options};
use crate::source::ebpf::absent_is_fine;

// The histograms are compared bucket by bucket.
const _: () = assert!(sched::BUCKETS == latency::BUCKETS);
const _: () = assert!(sched::lower_bound(1) == latency::lower_bound(1));
const _: () = assert!(sched::lower_bound(27) == latency::lower_bound(27));

/// Most processes that are watched at once.
pub const WATCHED_MAX: usize = sched::WATCHED_SLOTS as usize;
/// Room for about 800 long waits, of which there are few: each slot reports at most once per interval.
const RING_BYTES: u32 = 128 * 1024;
/// What the lifecycle's maps have here, where nothing uses them.
const UNUSED: u32 = 1;
/// An LRU map is made for at least a few.
const UNUSED_LRU: u32 = 64;
/// Most long waits taken at once.
const DELAYS_MAX: usize = 1_024;

/// How the programs are armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arming {
    /// Waits of watched processes at least this long are reported, ns; `u64::MAX`: none.
    pub threshold_ns: u64,
    /// Shortest time between two reports of one process, ns.
    pub interval_ns: u64,
    /// Slots for cgroups, of [`sched::CGROUP_SLOTS`]: fewer in tests only.
    pub cgroup_slots: u32,
}

impl Arming {
    /// With all slots.
    #[must_use]
    pub const fn new(threshold_ns: u64, interval_ns: u64) -> Self {
        Self { threshold_ns, interval_ns, cgroup_slots: sched::CGROUP_SLOTS }
    }
}

/// The program, attached. Dropping it detaches and frees all of it.
pub struct Probes {
    /// The program and its link.
    ebpf: Ebpf,
    cpus: Array<MapData, CpuState>,
    cells: Array<MapData, Cell>,
    settings: Array<MapData, SchedSettings>,
    slots: HashMap<MapData, u64, u32>,
    watches: HashMap<MapData, u32, Watch>,
    limits: Array<MapData, ReportLimit>,
    counters: PerCpuArray<MapData, [u64; loss::COUNT as usize]>,
    ring: RingBuf<MapData>,
    now: SchedSettings,
    /// Slots of watched processes, those of the past too: they are given anew only when all are used up.
    watched: BTreeMap<ProcKey, u32>,
    next_watched: u32,
    cpu_count: u32,
    malformed: u64,
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").field("watched", &self.watched).finish_non_exhaustive()
    }
}

/// The program, loaded. It is not attached and costs nothing but its memory.
#[derive(Debug)]
pub struct Ready(Probes);

impl Ready {
    /// Loads the program: tens of milliseconds, nearly all of which reading what the kernel tells of its types takes.
    ///
    /// # Errors
    /// [`SourceError::Btf`] names what the kernel lacks, [`SourceError::Bpf`] what it refuses: the program needs
    /// `CAP_BPF` and `CAP_PERFMON`.
    pub fn load(options: &Options, arming: &Arming) -> Result<Self, SourceError> {
        let fit = attach::Fit::to_kernel(options)?;
        let waits = fit.waits.map_err(|error| attach::btf_error(&error))?;
        let mut probes = Probes::open(options, arming, &fit.offsets, &waits, fit.slots)?;
        let btf = aya::Btf::from_sys_fs().map_err(|error| attach::bpf("BTF of the kernel", &error))?;
        let failed = |error| attach::bpf(program::SWITCH, &error);
        probes.hook()?.load("sched_switch", &btf).map_err(failed)?;
        Ok(Self(probes))
    }

    /// Attaches the program; waits count from here on.
    ///
    /// # Errors
    /// [`SourceError::Bpf`] when the kernel refuses it.
    pub fn arm(self) -> Result<Probes, SourceError> {
        let Self(mut probes) = self;
        probes.hook()?.attach().map_err(|error| attach::bpf(program::SWITCH, &error))?;
        Ok(probes)
    }
}

impl Probes {
    fn hook(&mut self) -> Result<&mut BtfTracePoint, SourceError> {
        attach::program(&mut self.ebpf, program::SWITCH)
    }

    fn open(
        options: &Options,
        arming: &Arming,
        offsets: &Offsets,
        waits: &WaitOffsets,
        tasks: u32,
    ) -> Result<Self, SourceError> {
        let cpu_count = aya::util::nr_cpus()
            .map_err(|(operation, source)| SourceError::Io { operation: operation.to_owned(), source })?;
        let cpu_count = u32::try_from(cpu_count).unwrap_or(u32::MAX);
        let (mask, log_level) = (tasks - 1, 0u8);
        let object = options.object.as_ref().map(attach::read).transpose()?;
        let mut loader = EbpfLoader::new();
        loader
            .override_global(global::ABI, &abi::ABI_VERSION, true)
            .override_global(global::OFFSETS, offsets, true)
            .override_global(global::WAIT_OFFSETS, waits, true)
            .override_global(global::SLOT_MASK, &mask, true)
            .override_global(global::LOG_LEVEL, &log_level, true)
            .map_max_entries(map::PRIORITY, RING_BYTES)
            .map_max_entries(map::BULK, u32::try_from(rustix::param::page_size()).unwrap_or(4096))
            .map_max_entries(map::SCHED_TASKS, tasks)
            .map_max_entries(map::SCHED_CPUS, cpu_count)
            .map_max_entries(map::SCHED_STINTS, cpu_count)
            .map_max_entries(map::SCHED_CELLS, cpu_count.saturating_mul(sched::SLOTS))
            .map_max_entries(map::SCHED_SLOTS, sched::CGROUP_SLOTS)
            .map_max_entries(map::SCHED_WATCHED, sched::WATCHED_SLOTS)
            .map_max_entries(map::SCHED_LIMITS, sched::SLOTS);
        for unused in
            [map::SLOTS, map::COMMS, map::PREFIXES, map::UIDS, map::CGROUPS, map::CRITICAL, map::WATCHED]
        {
            loader.map_max_entries(unused, UNUSED);
        }
        for unused in [map::SIGNALS, map::VICTIMS] {
            loader.map_max_entries(unused, UNUSED_LRU);
        }
        let mut ebpf = loader
            .load(object.as_deref().unwrap_or(attach::OBJECT))
            .map_err(|error| attach::refused(&error))?;
        macro_rules! typed {
            ($kind:ident, $name:expr) => {
                $kind::try_from(attach::take(&mut ebpf, $name)?)
                    .map_err(|error| attach::bpf($name, &error))?
            };
        }
        // It stays where it is: the program refers to it by its descriptor until it is loaded.
        let next = ebpf.map_mut(map::SCHED_NEXT);
        let next = next.ok_or_else(|| SourceError::Bpf(format!("object has no map {}", map::SCHED_NEXT)))?;
        let mut next: Array<_, u32> =
            Array::try_from(next).map_err(|error| attach::bpf(map::SCHED_NEXT, &error))?;
        // Slot 0 is that of the others. Where a test wants fewer, the first ones are given away already.
        let first = 1 + sched::CGROUP_SLOTS.saturating_sub(arming.cgroup_slots);
        next.set(0, first, 0).map_err(|error| attach::bpf(map::SCHED_NEXT, &error))?;
        let mut probes = Self {
            cpus: typed!(Array, map::SCHED_CPUS),
            cells: typed!(Array, map::SCHED_CELLS),
            settings: typed!(Array, map::SCHED_SETTINGS),
            slots: typed!(HashMap, map::SCHED_SLOTS),
            watches: typed!(HashMap, map::SCHED_WATCHED),
            limits: typed!(Array, map::SCHED_LIMITS),
            counters: typed!(PerCpuArray, map::COUNTERS),
            ring: typed!(RingBuf, map::PRIORITY),
            now: SchedSettings {
                generation: 1,
                threshold_ns: arming.threshold_ns,
                interval_ns: arming.interval_ns,
                cgroup_v1: u32::from(options.cgroup_v1),
                reserved: 0,
            },
            watched: BTreeMap::new(),
            next_watched: sched::CGROUP_SLOTS,
            cpu_count,
            malformed: 0,
            ebpf,
        };
        probes.write_settings()?;
        // Until its first switch a CPU runs nobody that is known.
        let idle = CpuState { slot: sched::NO_SLOT, ..CpuState::default() };
        for cpu in 0..cpu_count {
            probes.cpus.set(cpu, idle, 0).map_err(|error| attach::bpf(map::SCHED_CPUS, &error))?;
        }
        Ok(probes)
    }

    /// Watches these processes and no others; those that are beyond [`WATCHED_MAX`] are left out. How many are
    /// watched.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn watch(&mut self, keys: &[ProcKey]) -> Result<usize, SourceError> {
        let failed = |error| attach::bpf(map::SCHED_WATCHED, &error);
        let gone: Vec<ProcKey> = self.watched.keys().filter(|key| !keys.contains(key)).copied().collect();
        let new: Vec<ProcKey> = keys.iter().filter(|key| !self.watched.contains_key(key)).copied().collect();
        if gone.is_empty() && new.is_empty() {
            return Ok(self.watched.len());
        }
        for key in &gone {
            self.watched.remove(key);
            // The successor of a pid may have taken the entry; it is put back below.
            absent_is_fine(self.watches.remove(&key.pid)).map_err(failed)?;
        }
        if !gone.is_empty() {
            // Their slots may be given to others now: nobody counts in them any more.
            self.renew()?;
        }
        for key in new {
            let Some(slot) = self.free_slot()? else { break };
            self.watched.insert(key, slot);
        }
        for (key, slot) in &self.watched {
            let watch = Watch { start_ticks: key.start, slot: *slot, reserved: 0 };
            self.watches.insert(key.pid, watch, 0).map_err(failed)?;
        }
        self.renew()?;
        Ok(self.watched.len())
    }

    /// A slot for a watched process. One that was another's before is emptied first: its threads have no longer
    /// counted in it since the generation after.
    fn free_slot(&mut self) -> Result<Option<u32>, SourceError> {
        if self.next_watched < sched::SLOTS {
            self.next_watched += 1;
            return Ok(Some(self.next_watched - 1));
        }
        let taken = |slot: &u32| self.watched.values().any(|used| used == slot);
        let Some(slot) = (sched::CGROUP_SLOTS..sched::SLOTS).find(|slot| !taken(slot)) else {
            return Ok(None);
        };
        for cpu in 0..self.cpu_count {
            self.cells
                .set(cpu * sched::SLOTS + slot, Cell::default(), 0)
                .map_err(|error| attach::bpf(map::SCHED_CELLS, &error))?;
        }
        self.limits
            .set(slot, ReportLimit::default(), 0)
            .map_err(|error| attach::bpf(map::SCHED_LIMITS, &error))?;
        Ok(Some(slot))
    }

    /// Has every thread find its slots anew when it runs next.
    fn renew(&mut self) -> Result<(), SourceError> {
        self.now.generation = self.now.generation % 0xffff + 1;
        self.write_settings()
    }

    fn write_settings(&mut self) -> Result<(), SourceError> {
        self.settings.set(0, self.now, 0).map_err(|error| attach::bpf(map::SCHED_SETTINGS, &error))
    }

    /// What has been counted: some system calls per slot in use and CPU.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn read(&self) -> Result<Reading, SourceError> {
        let mut cgroups = Vec::new();
        for entry in self.slots.iter() {
            let (id, slot) = entry.map_err(|error| attach::bpf(map::SCHED_SLOTS, &error))?;
            cgroups.push((id, self.slot(slot)?));
        }
        cgroups.sort_by_key(|(id, _)| *id);
        let watched = self.watched()?;
        let other = self.slot(sched::OTHER_SLOT)?;
        Ok(Reading { at: clock::now(), cgroups, other, watched, totals: self.totals()? })
    }

    /// What has been counted of the watched processes: a system call per process and CPU.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn watched(&self) -> Result<Vec<(ProcKey, ByCpu)>, SourceError> {
        self.watched.iter().map(|(key, slot)| Ok((*key, self.slot(*slot)?))).collect()
    }

    /// What the program on `sched_switch` takes: a system call per CPU.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn timing(&self) -> Result<Timing, SourceError> {
        let mut timing = Timing::default();
        for state in self.states() {
            let state = state?;
            timing.timed = timing.timed.wrapping_add(state.timed);
            timing.timed_ns = timing.timed_ns.wrapping_add(state.timed_ns);
        }
        Ok(timing)
    }

    fn states(&self) -> impl Iterator<Item = Result<CpuState, SourceError>> {
        let state = |cpu| self.cpus.get(&cpu, 0).map_err(|error| attach::bpf(map::SCHED_CPUS, &error));
        (0..self.cpu_count).map(state)
    }

    /// What is counted besides the waits: a system call per CPU.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn totals(&self) -> Result<Totals, SourceError> {
        let mut totals = Totals::default();
        for state in self.states() {
            let state = state?;
            totals.switches = totals.switches.wrapping_add(state.switches);
            totals.skewed = totals.skewed.wrapping_add(state.skewed);
            totals.overflows = totals.overflows.wrapping_add(state.overflows);
            totals.collisions = totals.collisions.wrapping_add(state.collisions);
        }
        for slot in self.watched.values() {
            let limit = self.limits.get(slot, 0).map_err(|error| attach::bpf(map::SCHED_LIMITS, &error))?;
            totals.suppressed = totals.suppressed.wrapping_add(limit.suppressed_total);
        }
        let counters = self.counters.get(&0, 0).map_err(|error| attach::bpf("read the counters", &error))?;
        let dropped = |of_cpu: &[u64; loss::COUNT as usize]| {
            of_cpu.get(loss::PRIORITY_DROPPED as usize).copied().unwrap_or(0)
        };
        totals.dropped = counters.iter().map(dropped).fold(0, u64::wrapping_add);
        Ok(totals)
    }

    fn slot(&self, slot: u32) -> Result<ByCpu, SourceError> {
        let cell = |cpu: u32| {
            let cell = self.cells.get(&(cpu * sched::SLOTS + slot), 0);
            let Cell { waits, wait_ns, longest_ns, on_cpu_ns, reserved: _ } =
                cell.map_err(|error| attach::bpf(map::SCHED_CELLS, &error))?;
            Ok(Waits { counts: waits, wait_ns, longest_ns, on_cpu_ns })
        };
        (0..self.cpu_count).map(cell).collect()
    }

    /// Hands over the long waits that were reported, oldest first, in bounded work.
    pub fn delays(&mut self, sink: &mut dyn FnMut(Delay)) {
        for _ in 0..DELAYS_MAX {
            let Some(record) = self.ring.next() else { break };
            match decode::delay(&record) {
                Ok(delay) => sink(delay),
                Err(_) => self.malformed += 1,
            }
        }
    }

    /// Records that were not understood so far.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Readable when there are long waits to take.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

#[cfg(test)]
mod tests;
