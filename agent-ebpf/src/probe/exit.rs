//! `sched_process_exit`: one record per process, by the thread that died last.
//!
//! `do_exit` (kernel/exit.c) takes a thread out of `signal->live` before it reaches the tracepoint, so two
//! threads that exit together may both find none left here. Kernels that pass `group_dead` name the one whose
//! decrement reached zero. On older ones the first of them to put the process's start into its slot reports,
//! by an atomic exchange. A slot is shared only where `kernel.pid_max` exceeds the table, and even there a
//! double report needs the death of the other process between the two threads' hooks; the agent takes a
//! second report of the same process for what it is.

use agent_common::event::death::{DeathRecord, SignalMark};
use agent_common::event::exit::ExitRecord;
use agent_common::event::{TaskFacts, flag};
use agent_common::gate::{self, Route};
use agent_common::header::kind;
use agent_common::loss;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;

use crate::atomic;
use crate::emit::{self, Counters};
use crate::maps::{HAS_GROUP_DEAD, SIGNALS, VICTIMS};
use crate::probe::{critical, header, now_ns, recall, settings, slot};
use crate::task::Task;

/// `WCOREFLAG`: bit 7 of the wait status.
const CORE_DUMPED: u32 = 0x80;
/// Bits of the wait status that hold the signal.
const SIGNAL: u32 = 0x7f;

#[inline(always)]
pub fn run(ctx: &BtfTracePointContext) {
    // SAFETY: the first argument of the tracepoint.
    let thread = unsafe { Task::new(ctx.arg(0)) };
    let signal = thread.signal();
    let told = HAS_GROUP_DEAD.load() != 0;
    let died = if told { ctx.arg::<u64>(1) & 1 != 0 } else { gate::group_died(signal.live()) };
    if !died {
        return;
    }
    let (Some(settings), Some(counters)) = (settings(), Counters::of_this_cpu()) else { return };
    let leader = thread.leader();
    let mut facts = leader.facts(settings.cgroup_v1 != 0);
    if facts.tgid == settings.own_tgid || (!told && !claim(&facts)) {
        return;
    }
    recall(&mut facts);
    forget(&facts);
    let status = gate::wait_status(signal.flags(), signal.group_exit_code(), leader.exit_code());
    facts.flags |= critical(settings, facts.tgid, facts.start_ns);
    if status & CORE_DUMPED != 0 {
        facts.flags |= flag::CORE_DUMP;
    }
    // A leader that died before the last thread stays a zombie: its time is not in the sum yet.
    let leader_ns = if thread.is_leader() { 0 } else { leader.cpu_ns() };
    let record = ExitRecord {
        header: header::<ExitRecord>(kind::EXIT, now_ns()),
        task: facts,
        cpu_ns: signal.cpu_ns() + thread.cpu_ns() + leader_ns,
        maxrss_pages: signal.maxrss_pages(),
        status,
        reserved: 0,
    };
    match gate::route_exit(facts.flags) {
        Route::Priority => {
            debug!(ctx, "exit {} status {}", facts.tgid, status);
            send_death(counters, record);
        }
        Route::Bulk => emit::bulk(counters, record),
        Route::Defer => {}
    }
    counters.event(loss::EXITS);
    emit::wake_if_armed(counters);
}

/// Sends the exit of a critical process with what may have been its cause.
#[inline(always)]
fn send_death(counters: Counters, mut exit: ExitRecord) {
    exit.header = header::<DeathRecord>(kind::DEATH, exit.header.time_ns);
    let TaskFacts { tgid, start_ns, .. } = exit.task;
    let of_this = |ticks: u64| gate::same_start(start_ns, ticks);
    let sent = |signal: u32| -> Option<&'static SignalMark> {
        // SAFETY: whoever reuses the value meanwhile names another process in it, and is read as it is.
        unsafe { SIGNALS.get(gate::signal_key(tgid, signal)) }.filter(|mark| of_this(mark.start_ticks))
    };
    let mut signal = exit.status & SIGNAL;
    let mut mark = None;
    if signal != 0 {
        mark = sent(signal);
    } else {
        let [term, int, quit] = gate::REQUESTS;
        let mut last = 0;
        if let Some(found) = sent(term) {
            (signal, mark, last) = (term, Some(found), found.time_ns);
        }
        if let Some(found) = sent(int).filter(|found| found.time_ns > last) {
            (signal, mark, last) = (int, Some(found), found.time_ns);
        }
        if let Some(found) = sent(quit).filter(|found| found.time_ns > last) {
            (signal, mark) = (quit, Some(found));
        }
    }
    // SAFETY: as for signals.
    let victim = unsafe { VICTIMS.get(tgid) }.filter(|victim| of_this(victim.start_ticks));
    let fill = |place: *mut DeathRecord| {
        // SAFETY: `place` is a record's room in the ring; all its members are written.
        unsafe {
            (&raw mut (*place).exit).write(exit);
            (&raw mut (*place).signal).write(signal);
            (&raw mut (*place).reserved).write(0);
            put(&raw mut (*place).sent, mark);
            put(&raw mut (*place).victim, victim);
        }
    };
    // SAFETY: it writes every byte: the record has no padding (asserted in `agent_common::layout`).
    unsafe { emit::priority_in_place(counters, fill) };
}

/// Writes a mark, or zeros, word by word. What the compiler would make of a plain copy is a call that goes byte by
/// byte, and following that on every path is too much for the verifier of Linux 6.1.
///
/// # Safety
/// `to` must be valid for writes; `T` must consist of whole words without padding, and all zeros be one of its values.
#[inline(always)]
unsafe fn put<T>(to: *mut T, from: Option<&T>) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    let to = to.cast::<u64>();
    let mut word = 0;
    while word < size_of::<T>() / 8 {
        // SAFETY: within both; volatile, so that it stays a copy of words.
        unsafe {
            let value =
                from.map_or(0, |from| core::ptr::from_ref(from).cast::<u64>().add(word).read_volatile());
            to.add(word).write_volatile(value);
        }
        word += 1;
    }
}

/// Whether this thread is the one to report the death.
#[inline(always)]
fn claim(facts: &TaskFacts) -> bool {
    let Some(slot) = slot(facts.tgid) else { return true };
    // SAFETY: a map value, 8-byte aligned, accessed atomically by everyone.
    let last = unsafe { atomic::exchange(&raw mut (*slot).died_start_ns, facts.start_ns) };
    last != facts.start_ns
}

/// Frees the slot of a process that is dead.
#[inline(always)]
fn forget(facts: &TaskFacts) {
    let Some(slot) = slot(facts.tgid) else { return };
    // SAFETY: a map value, valid while the program runs.
    unsafe {
        if (*slot).tgid == facts.tgid {
            (&raw mut (*slot).tgid).write_volatile(0);
        }
    }
}
