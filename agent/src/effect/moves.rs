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
    let mut found = Vec::new();
    for task in tasks.flatten() {
        let Ok(text) = std::fs::read_to_string(task.path().join("children")) else { continue };
        for child in text.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()) {
            if let Ok(stat) = Stat::read(proc, child)
                && stat.start >= since
            {
                found.push(ProcKey { pid: child, start: stat.start });
            }
        }
    }
    found
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
    match Stat::read(proc, key.pid) {
        Ok(stat) => Ok(stat.start == key.start && stat.state != b'Z'),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}
