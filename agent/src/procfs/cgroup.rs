//! Which cgroup a process is in: `/proc/PID/cgroup`, and the hierarchy that cgroup ids refer to.
//!
//! Reads only. The drivers in [`crate::cgroup`] write.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use crate::procfs::read::number;

/// One line of `/proc/PID/cgroup`, cgroups(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership<'a> {
    /// Number of the hierarchy; 0 is the unified one (v2).
    pub hierarchy: u32,
    /// Comma-separated controllers or `name=`; empty for v2.
    pub controllers: &'a [u8],
    /// Path below the root of the hierarchy, with a leading `/`. It may hold colons and any byte but NUL
    /// and newline.
    pub path: &'a [u8],
}

impl Membership<'_> {
    /// Whether the hierarchy has this v1 controller.
    #[must_use]
    pub fn has(&self, controller: &[u8]) -> bool {
        self.controllers.split(|byte| *byte == b',').any(|name| name == controller)
    }
}

/// The lines that are whole and well-formed.
pub fn memberships(text: &[u8]) -> impl Iterator<Item = Membership<'_>> {
    text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.strip_suffix(b"\n")?.splitn(3, |byte| *byte == b':');
        let hierarchy = number(fields.next()?)?;
        let controllers = fields.next()?;
        let path = fields.next().filter(|path| path.first() == Some(&b'/'))?;
        Some(Membership { hierarchy, controllers, path })
    })
}

/// Which kind of hierarchy cgroup ids and paths refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The v1 hierarchy with the cpu controller.
    V1Cpu,
    /// The unified hierarchy.
    V2,
}

/// The hierarchy that cgroup ids and paths refer to, and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Which.
    pub version: Version,
    /// Its mount point.
    pub mount: PathBuf,
}

impl Hierarchy {
    /// The v1 hierarchy with the cpu controller if one is mounted, else the unified one: where a CPU limit
    /// would be written. From `/proc/self/mountinfo`, proc_pid_mountinfo(5); bind mounts of a part of a
    /// hierarchy do not count.
    #[must_use]
    pub fn find(mountinfo: &[u8]) -> Option<Self> {
        let mut unified = None;
        for line in mountinfo.split(|byte| *byte == b'\n') {
            match mount_of(line) {
                Some(found) if found.version == Version::V1Cpu => return Some(found),
                Some(found) if unified.is_none() => unified = Some(found),
                Some(_) | None => {}
            }
        }
        unified
    }

    /// The path of this hierarchy in the text of `/proc/PID/cgroup`.
    #[must_use]
    pub fn path_in<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        memberships(text)
            .find(|line| match self.version {
                Version::V1Cpu => line.has(b"cpu"),
                Version::V2 => line.hierarchy == 0 && line.controllers.is_empty(),
            })
            .map(|line| line.path)
    }

    /// Id of the cgroup at `path`, the one that `bpf_get_current_cgroup_id` and kernfs use: on 64-bit
    /// systems the inode number of its directory. `None` when it does not exist or lies outside the mount.
    #[must_use]
    pub fn id(&self, path: &[u8]) -> Option<u64> {
        let below = Path::new(OsStr::from_bytes(path.strip_prefix(b"/")?));
        // A cgroup outside the reader's cgroup namespace shows as `/../…`.
        if !below.components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        rustix::fs::stat(self.mount.join(below)).ok().map(|stat| stat.st_ino)
    }
}

/// The hierarchy mounted by one line of mountinfo.
fn mount_of(line: &[u8]) -> Option<Hierarchy> {
    let separator = line.windows(3).position(|window| window == b" - ")?;
    let mut mount = line.get(..separator)?.split(|byte| *byte == b' ').skip(3);
    if mount.next()? != b"/" {
        return None;
    }
    let point = unescape(mount.next()?);
    let mut source = line.get(separator + 3..)?.split(|byte| *byte == b' ');
    let version = match source.next()? {
        b"cgroup2" => Version::V2,
        b"cgroup" if source.nth(1)?.split(|byte| *byte == b',').any(|option| option == b"cpu") => {
            Version::V1Cpu
        }
        _ => return None,
    };
    Some(Hierarchy { version, mount: PathBuf::from(std::ffi::OsString::from_vec(point)) })
}

/// Undoes the kernel's `\ooo` escapes of space, tab, newline and backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(escaped) => {
                bytes.push(escaped);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        20 1 0:5 / /proc rw - proc proc rw\n\
        30 1 0:26 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n\
        31 1 0:27 /docker/x /mnt/cpu rw - cgroup cgroup rw,cpu\n\
        32 1 0:27 / /sys/fs/cgroup/my\\040cpu rw,nosuid shared:5 master:2 - cgroup cgroup rw,cpuacct,cpu\n";

    #[test]
    fn paths_may_hold_colons() {
        let text = b"12:cpuset:/\n4:cpu,cpuacct:/a:b/0::/c\n1:name=systemd:/init.scope\n0::/x:y\n";
        let v1 = Hierarchy { version: Version::V1Cpu, mount: PathBuf::new() };
        let v2 = Hierarchy { version: Version::V2, mount: PathBuf::new() };
        assert_eq!(v1.path_in(text), Some(&b"/a:b/0::/c"[..]));
        assert_eq!(v2.path_in(text), Some(&b"/x:y"[..]));
    }

    #[test]
    fn malformed_and_cut_off_lines_are_left_out() {
        for text in ["", "\n", "0:", "0::", "0::/cut-off", "x::/\n", "0::relative\n", "-1:cpu:/\n", "4:cpu\n"]
        {
            assert_eq!(memberships(text.as_bytes()).count(), 0, "{text:?}");
        }
        let lookalikes = b"1:cpuset:/no\n2:cpuacct:/no\n3:name=cpu:/no\n5::/no\n";
        for version in [Version::V1Cpu, Version::V2] {
            assert_eq!(Hierarchy { version, mount: PathBuf::new() }.path_in(lookalikes), None);
        }
    }

    #[test]
    fn the_cpu_hierarchy_goes_before_the_unified_one() {
        let found = Hierarchy::find(MOUNTS.as_bytes()).unwrap();
        assert_eq!((found.version, found.mount), (Version::V1Cpu, PathBuf::from("/sys/fs/cgroup/my cpu")));
        let without = MOUNTS.replace(",cpu\n", "\n");
        let found = Hierarchy::find(without.as_bytes()).unwrap();
        assert_eq!((found.version, found.mount), (Version::V2, PathBuf::from("/sys/fs/cgroup/unified")));
        for none in ["", " - ", "1 2 3 / /x rw - cgroup", "1 2 3 / /x rw - cgroup2"] {
            let found = Hierarchy::find(none.as_bytes()).map(|found| found.version);
            assert_eq!(found, none.ends_with("cgroup2").then_some(Version::V2), "{none:?}");
        }
    }

    #[test]
    fn ids_are_inodes_below_the_mount_only() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("a b");
        std::fs::create_dir(&group).unwrap();
        let hierarchy = Hierarchy { version: Version::V2, mount: mount.path().to_owned() };
        let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&group).unwrap());
        assert_eq!(hierarchy.id(b"/a b"), Some(inode));
        assert!(hierarchy.id(b"/").is_some());
        for outside in
            [&b"/.."[..], b"/../etc", b"/a b/../..", b"/missing", b"relative", b"", b"//etc", b"/\0"]
        {
            assert_eq!(hierarchy.id(outside), None, "{outside:?}");
        }
    }
}
