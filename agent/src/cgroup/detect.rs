//! Which cgroups this host has, told from the file systems' magic numbers as systemd does it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::cgroup::error::{CgroupError, shown};
use crate::cgroup::{Controller, Driver, V1, V2};
use crate::model::process::printable;

/// Where the kernel's interfaces are; other paths are for tests and for agents in containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys/block`.
    pub block: PathBuf,
    /// `/run`.
    pub run: PathBuf,
    /// Name of our own subtree in each hierarchy.
    pub subtree: String,
    /// Which agent's the cgroups below it are: its state directory (see [`crate::cgroup::mark`]).
    pub owner: String,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            cgroup: PathBuf::from("/sys/fs/cgroup"),
            proc: PathBuf::from("/proc"),
            block: PathBuf::from("/sys/block"),
            run: PathBuf::from("/run"),
            subtree: "process-throttler".to_owned(),
            owner: String::new(),
        }
    }
}

impl Roots {
    /// The roots of the agent that keeps its state in this directory.
    #[must_use]
    pub fn of_agent(cgroup: PathBuf, proc: PathBuf, state: &Path) -> Self {
        // By whichever way it is named, it is the same agent.
        let state = state.canonicalize().unwrap_or_else(|_absent| state.to_owned());
        let owner = printable(state.as_os_str().as_bytes()).to_string();
        Self { cgroup, proc, owner, ..Self::default() }
    }
}

/// `CGROUP_SUPER_MAGIC` of linux/magic.h.
const CGROUP_V1: u64 = 0x0027_e0eb;
/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP_V2: u64 = 0x6367_7270;

/// Finds the driver for this host: v2 where the root is a v2 mount; else v1 where controllers are mounted in
/// directories of their names, also in hybrid mode, in which `unified` is a v2 mount without controllers.
///
/// # Errors
/// When neither is there.
pub fn detect(roots: &Roots) -> Result<Driver, CgroupError> {
    let root = &roots.cgroup;
    if magic(root)? == CGROUP_V2 {
        return Ok(Driver::V2(V2::new(root.clone(), roots.block.clone())));
    }
    let mut mounts = BTreeMap::new();
    for controller in Controller::ALL {
        for name in v1_directories(controller) {
            let dir = root.join(name);
            // The names may be symbolic links (`cpu` to `cpu,cpuacct`): the mount itself is kept.
            if let Ok(dir) = dir.canonicalize()
                && magic(&dir)? == CGROUP_V1
            {
                mounts.insert(controller, dir);
                break;
            }
        }
    }
    if mounts.is_empty() {
        Err(CgroupError::NoCgroups { path: shown(root) })
    } else {
        Ok(Driver::V1(V1::new(mounts, roots.block.clone())))
    }
}

const fn v1_directories(controller: Controller) -> &'static [&'static str] {
    match controller {
        Controller::Cpu => &["cpu", "cpu,cpuacct"],
        Controller::Memory => &["memory"],
        Controller::Pids => &["pids"],
        Controller::Io => &["blkio"],
    }
}

fn magic(path: &Path) -> Result<u64, CgroupError> {
    let stat = rustix::fs::statfs(path)
        .map_err(|error| CgroupError::io("statfs", path, std::io::Error::from(error)))?;
    Ok(u64::from_ne_bytes(stat.f_type.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Cgroup as _;

    #[test]
    fn this_host_has_cgroups() {
        let roots = Roots::default();
        let driver = detect(&roots).unwrap();
        let mount = driver.mount(Controller::Cpu).unwrap();
        match driver {
            Driver::V1(_) => assert!(mount.join("cpu.shares").exists()),
            Driver::V2(_) => assert!(mount.join("cgroup.controllers").exists()),
        }
    }

    #[test]
    fn the_unified_mount_of_a_hybrid_host_is_v2() {
        let unified = Path::new("/sys/fs/cgroup/unified");
        if unified.is_dir() {
            let roots = Roots { cgroup: unified.to_owned(), ..Roots::default() };
            assert_eq!(detect(&roots).unwrap().version(), "v2");
        }
    }

    #[test]
    fn an_ordinary_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cpu")).unwrap();
        let roots = Roots { cgroup: dir.path().to_owned(), ..Roots::default() };
        assert!(matches!(detect(&roots), Err(CgroupError::NoCgroups { .. })));
        let roots = Roots { cgroup: dir.path().join("absent"), ..roots };
        assert!(matches!(detect(&roots), Err(CgroupError::Io { .. })));
    }
}
