//! `signal_generate`: who sends critical processes a signal that can end them. Remembered per process and
//! signal, and told with the death: no record, no wake-up. A signal to any other process costs a bit test.

use agent_common::event::death::{SignalMark, origin};
use agent_common::gate;
use agent_common::text::{CommBytes, clear_after_nul};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use aya_ebpf::programs::BtfTracePointContext;

use crate::maps::SIGNALS;
use crate::memory::read_at;
use crate::probe::{critical_ticks, now_ns, settings};
use crate::task::Task;

/// `si_code` in a `kernel_siginfo`, which begins as `siginfo_t` does: signo, errno, code, 4 bytes each
/// (include/uapi/asm-generic/siginfo.h; stable).
const SI_CODE: usize = 8;
/// `SEND_SIG_PRIV`: the largest value that is no address.
const NO_ADDRESS_MAX: u64 = 1;

#[inline(always)]
pub fn run(ctx: &BtfTracePointContext) {
    let signal = ctx.arg::<u64>(0) as u32;
    if !gate::may_end(signal) || !gate::is_sent(ctx.arg::<u64>(4) as i32) {
        return;
    }
    let Some(settings) = settings() else { return };
    // SAFETY: the third argument of the tracepoint (include/trace/events/signal.h), a thread of the process.
    let task = unsafe { Task::new(ctx.arg(2)) };
    let tgid = task.tgid();
    let Some(start_ticks) = critical_ticks(settings, tgid, || task.leader().start_ns()) else { return };
    // Read as memory: of an argument that may also be 0 or 1 the verifier permits no arithmetic.
    let info = read_at(ctx.as_ptr() as usize + size_of::<u64>());
    let code = if info > NO_ADDRESS_MAX { read_at(info as usize + SI_CODE) as i32 } else { 0 };
    let from = gate::signal_origin(info, code);
    let mut mark = SignalMark { start_ticks, time_ns: now_ns(), origin: from, ..SignalMark::default() };
    mark.code = code.cast_unsigned();
    if from == origin::PROCESS {
        mark.tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        mark.uid = bpf_get_current_uid_gid() as u32;
        mark.comm = bpf_get_current_comm().map_or(CommBytes::default(), clear_after_nul);
    }
    // No room on this CPU just now: the death is told without its sender.
    let _unmarked = SIGNALS.insert(gate::signal_key(tgid, signal), mark, 0);
}
