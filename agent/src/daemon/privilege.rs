//! What the daemon may do once it has started: less than a start needs.
//!
//! Capabilities are of a thread, and new threads have their creator's: this comes before the threads that work.

use std::io;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::sys;

/// What its work needs. Loading BPF programs (`CAP_PERFMON`) and giving the socket away (`CAP_CHOWN`) are over.
const KEPT: CapabilitySet = CapabilitySet::BPF // Linux before 5.19 asks for it at every access to a map.
    .union(CapabilitySet::NET_ADMIN) // The proc connector, when the BPF source breaks.
    .union(CapabilitySet::SYS_PTRACE) // Other users' processes in /proc.
    .union(CapabilitySet::SYS_NICE) // Nice values of others, and the engine thread's own priority.
    .union(CapabilitySet::SYS_RESOURCE) // Lower OOM scores of critical processes.
    .union(CapabilitySet::DAC_OVERRIDE) // Cgroups that were handed to other users.
    .union(CapabilitySet::DAC_READ_SEARCH);

/// What the thread of the scheduler's probes needs, and nothing else.
const TO_LOAD: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// What it needs besides where it runs programs itself, because no service manager does: to become who they run as
/// (SETUID, SETGID), and to kill them when their time is up (KILL).
const FOR_PROGRAMS: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL);

/// Nice value of the journal's thread, and of the engine thread where it gets no real-time priority.
const AHEAD_NICE: i32 = -5;

/// Gives up every other capability, of this thread and of those that it will start.
///
/// Where systemd runs the host it runs programs, too.
///
/// # Errors
/// When the kernel refuses, which it does not for less than there was; a container's filter may.
pub(super) fn reduce(systemd: bool) -> io::Result<()> {
    let kept = if systemd { KEPT } else { KEPT.union(FOR_PROGRAMS) };
    let mut sets = capabilities(None)?;
    sets.permitted &= kept;
    sets.effective &= kept;
    sets.inheritable = CapabilitySet::empty();
    set_capabilities(None, sets)?;
    Ok(())
}

/// Gives up what loading programs does not need, of this thread alone. It must be started before [`reduce`].
///
/// # Errors
/// As [`reduce`].
pub(super) fn reduce_to_load() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.permitted &= TO_LOAD;
    sets.effective &= TO_LOAD;
    sets.inheritable = CapabilitySet::empty();
    set_capabilities(None, sets)?;
    Ok(())
}

/// Does something as if this thread did not have these capabilities, which it has again afterwards.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn without<T>(these: CapabilitySet, work: impl FnOnce() -> T) -> io::Result<T> {
    let before = capabilities(None)?;
    let mut sets = before;
    sets.effective -= these;
    set_capabilities(None, sets)?;
    let done = work();
    set_capabilities(None, before)?;
    Ok(done)
}

/// Lets the engine thread run before others: it reacts when the machine is busiest, and needs microseconds.
/// Where real-time priority is not to be had, a better nice value is the next best.
pub(super) fn hurry() {
    if let Err(error) = sys::run_first().or_else(|_denied| nicer()) {
        tracing::warn!(%error, "the engine thread has normal priority and may react late on a busy machine");
    }
}

/// The priority of the journal's thread: an alert is owed once it has written it, and it may have much to write, by which it
/// must not keep others from running. So it is woken before others, and goes on before them only with little to do.
#[derive(Debug)]
pub(super) struct Pace {
    first: bool,
    /// Whether real-time priority is to be had.
    may: bool,
}

impl Pace {
    /// Of the calling thread, which from now on comes sooner than most.
    pub(super) fn new() -> Self {
        if let Err(error) = nicer() {
            tracing::warn!(%error, "the journal has normal priority, and alerts may be owed late on a busy machine");
        }
        Self { first: false, may: true }
    }

    /// Before the thread waits.
    pub(super) fn come_first(&mut self) {
        if self.first || !self.may {
            return;
        }
        match sys::run_first() {
            Ok(()) => self.first = true,
            Err(error) => {
                tracing::debug!(%error, "the journal has no real-time priority");
                self.may = false;
            }
        }
    }

    /// Before work that takes long, or that nobody waits for.
    pub(super) fn step_back(&mut self) {
        if !self.first {
            return;
        }
        match sys::set_scheduling_policy(rustix::thread::gettid(), libc::SCHED_OTHER) {
            Ok(()) => self.first = false,
            Err(error) => tracing::warn!(%error, "the journal keeps real-time priority"),
        }
    }
}

/// Without a pid it is the calling thread whose nice value is set (setpriority(2), "C library/kernel differences").
fn nicer() -> io::Result<()> {
    rustix::process::setpriority_process(None, AHEAD_NICE).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_waits_with_another_priority_than_it_works_with() {
        let policies = std::thread::spawn(|| {
            let policy =
                || sys::scheduling_policy(rustix::thread::gettid()).unwrap() & !libc::SCHED_RESET_ON_FORK;
            let mut pace = Pace::new();
            pace.come_first();
            let (waiting, first) = (policy(), pace.first);
            pace.step_back();
            (waiting, first, policy(), rustix::process::getpriority_process(None).unwrap())
        });
        let (waiting, first, working, nice) = policies.join().unwrap();
        // In a cgroup without real-time bandwidth there is none.
        assert_eq!(waiting, if first { libc::SCHED_FIFO } else { libc::SCHED_OTHER });
        assert_eq!((working, nice), (libc::SCHED_OTHER, AHEAD_NICE));
    }

    #[test]
    fn a_capability_is_back_after_work_without_it() {
        let (before, within, after) = std::thread::spawn(|| {
            let effective = || capabilities(None).unwrap().effective;
            (effective(), without(CapabilitySet::SYS_RESOURCE, effective).unwrap(), effective())
        })
        .join()
        .unwrap();
        assert_eq!(within, before - CapabilitySet::SYS_RESOURCE);
        assert_eq!(after, before);
    }

    #[test]
    fn the_thread_that_loads_can_do_nothing_else() {
        let load = || {
            reduce_to_load().unwrap();
            capabilities(None).unwrap()
        };
        let sets = std::thread::spawn(load).join().unwrap();
        assert_eq!(sets.permitted - TO_LOAD, CapabilitySet::empty());
        assert_eq!(sets.effective - TO_LOAD, CapabilitySet::empty());
    }

    #[test]
    fn nothing_else_is_left_to_the_thread_and_those_it_starts() {
        let after = |systemd| {
            let started = std::thread::spawn(move || {
                reduce(systemd).unwrap();
                std::thread::spawn(|| capabilities(None).unwrap()).join().unwrap()
            });
            started.join().unwrap()
        };
        let sets = after(true);
        assert_eq!(sets.effective - KEPT, CapabilitySet::empty());
        assert_eq!(sets.permitted - KEPT, CapabilitySet::empty());
        assert_eq!(after(false).permitted - KEPT - FOR_PROGRAMS, CapabilitySet::empty());
        assert!(!rustix::process::geteuid().is_root() || sets.effective.contains(CapabilitySet::SYS_NICE));
    }
}
