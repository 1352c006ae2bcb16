//! Scheduling policies, sched(7): `other`, `batch`, `idle`, and those that are only told apart from them.

use std::io;

use rustix::process::Pid;

use crate::model::attribute::Sched;
use crate::sys;

/// Policies of sched.h with their names; the last four are never set and never changed.
const POLICIES: [(i32, &str); 7] = [
    (libc::SCHED_OTHER, "other"),
    (libc::SCHED_BATCH, "batch"),
    (libc::SCHED_IDLE, "idle"),
    (libc::SCHED_FIFO, "fifo"),
    (libc::SCHED_RR, "rr"),
    (libc::SCHED_DEADLINE, "deadline"),
    (SCHED_EXT, "ext"),
];
/// Of linux/sched.h: a scheduler that is a BPF program.
const SCHED_EXT: i32 = 7;

/// Stands after the policy of a thread whose children start at the normal policy and no nice value below 0.
const RESET_ON_FORK: &str = " reset-on-fork";

/// Whether a thread has a policy that is not to be touched: a real-time one, or one of a scheduler that is a
/// BPF program. False when it is gone.
pub(crate) fn is_special(thread: u32) -> io::Result<bool> {
    let Some(thread) = i32::try_from(thread).ok().and_then(Pid::from_raw) else { return Ok(false) };
    match sys::scheduling_policy(thread) {
        Ok(policy) => Ok(!is_plain(policy & !libc::SCHED_RESET_ON_FORK)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

const fn is_plain(policy: i32) -> bool {
    matches!(policy, libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE)
}

pub(super) fn read(thread: Pid) -> io::Result<String> {
    let policy = sys::scheduling_policy(thread)?;
    let (number, flag) = (policy & !libc::SCHED_RESET_ON_FORK, policy & libc::SCHED_RESET_ON_FORK);
    let name = POLICIES.into_iter().find(|(other, _)| *other == number);
    let name = name.map_or_else(|| number.to_string(), |(_, name)| name.to_owned());
    Ok(if flag == 0 { name } else { name + RESET_ON_FORK })
}

pub(super) fn write(thread: Pid, value: &str) -> io::Result<()> {
    let (name, flag) = split(value);
    let policy = POLICIES.into_iter().find(|(number, other)| *other == name && is_plain(*number));
    let (policy, _) = policy.ok_or_else(|| super::malformed(value))?;
    sys::set_scheduling_policy(thread, if flag { policy | libc::SCHED_RESET_ON_FORK } else { policy })
}

/// A policy in place of another one, whose flag stays; `None` when that one is not to be touched.
pub(super) fn with_flags_of(base: &str, wanted: Sched) -> Option<String> {
    let (name, flag) = split(base);
    POLICIES.into_iter().find(|(number, other)| *other == name && is_plain(*number))?;
    Some(format!("{wanted}{}", if flag { RESET_ON_FORK } else { "" }))
}

fn split(value: &str) -> (&str, bool) {
    match value.strip_suffix(RESET_ON_FORK) {
        Some(name) => (name, true),
        None => (value, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stay_and_special_policies_are_left_alone() {
        assert_eq!(with_flags_of("other", Sched::Batch).unwrap(), "batch");
        assert_eq!(with_flags_of("batch reset-on-fork", Sched::Idle).unwrap(), "idle reset-on-fork");
        for base in ["fifo", "rr reset-on-fork", "deadline", "ext", "99", ""] {
            assert_eq!(with_flags_of(base, Sched::Batch), None, "{base}");
        }
    }

    #[test]
    fn a_thread_goes_there_and_back() {
        std::thread::spawn(|| {
            let own = rustix::thread::gettid();
            for value in ["batch", "idle", "other", "batch reset-on-fork", "other"] {
                write(own, value).unwrap();
                assert_eq!(read(own).unwrap(), value);
            }
            assert!(write(own, "fifo").is_err());
            assert!(!is_special(own.as_raw_nonzero().get().cast_unsigned()).unwrap());
        })
        .join()
        .unwrap();
    }
}
