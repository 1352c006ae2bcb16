//! Readers of `/proc`, rooted at a path so that tests can give them a tree of their own.
//!
//! Everything read here may have been chosen by an unprivileged process: comm, argv, executable and cgroup
//! paths stay bytes, every parser is total, and a file that is cut off is an error, never a short value.
//! This module only reads; it knows no rules and keeps no state between calls.

pub mod cgroup;
pub mod listing;
pub mod pressure;
mod read;
pub mod stat;
pub mod status;
pub mod system;
pub mod waits;

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags};

use crate::model::id::{ProcKey, TICK_NANOS};
use crate::model::process::{Facts, Process, Wants};
use crate::model::time::Timestamp;
use cgroup::Hierarchy;
use stat::Stat;

pub use read::ProcError;

/// Longest command line that is kept, in bytes.
pub const CMDLINE_MAX: usize = 4096;
/// Longest path that is kept, in bytes: `PATH_MAX`.
const PATH_MAX: usize = 4096;
/// Longest `cgroup` file: a dozen hierarchies with a path each.
const CGROUP_MAX: usize = 16 * PATH_MAX;
/// A `stat` line is at most about 400 bytes.
const STAT_MAX: usize = 1024;
/// Uid and Gid stand in the first 300 bytes of `status`; the rest of it can be long (`Groups`).
const STATUS_HEAD: usize = 1024;

/// A `/proc`.
#[derive(Debug)]
pub struct Proc {
    root: OwnedFd,
    path: PathBuf,
    hierarchy: Option<Hierarchy>,
}

impl Proc {
    /// Opens the tree at `path` and finds the cgroup hierarchy from its `self/mountinfo`.
    ///
    /// # Errors
    /// When the directory cannot be opened or the mount table cannot be read.
    pub fn open(path: &Path) -> Result<Self, ProcError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|source| ProcError::io("opening", path, source))?;
        let mut proc = Self { root, path: path.to_owned(), hierarchy: None };
        proc.hierarchy =
            proc.file("self/mountinfo", system::MOUNTINFO_MAX)?.and_then(|t| Hierarchy::find(&t));
        Ok(proc)
    }

    /// Opens the machine's, wherever it is mounted.
    ///
    /// # Errors
    /// As [`Self::open`], and when it is of another pid namespace: its pids would be others than those that system
    /// calls of this process know.
    pub fn of_host(path: &Path) -> Result<Self, ProcError> {
        let proc = Self::open(path)?;
        // The link leads nowhere for a process that the mount's namespace does not know (proc(5)), and to another
        // number in one above ours.
        let link = rustix::fs::readlinkat(&proc.root, "self", Vec::new());
        let own = std::process::id().to_string();
        match link {
            Ok(pid) if pid.as_bytes() == own.as_bytes() => Ok(proc),
            Ok(_) | Err(rustix::io::Errno::NOENT) => Err(ProcError::OtherNamespace(path.to_owned())),
            Err(errno) => Err(ProcError::io("reading", &path.join("self"), errno)),
        }
    }

    /// Opens `/proc`.
    ///
    /// # Errors
    /// As [`Self::of_host`].
    #[cfg(test)]
    pub fn host() -> Result<Self, ProcError> {
        Self::of_host(Path::new("/proc"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same tree with the cgroup hierarchy that the caller has found.
    #[must_use]
    pub fn with_hierarchy(self, hierarchy: Option<Hierarchy>) -> Self {
        Self { hierarchy, ..self }
    }

    /// The cgroup hierarchy to which cgroup ids and paths refer; `None` when none is mounted.
    #[must_use]
    pub const fn hierarchy(&self) -> Option<&Hierarchy> {
        self.hierarchy.as_ref()
    }

    /// `PID/stat`; `None` when there is no such process. Zombies have one: see [`Stat::is_dead`].
    ///
    /// # Errors
    /// When it cannot be read or is malformed.
    pub fn stat(&self, pid: u32) -> Result<Option<Stat>, ProcError> {
        let mut name = read::Name::new();
        let name = name.of(pid, "/stat");
        read_stat(self.root.as_fd(), name, || self.path.join(name))
    }

    /// The live process with this pid; `None` when it is gone or dead.
    ///
    /// # Errors
    /// When a file of it cannot be read or is malformed.
    pub fn process(&self, pid: u32) -> Result<Option<Process>, ProcError> {
        Ok(self.remains(pid)?.filter(|(_, stat)| !stat.is_dead()).map(|(process, _)| process))
    }

    /// As [`Self::process`], but dead processes that wait to be reaped are returned as well.
    ///
    /// # Errors
    /// When a file of it cannot be read or is malformed.
    pub fn remains(&self, pid: u32) -> Result<Option<(Process, Stat)>, ProcError> {
        let Some(entry) = self.entry(pid)? else { return Ok(None) };
        let Some(stat) = entry.stat()? else { return Ok(None) };
        let Some(ids) = entry.ids()? else { return Ok(None) };
        let cgroup = match &self.hierarchy {
            Some(hierarchy) => {
                entry.cgroup_path(hierarchy)?.and_then(|path| hierarchy.id(&path)).unwrap_or(0)
            }
            None => 0,
        };
        let process = Process {
            key: stat.key(),
            started: Timestamp::from_nanos(stat.start.saturating_mul(TICK_NANOS)),
            execed: None,
            ppid: stat.ppid,
            uid: ids.uid,
            gid: ids.gid,
            cgroup,
            comm: stat.comm,
            kthread: stat.is_kthread(),
        };
        Ok(Some((process, stat)))
    }

    /// Every live process. An error inside concerns one process; the next one may be readable.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn processes(&self) -> Result<impl Iterator<Item = Result<Process, ProcError>>, ProcError> {
        Ok(self.pids()?.filter_map(|pid| pid.and_then(|pid| self.process(pid)).transpose()))
    }

    /// Every pid, ascending as `/proc` lists them, those of zombies included.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn pids(&self) -> Result<impl Iterator<Item = Result<u32, ProcError>>, ProcError> {
        let failed = |source| ProcError::io("listing", &self.path, source);
        let entries = Dir::read_from(&self.root).map_err(failed)?;
        Ok(entries.filter_map(move |entry| match entry {
            Ok(entry) => read::number(entry.file_name().to_bytes()).map(Ok),
            Err(source) => Some(Err(failed(source))),
        }))
    }

    /// The wanted facts of a process; `None` when it is gone or its pid belongs to another one by now. A
    /// fact that this process does not have or that may not be read is absent.
    ///
    /// # Errors
    /// When a file of it cannot be read for another reason, or is malformed.
    pub fn facts(&self, key: ProcKey, wants: Wants) -> Result<Option<Facts>, ProcError> {
        let Some(entry) = self.entry(key.pid)? else { return Ok(None) };
        let mut leader_ended = false;
        // Twice at most: the first thread ends once.
        loop {
            // One that has ended tells nothing of the program any more; the others do.
            let thread = if leader_ended { entry.thread(key.pid)? } else { None };
            let from = thread.as_ref().unwrap_or(&entry);
            let facts = Facts {
                exe: if wants.exe { from.exe()? } else { None },
                cmdline: if wants.cmdline { from.cmdline()? } else { None },
                cgroup_path: match &self.hierarchy {
                    Some(hierarchy) if wants.cgroup_path => from.cgroup_path(hierarchy)?,
                    Some(_) | None => None,
                },
            };
            // Whose they are: the directory is the same process' before and after.
            let Some(stat) = entry.living(key)? else { return Ok(None) };
            if stat.leader_ended() == leader_ended {
                return Ok(Some(facts));
            }
            leader_ended = stat.leader_ended();
        }
    }

    /// The directory of a process. It stays that process's: once that has been reaped, reads through it
    /// fail, even when the pid is in use again.
    fn entry(&self, pid: u32) -> Result<Option<Entry>, ProcError> {
        let mut name = read::Name::new();
        let name = name.of(pid, "");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.root, name, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(Entry { dir, path: self.path.join(name) })),
            Err(errno) if read::is_gone(errno) => Ok(None),
            Err(errno) => Err(ProcError::io("opening", &self.path.join(name), errno)),
        }
    }

    /// A file outside the process directories; `None` when it does not exist.
    fn file(&self, name: &str, max: usize) -> Result<Option<Vec<u8>>, ProcError> {
        read::whole(self.root.as_fd(), name, max, || self.path.join(name))
    }
}

/// The directory of one process.
struct Entry {
    dir: OwnedFd,
    path: PathBuf,
}

impl Entry {
    fn stat(&self) -> Result<Option<Stat>, ProcError> {
        read_stat(self.dir.as_fd(), "stat", || self.path.join("stat"))
    }

    /// What `stat` tells if this is still the process `key`, alive.
    fn living(&self, key: ProcKey) -> Result<Option<Stat>, ProcError> {
        Ok(self.stat()?.filter(|stat| stat.key() == key && !stat.is_dead()))
    }

    /// A thread of process `pid` that is not its first one and has not ended; `None` when there is none, or all are gone.
    fn thread(&self, pid: u32) -> Result<Option<Self>, ProcError> {
        let path = self.path.join("task");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tasks = match rustix::fs::openat(&self.dir, "task", flags, Mode::empty()) {
            Ok(tasks) => tasks,
            Err(errno) if read::is_gone(errno) => return Ok(None),
            Err(errno) => return Err(ProcError::io("opening", &path, errno)),
        };
        for found in Dir::read_from(&tasks).map_err(|errno| ProcError::io("listing", &path, errno))? {
            let found = found.map_err(|errno| ProcError::io("listing", &path, errno))?;
            if read::number::<u32>(found.file_name().to_bytes()).is_none_or(|tid| tid == pid) {
                continue;
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let path = path.join(OsStr::from_bytes(found.file_name().to_bytes()));
            let dir = match rustix::fs::openat(&tasks, found.file_name(), flags, Mode::empty()) {
                Ok(dir) => dir,
                Err(errno) if read::is_gone(errno) => continue,
                Err(errno) => return Err(ProcError::io("opening", &path, errno)),
            };
            let thread = Self { dir, path };
            if thread.stat()?.is_some_and(|stat| !stat.leader_ended()) {
                return Ok(Some(thread));
            }
        }
        Ok(None)
    }

    fn ids(&self) -> Result<Option<status::Ids>, ProcError> {
        let mut buffer = [0; STATUS_HEAD];
        let path = || self.path.join("status");
        let Some(text) = read::head(self.dir.as_fd(), "status", &mut buffer, path)? else { return Ok(None) };
        let ids = status::parse(text).ok_or_else(|| ProcError::malformed(path(), "Uid and Gid lines"))?;
        Ok(Some(ids))
    }

    fn exe(&self) -> Result<Option<Vec<u8>>, ProcError> {
        read::permitted(read::link(self.dir.as_fd(), "exe", || self.path.join("exe"))).map(|target| {
            target.map(|mut target| {
                if let Some(kept) = target.strip_suffix(b" (deleted)") {
                    target.truncate(kept.len());
                }
                target
            })
        })
    }

    fn cmdline(&self) -> Result<Option<Vec<u8>>, ProcError> {
        let mut line = vec![0; CMDLINE_MAX];
        let path = || self.path.join("cmdline");
        let read = read::head(self.dir.as_fd(), "cmdline", &mut line, path).map(|text| text.map(<[u8]>::len));
        let Some(len) = read::permitted(read)? else { return Ok(None) };
        line.truncate(len);
        while line.last() == Some(&0) {
            line.pop();
        }
        for byte in &mut line {
            if *byte == 0 {
                *byte = b' ';
            }
        }
        line.shrink_to_fit();
        Ok(Some(line))
    }

    fn cgroup_path(&self, hierarchy: &Hierarchy) -> Result<Option<Vec<u8>>, ProcError> {
        let text = read::whole(self.dir.as_fd(), "cgroup", CGROUP_MAX, || self.path.join("cgroup"));
        Ok(read::permitted(text)?.and_then(|text| hierarchy.path_in(&text).map(<[u8]>::to_vec)))
    }
}

fn read_stat(dir: BorrowedFd<'_>, name: &str, path: impl Fn() -> PathBuf) -> Result<Option<Stat>, ProcError> {
    let mut buffer = [0; STAT_MAX];
    let Some(text) = read::head(dir, name, &mut buffer, &path)? else { return Ok(None) };
    Stat::parse(text).map(Some).ok_or_else(|| ProcError::malformed(path(), "a line of proc_pid_stat(5)"))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tree;
