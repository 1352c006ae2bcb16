//! One value in one file of a cgroup: read, written, compared.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::cgroup::dir::Dir;
use crate::cgroup::error::{CgroupError, shown};

/// Which part of a file a value is. Stored as text in the intents, so the forms never change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The whole file.
    Whole,
    /// The line `default N` (`io.weight`).
    Default,
    /// The line `MAJ:MIN N` (`blkio.throttle.*`), where absence means 0.
    Device(String),
    /// The word `KEY=N` on the line of `MAJ:MIN` (`io.max`), where absence means `max`.
    DeviceKey(String, String),
}

impl Part {
    /// As text: empty, `default`, `MAJ:MIN` or `MAJ:MIN KEY`.
    #[must_use]
    pub fn to_item(&self) -> String {
        match self {
            Self::Whole => String::new(),
            Self::Default => "default".to_owned(),
            Self::Device(device) => device.clone(),
            Self::DeviceKey(device, key) => format!("{device} {key}"),
        }
    }

    /// From [`Self::to_item`]'s text.
    #[must_use]
    pub fn from_item(item: &str) -> Self {
        match item.split_once(' ') {
            Some((device, key)) => Self::DeviceKey(device.to_owned(), key.to_owned()),
            None if item.is_empty() => Self::Whole,
            None if item == "default" => Self::Default,
            None => Self::Device(item.to_owned()),
        }
    }

    /// This part's value in the contents of the file.
    #[must_use]
    pub fn pick(&self, contents: &str) -> String {
        let line = |first: &str| {
            contents.lines().find_map(|line| line.split_once(' ').filter(|(head, _)| *head == first))
        };
        match self {
            Self::Whole => contents.trim_end().to_owned(),
            Self::Default => match line("default") {
                Some((_, value)) => value.trim().to_owned(),
                None => contents.trim_end().to_owned(),
            },
            Self::Device(device) => {
                line(device).map_or_else(|| "0".to_owned(), |(_, value)| value.trim().to_owned())
            }
            Self::DeviceKey(device, key) => line(device)
                .and_then(|(_, words)| {
                    words
                        .split_ascii_whitespace()
                        .filter_map(|word| word.split_once('='))
                        .find_map(|(name, value)| (name == key).then(|| value.to_owned()))
                })
                .unwrap_or_else(|| "max".to_owned()),
        }
    }

    /// What to write so that this part becomes `value`.
    #[must_use]
    pub fn line(&self, value: &str) -> String {
        match self {
            Self::Whole => value.to_owned(),
            Self::Default => format!("default {value}"),
            Self::Device(device) => format!("{device} {value}"),
            Self::DeviceKey(device, key) => format!("{device} {key}={value}"),
        }
    }
}

/// An open file of a cgroup and the part of it that is ours.
#[derive(Debug)]
pub struct Knob {
    file: File,
    path: PathBuf,
    part: Part,
}

/// Longest content that is read: `io.max` and `blkio.throttle.*` have a line per device.
const MOST: usize = 64 * 1024;

impl Knob {
    /// Opens the file for reading and writing. cgroupfs has no symbolic links, and none is followed.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: PathBuf, part: Part) -> Result<Self, CgroupError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|source| CgroupError::io("open", &path, source))?;
        Ok(Self { file, path, part })
    }

    /// The same of an open cgroup.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in(dir: &Dir, file: &str, part: Part) -> Result<Self, CgroupError> {
        Ok(Self { file: dir.file(file, true)?, path: dir.path().join(file), part })
    }

    /// The value of a part of a file, which is not opened for writing.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::read`].
    pub fn look(path: &Path, part: &Part) -> Result<String, CgroupError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|source| CgroupError::io("open", path, source))?;
        Self { file, path: path.to_owned(), part: part.clone() }.read()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The part.
    #[must_use]
    pub const fn part(&self) -> &Part {
        &self.part
    }

    /// The file's inode. kernfs numbers its nodes without giving a number to another one, so that a cgroup's file is
    /// told from that of a later cgroup with the same path (`__kernfs_new_node`, fs/kernfs/dir.c).
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn inode(&self) -> Result<u64, CgroupError> {
        let found = self.file.metadata().map_err(|source| CgroupError::io("stat", &self.path, source))?;
        Ok(found.ino())
    }

    /// The value now.
    ///
    /// # Errors
    /// When the file cannot be read, is longer than 64 KiB or not text.
    pub fn read(&self) -> Result<String, CgroupError> {
        let mut small = [0u8; 512];
        let length =
            self.file.read_at(&mut small, 0).map_err(|source| CgroupError::io("read", &self.path, source))?;
        if let Some(head) = small.get(..length)
            && length < small.len()
        {
            return self.text(head).map(|text| self.part.pick(text));
        }
        let mut all = small.to_vec();
        while all.len() < MOST {
            let offset = all.len();
            all.resize(offset + 4_096, 0);
            let at = u64::try_from(offset).unwrap_or(u64::MAX);
            let rest = all.get_mut(offset..).unwrap_or_default();
            let got =
                self.file.read_at(rest, at).map_err(|source| CgroupError::io("read", &self.path, source))?;
            all.truncate(offset + got);
            if got == 0 {
                return self.text(&all).map(|text| self.part.pick(text));
            }
        }
        Err(CgroupError::Malformed { path: shown(&self.path), why: format!("longer than {MOST} bytes") })
    }

    fn text<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, CgroupError> {
        std::str::from_utf8(bytes)
            .map_err(|error| CgroupError::Malformed { path: shown(&self.path), why: error.to_string() })
    }

    fn write(&self, line: &str) -> std::io::Result<usize> {
        #[cfg(test)]
        refusing::pass()?;
        self.file.write_at(line.as_bytes(), 0)
    }

    /// Writes a value and reads it back.
    ///
    /// # Errors
    /// When the kernel refuses the value, or shows another one afterwards.
    pub fn set(&self, value: &str) -> Result<(), CgroupError> {
        let line = self.part.line(value);
        self.write(&line).map_err(|source| CgroupError::write(&self.path, &line, source))?;
        let read = self.read()?;
        if read == value {
            Ok(())
        } else {
            Err(CgroupError::Mismatch { path: shown(&self.path), wrote: line, read })
        }
    }
}

#[cfg(test)]
pub(crate) mod refusing {
    //! A kernel that refuses a value, which a real one does for reasons that no test can bring about for each file.

    use std::cell::Cell;
    use std::io;

    thread_local! {
        static NEXT: Cell<Option<(u32, i32)>> = const { Cell::new(None) };
    }

    /// After so many values, the next that this thread writes is refused.
    pub(crate) fn after(values: u32, errno: i32) {
        NEXT.set(Some((values, errno)));
    }

    /// Refuses no more; whether one was refused.
    pub(crate) fn was_refused() -> bool {
        NEXT.take().is_none()
    }

    pub(super) fn pass() -> io::Result<()> {
        match NEXT.take() {
            None => Ok(()),
            Some((0, errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some((left, errno)) => {
                NEXT.set(Some((left - 1, errno)));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_files() {
        let io_max =
            "254:0 rbps=1048576 wbps=max riops=max wiops=max\n8:0 rbps=max wbps=7 riops=max wiops=max\n";
        let key = |device: &str, key: &str| Part::DeviceKey(device.to_owned(), key.to_owned());
        for (part, contents, value) in [
            (Part::Whole, "30000 100000\n", "30000 100000"),
            (Part::Whole, "-1\n", "-1"),
            (Part::Default, "default 100\n8:0 50\n", "100"),
            (Part::Default, "100\n", "100"),
            (Part::Device("254:0".into()), "253:0 5\n254:0 1048576\n", "1048576"),
            (Part::Device("254:0".into()), "", "0"),
            (Part::Device("54:0".into()), "254:0 5\n", "0"),
            (key("254:0", "rbps"), io_max, "1048576"),
            (key("8:0", "wbps"), io_max, "7"),
            (key("9:0", "wbps"), io_max, "max"),
        ] {
            assert_eq!(part.pick(contents), value, "{part:?}");
            assert_eq!(Part::from_item(&part.to_item()), part);
        }
        assert_eq!(key("8:0", "rbps").line("max"), "8:0 rbps=max");
        assert_eq!(Part::Device("8:0".into()).line("0"), "8:0 0");
        assert_eq!(Part::Default.line("5"), "default 5");
    }
}
