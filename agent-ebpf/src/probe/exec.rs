//! `sched_process_exec`: the time is remembered for the sweep; a match or a critical process is reported.

use agent_common::event::exec::ExecRecord;
use agent_common::event::{TaskFacts, flag};
use agent_common::gate::{self, Route};
use agent_common::header::kind;
use agent_common::loss;
use agent_common::settings::Settings;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;

use crate::emit::{self, Counters};
use crate::probe::{critical, header, hinted, now_ns, settings, slot};
use crate::task::Task;

#[inline(always)]
pub fn run(ctx: &BtfTracePointContext) {
    // SAFETY: the first argument of the tracepoint; after de_thread() it is the leader.
    let task = unsafe { Task::new(ctx.arg(0)) };
    let (Some(settings), Some(counters)) = (settings(), Counters::of_this_cpu()) else { return };
    let mut facts = task.facts(settings.cgroup_v1 != 0);
    if facts.tgid == settings.own_tgid {
        return;
    }
    facts.exec_ns = now_ns();
    facts.flags |= flag::EXECED;
    remember(settings, counters, &facts);
    facts.flags |= hinted(settings, &facts) | critical(settings, facts.tgid, facts.start_ns);
    match gate::route_exec(facts.flags) {
        Route::Priority => {
            debug!(ctx, "exec {} flags {}", facts.tgid, facts.flags);
            emit::priority(
                counters,
                ExecRecord { header: header::<ExecRecord>(kind::EXEC, facts.exec_ns), task: facts },
            );
        }
        Route::Bulk | Route::Defer => {}
    }
    counters.event(loss::EXECS);
    emit::wake_if_armed(counters);
}

/// Writes the slot. Its tgid is cleared first and set last, so that the sweep never takes one process's exec
/// for another's.
#[inline(always)]
fn remember(settings: &Settings, counters: Counters, facts: &TaskFacts) {
    let Some(slot) = slot(facts.tgid) else { return };
    // SAFETY: a map value, valid while the program runs; volatile keeps the order of the writes.
    unsafe {
        if gate::loses_exec(settings.since_ns, (*slot).tgid, (*slot).exec_ns, facts.tgid) {
            counters.add(loss::SLOT_TAKEOVERS);
        }
        (&raw mut (*slot).tgid).write_volatile(0);
        (&raw mut (*slot).start_ns).write_volatile(facts.start_ns);
        (&raw mut (*slot).exec_ns).write_volatile(facts.exec_ns);
        (&raw mut (*slot).tgid).write_volatile(facts.tgid);
    }
}
