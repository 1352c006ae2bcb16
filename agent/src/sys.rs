//! Raw calls that no safe library offers. The only file of the agent with unsafe code.
#![expect(unsafe_code, reason = "each block wraps one C call")]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Gives the calling thread the lowest real-time priority (`SCHED_FIFO` 1, sched(7)): it runs as soon as it
/// is woken, before every thread of normal priority. Threads that it starts do not inherit it.
///
/// # Errors
/// Without `CAP_SYS_NICE`, and in a cgroup that has no real-time bandwidth.
pub fn run_first() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a local that outlives the call; pid 0 is the calling thread.
    let result = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const param)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The sockets that a service manager has opened for this process (sd_listen_fds(3)); none where there is no
/// such manager, and none the second time: they are the caller's now.
///
/// # Errors
/// When the manager's variables are malformed, or a descriptor is not open.
pub fn passed_sockets() -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds()?;
    // SAFETY: LISTEN_PID names this process, so these descriptors were opened for it; `listen_fds` has just
    // found them open, and nobody else takes them: this is reached once.
    Ok(passed.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}

/// Gives freed heap pages back to the kernel (malloc_trim(3)). Parsing the kernel's BTF at start needs
/// tens of megabytes for milliseconds, which the allocator would keep for good.
#[cfg(target_env = "gnu")]
pub fn trim_heap() {
    // SAFETY: takes no pointer and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries give large blocks back by themselves.
#[cfg(not(target_env = "gnu"))]
pub const fn trim_heap() {}
