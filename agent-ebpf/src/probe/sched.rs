//! `sched_switch`: how long threads wait for a CPU, and who has it. Loaded and attached only while the scheduler probes
//! are armed.
//!
//! The kernel itself notes when a thread begins to wait, at a wake-up or when it loses its CPU, and sums up what it has
//! waited on each CPU that it was queued on (`sched_info`). At the switch that ends a wait both are read, with the time by
//! the run queue, which is what they are told by: no program on wake-ups, no reading of the clock, array look-ups only,
//! which are inlined. Which slot a thread counts in is looked up once, and again when it was moved to another cgroup or the
//! agent says so.

use agent_common::event::delay::DelayRecord;
use agent_common::gate;
use agent_common::header::kind;
use agent_common::sched::{
    CGROUP_SLOTS, Cell, CpuState, NO_SLOT, OTHER_SLOT, Party, SLOTS, SchedSettings, Stint, TIMED_MAX_NS,
    bucket, is_timed, notable_ns, pack, unpack,
};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::programs::BtfTracePointContext;

use crate::atomic;
use crate::emit::{self, Counters};
use crate::maps::{
    SCHED_CELLS, SCHED_CPUS, SCHED_LIMITS, SCHED_NEXT, SCHED_SETTINGS, SCHED_SLOTS, SCHED_STINTS,
    SCHED_TASKS, SCHED_WATCHED, SLOT_MASK,
};
use crate::probe::{header, now_ns};
use crate::task::Task;

/// A CPU goes from one thread to another. Interrupts are off and the CPU's run queue is locked: nobody else writes to
/// what is this CPU's.
#[inline(always)]
pub fn switched(ctx: &BtfTracePointContext) {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let (Some(state), Some(settings)) = (SCHED_CPUS.get_ptr_mut(cpu), SCHED_SETTINGS.get(0)) else { return };
    // SAFETY: a map value, written by this CPU alone.
    let state = unsafe { &mut *state };
    state.switches += 1;
    let timed = is_timed(state.switches);
    // SAFETY: a helper without arguments.
    let clock = || if timed { unsafe { bpf_ktime_get_ns() } } else { 0 };
    let began = clock();
    take_over(ctx, state, settings, cpu);
    let spent = clock().wrapping_sub(began);
    if timed && spent < TIMED_MAX_NS {
        state.timed += 1;
        state.timed_ns += spent;
    }
}

/// Counts what the thread that goes has run, and what the one that comes has waited.
#[inline(always)]
fn take_over(ctx: &BtfTracePointContext, state: &mut CpuState, settings: &SchedSettings, cpu: u32) {
    // SAFETY: arguments of the tracepoint (include/trace/events/sched.h).
    let (prev, next) = unsafe { (Task::new(ctx.arg(1)), Task::new(ctx.arg(2))) };
    let now = next.queue_ns();

    let ran = if state.since_ns == 0 { 0 } else { now.wrapping_sub(state.since_ns) };
    if state.slot != NO_SLOT {
        ran_for(cpu, state.slot, ran);
        if state.watched != 0 {
            ran_for(cpu, state.watched, ran);
        }
        if ran >= notable_ns(settings.threshold_ns) {
            remember(settings, prev, cpu, now, ran);
        }
    }

    state.since_ns = now;
    let pid = next.pid();
    if pid == 0 {
        state.slot = NO_SLOT;
        state.watched = 0;
        return;
    }
    let Some(entry) = SCHED_TASKS.get_ptr_mut(pid & SLOT_MASK.load()) else { return };
    // SAFETY: a map value. Another thread that shares it may write to it at the same time; what either finds then names
    // the other, or is a wait that is off by what the other has waited.
    let entry = unsafe { &mut *entry };
    let (queued, waited) = (next.queued_ns(), next.waited_ns());
    // What it had waited in all before this wait. A pid may have been another's: nothing of that is left.
    let before = if next.times_run() == 0 {
        entry.pid = pid;
        entry.css_set = 0;
        0
    } else if entry.pid == pid {
        entry.waited_ns
    } else {
        if entry.pid != 0 {
            state.collisions += 1;
        }
        entry.pid = pid;
        entry.css_set = 0;
        waited
    };
    // The verifier lets a pointer of the kernel be compared and kept, and nothing be computed from it.
    let css_set = next.css_set();
    if entry.css_set != css_set || entry.generation != settings.generation {
        entry.slots = find_slots(next, settings, state);
        entry.css_set = css_set;
        entry.generation = settings.generation;
    }
    let (slot, watched) = unpack(entry.slots);
    state.slot = slot;
    state.watched = watched;
    entry.waited_ns = waited;
    if queued == 0 {
        return;
    }
    if queued > now {
        state.skewed += 1;
        return;
    }
    // As the kernel adds it up a moment later.
    entry.waited_ns = waited + (now - queued);
    let wait = entry.waited_ns.saturating_sub(before);
    waited_for(cpu, slot, wait);
    if watched != 0 {
        waited_for(cpu, watched, wait);
        if wait >= settings.threshold_ns {
            let held = Held { cpu, now, ran, wait, slot: watched };
            report(settings, prev, next, &held);
        }
    }
}

#[inline(always)]
fn cell(cpu: u32, slot: u32) -> Option<&'static mut Cell> {
    // SAFETY: a map value, written by this CPU alone and for one field at a time.
    SCHED_CELLS.get_ptr_mut(cpu * SLOTS + slot).map(|cell| unsafe { &mut *cell })
}

#[inline(always)]
fn ran_for(cpu: u32, slot: u32, nanos: u64) {
    if let Some(cell) = cell(cpu, slot) {
        cell.on_cpu_ns += nanos;
    }
}

#[inline(always)]
fn waited_for(cpu: u32, slot: u32, nanos: u64) {
    let Some(cell) = cell(cpu, slot) else { return };
    cell.wait_ns += nanos;
    if nanos > cell.longest_ns {
        cell.longest_ns = nanos;
    }
    if let Some(count) = cell.waits.get_mut(bucket(nanos) as usize) {
        *count += 1;
    }
}

/// The slots of a thread: of its cgroup, and of its process if that is watched.
#[inline(always)]
fn find_slots(task: Task, settings: &SchedSettings, state: &mut CpuState) -> u32 {
    let cgroup = slot_of(task.cgroup_id(settings.cgroup_v1 != 0));
    if cgroup == OTHER_SLOT {
        state.overflows += 1;
    }
    // SAFETY: a map value that is read whole; whoever replaces it meanwhile brings a generation after it.
    let watched = match unsafe { SCHED_WATCHED.get(task.tgid()) } {
        Some(watch) if gate::same_start(task.leader().start_ns(), watch.start_ticks) => watch.slot,
        Some(_) | None => 0,
    };
    pack(cgroup, watched)
}

/// The slot of a cgroup; the next free one for one that is new. Where there is none, or the map is busy, it is that of
/// the others.
#[inline(always)]
fn slot_of(cgroup: u64) -> u32 {
    if let Some(slot) = known(cgroup) {
        return slot;
    }
    let Some(next) = SCHED_NEXT.get_ptr_mut(0) else { return OTHER_SLOT };
    // SAFETY: a map value of 4 bytes, only ever accessed whole.
    let slot = unsafe {
        // Looked at first, so that it does not come round.
        if next.read_volatile() >= CGROUP_SLOTS {
            return OTHER_SLOT;
        }
        atomic::fetch_add(next, 1)
    };
    if slot >= CGROUP_SLOTS {
        return OTHER_SLOT;
    }
    if SCHED_SLOTS.insert(cgroup, slot, u64::from(BPF_NOEXIST)).is_ok() {
        return slot;
    }
    // Another CPU was first. The slot stays empty.
    known(cgroup).unwrap_or(OTHER_SLOT)
}

#[inline(always)]
fn known(cgroup: u64) -> Option<u32> {
    // SAFETY: a map value of 4 bytes that is written once.
    unsafe { SCHED_SLOTS.get(cgroup) }.copied()
}

/// Keeps in mind that a thread had the CPU for long: somebody may be waiting for it.
#[inline(always)]
fn remember(settings: &SchedSettings, task: Task, cpu: u32, now: u64, ran: u64) {
    let Some(stints) = SCHED_STINTS.get_ptr_mut(cpu) else { return };
    let stint = stint(settings, task, now, ran);
    // SAFETY: a map value, accessed by this CPU alone.
    unsafe { (*stints).remember(stint, notable_ns(settings.threshold_ns)) }
}

/// What a thread did on the CPU that it leaves.
#[inline(always)]
fn stint(settings: &SchedSettings, task: Task, now: u64, ran: u64) -> Stint {
    let cgroup = task.cgroup_id(settings.cgroup_v1 != 0);
    Stint { end_ns: now, ran_ns: ran, cgroup, party: party(task) }
}

/// A long wait.
struct Held {
    cpu: u32,
    now: u64,
    ran: u64,
    wait: u64,
    slot: u32,
}

/// Reports a long wait, unless the slot has been reported a moment ago.
#[inline(always)]
fn report(settings: &SchedSettings, prev: Task, next: Task, held: &Held) {
    let (Some(limit), Some(counters)) = (SCHED_LIMITS.get_ptr_mut(held.slot), Counters::of_this_cpu()) else {
        return;
    };
    // SAFETY: a helper without arguments; a map value of 8-byte integers, accessed atomically by every CPU.
    let suppressed = unsafe {
        let now = bpf_ktime_get_ns();
        let last = (&raw const (*limit).last_ns).read_volatile();
        let early = last != 0 && now.wrapping_sub(last) < settings.interval_ns;
        if early || atomic::exchange(&raw mut (*limit).last_ns, now) != last {
            atomic::add(&raw mut (*limit).suppressed, 1);
            atomic::add(&raw mut (*limit).suppressed_total, 1);
            return;
        }
        atomic::exchange(&raw mut (*limit).suppressed, 0)
    };
    let since = held.now.saturating_sub(held.wait);
    let mut holder = Stint::default();
    if let Some(stints) = SCHED_STINTS.get(held.cpu) {
        let (place, ran_ns) = stints.longest(since);
        if ran_ns > 0
            && let Some(longest) = stints.last.get(place)
        {
            holder = *longest;
            holder.ran_ns = ran_ns;
        }
    }
    // Many had it, each for a moment. What an idle CPU waited for is no thread.
    if holder.ran_ns == 0 && prev.pid() != 0 {
        holder = stint(settings, prev, held.now, held.ran);
        holder.ran_ns = holder.since(since);
    }
    let record = DelayRecord {
        header: header::<DelayRecord>(kind::DELAY, now_ns()),
        wait_ns: held.wait,
        holder_cgroup: holder.cgroup,
        held_ns: holder.ran_ns,
        suppressed,
        waiter: party(next),
        holder: holder.party,
        cpu: held.cpu,
        slot: held.slot,
    };
    emit::priority(counters, record);
}

#[inline(always)]
fn party(task: Task) -> Party {
    Party { pid: task.pid(), tgid: task.tgid(), comm: task.comm() }
}
