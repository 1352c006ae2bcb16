//! Moving processes between cgroups, in batches: the first write to a `cgroup.procs` waits for a grace
//! period of milliseconds, those that follow at once take microseconds (cgroup_threadgroup_rwsem).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cgroup::CgroupError;
use crate::model::id::ProcKey;
use crate::procfs::stat::Stat;

/// An open `cgroup.procs`.
#[derive(Debug)]
pub(crate) struct Door {
    file: File,
    path: PathBuf,
}

impl Door {
    pub(crate) fn open(dir: &Path) -> Result<Self, CgroupError> {
        let path = dir.join("cgroup.procs");
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|source| CgroupError::io("open", &path, source))?;
        Ok(Self { file, path })
    }

    /// Moves a process with all its threads; false when it is gone.
    pub(crate) fn admit(&mut self, pid: u32) -> Result<bool, CgroupError> {
        match self.file.write_all(pid.to_string().as_bytes()) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(source) => Err(CgroupError::write(&self.path, &pid.to_string(), source)),
        }
    }
}

/// Children of a process that were born at `since` (ticks since boot) or later: those that it forked while
/// it was being moved. `/proc/PID/task/TID/children` may miss some that fork meanwhile; the caller repeats.
pub(crate) fn children_since(proc: &Path, pid: u32, since: u64) -> Vec<ProcKey> {
    let Ok(tasks) = std::fs::read_dir(proc.join(pid.to_string()).join("task")) else { return Vec::new() };
    tasks.flatten().flat_map(|task| children_of_thread(proc, &task.path(), since)).collect()
}

/// The same of a process that has this many threads by now. If it is one, nothing else is looked at: the children of one
/// that has ended are its (find_new_reaper in kernel/exit.c).
pub(crate) fn children_by_threads(proc: &Path, pid: u32, threads: u32, since: u64) -> Vec<ProcKey> {
    if threads == 1 {
        let pid = pid.to_string();
        return children_of_thread(proc, &proc.join(&pid).join("task").join(pid), since);
    }
    children_since(proc, pid, since)
}

fn children_of_thread(proc: &Path, task: &Path, since: u64) -> Vec<ProcKey> {
    let text = std::fs::read_to_string(task.join("children")).unwrap_or_default();
    let born = |pid: u32| {
        let start = Stat::read(proc, pid).ok()?.start;
        (start >= since).then_some(ProcKey { pid, start })
    };
    text.split_ascii_whitespace().filter_map(|word| born(word.parse().ok()?)).collect()
}

/// The nearest cgroup at or above `dir` that exists, not above `mount`.
pub(crate) fn nearest(dir: &Path, mount: &Path) -> PathBuf {
    dir.ancestors()
        .take_while(|path| path.starts_with(mount))
        .find(|path| path.join("cgroup.procs").exists())
        .unwrap_or(mount)
        .to_owned()
}

/// How many threads there are and the pid that was given out last (`loadavg_proc_show`, fs/proc/loadavg.c): what was the
/// same before and after has in all likelihood seen no process come. None where it cannot be told.
pub(crate) fn population(proc: &Path) -> Option<String> {
    let text = std::fs::read_to_string(proc.join("loadavg")).ok()?;
    text.split_once('/').map(|(_, threads_and_pid)| threads_and_pid.to_owned())
}

/// Which of these pidfds' processes have ended, in one call. As long as one has not, its pid is its own.
pub(crate) fn have_ended<'a>(pidfds: impl Iterator<Item = BorrowedFd<'a>>) -> Vec<bool> {
    let mut fds: Vec<PollFd<'_>> =
        pidfds.map(|pidfd| PollFd::from_borrowed_fd(pidfd, PollFlags::IN)).collect();
    let asked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    // Where that fails each is looked at by itself.
    fds.iter().map(|fd| asked.is_err() || !fd.revents().is_empty()).collect()
}

/// Whether a pid still is this process.
pub(crate) fn is_same(proc: &Path, key: ProcKey) -> io::Result<bool> {
    alive(proc, key).map(|found| found.is_some())
}

/// A process, if its pid still is its own.
pub(crate) fn alive(proc: &Path, key: ProcKey) -> io::Result<Option<Stat>> {
    match Stat::read(proc, key.pid) {
        Ok(stat) => Ok(Some(stat).filter(|stat| stat.start == key.start && stat.state != b'Z')),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use crate::effect::bed::Bed;

    use super::*;

    #[test]
    fn who_has_ended_is_told_by_the_pidfds_alone() {
        let mut bed = Bed::new();
        let throttle = bed.throttle();
        let guard = &throttle.kernel().guard;
        let keys = [bed.sleeper(), bed.sleeper(), bed.sleeper()];
        let held = keys.map(|key| guard.verify(key, &std::collections::BTreeSet::new()).unwrap().pidfd);
        let ended = || have_ended(held.iter().map(|pidfd| pidfd.as_fd()));
        assert_eq!(ended(), [false; 3]);
        bed.end(keys[1]);
        assert_eq!(ended(), [false, true, false]);
        assert_eq!(have_ended(std::iter::empty()), [false; 0]);
    }

    #[test]
    fn a_process_that_comes_changes_the_population() {
        let mut bed = Bed::new();
        let proc = bed.throttle().kernel().roots.proc.clone();
        let before = population(&proc).unwrap();
        bed.sleeper();
        assert_ne!(population(&proc), Some(before));
        assert_eq!(population(Path::new("/nowhere")), None);
    }
}
