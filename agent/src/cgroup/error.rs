//! What can go wrong between us and cgroupfs, with operation, path and value.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::model::process::printable;

/// An error of the cgroup drivers. Paths are escaped: other people choose the names of cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A system call failed.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: String,
        /// The error.
        source: io::Error,
    },
    /// The kernel did not take a value.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: String,
        /// The value.
        value: String,
        /// The error.
        source: io::Error,
    },
    /// The kernel took a value and shows another.
    #[error("{path} was set to {wrote:?} but reads {read:?}")]
    Mismatch {
        /// The file.
        path: String,
        /// What was written.
        wrote: String,
        /// What is there.
        read: String,
    },
    /// This host cannot do what a limit asks for.
    #[error("limit {limit} cannot be set: {missing}")]
    Unsupported {
        /// The limit's key in a profile.
        limit: &'static str,
        /// What is missing, by name.
        missing: String,
    },
    /// A value that the kernel would refuse or distort.
    #[error("limit {limit}: {why}")]
    Value {
        /// The limit's key in a profile.
        limit: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A file is not what the kernel documents.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// No cgroup hierarchy is mounted where it was looked for.
    #[error("{path} is neither a cgroup v2 mount nor a directory of v1 controllers")]
    NoCgroups {
        /// Where it was looked for.
        path: String,
    },
}

impl CgroupError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: shown(path), source }
    }

    pub(crate) fn write(path: &Path, value: &str, source: io::Error) -> Self {
        Self::Write { path: shown(path), value: value.to_owned(), source }
    }

    /// The errno behind it, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } | Self::Write { source, .. } => source.raw_os_error(),
            Self::Mismatch { .. }
            | Self::Unsupported { .. }
            | Self::Value { .. }
            | Self::Malformed { .. }
            | Self::NoCgroups { .. } => None,
        }
    }

    /// Whether the file, its cgroup or its device no longer exists. An open file of a removed cgroup answers
    /// ENODEV (kernfs).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO))
    }
}

/// A path for people: escaped, because cgroup names are any bytes but `/` and newline.
#[must_use]
pub fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes()).to_string()
}
