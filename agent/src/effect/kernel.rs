//! What every effect needs to know of the host, read once.

use std::path::Path;

use crate::cgroup::{CgroupError, Driver, Roots, detect};
use crate::effect::fail_point::FailPoints;
use crate::effect::protect::Guard;
use crate::model::attribute::Attribute;
use crate::store::StoreError;
use crate::systemd::{Bus, Sockets, SystemdError};

/// The host: where its interfaces are, its cgroup driver, and the boot it is in.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Paths.
    pub roots: Roots,
    /// cgroups.
    pub driver: Driver,
    /// Whether systemd runs it.
    pub systemd: bool,
    /// systemd itself, where it does.
    pub bus: Bus,
    /// Whether containers may be limited, as units of systemd only.
    pub allow_containers: bool,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Processes never touched.
    pub guard: Guard,
    /// Where tests let it die.
    pub fail: FailPoints,
}

impl Kernel {
    /// Looks at the host.
    ///
    /// # Errors
    /// When cgroups or `/proc` are not where they should be.
    pub fn open(roots: Roots) -> Result<Self, EffectError> {
        let path = roots.proc.join("sys/kernel/random/boot_id");
        let read =
            |path: &Path| std::fs::read_to_string(path).map_err(|error| CgroupError::io("read", path, error));
        let boot = read(&path)?.trim().to_owned();
        let guard =
            Guard::new(roots.proc.clone()).map_err(|error| CgroupError::io("read", &roots.proc, error))?;
        let systemd = crate::cgroup::owner::systemd_runs(&roots.run);
        let driver = detect(&roots)?;
        let bus = Bus::new(Sockets::below(&roots.run));
        let fail = FailPoints::from_environment();
        Ok(Self { roots, driver, systemd, bus, allow_containers: false, boot, guard, fail })
    }
}

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A cgroup could not be read or written.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// systemd did not do what it was asked.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// It is not allowed, or makes no sense.
    #[error("{0}")]
    Refused(String),
    /// An attribute of a thread could not be read.
    #[error("read {attribute} of thread {tid} of process {pid}")]
    ReadAttribute {
        /// Which.
        attribute: Attribute,
        /// Its process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// The error.
        source: std::io::Error,
    },
    /// An attribute of a thread could not be set.
    #[error("set {attribute} of thread {tid} of process {pid} to {value}")]
    SetAttribute {
        /// Which.
        attribute: Attribute,
        /// Its process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// The value.
        value: String,
        /// The error.
        source: std::io::Error,
    },
    /// It failed, and so did undoing it.
    #[error("{error}; undoing it failed too, and this stands: {standing}")]
    Stands {
        /// The first error, whole.
        error: String,
        /// What could not be undone.
        standing: String,
    },
}
