//! Our own cgroups: made and removed, never anybody else's.
//!
//! A directory's name is a validated group name or a pid and a start time; no name that a process chose ever
//! becomes part of a path here.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::error::CgroupError;
use crate::cgroup::mark::Mark;
use crate::cgroup::membership::{descendants, procs};
use crate::cgroup::{Cgroup, Controller, Driver};
use crate::model::id::{Name, ProcKey};

/// Where a group's processes are kept: `<mount>/<subtree>/<group>`, and a directory per process below it
/// when each has the limits to itself.
#[must_use]
pub fn group_dir(mount: &Path, subtree: &str, group: &Name, each: Option<ProcKey>) -> PathBuf {
    let dir = mount.join(subtree).join(group.as_str());
    match each {
        Some(key) => dir.join(format!("{}-{}", key.pid, key.start)),
        None => dir,
    }
}

/// The directories from our own subtree down to `dir` that do not exist yet, parents first.
#[must_use]
pub fn missing(mount: &Path, dir: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = dir
        .ancestors()
        .take_while(|path| *path != mount && path.starts_with(mount))
        .filter(|path| !path.exists())
        .map(Path::to_owned)
        .collect();
    missing.reverse();
    missing
}

/// Makes one cgroup.
///
/// # Errors
/// When it exists already: it is not ours, then, or its record was lost (`release --all` removes those).
pub fn create(dir: &Path) -> Result<(), CgroupError> {
    std::fs::create_dir(dir).map_err(|source| CgroupError::io("create cgroup", dir, source))
}

/// Tries to remove a cgroup while the kernel says EBUSY: 20 times 1 ms. A process that was moved out or
/// killed just now is gone within microseconds; one that stays keeps its cgroup.
const ATTEMPTS: u32 = 20;

/// Removes one empty cgroup. Its absence is success. The kernel refuses (EBUSY) while a process or a cgroup
/// is in it.
///
/// # Errors
/// When it is not empty after bounded retries, or cannot be removed.
pub fn remove(dir: &Path) -> Result<(), CgroupError> {
    for _ in 1..ATTEMPTS {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                if !procs(dir).unwrap_or_default().is_empty() {
                    return Err(CgroupError::io("remove cgroup", dir, error));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(CgroupError::io("remove cgroup", dir, error)),
        }
    }
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(CgroupError::io("remove cgroup", dir, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The cgroups in our own subtrees that bear this owner's mark, children before parents, the subtrees' roots
/// last: what is left to clean when the records are lost. A name alone makes no cgroup ours.
///
/// # Errors
/// When a directory cannot be listed.
pub fn ours(driver: &Driver, subtree: &str, owner: &str) -> Result<Vec<PathBuf>, CgroupError> {
    let mut roots: Vec<PathBuf> = Controller::ALL
        .iter()
        .filter_map(|one| driver.mount(*one))
        .map(|mount| mount.join(subtree))
        .collect();
    roots.sort();
    roots.dedup();
    let mut found = Vec::new();
    for root in roots.into_iter().filter(|root| root.is_dir()) {
        let mut below = descendants(&root)?;
        below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        found.append(&mut below);
        found.push(root);
    }
    found.retain(|dir| Mark::read(dir).is_some_and(|mark| mark.owner == owner));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_a_group() {
        let mount = tempfile::tempdir().unwrap();
        let group: Name = "backups".parse().unwrap();
        let key = ProcKey { pid: 7, start: 9 };
        let dir = group_dir(mount.path(), "pt", &group, Some(key));
        assert_eq!(dir, mount.path().join("pt/backups/7-9"));
        let expected = ["pt", "pt/backups", "pt/backups/7-9"].map(|name| mount.path().join(name));
        assert_eq!(missing(mount.path(), &dir), expected);
        create(&expected[0]).unwrap();
        assert_eq!(missing(mount.path(), &dir), &expected[1..]);
        assert!(create(&expected[0]).is_err());
        remove(&expected[0]).unwrap();
        remove(&expected[0]).unwrap();
    }

    #[test]
    fn a_directory_with_something_in_it_stays() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        assert!(remove(root.path()).is_err());
    }
}
