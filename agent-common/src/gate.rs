//! The decisions of the kernel-side programs, free of BPF so that the host can test them.

use crate::event::death::{limit, origin};
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

/// Word and bit of a tgid in `WATCHED`.
#[must_use]
pub const fn watched(tgid: u32) -> (u32, u64) {
    let bit = tgid % (crate::abi::WATCHED_WORDS * 64);
    (bit / 64, 1 << (bit % 64))
}

/// Key of `SIGNALS`.
#[must_use]
pub const fn signal_key(tgid: u32, signal: u32) -> u64 {
    ((tgid as u64) << 32) | signal as u64
}

/// Signals that end no process unless it wants to: SIGCHLD, SIGCONT, the four that stop, SIGURG and SIGWINCH
/// (signal(7), numbers of x86-64 and arm64).
const HARMLESS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 28;

/// Whether a signal can end a process, so that its sender is worth knowing.
#[must_use]
pub const fn may_end(signal: u32) -> bool {
    signal != 0 && signal <= 64 && (signal == 64 || HARMLESS & (1 << signal) == 0)
}

/// Signals that ask a process to end by itself: SIGTERM, SIGINT, SIGQUIT.
pub const REQUESTS: [u32; 3] = [15, 2, 3];

/// Whether `signal_generate` says that the signal is on its way: delivered, or delivered without its siginfo
/// (`TRACE_SIGNAL_*` of include/trace/events/signal.h).
#[must_use]
pub const fn is_sent(result: i32) -> bool {
    matches!(result, 0 | 4)
}

/// Who sent a signal, one of [`origin`]: by the address of its `kernel_siginfo`, of which 0 and 1 are
/// `SEND_SIG_NOINFO` and `SEND_SIG_PRIV` (include/linux/signal.h), and its `si_code`.
#[must_use]
pub const fn signal_origin(info: u64, code: i32) -> u32 {
    match (info, code) {
        (0, _) => origin::PROCESS,
        (1, _) => origin::KERNEL,
        // SI_USER, SI_QUEUE, SI_TKILL: no process can have another's name on them, since it is the one that
        // runs that is noted.
        (_, 0 | -1 | -6) => origin::PROCESS,
        (_, 1..) => origin::KERNEL,
        (_, _) => origin::UNKNOWN,
    }
}

/// Whether a memory cgroup is at its limit as far as the OOM killer is concerned. Its account goes by batches
/// of pages and others free some meanwhile, so a little is allowed for.
#[must_use]
pub const fn at_limit(usage: u64, max: u64) -> bool {
    /// `PAGE_COUNTER_MAX` is `LONG_MAX / PAGE_SIZE`; no page is larger than 64 KiB.
    const UNLIMITED: u64 = (i64::MAX / 65_536) as u64;
    max < UNLIMITED && usage.saturating_add(64 + max / 64) >= max
}

/// Which limit made the OOM killer choose a process, one of [`limit`]. `full`: a memory cgroup around it is at
/// its limit; `inside`: whoever was short of memory is in that cgroup, too.
#[must_use]
pub const fn oom_limit(known: bool, full: bool, inside: bool) -> u32 {
    match (known, full, inside) {
        (false, _, _) | (true, true, false) => limit::UNKNOWN,
        (true, true, true) => limit::CGROUP,
        (true, false, _) => limit::MACHINE,
    }
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

    #[test]
    fn every_pid_has_a_bit() {
        assert_eq!(watched(0), (0, 1));
        assert_eq!(watched(65_535), (1023, 1 << 63));
        assert_eq!(watched(65_536 + 64), (1, 1));
    }

    #[test]
    fn only_signals_that_can_end_are_noted() {
        for signal in [1, 2, 3, 6, 9, 11, 15, 31, 34, 64] {
            assert!(may_end(signal), "{signal}");
        }
        for signal in [0, 17, 18, 19, 20, 21, 22, 23, 28, 65, u32::MAX] {
            assert!(!may_end(signal), "{signal}");
        }
        assert!(is_sent(0) && is_sent(4));
        assert!(!is_sent(1) && !is_sent(2) && !is_sent(3) && !is_sent(-1));
        assert_ne!(signal_key(1, 9), signal_key(9, 1));
    }

    #[test]
    fn the_sender_is_known_by_the_siginfo() {
        assert_eq!(signal_origin(0, 77), origin::PROCESS);
        assert_eq!(signal_origin(1, 0), origin::KERNEL);
        for (code, from) in [
            (0, origin::PROCESS),
            (-1, origin::PROCESS),
            (-6, origin::PROCESS),
            (0x80, origin::KERNEL),
            (1, origin::KERNEL),
            (-2, origin::UNKNOWN),
            (i32::MIN, origin::UNKNOWN),
        ] {
            assert_eq!(signal_origin(0xffff_8880_0000_0000, code), from, "{code}");
        }
    }

    #[test]
    fn a_full_cgroup_around_both_is_the_limit() {
        assert!(at_limit(4096, 4096) && at_limit(4000, 4096));
        assert!(!at_limit(3900, 4096) && !at_limit(u64::MAX, (i64::MAX / 4096) as u64));
        assert_eq!(oom_limit(true, true, true), limit::CGROUP);
        assert_eq!(
            oom_limit(true, true, false),
            limit::UNKNOWN,
            "it is full, but who was short is elsewhere"
        );
        assert_eq!(oom_limit(true, false, false), limit::MACHINE);
        assert_eq!(oom_limit(false, false, false), limit::UNKNOWN);
    }
}
