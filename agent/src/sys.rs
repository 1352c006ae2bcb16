//! Raw calls that no safe library offers. The only file of the agent with unsafe code.
#![expect(unsafe_code, reason = "each block wraps one C call")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Pid;

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

/// The scheduling policy of a thread, flags included (sched_getscheduler(2)).
///
/// # Errors
/// `ESRCH` when the thread is gone.
pub fn scheduling_policy(thread: Pid) -> io::Result<i32> {
    // SAFETY: takes no pointer. The raw call, because not every C library has the function.
    let result = unsafe { libc::syscall(libc::SYS_sched_getscheduler, thread.as_raw_nonzero().get()) };
    returned(result)
}

/// Gives a thread a scheduling policy that has no priorities; its nice value stays (sched_setscheduler(2)).
///
/// # Errors
/// `ESRCH` when the thread is gone, `EPERM` without `CAP_SYS_NICE`.
pub fn set_scheduling_policy(thread: Pid, policy: i32) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: the pointer is to a local that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, thread, policy, &raw const param) };
    returned(result).map(drop)
}

/// `IOPRIO_WHO_PROCESS` of linux/ioprio.h, which means one thread.
const ONE_THREAD: libc::c_int = 1;

/// The I/O priority of a thread: class and data as linux/ioprio.h packs them (ioprio_get(2)).
///
/// # Errors
/// `ESRCH` when the thread is gone.
pub fn io_priority(thread: Pid) -> io::Result<i32> {
    // SAFETY: takes no pointer.
    returned(unsafe { libc::syscall(libc::SYS_ioprio_get, ONE_THREAD, thread.as_raw_nonzero().get()) })
}

/// Sets what [`io_priority`] reads.
///
/// # Errors
/// `ESRCH` when the thread is gone, `EPERM` without `CAP_SYS_NICE`.
pub fn set_io_priority(thread: Pid, priority: i32) -> io::Result<()> {
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: takes no pointer.
    returned(unsafe { libc::syscall(libc::SYS_ioprio_set, ONE_THREAD, thread, priority) }).map(drop)
}

/// The result of a system call that returns an int.
fn returned(result: libc::c_long) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
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

/// Who a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Real, effective and saved uid.
    pub uid: u32,
    /// The same for the gid.
    pub gid: u32,
    /// Supplementary groups; those of the agent are given up.
    pub groups: Vec<u32>,
}

/// Has a command run in a session of its own, as somebody else, and with no descriptor but the first three. With
/// `orphan` it is not the agent's child either: what is started ends at once, and its child is the program. An error
/// on the way is the command's own.
pub fn detach(command: &mut Command, identity: Option<Identity>, orphan: bool) {
    let prepare = move || {
        done(new_session())?;
        set_umask();
        if orphan {
            become_an_orphan()?;
        }
        if let Some(Identity { uid, gid, groups }) = &identity {
            // In this order: each needs a right that the last one gives up (setuid(2)).
            done(set_groups(groups))?;
            done(set_gid(*gid))?;
            done(set_uid(*uid))?;
        }
        match done(close_on_exec()) {
            // Before Linux 5.11. Whatever the agent opens is closed on exec anyway.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Ok(()),
            other => other,
        }
    };
    // SAFETY: between fork and exec only system calls are made, on memory that was allocated before (fork(2): only
    // async-signal-safe functions). The closure allocates nothing: errors are made of their numbers.
    unsafe {
        command.pre_exec(prepare);
    }
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn new_session() -> libc::c_long {
    // SAFETY: takes no argument.
    libc::c_long::from(unsafe { libc::setsid() })
}

/// The agent's own keeps everything to itself.
fn set_umask() {
    // SAFETY: takes a number, and cannot fail.
    unsafe {
        libc::umask(0o022);
    }
}

fn set_groups(groups: &[u32]) -> libc::c_long {
    // SAFETY: pointer and length are those of one slice.
    libc::c_long::from(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })
}

fn set_gid(gid: u32) -> libc::c_long {
    // SAFETY: takes a number.
    libc::c_long::from(unsafe { libc::setgid(gid) })
}

fn set_uid(uid: u32) -> libc::c_long {
    // SAFETY: takes a number.
    libc::c_long::from(unsafe { libc::setuid(uid) })
}

fn close_on_exec() -> libc::c_long {
    // SAFETY: takes numbers (close_range(2)); descriptors stay open until exec, those of the caller among them.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }
}

/// Goes on as the child of a process that ends at once.
fn become_an_orphan() -> io::Result<()> {
    // SAFETY: this process has one thread: it is itself between fork and exec.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        // SAFETY: ends the process without running anything of the agent's.
        _ => unsafe { libc::_exit(0) },
    }
}

/// Gives freed heap pages back to the kernel (malloc_trim(3)). Parsing the kernel's BTF needs
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

/// Unmaps the pages of the program's code that have been used so far (madvise(2), `MADV_DONTNEED`). They stay in the
/// page cache, and what runs again is mapped again at its first step. A start, or reading
/// a profile, runs much of the program once, and each page that it touches brings its neighbours along: twelve
/// megabytes, of which an agent at work uses two.
///
/// # Errors
/// When `/proc/self` does not tell where the code is, or the kernel refuses.
pub fn unmap_used_code() -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for (start, length) in code_of(&program, &maps) {
        // SAFETY: the range is a private mapping of a file that nobody writes to: code has no relocations, so a page
        // that is unmapped is read again as it was.
        let result = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        done(libc::c_long::from(result))?;
    }
    Ok(())
}

/// Bytes in a ring buffer of BPF that were not taken out yet, the header of each record included (the layout is that of
/// linux/kernel/bpf/ringbuf.c: the reader's position at the beginning of one page, the writers' in the next). Maps both
/// for as long as it takes, so that it costs nothing while nobody asks.
///
/// # Errors
/// When the descriptor is none of a ring buffer, or the kernel refuses the mapping.
pub fn ring_waiting(ring: BorrowedFd<'_>) -> io::Result<u64> {
    let page = rustix::param::page_size();
    let (flags, length) = (libc::MAP_SHARED, 2 * page);
    // SAFETY: a new mapping of the kernel's choice, which nobody else knows of.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, flags, ring.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the first page of the mapping begins with the position, which is aligned and lives until `munmap` below;
    // others write it only as a whole word.
    let taken = unsafe { (*start.cast::<AtomicUsize>()).load(Ordering::Acquire) };
    // SAFETY: the same holds for the second page. It is read after the first, so it is never behind it.
    let written = unsafe { (*start.wrapping_byte_add(page).cast::<AtomicUsize>()).load(Ordering::Acquire) };
    // SAFETY: the range is exactly the mapping above, to which no reference is left.
    done(libc::c_long::from(unsafe { libc::munmap(start, length) }))?;
    // Positions only rise, and come round with the word.
    Ok(written.wrapping_sub(taken) as u64)
}

/// Start and length in bytes of each mapping of this program's code; one line of `/proc/PID/maps` (proc(5)) is
/// `start-end perms offset device inode path`, the path after blanks.
fn code_of(program: &Path, maps: &str) -> Vec<(usize, usize)> {
    let one = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let path = rest.splitn(5, ' ').last()?.trim_start();
        if !rest.starts_with("r-xp ") || Path::new(path) != program {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        Some((start, end.checked_sub(start)?))
    };
    maps.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_unmapped() {
        let maps = "\
            55d0c0000000-55d0c0100000 r--p 00000000 fe:00 42                         /usr/bin/a program\n\
            55d0c0100000-55d0c0300000 r-xp 00100000 fe:00 42                         /usr/bin/a program\n\
            55d0c0300000-55d0c0310000 rw-p 00300000 fe:00 42                         /usr/bin/a program\n\
            7f0000000000-7f0000001000 r-xp 00000000 fe:00 7                          /usr/lib/libc.so.6\n\
            7f0000002000-7f0000003000 rwxp 00000000 00:00 0 \n";
        assert_eq!(code_of(Path::new("/usr/bin/a program"), maps), [(0x55d0_c010_0000, 0x20_0000)]);
        assert_eq!(code_of(Path::new("/usr/bin/other"), maps), []);
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        use std::os::fd::AsFd as _;

        let (reader, _writer) = io::pipe().unwrap();
        assert!(ring_waiting(reader.as_fd()).is_err());
    }

    #[test]
    fn code_that_is_unmapped_runs_on() {
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!code_of(&program, &maps).is_empty(), "{maps}");
        unmap_used_code().unwrap();
        assert_eq!(code_of(&program, &std::fs::read_to_string("/proc/self/maps").unwrap()).len(), 1);
    }
}
