//! Nice values of all threads of a process, exactly as they were afterwards.

use std::io;
use std::path::Path;

use rustix::process::{Pid, getpriority_process, setpriority_process};

use crate::cgroup::CgroupError;
use crate::effect::kernel::EffectError;
use crate::model::id::ProcKey;
use crate::procfs::stat::Stat;

/// A thread and its nice value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thread {
    /// Its id and start.
    pub(crate) key: ProcKey,
    /// Its nice value now.
    pub(crate) nice: i64,
}

/// The threads of a process; none when it is gone.
pub(crate) fn threads(proc: &Path, pid: u32) -> Result<Vec<Thread>, CgroupError> {
    let path = proc.join(pid.to_string()).join("task");
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(CgroupError::io("list", &path, source)),
    };
    let mut threads = Vec::new();
    for entry in entries {
        // The process may end while it is listed.
        let Ok(entry) = entry else { break };
        let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(stat) = Stat::read_thread(proc, pid, tid) {
            threads.push(Thread { key: ProcKey { pid: tid, start: stat.start }, nice: i64::from(stat.nice) });
        }
    }
    threads.sort_by_key(|thread| thread.key);
    Ok(threads)
}

/// Sets a thread's nice value and reads it back; false when the thread is gone. Linux takes thread ids with
/// `PRIO_PROCESS` (setpriority(2), "C library/kernel differences").
pub(crate) fn set(pid: u32, tid: u32, nice: i64) -> Result<bool, EffectError> {
    let failed = |source: io::Error| EffectError::Nice { pid, tid, nice, source };
    let Some(raw) = i32::try_from(tid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    let value = i32::try_from(nice).unwrap_or(0);
    match setpriority_process(Some(raw), value).and_then(|()| getpriority_process(Some(raw))) {
        Ok(read) if read == value => Ok(true),
        Ok(read) => Err(failed(io::Error::other(format!("it reads {read} afterwards")))),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(failed(error.into())),
    }
}
