//! `sched_process_fork`: children of critical processes are reported at once, others are left to the sweep.

use agent_common::event::flag;
use agent_common::event::fork::ForkRecord;
use agent_common::gate::{self, Route};
use agent_common::header::kind;
use agent_common::loss;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;

use crate::emit::{self, Counters};
use crate::probe::{critical, header, now_ns, settings};
use crate::task::Task;

#[inline(always)]
pub fn run(ctx: &BtfTracePointContext) {
    // SAFETY: the arguments of the tracepoint (include/trace/events/sched.h).
    let (parent, child) = unsafe { (Task::new(ctx.arg(0)), Task::new(ctx.arg(1))) };
    if !child.is_leader() {
        return;
    }
    let (Some(settings), Some(counters)) = (settings(), Counters::of_this_cpu()) else { return };
    let parent_flags = if settings.has_critical == 0 {
        0
    } else {
        let leader = parent.leader();
        critical(settings, leader.tgid(), leader.start_ns())
    };
    match gate::route_fork(parent_flags) {
        Route::Priority => {
            let mut facts = child.facts(settings.cgroup_v1 != 0);
            facts.flags |= parent_flags & flag::CRITICAL;
            debug!(ctx, "fork {} by critical {}", facts.tgid, facts.ppid);
            emit::priority(
                counters,
                ForkRecord { header: header::<ForkRecord>(kind::FORK, now_ns()), task: facts },
            );
        }
        Route::Bulk | Route::Defer => {}
    }
    counters.event(loss::FORKS);
    emit::wake_if_armed(counters);
}
