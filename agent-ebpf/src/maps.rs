//! The maps and the `.rodata` globals. No logic.

use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};

use agent_common::abi;
use agent_common::event::TaskSlot;
use agent_common::event::death::{SignalMark, VictimMark};
use agent_common::loss;
use agent_common::offsets::{CauseOffsets, Offsets, WaitOffsets};
use agent_common::sched::{Cell, CpuState, ReportLimit, SchedSettings, Stints, TaskWait, Watch};
use agent_common::settings::{Prefix, Settings};
use agent_common::text::CommBytes;

/// The value of one offset in one of the globals below, as the loader has resolved it.
macro_rules! resolved {
    ($global:ident.$field:ident) => {
        // SAFETY: a valid static; volatile, because the loader replaces its bytes.
        unsafe { (&raw const $global.$field).read_volatile() as usize }
    };
}
pub(crate) use resolved;

/// See `abi::map::PRIORITY`.
#[map]
pub static PRIORITY: RingBuf = RingBuf::with_byte_size(abi::PRIORITY_RING_BYTES, 0);
/// See `abi::map::BULK`.
#[map]
pub static BULK: RingBuf = RingBuf::with_byte_size(abi::BULK_RING_BYTES, 0);
/// See `abi::map::SETTINGS`.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
/// See `abi::map::ARMED`.
#[map]
pub static ARMED: Array<u32> = Array::with_max_entries(1, 0);
/// See `abi::map::COUNTERS`.
#[map]
pub static COUNTERS: PerCpuArray<[u64; loss::COUNT as usize]> = PerCpuArray::with_max_entries(1, 0);
/// See `abi::map::SLOTS`; the loader sets the size.
#[map]
pub static SLOTS: Array<TaskSlot> = Array::with_max_entries(abi::SLOT_ENTRIES_MAX, 0);
/// See `abi::map::COMMS`.
#[map]
pub static COMMS: HashMap<CommBytes, u32> = HashMap::with_max_entries(abi::RULE_ENTRIES, 0);
/// See `abi::map::PREFIXES`.
#[map]
pub static PREFIXES: Array<Prefix> = Array::with_max_entries(abi::PREFIX_ENTRIES, 0);
/// See `abi::map::UIDS`.
#[map]
pub static UIDS: HashMap<u32, u32> = HashMap::with_max_entries(abi::RULE_ENTRIES, 0);
/// See `abi::map::CGROUPS`.
#[map]
pub static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(abi::RULE_ENTRIES, 0);
/// See `abi::map::CRITICAL`.
#[map]
pub static CRITICAL: HashMap<u32, u64> = HashMap::with_max_entries(abi::CRITICAL_ENTRIES, 0);
/// See `abi::map::WATCHED`.
#[map]
pub static WATCHED: Array<u64> = Array::with_max_entries(abi::WATCHED_WORDS, 0);
/// See `abi::map::SIGNALS`.
#[map]
pub static SIGNALS: LruHashMap<u64, SignalMark> = LruHashMap::with_max_entries(abi::SIGNAL_ENTRIES, 0);
/// See `abi::map::VICTIMS`.
#[map]
pub static VICTIMS: LruHashMap<u32, VictimMark> = LruHashMap::with_max_entries(abi::VICTIM_ENTRIES, 0);
/// See `abi::map::SCHED_TASKS`; the loader sets the size of this and of those that follow.
#[map]
pub static SCHED_TASKS: Array<TaskWait> = Array::with_max_entries(1, 0);
/// See `abi::map::SCHED_CPUS`.
#[map]
pub static SCHED_CPUS: Array<CpuState> = Array::with_max_entries(1, 0);
/// See `abi::map::SCHED_CELLS`.
#[map]
pub static SCHED_CELLS: Array<Cell> = Array::with_max_entries(1, 0);
/// See `abi::map::SCHED_SETTINGS`.
#[map]
pub static SCHED_SETTINGS: Array<SchedSettings> = Array::with_max_entries(1, 0);
/// See `abi::map::SCHED_SLOTS`.
#[map]
pub static SCHED_SLOTS: HashMap<u64, u32> = HashMap::with_max_entries(1, 0);
/// See `abi::map::SCHED_NEXT`.
#[map]
pub static SCHED_NEXT: Array<u32> = Array::with_max_entries(1, 0);
/// See `abi::map::SCHED_WATCHED`.
#[map]
pub static SCHED_WATCHED: HashMap<u32, Watch> = HashMap::with_max_entries(1, 0);
/// See `abi::map::SCHED_LIMITS`.
#[map]
pub static SCHED_LIMITS: Array<ReportLimit> = Array::with_max_entries(1, 0);
/// See `abi::map::SCHED_STINTS`.
#[map]
pub static SCHED_STINTS: Array<Stints> = Array::with_max_entries(1, 0);

/// See `abi::global::ABI`.
#[unsafe(no_mangle)]
pub static PROCESS_THROTTLER_ABI_7: Global<u32> = Global::new(abi::ABI_VERSION);
/// See `abi::global::OFFSETS`; read by `task` alone.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::UNRESOLVED;
/// See `abi::global::CAUSE_OFFSETS`; read by `memory` alone.
#[unsafe(no_mangle)]
pub static CAUSE_OFFSETS: CauseOffsets = CauseOffsets::UNRESOLVED;
/// See `abi::global::WAIT_OFFSETS`; read by `task` alone.
#[unsafe(no_mangle)]
pub static WAIT_OFFSETS: WaitOffsets = WaitOffsets::UNRESOLVED;
/// See `abi::global::VICTIM_IS`.
#[unsafe(no_mangle)]
pub static VICTIM_IS: Global<u32> = Global::new(0);
/// See `abi::global::HAS_MEMCG`.
#[unsafe(no_mangle)]
pub static HAS_MEMCG: Global<u32> = Global::new(0);
/// See `abi::global::SLOT_MASK`.
#[unsafe(no_mangle)]
pub static SLOT_MASK: Global<u32> = Global::new(abi::SLOT_ENTRIES_MAX - 1);
/// See `abi::global::HAS_GROUP_DEAD`.
#[unsafe(no_mangle)]
pub static HAS_GROUP_DEAD: Global<u32> = Global::new(0);
