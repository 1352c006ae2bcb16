//! The CPUs that a thread may run on, sched_setaffinity(2).

use std::io::{self, Read as _};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::model::cpu_list::CpuList;

/// Every CPU that there can be.
pub(crate) const ANYWHERE: &str = "0-1023";

/// `status` is about 1.5 KB; the list stands at its end and is longer on machines with many CPUs.
const STATUS_MAX: u64 = 64 * 1024;

/// The CPUs that are running now, proc(5) being silent about them: `/sys/devices/system/cpu/online`.
pub(crate) fn online() -> io::Result<CpuList> {
    let path = "/sys/devices/system/cpu/online";
    let text = std::fs::read_to_string(path)?;
    text.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {error}")))
}

/// As `/proc/PID/task/TID/status` has it: with CPUs that are offline at the moment, which sched_getaffinity(2)
/// leaves out and which the thread is to have back, too.
pub(super) fn read(proc: &Path, pid: u32, tid: u32) -> io::Result<String> {
    let path = proc.join(pid.to_string()).join("task").join(tid.to_string()).join("status");
    let mut text = Vec::new();
    std::fs::File::open(&path)?.take(STATUS_MAX).read_to_end(&mut text)?;
    // The `Name` line cannot fake it: the kernel escapes newlines in it.
    let line = text
        .split_inclusive(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Cpus_allowed_list:\t")?.strip_suffix(b"\n"));
    let list = line.and_then(|line| std::str::from_utf8(line).ok()).and_then(|text| text.parse().ok());
    let list: CpuList = list.ok_or_else(|| {
        let message = format!("{}: no Cpus_allowed_list of CPUs up to {}", path.display(), CpuList::LAST);
        io::Error::new(io::ErrorKind::InvalidData, message)
    })?;
    Ok(list.to_string())
}

pub(super) fn write(thread: Pid, value: &str) -> io::Result<()> {
    let list: CpuList = value.parse().map_err(|_malformed| super::malformed(value))?;
    let mut set = CpuSet::new();
    list.iter().for_each(|cpu| set.set(cpu.into()));
    sched_setaffinity(Some(thread), &set).map_err(|error| match error {
        Errno::INVAL => io::Error::new(
            io::ErrorKind::InvalidInput,
            "none of these CPUs is online and in the thread's cpuset",
        ),
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_there_and_back() {
        std::thread::spawn(|| {
            let own = rustix::thread::gettid();
            let tid = own.as_raw_nonzero().get().cast_unsigned();
            let now = || read(Path::new("/proc"), std::process::id(), tid).unwrap();
            let before = now();
            let first = before.parse::<CpuList>().unwrap().iter().next().unwrap().to_string();
            write(own, &first).unwrap();
            assert_eq!(now(), first);
            write(own, &before).unwrap();
            assert_eq!(now(), before);
            assert_eq!(write(own, "1023").unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert!(online().unwrap().meets(&before.parse().unwrap()));
        })
        .join()
        .unwrap();
    }
}
