//! Which process is in which cgroup.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cgroup::Controller;
use crate::cgroup::dir::Dir;
use crate::cgroup::error::{CgroupError, shown};
use crate::cgroup::stat::{read, read_bytes, read_open};
use crate::model::process::printable;

/// The contents of `/proc/PID/cgroup`: a line `ID:CONTROLLERS:PATH` per hierarchy (cgroups(7)).
#[derive(Clone, Debug)]
pub struct Memberships(Vec<u8>);

impl Memberships {
    /// Reads them. The process may be replaced by another one of the same pid meanwhile: the caller holds a
    /// pidfd and checks afterwards.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn read(proc: &Path, pid: u32) -> Result<Self, CgroupError> {
        let path = proc.join(pid.to_string()).join("cgroup");
        read_bytes(&path).map(Self)
    }

    /// From text.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The path in the v1 hierarchy of a controller.
    #[must_use]
    pub fn v1(&self, controller: &str) -> Option<&[u8]> {
        self.lines().find_map(|(controllers, path)| {
            controllers.split(|byte| *byte == b',').any(|name| name == controller.as_bytes()).then_some(path)
        })
    }

    /// The path in the v2 hierarchy.
    #[must_use]
    pub fn v2(&self) -> Option<&[u8]> {
        self.lines().find_map(|(controllers, path)| controllers.is_empty().then_some(path))
    }

    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.split(|byte| *byte == b'\n').filter_map(|line| {
            let mut fields = line.splitn(3, |byte| *byte == b':');
            let _id = fields.next()?;
            Some((fields.next()?, fields.next()?))
        })
    }
}

/// A path of the kernel below a hierarchy's mount.
///
/// # Errors
/// When it leaves the mount: the process is outside of our cgroup namespace (cgroup_namespaces(7)).
pub fn below(mount: &Path, path: &[u8]) -> Result<PathBuf, CgroupError> {
    // All slashes: a path that still begins with one would take the mount's place when it is joined.
    let slashes = path.iter().take_while(|byte| **byte == b'/').count();
    let relative = path.get(slashes..).unwrap_or_default();
    if relative.split(|byte| *byte == b'/').any(|part| part == b"..") {
        let why = format!("{} is outside of our cgroup namespace", printable(path));
        return Err(CgroupError::Malformed { path: shown(mount), why });
    }
    Ok(if relative.is_empty() { mount.to_owned() } else { mount.join(OsStr::from_bytes(relative)) })
}

/// Processes directly in a cgroup. On v2 a threaded cgroup has none to show (EOPNOTSUPP).
///
/// # Errors
/// When `cgroup.procs` cannot be read.
pub fn procs(dir: &Path) -> Result<Vec<u32>, CgroupError> {
    let path = dir.join(PROCS);
    pids(&path, &read(&path)?)
}

const PROCS: &str = "cgroup.procs";

fn pids(path: &Path, text: &str) -> Result<Vec<u32>, CgroupError> {
    let pid = |line: &str| {
        line.parse().map_err(|error| CgroupError::Malformed {
            path: shown(path),
            why: format!("pid {line:?}: {error}"),
        })
    };
    text.lines().map(pid).collect()
}

/// Deepest and largest subtree that is followed; the kernel's own default depth is unlimited.
const MOST_CGROUPS: usize = 4_096;

/// Processes in a cgroup and in all below it.
///
/// A cgroup without children costs one `stat` and one read: the link count of a directory in kernfs is 2 and
/// one for each directory in it.
///
/// # Errors
/// When a directory cannot be read, or there are more than 4096.
pub fn members(dir: &Path) -> Result<Vec<u32>, CgroupError> {
    population(&Dir::open(dir)?).map(|(_, pids)| pids)
}

/// The same, and the cgroup's inode (see [`inode`]), by one look at it.
///
/// # Errors
/// As [`members`].
pub fn population(dir: &Dir) -> Result<(u64, Vec<u32>), CgroupError> {
    let path = dir.path().join(PROCS);
    let mut found = pids(&path, &read_open(dir.file(PROCS, false)?, &path)?)?;
    let stat = dir.stat()?;
    for child in descendants_of(dir.path(), stat.st_nlink)? {
        match procs(&child) {
            Ok(more) => found.extend(more),
            // A threaded cgroup's processes are told by the one above it that is not.
            Err(error) if error.is_gone() || error.errno() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((stat.st_ino, found))
}

/// The cgroups below a cgroup, parents before children.
///
/// # Errors
/// When a directory cannot be read, or there are more than 4096.
pub fn descendants(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    descendants_of(dir, look(dir)?.nlink())
}

fn descendants_of(dir: &Path, links: u64) -> Result<Vec<PathBuf>, CgroupError> {
    let mut found = Vec::new();
    if links == 2 {
        return Ok(found);
    }
    let mut pending = vec![dir.to_owned()];
    while let Some(parent) = pending.pop() {
        let entries = match std::fs::read_dir(&parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && parent != dir => continue,
            Err(source) => return Err(CgroupError::io("list", &parent, source)),
        };
        for entry in entries {
            let entry = entry.map_err(|source| CgroupError::io("list", &parent, source))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if found.len() == MOST_CGROUPS {
                    let why = format!("more than {MOST_CGROUPS} cgroups below it");
                    return Err(CgroupError::Malformed { path: shown(dir), why });
                }
                found.push(entry.path());
                pending.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// The inode of a cgroup: no later one has it, though it may have the path (see [`crate::cgroup::Knob::inode`]).
///
/// # Errors
/// When it cannot be looked at.
pub fn inode(dir: &Path) -> Result<u64, CgroupError> {
    look(dir).map(|found| found.ino())
}

fn look(dir: &Path) -> Result<Metadata, CgroupError> {
    std::fs::metadata(dir).map_err(|source| CgroupError::io("stat", dir, source))
}

/// Whether there is a cgroup below this one.
///
/// # Errors
/// When it cannot be looked at.
pub fn has_children(dir: &Path) -> Result<bool, CgroupError> {
    match look(dir)?.nlink() {
        2 => Ok(false),
        3.. => Ok(true),
        // Other file systems, which tests use, may count differently (btrfs says 1).
        0 | 1 => Ok(!descendants(dir)?.is_empty()),
    }
}

/// The hierarchy directory of a process for a controller.
///
/// # Errors
/// When the line is missing or leads outside of our namespace.
pub fn directory(
    memberships: &Memberships,
    v2: bool,
    mount: &Path,
    controller: Controller,
) -> Result<PathBuf, CgroupError> {
    let path = if v2 { memberships.v2() } else { memberships.v1(controller.v1_name()) };
    let path = path.ok_or_else(|| CgroupError::Malformed {
        path: shown(mount),
        why: format!("the process is in no hierarchy with {}", controller.v1_name()),
    })?;
    below(mount, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_versions() {
        let text = b"8:pids:/\n4:memory:/a:b/c d\n1:cpu,cpuacct:/x\xff\n0::/unified path\n".to_vec();
        let memberships = Memberships::from_bytes(text);
        assert_eq!(memberships.v1("cpu"), Some(&b"/x\xff"[..]));
        assert_eq!(memberships.v1("cpuacct"), Some(&b"/x\xff"[..]));
        assert_eq!(memberships.v1("memory"), Some(&b"/a:b/c d"[..]));
        assert_eq!(memberships.v1("blkio"), None);
        assert_eq!(memberships.v1(""), Some(&b"/unified path"[..]));
        assert_eq!(memberships.v2(), Some(&b"/unified path"[..]));
        assert_eq!(Memberships::from_bytes(b"garbage\n\n::".to_vec()).v2(), Some(&b""[..]));
    }

    #[test]
    fn paths_stay_below_the_mount() {
        let mount = Path::new("/m");
        assert_eq!(below(mount, b"/").unwrap(), Path::new("/m"));
        assert_eq!(below(mount, b"/a/b").unwrap(), Path::new("/m/a/b"));
        assert_eq!(below(mount, b"//a").unwrap(), Path::new("/m/a"));
        for outside in [&b"/../x"[..], b"/..", b"/a/../../b"] {
            assert!(below(mount, outside).unwrap_err().to_string().contains("namespace"));
        }
        assert_eq!(below(mount, b"/a..b/..c").unwrap(), Path::new("/m/a..b/..c"));
    }

    #[test]
    fn members_of_a_subtree() {
        let root = tempfile::tempdir().unwrap();
        for (dir, pids) in [("", "1\n2\n"), ("a", "3\n"), ("a/b", ""), ("c", "4\n")] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
            std::fs::write(root.path().join(dir).join("cgroup.procs"), pids).unwrap();
        }
        let mut pids = members(root.path()).unwrap();
        pids.sort_unstable();
        assert_eq!(pids, [1, 2, 3, 4]);
        std::fs::write(root.path().join("cgroup.procs"), "x\n").unwrap();
        assert!(members(root.path()).is_err());
    }
}
