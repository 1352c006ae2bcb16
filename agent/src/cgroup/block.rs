//! The block devices that bandwidth limits apply to.

use std::path::Path;

use crate::cgroup::error::CgroupError;
use crate::cgroup::stat::{number, read};

/// `MAJ:MIN` of every whole block device under `/sys/block` that has a medium, in order of name.
///
/// Partitions are not in `/sys/block`, and the kernel takes limits on whole devices only. A device of size 0
/// (an unattached loop device, an empty drive) does no I/O; one that is attached later is not limited itself,
/// but whatever real device is behind it is.
///
/// # Errors
/// When `/sys/block` cannot be read.
pub fn devices(block: &Path) -> Result<Vec<String>, CgroupError> {
    let listing = std::fs::read_dir(block).map_err(|source| CgroupError::io("list", block, source))?;
    let mut names = listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| CgroupError::io("list", block, source))?;
    names.sort();
    let mut devices = Vec::with_capacity(names.len());
    for path in names {
        if number(&path.join("size"))?.unwrap_or(0) == 0 {
            continue;
        }
        match read(&path.join("dev")) {
            Ok(text) => devices.push(text.trim().to_owned()),
            // Unplugged since the listing.
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_with_a_medium() {
        let root = tempfile::tempdir().unwrap();
        for (name, dev, size) in
            [("vda", "254:0\n", "100\n"), ("loop0", "7:0\n", "0\n"), ("sdb", "8:16\n", "9\n")]
        {
            let dir = root.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("dev"), dev).unwrap();
            std::fs::write(dir.join("size"), size).unwrap();
        }
        assert_eq!(devices(root.path()).unwrap(), ["8:16", "254:0"]);
        assert!(devices(&root.path().join("absent")).is_err());
    }
}
