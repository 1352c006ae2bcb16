//! What the virtual machine consists of. A change of anything here makes a new image.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Debian's name for the release whose systemd is 252.
pub(super) const RELEASE: &str = "bookworm";

/// What runs in the machine, besides the essential packages.
pub(super) const PACKAGES: [&str; 11] = [
    "systemd",
    "systemd-sysv",
    "systemd-container",
    "libpam-systemd",
    "dbus",
    "procps",
    "util-linux",
    "kmod",
    "iproute2",
    "ca-certificates",
    "python3",
];

/// A kernel that the agent is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12's own.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, from Debian 12's security archive.
    #[value(name = "6.12")]
    V6_12,
}

impl Kernel {
    pub(super) const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];

    /// How releases of it begin.
    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    pub(super) const fn package(self) -> &'static str {
        match self {
            Self::V6_1 => "linux-image-cloud-amd64",
            Self::V6_12 => "linux-image-6.12-cloud-amd64",
        }
    }
}

/// Kernel modules that are in the machine, with what they depend on.
pub(super) const MODULES: [&str; 9] =
    ["autofs4", "bfq", "brd", "dm-flakey", "dm-mod", "dummy", "loop", "null_blk", "veth"];

/// Files that nobody reads there, as patterns of dpkg's `path-exclude`.
pub(super) const EXCLUDED: [&str; 5] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/i18n/*"];

/// Units that have nothing to do there.
pub(super) const MASKED: [&str; 8] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-networkd.service",
];

/// Names the image: equal recipes make equal images, as far as Debian's archive has not moved on.
pub(super) fn key() -> String {
    let mut hash = Sha256::new();
    hash.update(RELEASE);
    for list in [&PACKAGES[..], &MODULES, &EXCLUDED, &MASKED] {
        hash.update(format!("{list:?}"));
    }
    for kernel in Kernel::ALL {
        hash.update(kernel.package());
    }
    hash.update(include_str!("image.rs"));
    let mut key = String::new();
    for byte in hash.finalize().iter().take(8) {
        // Writing to a string does not fail.
        let _written = write!(key, "{byte:02x}");
    }
    key
}
