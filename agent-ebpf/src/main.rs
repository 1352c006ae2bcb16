//! The kernel side of process-throttler: entry points only, one hook per file in `probe`.
//!
//! A program decides through `agent_common::gate`, reads the kernel through `task` and reports through
//! `emit`. It must not know rules beyond the maps the agent fills, nor wake the agent without need.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomic map operations, in `atomic` only")]

mod atomic;
mod emit;
mod maps;
mod memory;
mod probe;
mod task;

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::probe::tasks::IterTaskContext;

/// A task was forked: `(parent, child)`, the child complete but not yet running.
#[btf_tracepoint(function = "sched_process_fork")]
fn on_fork(ctx: BtfTracePointContext) -> i32 {
    probe::fork::run(&ctx);
    0
}

/// A process replaced its program: `(task, old_pid, bprm)`, all other threads gone.
#[btf_tracepoint(function = "sched_process_exec")]
fn on_exec(ctx: BtfTracePointContext) -> i32 {
    probe::exec::run(&ctx);
    0
}

/// A thread exits: `(task)`, and `group_dead` on kernels that tell.
#[btf_tracepoint(function = "sched_process_exit")]
fn on_exit(ctx: BtfTracePointContext) -> i32 {
    probe::exit::run(&ctx);
    0
}

/// A signal is sent: `(sig, info, task, group, result)`.
#[btf_tracepoint(function = "signal_generate")]
fn on_signal(ctx: BtfTracePointContext) -> i32 {
    probe::signal::run(&ctx);
    0
}

/// The OOM killer has chosen a process: `(task, uid)`, before Linux 6.8 `(pid)`.
#[btf_tracepoint(function = "mark_victim")]
fn on_victim(ctx: BtfTracePointContext) -> i32 {
    probe::victim::run(&ctx);
    0
}

/// A CPU goes from one thread to another: `(preempt, prev, next, prev_state)`.
#[btf_tracepoint(function = "sched_switch")]
fn on_switch(ctx: BtfTracePointContext) -> i32 {
    probe::sched::switched(&ctx);
    0
}

/// The task iterator shows one thread. Always 0: another value would make the kernel skip or stop, and a
/// record that found no room is shown again by the next read.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn on_task(ctx: *mut c_void) -> i32 {
    // SAFETY: the kernel passes a `bpf_iter__task` to programs of this section.
    probe::tasks::run(unsafe { IterTaskContext::new(ctx.cast()) });
    0
}

/// Some helpers are for GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Unreachable: the programs are built without a path to it, or the verifier refuses them.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
