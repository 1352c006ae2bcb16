//! Cgroups by their ids, or all of them: a bounded walk of a hierarchy. On 64-bit systems the id is the inode number of
//! the directory (kernfs); a cgroup that is gone has none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::cgroup::error::CgroupError;
use crate::cgroup::membership::has_children;
use crate::model::process::printable;

/// The directories of those of the ids that are found at a mount point or in the first `most` directories from there,
/// those near it first.
#[must_use]
pub fn by_ids(mount: &Path, mut wanted: BTreeSet<u64>, most: usize) -> BTreeMap<u64, PathBuf> {
    let mut found = BTreeMap::new();
    if let Ok(root) = std::fs::metadata(mount)
        && wanted.remove(&root.ino())
    {
        found.insert(root.ino(), mount.to_owned());
    }
    let mut pending = VecDeque::from([mount.to_owned()]);
    for _ in 0..most {
        if wanted.is_empty() {
            break;
        }
        let Some(dir) = pending.pop_front() else { break };
        // A cgroup may go away while it is listed.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if wanted.remove(&entry.ino()) {
                found.insert(entry.ino(), entry.path());
            }
            pending.push_back(entry.path());
        }
    }
    found
}

/// The cgroups below a mount point, `most` at most, and whether these are all. Those near it come first: users may make
/// as many as they like below the ones that they were given, and cannot hide others by that.
///
/// # Errors
/// When the mount point cannot be looked at.
pub fn nearest(mount: &Path, most: usize) -> Result<(Vec<PathBuf>, bool), CgroupError> {
    let mut found = Vec::new();
    if !has_children(mount)? {
        return Ok((found, true));
    }
    let mut pending = VecDeque::from([mount.to_owned()]);
    while let Some(dir) = pending.pop_front() {
        // A cgroup may go away before and while it is listed.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if found.len() == most {
                return Ok((found, false));
            }
            let path = entry.path();
            if has_children(&path).unwrap_or(false) {
                pending.push_back(path.clone());
            }
            found.push(path);
        }
    }
    Ok((found, true))
}

/// The ids of a cgroup and of those below it, as long as there is room for more.
#[must_use]
pub fn ids_below(dir: &Path, room: &mut usize) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut pending = VecDeque::from([dir.to_owned()]);
    while let Some(dir) = pending.pop_front().filter(|_| *room > 0) {
        // It may go away meanwhile.
        let Ok(found) = std::fs::metadata(&dir) else { continue };
        ids.push(found.ino());
        *room -= 1;
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        pending.extend(dirs.map(|entry| entry.path()));
    }
    ids
}

/// The path of a cgroup as the kernel has it, for people; `None` when the directory is not below the mount point.
#[must_use]
pub fn path_of(mount: &Path, dir: &Path) -> Option<String> {
    let below = dir.strip_prefix(mount).ok()?;
    Some(format!("/{}", printable(below.as_os_str().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_deep_down_hide_none_near_the_top() {
        let root = tempfile::tempdir().unwrap();
        for name in ["user/given", "z-service", "system/a"] {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
        }
        for number in 0..100 {
            std::fs::create_dir(root.path().join(format!("user/given/{number}"))).unwrap();
        }
        let (all, complete) = nearest(root.path(), 1_000).unwrap();
        assert_eq!((all.len(), complete), (105, true));
        let (mut near, complete) = nearest(root.path(), 5).unwrap();
        near.sort();
        let expected =
            ["system", "system/a", "user", "user/given", "z-service"].map(|name| root.path().join(name));
        assert_eq!((near, complete), (expected.to_vec(), false));
        assert!(nearest(&root.path().join("gone"), 5).is_err());
    }

    #[test]
    fn what_is_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b\n");
        std::fs::create_dir_all(&deep).unwrap();
        let id = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let wanted = BTreeSet::from([id(root.path()), id(&deep), 1]);
        let found = by_ids(root.path(), wanted, 100);
        let name = |path: &Path| path_of(root.path(), found.get(&id(path))?);
        assert_eq!(name(root.path()).as_deref(), Some("/"));
        assert_eq!(name(&deep).as_deref(), Some("/a/b\\x0a"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(path_of(&deep, root.path()), None);
        assert_eq!(by_ids(root.path(), BTreeSet::from([id(&deep)]), 1).len(), 0, "beyond the bound");
        let (mut room, all) = (10, [id(root.path()), id(&root.path().join("a")), id(&deep)]);
        assert_eq!((ids_below(root.path(), &mut room), room), (all.to_vec(), 7));
        let mut room = 2;
        assert_eq!((ids_below(root.path(), &mut room), room), (all[..2].to_vec(), 0));
    }
}
