//! Where the running kernel keeps the members that the programs read. Rust emits no CO-RE relocations, so
//! the loader resolves them from the kernel's BTF and writes them into the object before it is loaded.

macro_rules! offsets {
    (
        $(#[$about:meta])* $name:ident $(, $(#[$subsys_doc:meta])* $subsys:ident)?;
        $($(#[$doc:meta])* $field:ident: $owner:literal . $member:literal,)*
    ) => {
        $(#[$about])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: u32,)*
            $($(#[$subsys_doc])* pub $subsys: u32,)?
        }

        impl $name {
            /// Number of fields.
            pub const FIELDS: usize = [$($member,)* $(stringify!($subsys))?].len();
            /// What the object holds before the loader fills it in.
            pub const UNRESOLVED: Self = Self { $($field: 0,)* $($subsys: 0)? };

            /// Resolves every member by `offset_of(struct, member)`.
            ///
            /// # Errors
            /// The first error of `offset_of`.
            pub fn resolve<E>(
                $($subsys: u32,)?
                mut offset_of: impl FnMut(&'static str, &'static str) -> Result<u32, E>,
            ) -> Result<Self, E> {
                Ok(Self { $($field: offset_of($owner, $member)?,)* $($subsys)? })
            }
        }
    };
}

offsets! {
    /// Offsets in bytes, one global of the object; and one enum value.
    Offsets,
    /// `cpu_cgrp_id` of `enum cgroup_subsys_id`: the index into `css_set.subsys`.
    cpu_subsys;
    /// Thread id.
    task_pid: "task_struct"."pid",
    /// Process id.
    task_tgid: "task_struct"."tgid",
    /// First thread of the process.
    task_group_leader: "task_struct"."group_leader",
    /// The parent, whoever traces.
    task_real_parent: "task_struct"."real_parent",
    /// Start, ns since boot.
    task_start_boottime: "task_struct"."start_boottime",
    /// `PF_*`.
    task_flags: "task_struct"."flags",
    /// Wait status of the thread.
    task_exit_code: "task_struct"."exit_code",
    /// The process's shared state.
    task_signal: "task_struct"."signal",
    /// Effective credentials; real ids of them are read.
    task_cred: "task_struct"."cred",
    /// Name.
    task_comm: "task_struct"."comm",
    /// The css_set.
    task_cgroups: "task_struct"."cgroups",
    /// The scheduling entity.
    task_se: "task_struct"."se",
    /// CPU time of the thread, ns.
    se_sum_exec_runtime: "sched_entity"."sum_exec_runtime",
    /// Live threads.
    signal_live: "signal_struct"."live",
    /// Wait status of a group exit.
    signal_group_exit_code: "signal_struct"."group_exit_code",
    /// `SIGNAL_*`.
    signal_flags: "signal_struct"."flags",
    /// Peak resident set, pages.
    signal_maxrss: "signal_struct"."maxrss",
    /// CPU time of threads that are gone, ns.
    signal_sum_sched_runtime: "signal_struct"."sum_sched_runtime",
    /// Real uid.
    cred_uid: "cred"."uid",
    /// Real gid.
    cred_gid: "cred"."gid",
    /// Cgroup in the unified hierarchy.
    css_set_dfl_cgrp: "css_set"."dfl_cgrp",
    /// States by controller.
    css_set_subsys: "css_set"."subsys",
    /// Cgroup of a state.
    css_cgroup: "cgroup_subsys_state"."cgroup",
    /// Directory of a cgroup.
    cgroup_kn: "cgroup"."kn",
    /// Id of a directory: its inode number where inode numbers have 64 bits.
    kernfs_id: "kernfs_node"."id",
}

offsets! {
    /// Where a memory cgroup keeps its limit: what tells which limit the OOM killer enforced, and nothing else.
    CauseOffsets,
    /// `memory_cgrp_id` of `enum cgroup_subsys_id`.
    memory_subsys;
    /// State above, or null.
    css_parent: "cgroup_subsys_state"."parent",
    /// The controller's state as every controller has it; it comes first, and that is checked.
    memcg_css: "mem_cgroup"."css",
    /// The account of memory.
    memcg_memory: "mem_cgroup"."memory",
    /// Pages in use.
    counter_usage: "page_counter"."usage",
    /// Pages allowed.
    counter_max: "page_counter"."max",
}

offsets! {
    /// Where the kernel keeps when a thread was queued and how long it has waited (`CONFIG_SCHED_INFO`), and the clock of
    /// a run queue that both are told by (`CONFIG_FAIR_GROUP_SCHED`).
    WaitOffsets;
    /// The account.
    task_sched_info: "task_struct"."sched_info",
    /// How often it was given a CPU.
    info_pcount: "sched_info"."pcount",
    /// Time waited in all, ns: without the wait that goes on, on the CPU where it does.
    info_run_delay: "sched_info"."run_delay",
    /// Since when it waits on the run queue that it is on, by that one's clock; 0: it does not.
    info_last_queued: "sched_info"."last_queued",
    /// The queue of its group on its CPU, whatever its policy.
    se_cfs_rq: "sched_entity"."cfs_rq",
    /// The run queue of that CPU.
    cfs_rq_rq: "cfs_rq"."rq",
    /// When that was looked at last, ns (`rq_clock` of kernel/sched/sched.h).
    rq_clock: "rq"."clock",
}

/// What the tracepoint `mark_victim` carries.
pub mod victim {
    /// The pid of a thread of the process: Linux before 6.8.
    pub const PID: u32 = 1;
    /// Its `task_struct`.
    pub const TASK: u32 = 2;
}
