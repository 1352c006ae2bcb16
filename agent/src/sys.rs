//! Raw calls that no safe library offers. The only file of the agent with unsafe code.
#![expect(unsafe_code, reason = "each block wraps one C call")]

use std::io;

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
