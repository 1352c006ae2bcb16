//! What cgroups report about themselves.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::cgroup::error::{CgroupError, shown};

/// CPU bandwidth accounting of a cgroup, since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStat {
    /// Periods in which the group ran.
    pub periods: u64,
    /// Periods in which it used up its quota.
    pub throttled_periods: u64,
    /// Time for which it was held back, in ns.
    pub throttled_ns: u64,
}

impl CpuStat {
    /// From `cpu.stat`; `throttled_time` is in ns on v1, `throttled_usec` in µs on v2. Keys that are absent
    /// (v2 without the cpu controller) count as zero.
    #[must_use]
    pub fn parse(contents: &str) -> Self {
        let mut stat = Self::default();
        for (key, value) in contents.lines().filter_map(|line| line.split_once(' ')) {
            let Ok(value) = value.trim().parse::<u64>() else { continue };
            match key {
                "nr_periods" => stat.periods = value,
                "nr_throttled" => stat.throttled_periods = value,
                "throttled_time" => stat.throttled_ns = value,
                "throttled_usec" => stat.throttled_ns = value.saturating_mul(1_000),
                _ => {}
            }
        }
        stat
    }

    /// Reads `cpu.stat` of a cgroup.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(dir: &Path) -> Result<Self, CgroupError> {
        read(&dir.join("cpu.stat")).map(|text| Self::parse(&text))
    }

    /// What several cgroups report, together; `None` of none.
    #[must_use]
    pub fn total(stats: impl Iterator<Item = Self>) -> Option<Self> {
        stats.reduce(|a, b| Self {
            periods: a.periods + b.periods,
            throttled_periods: a.throttled_periods + b.throttled_periods,
            throttled_ns: a.throttled_ns + b.throttled_ns,
        })
    }

    /// Reads `cpu.stat` of many cgroups, at two thirds of the cost for those in a row that are below one cgroup, whose path
    /// is walked once. One that cannot be read is left out: it has gone away.
    pub fn each(dirs: Vec<PathBuf>) -> impl Iterator<Item = (PathBuf, Self)> {
        let mut above: Option<(PathBuf, OwnedFd)> = None;
        let mut bytes = [0; SMALL];
        let mut stat = move |dir: &Path| {
            let (parent, name) = (dir.parent()?, dir.file_name()?);
            if above.as_ref().is_none_or(|(path, _)| path.as_os_str() != parent.as_os_str()) {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                above = Some((parent.to_owned(), rustix::fs::open(parent, flags, Mode::empty()).ok()?));
            }
            let path = Path::new(name).join("cpu.stat");
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&above.as_ref()?.1, path, flags, Mode::empty()).ok()?;
            let length = rustix::io::read(file, &mut bytes).ok()?;
            Some(Self::parse(std::str::from_utf8(bytes.get(..length)?).ok()?))
        };
        dirs.into_iter().filter_map(move |dir| stat(&dir).map(|stat| (dir, stat)))
    }
}

/// CPU time that the processes of a cgroup and of those below it have used since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// In ns.
    pub used_ns: u64,
}

impl CpuUsage {
    /// From `cpu.stat` of v2; `None` from that of v1.
    #[must_use]
    pub fn parse(contents: &str) -> Option<Self> {
        let micros = contents.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        Some(Self { used_ns: micros.trim().parse::<u64>().ok()?.saturating_mul(1_000) })
    }
}

/// The open files of a cgroup that tell of its CPU time: reading them again costs a tenth of opening them.
#[derive(Debug)]
pub struct CpuMeter {
    dir: PathBuf,
    stat: File,
    /// `cpuacct.usage`, where that controller is on the same hierarchy (v1).
    usage: Option<File>,
}

impl CpuMeter {
    /// Opens the files of a cgroup.
    ///
    /// # Errors
    /// When `cpu.stat` cannot be opened, such as when the cgroup is gone.
    pub fn open(dir: &Path) -> Result<Self, CgroupError> {
        let path = dir.join("cpu.stat");
        let stat = File::open(&path).map_err(|source| CgroupError::io("open", &path, source))?;
        let usage = dir.join("cpuacct.usage");
        let usage = match File::open(&usage) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(CgroupError::io("open", &usage, source)),
        };
        Ok(Self { dir: dir.to_owned(), stat, usage })
    }

    /// The cgroup.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the quota did.
    ///
    /// # Errors
    /// When it cannot be read: ENODEV once the cgroup is gone, also when there is a new one of its name.
    pub fn stat(&self) -> Result<CpuStat, CgroupError> {
        self.read(&self.stat, "cpu.stat", CpuStat::parse)
    }

    /// CPU time: `usage_usec` of `cpu.stat` (v2), or `cpuacct.usage` (v1); `None` where neither is: v1 with the two
    /// controllers mounted apart.
    ///
    /// # Errors
    /// As [`Self::stat`].
    pub fn usage(&self) -> Result<Option<CpuUsage>, CgroupError> {
        match &self.usage {
            Some(file) => {
                self.read(file, "cpuacct.usage", |text| Some(CpuUsage { used_ns: text.trim().parse().ok()? }))
            }
            None => self.read(&self.stat, "cpu.stat", CpuUsage::parse),
        }
    }

    fn read<T>(&self, file: &File, name: &str, parse: impl FnOnce(&str) -> T) -> Result<T, CgroupError> {
        let path = || self.dir.join(name);
        let mut bytes = [0; SMALL];
        let length =
            file.read_at(&mut bytes, 0).map_err(|source| CgroupError::io("read", &path(), source))?;
        let text = std::str::from_utf8(bytes.get(..length).unwrap_or_default());
        let text =
            text.map_err(|error| CgroupError::Malformed { path: shown(&path()), why: error.to_string() })?;
        Ok(parse(text))
    }
}

/// More than `cpu.stat` ever has.
const SMALL: usize = 4_096;

/// What a cgroup uses now. A field is absent where its controller is not on this cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes charged to it.
    pub memory: Option<u64>,
    /// Tasks in it, threads included.
    pub pids: Option<u64>,
}

/// A number in a file; `None` when there is no such file.
///
/// # Errors
/// When it exists and cannot be read or is no number.
pub fn number(path: &Path) -> Result<Option<u64>, CgroupError> {
    match read(path) {
        Ok(text) => text
            .trim()
            .parse()
            .map(Some)
            .map_err(|error| CgroupError::Malformed { path: shown(path), why: format!("{error}: {text:?}") }),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    text(read_bytes(path)?, path)
}

/// The same of a file that is open, under the name that errors give it.
pub(crate) fn read_open(file: File, path: &Path) -> Result<String, CgroupError> {
    text(bytes_of(file, path)?, path)
}

fn text(bytes: Vec<u8>, path: &Path) -> Result<String, CgroupError> {
    String::from_utf8(bytes)
        .map_err(|error| CgroupError::Malformed { path: shown(path), why: error.to_string() })
}

/// A file of the kernel in as few reads as possible: they have no size to ask for, and are mostly small.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, CgroupError> {
    let file = File::open(path).map_err(|source| CgroupError::io("read", path, source))?;
    bytes_of(file, path)
}

fn bytes_of(mut file: File, path: &Path) -> Result<Vec<u8>, CgroupError> {
    let failed = |source| CgroupError::io("read", path, source);
    let mut bytes = vec![0; SMALL];
    let length = file.read(&mut bytes).map_err(failed)?;
    bytes.truncate(length);
    // A read ends before the next record when that does not fit (fs/seq_file.c); none is as long as half the buffer.
    // Longer files, which are rare, from the start, however long they are.
    if length >= bytes.capacity() / 2 && file.read(&mut [0; 1]).map_err(failed)? > 0 {
        bytes.clear();
        file.rewind().map_err(failed)?;
        file.read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let expected = CpuStat { periods: 5, throttled_periods: 3, throttled_ns: 7_000 };
        assert_eq!(CpuStat::parse("nr_periods 5\nnr_throttled 3\nthrottled_time 7000\n"), expected);
        let v2 = "usage_usec 9\nnr_periods 5\nnr_throttled 3\nthrottled_usec 7\nnr_bursts 0\n";
        assert_eq!(CpuStat::parse(v2), expected);
        assert_eq!(CpuUsage::parse(v2), Some(CpuUsage { used_ns: 9_000 }));
        assert_eq!(CpuUsage::parse("nr_periods 5\n"), None);
        assert_eq!(CpuStat::parse("nonsense\nnr_periods x\n\n"), CpuStat::default());
    }

    #[test]
    fn each_that_is_there_is_read() {
        let root = tempfile::tempdir().unwrap();
        let dirs = ["a/1", "a/2", "b/1", "gone/1", "a/gone"].map(|name| root.path().join(name));
        for (dir, periods) in dirs.iter().zip(1..4) {
            std::fs::create_dir_all(dir).unwrap();
            std::fs::write(dir.join("cpu.stat"), format!("nr_periods {periods}\n")).unwrap();
        }
        let read: Vec<_> = CpuStat::each(dirs.to_vec()).map(|(dir, stat)| (dir, stat.periods)).collect();
        assert_eq!(read, dirs.into_iter().zip(1..4).collect::<Vec<_>>());
    }
}
