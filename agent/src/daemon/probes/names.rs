//! Paths of cgroups by their ids: a bounded walk of the hierarchy. A cgroup that is gone has none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::DirEntryExt as _;
use std::path::Path;

use crate::model::process::printable;

/// Most directories that are walked.
const DIRS_MAX: usize = 8_192;

/// The paths below the mount point, with a leading `/`, of those of the ids that are found.
pub(super) fn paths(mount: &Path, mut wanted: BTreeSet<u64>) -> BTreeMap<u64, String> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;

    let mut found = BTreeMap::new();
    let mut take = |id: u64, path: &Path| {
        if wanted.remove(&id) {
            let below = path.strip_prefix(mount).unwrap_or(path);
            found.insert(id, format!("/{}", printable(below.as_os_str().as_bytes())));
        }
        wanted.is_empty()
    };
    if let Ok(root) = std::fs::metadata(mount) {
        take(root.ino(), mount);
    }
    let mut open = VecDeque::from([mount.to_owned()]);
    let mut walked = 0;
    while let Some(dir) = open.pop_front() {
        walked += 1;
        if walked > DIRS_MAX {
            break;
        }
        // One that goes away meanwhile has nothing below it.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if take(entry.ino(), &path) {
                    return found;
                }
                open.push_back(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_is_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b\n");
        std::fs::create_dir_all(&deep).unwrap();
        let id = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let wanted = BTreeSet::from([id(root.path()), id(&deep), 1]);
        let found = paths(root.path(), wanted);
        assert_eq!(found.get(&id(root.path())).map(String::as_str), Some("/"));
        assert_eq!(found.get(&id(&deep)).map(String::as_str), Some("/a/b\\x0a"));
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
