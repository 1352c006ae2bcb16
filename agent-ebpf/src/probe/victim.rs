//! `mark_victim`: the OOM killer has chosen a process. For a critical one it is remembered which memory cgroup
//! around it was at its limit, and told with the death.

use agent_common::event::death::VictimMark;
use agent_common::gate;
use agent_common::offsets::victim;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::programs::BtfTracePointContext;

use crate::maps::{CRITICAL, HAS_MEMCG, VICTIM_IS, VICTIMS};
use crate::memory::{Memcg, read_at};
use crate::probe::{critical_ticks, now_ns, settings};
use crate::task::Task;

#[inline(always)]
pub fn run(ctx: &BtfTracePointContext) {
    let Some(settings) = settings() else { return };
    let mut mark = VictimMark { time_ns: now_ns(), ..VictimMark::default() };
    let tgid = if VICTIM_IS.load() == victim::TASK {
        // SAFETY: the first argument of the tracepoint (include/trace/events/oom.h).
        let task = unsafe { Task::new(ctx.arg(0)) };
        let tgid = task.tgid();
        let Some(ticks) = critical_ticks(settings, tgid, || task.leader().start_ns()) else { return };
        mark.start_ticks = ticks;
        judge(task, &mut mark);
        tgid
    } else {
        // The pid of a thread that still has its memory: the leader's, unless that one has ended.
        // Read as memory, so that the load is no pointer where the other branch is taken.
        let pid = read_at(ctx.as_ptr() as usize) as u32;
        // SAFETY: a map value of 8 bytes, read whole.
        let Some(ticks) = (unsafe { CRITICAL.get(pid) }) else { return };
        mark.start_ticks = *ticks;
        mark.limit = gate::oom_limit(false, false, false);
        pid
    };
    // No room on this CPU just now: the death is told as by SIGKILL from the kernel.
    let _unmarked = VICTIMS.insert(tgid, mark, 0);
}

/// Finds out which limit it was. The hook runs in whoever was short of memory.
#[inline(always)]
fn judge(task: Task, mark: &mut VictimMark) {
    if HAS_MEMCG.load() == 0 {
        mark.limit = gate::oom_limit(false, false, false);
        return;
    }
    let memcg = Memcg::of(task);
    let Some(full) = memcg.full() else {
        mark.limit = gate::oom_limit(memcg.is_some(), false, false);
        return;
    };
    // SAFETY: a helper without arguments; it returns the running task.
    let current = unsafe { Task::new(bpf_get_current_task_btf().cast()) };
    mark.limit = gate::oom_limit(true, true, Memcg::of(current).is_in(full));
    mark.cgroup_id = full.cgroup_id();
    mark.limit_pages = full.limit_pages();
}
