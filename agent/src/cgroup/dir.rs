//! An open cgroup: what is done by it concerns this one, whatever has its path by then, and costs no walk along the path,
//! of which each part takes a lock in kernfs (`kernfs_dop_revalidate`, fs/kernfs/dir.c).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat, fstat, open, openat};

use crate::cgroup::error::CgroupError;

/// See the module.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the cgroup that has this path now.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(error) => Err(CgroupError::io("open", path, error.into())),
        }
    }

    /// Where it was when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stat(2) says of it.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn stat(&self) -> Result<Stat, CgroupError> {
        fstat(&self.fd).map_err(|error| CgroupError::io("stat", &self.path, error.into()))
    }

    /// Opens a file of it, for writing as well if that is wanted. cgroupfs has no symbolic links, and nothing is written
    /// through one.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn file(&self, name: &str, write: bool) -> Result<File, CgroupError> {
        let access = if write { OFlags::RDWR | OFlags::NOFOLLOW } else { OFlags::RDONLY };
        match openat(&self.fd, name, access | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(File::from(fd)),
            Err(error) => Err(CgroupError::io("open", &self.path.join(name), error.into())),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
