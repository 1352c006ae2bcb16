//! Facts of the machine: memory, boot id, largest pid, time since boot.

use std::time::Duration;

use crate::procfs::read::number;
use crate::procfs::{Proc, ProcError};

/// Longest mount table that is read, in bytes; one that long has tens of thousands of mounts.
pub(super) const MOUNTINFO_MAX: usize = 16 << 20;
/// Longest of the small files here, in bytes.
const SMALL_MAX: usize = 64 << 10;

impl Proc {
    /// Physical memory in bytes (`MemTotal` of `meminfo`).
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn memory_total(&self) -> Result<u64, ProcError> {
        self.parsed("meminfo", "a MemTotal line", |text| {
            let line =
                text.split_inclusive(|byte| *byte == b'\n').find_map(|l| l.strip_prefix(b"MemTotal:"))?;
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
