//! Attributes of processes and their threads in the kernel: read, written and read back. Values are texts, as
//! records keep them and people read them; equal texts are equal values. What is to be set, and what it was
//! before, is not known here.

mod affinity;
mod io_priority;
mod oom;
mod sched;

use std::io;
use std::path::Path;

use rustix::process::{Pid, getpriority_process, setpriority_process};

use crate::cgroup::CgroupError;
use crate::effect::kernel::EffectError;
use crate::model::attribute::{Attribute, Demand};
use crate::model::cpu_list::CpuList;
use crate::model::id::ProcKey;
use crate::model::limits::Limits;
use crate::procfs::stat::Stat;

pub(crate) use self::affinity::ANYWHERE;
pub(crate) use self::sched::is_special;

/// The threads of a process, by id and start; none when it is gone.
pub(crate) fn threads(proc: &Path, pid: u32) -> Result<Vec<ProcKey>, CgroupError> {
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
            threads.push(ProcKey { pid: tid, start: stat.start });
        }
    }
    threads.sort_unstable();
    Ok(threads)
}

/// Whether a thread is still the same one.
pub(crate) fn is_same_thread(proc: &Path, process: ProcKey, thread: ProcKey) -> bool {
    Stat::read_thread(proc, process.pid, thread.pid).is_ok_and(|stat| stat.start == thread.start)
}

/// Whether limits can be asked of processes on this machine at all.
pub(crate) fn check(limits: &Limits) -> Result<(), EffectError> {
    if let Some(why) = limits.contradiction() {
        return Err(EffectError::Refused(why.to_owned()));
    }
    let Some(cpus) = &limits.cpu_affinity else { return Ok(()) };
    let online = affinity::online().map_err(|error| EffectError::Refused(error.to_string()))?;
    if cpus.meets(&online) {
        return Ok(());
    }
    let why = format!("cpu_affinity {cpus}: none of these CPUs is online, which {online} are");
    Err(EffectError::Refused(why))
}

/// The value that a demand asks for where `base` is the one without us; `None` when it is to be left alone.
pub(crate) fn target(demand: &Demand, base: &str) -> Option<String> {
    match demand {
        Demand::Nice(nice) => Some(nice.to_string()),
        Demand::Sched(wanted) => sched::with_flags_of(base, *wanted),
        Demand::Io(wanted) => (!io_priority::is_real_time(base)).then(|| wanted.to_string()),
        Demand::Cpus(cpus) => Some(cpus.to_string()),
        Demand::OomAtLeast(least) => {
            let base: i16 = base.parse().ok()?;
            Some(base.max(least.get()).to_string())
        }
        Demand::OomAtMost(most) => {
            let base: i16 = base.parse().ok()?;
            Some(base.min(most.get()).to_string())
        }
        Demand::NiceAtMost(most) => {
            let base: i8 = base.parse().ok()?;
            Some(base.min(most.get()).to_string())
        }
    }
}

/// Whether what is in the kernel now is what we set.
pub(crate) fn is_as_set(attribute: Attribute, now: &str, set: &str) -> bool {
    match attribute {
        Attribute::Nice | Attribute::Sched | Attribute::IoPriority | Attribute::OomScoreAdj => now == set,
        // The kernel leaves out what the thread's cpuset does not have, now and whenever that changes.
        Attribute::CpuAffinity => {
            let list = |text: &str| text.parse::<CpuList>().ok();
            now == set || list(now).zip(list(set)).is_some_and(|(now, set)| now.is_within(&set))
        }
    }
}

/// The value of a thread now, or of its process; `None` when it is gone.
pub(crate) fn read(
    proc: &Path,
    attribute: Attribute,
    process: ProcKey,
    thread: ProcKey,
) -> Result<Option<String>, EffectError> {
    let Some(tid) = raw(thread) else { return Ok(None) };
    let result = match attribute {
        Attribute::Nice => getpriority_process(Some(tid)).map(|nice| nice.to_string()).map_err(Into::into),
        Attribute::Sched => sched::read(tid),
        Attribute::IoPriority => io_priority::read(tid),
        Attribute::CpuAffinity => affinity::read(proc, process.pid, thread.pid),
        Attribute::OomScoreAdj => oom::read(proc, process),
    };
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => {
            Err(EffectError::ReadAttribute { attribute, pid: process.pid, tid: thread.pid, source })
        }
    }
}

/// Sets a thread's value and reads it back; false when the thread is gone. `before` is the value that it had
/// without us.
pub(crate) fn set(
    proc: &Path,
    attribute: Attribute,
    process: ProcKey,
    thread: ProcKey,
    value: &str,
    before: &str,
) -> Result<bool, EffectError> {
    let Some(tid) = raw(thread) else { return Ok(false) };
    let result = match attribute {
        Attribute::Nice => {
            // Linux takes thread ids with `PRIO_PROCESS` (setpriority(2), "C library/kernel differences").
            let nice = number(value);
            nice.and_then(|nice| setpriority_process(Some(tid), nice).map_err(Into::into))
        }
        Attribute::Sched => sched::write(tid, value),
        Attribute::IoPriority => io_priority::write(tid, value),
        Attribute::CpuAffinity => affinity::write(tid, value),
        Attribute::OomScoreAdj => oom::write(proc, process, value, before),
    };
    let failed = |source| {
        let (pid, tid, value) = (process.pid, thread.pid, value.to_owned());
        EffectError::SetAttribute { attribute, pid, tid, value, source }
    };
    match result {
        Ok(()) => {}
        Err(error) if is_gone(&error) => return Ok(false),
        Err(source) => return Err(failed(source)),
    }
    match read(proc, attribute, process, thread)? {
        None => Ok(false),
        Some(now) if is_as_set(attribute, &now, value) => Ok(true),
        Some(now) => Err(failed(io::Error::other(format!("it reads {now} afterwards")))),
    }
}

fn raw(thread: ProcKey) -> Option<Pid> {
    i32::try_from(thread.pid).ok().and_then(Pid::from_raw)
}

fn number(text: &str) -> io::Result<i32> {
    text.parse().map_err(|_malformed| malformed(text))
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no value of it"))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
