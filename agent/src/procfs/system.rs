//! Facts of the machine: memory, boot id, largest pid, time since boot.

use std::os::fd::AsFd as _;
use std::time::Duration;

use crate::model::id::TICK_NANOS;
use crate::procfs::read::{self, number};
use crate::procfs::{Proc, ProcError};

/// Longest mount table that is read, in bytes; one that long has tens of thousands of mounts.
pub(super) const MOUNTINFO_MAX: usize = 16 << 20;
/// Room for the first line of `stat`: eleven numbers.
const STAT_HEAD: usize = 256;
/// Longest of the small files here, in bytes.
const SMALL_MAX: usize = 64 << 10;

impl Proc {
    /// Physical memory in bytes (`MemTotal` of `meminfo`).
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn memory_total(&self) -> Result<u64, ProcError> {
        self.meminfo(b"MemTotal:", "a MemTotal line")
    }

    /// Memory that new work can have without swapping, in bytes, as the kernel estimates it (`MemAvailable`).
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn memory_available(&self) -> Result<u64, ProcError> {
        self.meminfo(b"MemAvailable:", "a MemAvailable line")
    }

    /// A line of `meminfo`, in bytes.
    fn meminfo(&self, field: &[u8], what: &'static str) -> Result<u64, ProcError> {
        self.parsed("meminfo", what, |text| {
            let line = text.split_inclusive(|byte| *byte == b'\n').find_map(|l| l.strip_prefix(field))?;
            number::<u64>(line.strip_suffix(b" kB\n")?.trim_ascii_start())?.checked_mul(1024)
        })
    }

    /// Identity of this boot: 36 characters of a UUID. Process start times are comparable within one boot
    /// only.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn boot_id(&self) -> Result<String, ProcError> {
        self.parsed("sys/kernel/random/boot_id", "a UUID", |text| {
            let id = std::str::from_utf8(text.strip_suffix(b"\n")?).ok()?;
            let plain = id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
            (id.len() == 36 && plain).then(|| id.to_owned())
        })
    }

    /// One more than the largest pid that the kernel gives out (`kernel.pid_max`).
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn pid_max(&self) -> Result<u32, ProcError> {
        self.parsed("sys/kernel/pid_max", "a number", |text| number(text.strip_suffix(b"\n")?))
    }

    /// Time since boot, suspend included, to 1/100 s.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn uptime(&self) -> Result<Duration, ProcError> {
        self.parsed("uptime", "seconds with two decimals", |text| {
            let mut parts = text.split(|byte| *byte == b' ').next()?.split(|byte| *byte == b'.');
            let seconds = number::<u64>(parts.next()?)?;
            let hundredths = parts.next().filter(|digits| digits.len() == 2).and_then(number::<u64>)?;
            seconds.checked_mul(1000)?.checked_add(hundredths * 10).map(Duration::from_millis)
        })
    }

    /// Load averages of 1, 5 and 15 minutes, in hundredths (proc_loadavg(5)).
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn load(&self) -> Result<[u32; 3], ProcError> {
        self.parsed("loadavg", "three numbers with two decimals", |text| {
            let mut fields = text.split(|byte| *byte == b' ').map(hundredths);
            Some([fields.next()??, fields.next()??, fields.next()??])
        })
    }

    /// Time in which CPUs ran something, summed over them, in µs since boot (proc_stat(5)): neither idle nor waiting
    /// for I/O.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn busy_us(&self) -> Result<u64, ProcError> {
        let mut buffer = [0; STAT_HEAD];
        let path = || self.path.join("stat");
        let text = read::head(self.root.as_fd(), "stat", &mut buffer, path)?;
        text.and_then(busy_ticks)
            .map(|ticks| ticks.saturating_mul(TICK_NANOS / 1_000))
            .ok_or_else(|| ProcError::malformed(path(), "a line of CPU times"))
    }

    fn parsed<T>(
        &self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, ProcError> {
        let text = self.file(name, SMALL_MAX)?;
        text.and_then(|text| parse(&text)).ok_or_else(|| ProcError::malformed(self.path.join(name), expected))
    }
}

/// `12.34` as 1234.
fn hundredths(text: &[u8]) -> Option<u32> {
    let dot = text.iter().position(|byte| *byte == b'.')?;
    let (whole, fraction) = (text.get(..dot)?, text.get(dot + 1..).filter(|fraction| fraction.len() == 2)?);
    number::<u32>(whole)?.checked_mul(100)?.checked_add(number(fraction)?)
}

/// Of the line for all CPUs: user, nice, system, irq, softirq and steal.
fn busy_ticks(text: &[u8]) -> Option<u64> {
    let line = text.strip_prefix(b"cpu  ")?.split(|byte| *byte == b'\n').next()?;
    let times: Vec<u64> =
        line.split(|byte| *byte == b' ').map(number::<u64>).take(8).collect::<Option<_>>()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = times.try_into().ok()?;
    [user, nice, system, irq, softirq, steal].into_iter().try_fold(0u64, u64::checked_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times() {
        let text = b"cpu  10 2 3 1000 50 4 5 6 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_ticks(text), Some(30));
        for bad in [&b"cpu 1 2 3\n"[..], b"cpu  1 2 3 4 5 6 7\n", b"cpu  1 2 3 4 5 6 7 x 0 0\n", b""] {
            assert_eq!(busy_ticks(bad), None);
        }
        assert_eq!((hundredths(b"0.05"), hundredths(b"12.3"), hundredths(b"1")), (Some(5), None, None));
    }

    #[test]
    fn the_machines_own() {
        let proc = Proc::host().unwrap();
        assert!(proc.busy_us().unwrap() > 0);
        assert!(proc.load().is_ok());
    }
}
