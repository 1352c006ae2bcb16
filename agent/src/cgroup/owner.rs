//! Who else manages a cgroup, told from its path.

use std::fmt;
use std::path::Path;

/// A manager of cgroups that is not us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody that we know of.
    Nobody,
    /// systemd: values written behind its back are reverted at its next change of the unit.
    Systemd,
    /// A container runtime: observed only.
    Container,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::Systemd => "systemd",
            Self::Container => "a container runtime",
        })
    }
}

/// Whether systemd runs this host: the directory that sd_booted(3) looks for.
#[must_use]
pub fn systemd_runs(run: &Path) -> bool {
    run.join("systemd/system").is_dir()
}

/// The owner of the cgroup at `path` below its hierarchy's root.
///
/// Components below a user's own service manager are chosen by that user, so they are not taken for a
/// container: nobody may escape a limit by the name of a directory.
#[must_use]
pub fn owner(path: &[u8], systemd: bool) -> Owner {
    let mut owner = Owner::Nobody;
    for name in path.split(|byte| *byte == b'/') {
        if is_container(name) {
            return Owner::Container;
        }
        let unit = [&b".slice"[..], b".service", b".scope"].iter().any(|suffix| name.ends_with(suffix));
        if systemd && unit {
            owner = Owner::Systemd;
        }
        if name.starts_with(b"user@") && name.ends_with(b".service") {
            return owner;
        }
    }
    owner
}

fn is_container(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] =
        [b"docker", b"containerd", b"lxc", b"libpod_parent", b"machine.slice", b"buildkit", b"ecs"];
    const PREFIXES: [&[u8]; 9] = [
        b"docker-",
        b"kubepods",
        b"cri-containerd-",
        b"crio-",
        b"libpod-",
        b"lxc.payload",
        b"lxc.monitor",
        b"nerdctl-",
        b"systemd-nspawn@",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners() {
        for (path, systemd, expected) in [
            (&b"/"[..], true, Owner::Nobody),
            (b"/batch/jobs", true, Owner::Nobody),
            (b"/system.slice/cron.service", true, Owner::Systemd),
            (b"/system.slice/cron.service", false, Owner::Nobody),
            (b"/user.slice/user-1000.slice/session-3.scope", true, Owner::Systemd),
            (b"/system.slice/docker-0123.scope", true, Owner::Container),
            (b"/docker/0123", false, Owner::Container),
            (b"/kubepods.slice/kubepods-burstable.slice/x", true, Owner::Container),
            (b"/machine.slice/libpod-1.scope", true, Owner::Container),
            (b"/lxc.payload.web", false, Owner::Container),
            (b"/user.slice/user-1.slice/user@1.service/docker", true, Owner::Systemd),
            (b"/\xff\xfe", true, Owner::Nobody),
        ] {
            assert_eq!(owner(path, systemd), expected, "{}", path.escape_ascii());
        }
    }
}
