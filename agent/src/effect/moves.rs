//! Moving processes between cgroups, in batches: the first write to a `cgroup.procs` waits for a grace
//! period of milliseconds, those that follow at once take microseconds (cgroup_threadgroup_rwsem).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

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
