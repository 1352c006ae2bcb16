//! `iter/task`: shows the processes that the agent asks for, all of them or those new since its last sweep.

use core::ffi::c_void;

use agent_common::event::AliveRecord;
use agent_common::gate;
use agent_common::header::kind;
use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::generated::bpf_seq_write;

use crate::probe::{header, last_exec, now_ns, recall, settings};
use crate::task::Task;

/// `struct bpf_iter_meta`, as far as it is needed (include/linux/bpf.h, stable).
#[repr(C)]
pub struct IterMeta {
    seq: *mut seq_file,
}

/// `struct bpf_iter__task` (kernel/bpf/task_iter.c, stable).
#[repr(C)]
pub struct IterTask {
    meta: *const IterMeta,
    task: *const u8,
}

/// The context of the iterator's program.
#[derive(Clone, Copy)]
pub struct IterTaskContext(*const IterTask);

impl IterTaskContext {
    /// # Safety
    /// `context` must be the context of a program in section `iter/task`.
    #[inline(always)]
    pub unsafe fn new(context: *const IterTask) -> Self {
        Self(context)
    }

    #[inline(always)]
    fn task(self) -> *const u8 {
        // SAFETY: valid by the contract of `new`.
        unsafe { (&raw const (*self.0).task).read_volatile() }
    }

    #[inline(always)]
    fn seq(self) -> *mut seq_file {
        // SAFETY: valid by the contract of `new`; the kernel always sets `meta`.
        unsafe { (&raw const (*(&raw const (*self.0).meta).read_volatile()).seq).read_volatile() }
    }
}

#[inline(always)]
pub fn run(ctx: IterTaskContext) {
    let pointer = ctx.task();
    // The last call of a walk has no task.
    if pointer.is_null() {
        return;
    }
    // SAFETY: the task of the iterator's context.
    let task = unsafe { Task::new(pointer) };
    if !task.is_leader() {
        return;
    }
    let Some(settings) = settings() else { return };
    let (tgid, start_ns) = (task.tgid(), task.start_ns());
    if tgid == 0 || tgid == settings.own_tgid {
        return;
    }
    // First what turns nearly all of them away in a sweep: what else is read of each lies in memory that nobody has used
    // lately, and waiting for that is most of what a sweep costs.
    if !gate::sweep_wants(settings.since_ns, start_ns, last_exec(tgid, start_ns)) {
        return;
    }
    // A zombie leader whose other threads live is a live process; one without is dead and was reported.
    if gate::group_died(task.signal().live()) {
        return;
    }
    let mut facts = task.facts(settings.cgroup_v1 != 0);
    recall(&mut facts);
    let record = AliveRecord { header: header::<AliveRecord>(kind::ALIVE, now_ns()), task: facts };
    let bytes: *const AliveRecord = &raw const record;
    // SAFETY: a record on the stack and its own length. No room: the kernel shows the task again.
    unsafe { bpf_seq_write(ctx.seq(), bytes.cast::<c_void>(), size_of::<AliveRecord>() as u32) };
}
