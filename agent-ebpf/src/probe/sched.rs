//! `sched_wakeup`, `sched_wakeup_new` and `sched_switch`: how long threads wait for a CPU, and who has it. Loaded and
//! attached only while the scheduler probes are armed.
//!
//! A wait begins with a wake-up, or when a thread that could go on loses its CPU, and ends when it is given one. Both
//! ends are on the hottest path of the kernel: array look-ups only, which are inlined, and one reading of the clock
//! each. Which slot a thread counts in is looked up once, and again when it was moved to another cgroup or the agent
//! says so.

use agent_common::event::delay::DelayRecord;
use agent_common::gate;
use agent_common::header::kind;
use agent_common::sched::{
    CGROUP_SLOTS, Cell, CpuState, NO_SLOT, OTHER_SLOT, Party, SLOTS, SchedSettings, Stint, TIMED_MAX_NS,
    TaskWait, bucket, is_timed, notable_ns, pack, unpack,
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

/// A thread is woken.
#[inline(always)]
pub fn woken(ctx: &BtfTracePointContext) {
    // SAFETY: the first argument of the tracepoint (include/trace/events/sched.h).
    let pid = unsafe { Task::new(ctx.arg(0)) }.pid();
    let Some(entry) = entry(pid) else { return };
    // SAFETY: a map value, valid while the program runs. Another thread that shares it may write to it at the same
    // time; what either finds then names the other, or is a wait that is off by the time between the two.
    unsafe {
        if (*entry).pid != pid {
            (*entry).pid = pid;
            (*entry).css_set = 0;
        }
        (*entry).queued_ns = bpf_ktime_get_ns();
    }
}

/// A new thread is woken for the first time. Its pid may have been another's: nothing of that is left.
#[inline(always)]
pub fn born(ctx: &BtfTracePointContext) {
    // SAFETY: as in `woken`.
    let pid = unsafe { Task::new(ctx.arg(0)) }.pid();
    let Some(entry) = entry(pid) else { return };
    // SAFETY: as in `woken`.
    unsafe {
        (*entry).pid = pid;
        (*entry).css_set = 0;
        (*entry).queued_ns = bpf_ktime_get_ns();
    }
}

/// A CPU goes from one thread to another. Interrupts are off and the CPU's run queue is locked: nobody else writes to
/// what is this CPU's.
#[inline(always)]
pub fn switched(ctx: &BtfTracePointContext) {
    // SAFETY: helpers without arguments.
    let (now, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    let (Some(state), Some(settings)) = (SCHED_CPUS.get_ptr_mut(cpu), SCHED_SETTINGS.get(0)) else { return };
    // SAFETY: a map value, written by this CPU alone.
    let state = unsafe { &mut *state };
    take_over(ctx, state, settings, cpu, now);
    if is_timed(state.switches) {
        // SAFETY: a helper without arguments.
        let spent = unsafe { bpf_ktime_get_ns() }.wrapping_sub(now);
        if spent < TIMED_MAX_NS {
            state.timed += 1;
            state.timed_ns += spent;
        }
    }
}

/// Counts what the thread that goes has run, and what the one that comes has waited.
#[inline(always)]
fn take_over(ctx: &BtfTracePointContext, state: &mut CpuState, settings: &SchedSettings, cpu: u32, now: u64) {
    // SAFETY: arguments of the tracepoint.
    let (prev, next) = unsafe { (Task::new(ctx.arg(1)), Task::new(ctx.arg(2))) };

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
    // Preempted in whatever state it was going into, or on its own account still able to run.
    let runnable = ctx.arg::<u64>(0) & 0xff != 0 || ctx.arg::<u64>(3) as u32 == 0;
    if runnable {
        queue(prev.pid(), now);
    }

    state.since_ns = now;
    state.switches += 1;
    let pid = next.pid();
    if pid == 0 {
        state.slot = NO_SLOT;
        state.watched = 0;
        return;
    }
    let Some(entry) = entry(pid) else { return };
    // SAFETY: a map value. Who shares it may write to it meanwhile, see `woken`.
    let entry = unsafe { &mut *entry };
    let queued = if entry.pid == pid {
        entry.queued_ns
    } else {
        if entry.pid != 0 {
            state.collisions += 1;
        }
        entry.pid = pid;
        entry.css_set = 0;
        0
    };
    entry.queued_ns = 0;
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
    if queued == 0 {
        return;
    }
    if queued > now {
        state.skewed += 1;
        return;
    }
    let wait = now - queued;
    waited_for(cpu, slot, wait);
    if watched != 0 {
        waited_for(cpu, watched, wait);
        if wait >= settings.threshold_ns {
            let held = Held { cpu, now, ran, wait, slot: watched };
            report(settings, prev, next, &held);
        }
    }
}

/// The entry that a thread maps to, whoever it names.
#[inline(always)]
fn entry(pid: u32) -> Option<*mut TaskWait> {
    SCHED_TASKS.get_ptr_mut(pid & SLOT_MASK.load())
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

/// A thread that could go on begins to wait again.
#[inline(always)]
fn queue(pid: u32, now: u64) {
    if pid == 0 {
        return;
    }
    let Some(entry) = entry(pid) else { return };
    // SAFETY: as in `woken`.
    unsafe {
        if (*entry).pid != pid {
            (*entry).pid = pid;
            (*entry).css_set = 0;
        }
        (*entry).queued_ns = now;
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
    // SAFETY: a map value of 8-byte integers, accessed atomically by every CPU.
    let suppressed = unsafe {
        let last = (&raw const (*limit).last_ns).read_volatile();
        let early = last != 0 && held.now.wrapping_sub(last) < settings.interval_ns;
        if early || atomic::exchange(&raw mut (*limit).last_ns, held.now) != last {
            atomic::add(&raw mut (*limit).suppressed, 1);
            atomic::add(&raw mut (*limit).suppressed_total, 1);
            return;
        }
        atomic::exchange(&raw mut (*limit).suppressed, 0)
    };
    let since = held.now - held.wait;
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
