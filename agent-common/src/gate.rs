//! The decisions of the kernel-side programs, free of BPF so that the host can test them.

use crate::event::flag;
use crate::settings::Prefix;
use crate::text::CommBytes;

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Priority ring, with a forced wake-up.
    Priority,
    /// Bulk ring, without one.
    Bulk,
    /// No record: the sweep finds the process if it lives, its exit record tells all if it does not.
    Defer,
}

/// Where an exec goes, by the flags found for the process.
#[must_use]
pub const fn route_exec(flags: u32) -> Route {
    if flags & (flag::RULE | flag::CRITICAL) != 0 { Route::Priority } else { Route::Defer }
}

/// Where a fork goes, by the flags of the parent.
#[must_use]
pub const fn route_fork(parent_flags: u32) -> Route {
    if parent_flags & flag::CRITICAL != 0 { Route::Priority } else { Route::Defer }
}

/// Where an exit goes, by the flags found for the process.
#[must_use]
pub const fn route_exit(flags: u32) -> Route {
    if flags & flag::CRITICAL != 0 { Route::Priority } else { Route::Bulk }
}

/// Unit of a process's identity in user space: `USER_HZ` is 100 (proc_pid_stat(5), field 22).
pub const TICK_NANOS: u64 = 10_000_000;

/// Whether a task that started at `start_ns` is the one known by its start in ticks. The critical set is in
/// ticks, because a process found in `/proc` is known no better.
#[must_use]
pub const fn same_start(start_ns: u64, start_ticks: u64) -> bool {
    start_ns / TICK_NANOS == start_ticks
}

/// Whether a process whose slot another takes over may not have been reported yet: it exec'd since the last
/// sweep began.
#[must_use]
pub const fn loses_exec(since_ns: u64, owner_tgid: u32, owner_exec_ns: u64, tgid: u32) -> bool {
    owner_tgid != 0 && owner_tgid != tgid && owner_exec_ns >= since_ns
}

/// Whether the exit of one thread was the death of its process: no live thread is left.
#[must_use]
pub const fn group_died(live: i32) -> bool {
    live <= 0
}

/// Whether `comm` starts with `prefix`. An empty prefix matches nothing.
#[must_use]
pub const fn has_prefix(comm: &CommBytes, prefix: &Prefix) -> bool {
    let mask = u128::from_ne_bytes(prefix.mask);
    let differs = u128::from_ne_bytes(*comm) ^ u128::from_ne_bytes(prefix.bytes);
    mask != 0 && differs & mask == 0
}

/// `SIGNAL_GROUP_EXIT` of include/linux/sched/signal.h.
const SIGNAL_GROUP_EXIT: u32 = 0x4;

/// The wait status of a dead process: the group's code when one was set, else the leader's, as
/// `wait_task_zombie` of kernel/exit.c does.
#[must_use]
pub const fn wait_status(signal_flags: u32, group_exit_code: i32, leader_exit_code: i32) -> u32 {
    let code = if signal_flags & SIGNAL_GROUP_EXIT != 0 { group_exit_code } else { leader_exit_code };
    code.cast_unsigned() & 0xffff
}

/// Whether the task iterator reports a process: always in a snapshot (`since_ns` 0), else when it was born
/// or last exec'd since then.
#[must_use]
pub const fn sweep_wants(since_ns: u64, start_ns: u64, exec_ns: u64) -> bool {
    since_ns == 0 || start_ns >= since_ns || exec_ns >= since_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::comm_key;

    #[test]
    fn only_matches_wake() {
        assert_eq!(route_exec(0), Route::Defer);
        assert_eq!(route_exec(flag::KTHREAD | flag::EXECED), Route::Defer);
        assert_eq!(route_exec(flag::RULE), Route::Priority);
        assert_eq!(route_exec(flag::CRITICAL), Route::Priority);
        assert_eq!(route_fork(flag::RULE), Route::Defer);
        assert_eq!(route_fork(flag::CRITICAL), Route::Priority);
        assert_eq!(route_exit(flag::RULE), Route::Bulk);
        assert_eq!(route_exit(flag::CRITICAL), Route::Priority);
    }

    #[test]
    fn starts_agree_within_a_tick() {
        assert!(same_start(10 * TICK_NANOS, 10));
        assert!(same_start(11 * TICK_NANOS - 1, 10));
        assert!(!same_start(11 * TICK_NANOS, 10));
    }

    #[test]
    fn only_an_unreported_owner_is_a_loss() {
        assert!(loses_exec(10, 7, 10, 8));
        assert!(!loses_exec(10, 7, 9, 8), "already swept");
        assert!(!loses_exec(10, 7, 10, 7), "its own slot, or an earlier process of the same pid: it is dead");
        assert!(!loses_exec(10, 0, 10, 8), "free");
    }

    #[test]
    fn prefixes_compare_their_own_length() {
        let comm = comm_key(b"backup-nightly");
        assert!(has_prefix(&comm, &Prefix::new(b"backup")));
        assert!(has_prefix(&comm, &Prefix::new(b"backup-nightly")));
        assert!(!has_prefix(&comm, &Prefix::new(b"backup-nightly2")));
        assert!(!has_prefix(&comm, &Prefix::new(b"b4ckup")));
        assert!(!has_prefix(&comm, &Prefix::default()));
        assert!(!has_prefix(&comm, &Prefix::new(b"")));
        assert!(
            has_prefix(&comm_key(b"fifteen-bytes-x"), &Prefix::new(b"fifteen-bytes-xyz")),
            "cut like a comm"
        );
    }

    #[test]
    fn status_is_the_groups_or_the_leaders() {
        assert_eq!(wait_status(SIGNAL_GROUP_EXIT, 9, 0), 9);
        assert_eq!(wait_status(0, 9, 3 << 8), 3 << 8);
        assert_eq!(wait_status(SIGNAL_GROUP_EXIT, 0x8b, 0), 0x8b);
        assert_eq!(wait_status(0, 0, -1), 0xffff);
    }

    #[test]
    fn group_dies_with_its_last_thread() {
        assert!(group_died(0));
        assert!(group_died(-1));
        assert!(!group_died(1));
    }

    #[test]
    fn sweep_reports_the_new_and_the_changed() {
        assert!(sweep_wants(0, 0, 0));
        assert!(sweep_wants(10, 10, 0));
        assert!(sweep_wants(10, 3, 11));
        assert!(!sweep_wants(10, 9, 9));
    }
}
