//! Containers as the names of cgroups tell of them. Bytes in, a judgement out; no I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// A pod of Kubernetes, whichever runtime it uses.
    Kubernetes,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// CRI-O, without Kubernetes around it.
    CriO,
    /// containerd, without Docker or Kubernetes around it.
    Containerd,
    /// LXC or Incus.
    Lxc,
    /// systemd-nspawn.
    SystemdNspawn,
    /// Another, or one that does not tell its name.
    Other,
}

impl Runtime {
    /// The runtime behind a name that systemd's container interface or a runtime itself uses (`container=`).
    #[must_use]
    pub fn named(name: &[u8]) -> Self {
        match name {
            b"docker" => Self::Docker,
            b"podman" => Self::Podman,
            b"lxc" | b"lxc-libvirt" => Self::Lxc,
            b"systemd-nspawn" => Self::SystemdNspawn,
            b"kubernetes" | b"kube" => Self::Kubernetes,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubernetes => "Kubernetes",
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::CriO => "CRI-O",
            Self::Containerd => "containerd",
            Self::Lxc => "LXC",
            Self::SystemdNspawn => "systemd-nspawn",
            Self::Other => "an unknown container runtime",
        })
    }
}

/// The container that a cgroup is a part of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Membership {
    /// What runs it.
    pub runtime: Runtime,
    /// Its id or name, where the path has it. Letters, digits and `-_.` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The path lies below a user's own service manager: that user chose the names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claimed: bool,
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.runtime)?;
        if let Some(id) = &self.id {
            write!(f, " {id}")?;
        }
        if self.claimed { f.write_str(", by the word of its user") } else { Ok(()) }
    }
}

/// Names of cgroups that hold containers of a runtime, each in a child.
const PARENTS: [(&[u8], Runtime); 7] = [
    (b"docker", Runtime::Docker),
    (b"libpod_parent", Runtime::Podman),
    (b"lxc", Runtime::Lxc),
    (b"lxc.payload", Runtime::Lxc),
    (b"containerd", Runtime::Containerd),
    (b"k8s.io", Runtime::Kubernetes),
    (b"buildkit", Runtime::Other),
];

/// What the names of cgroups that are containers begin with; the id or name follows.
const PREFIXES: [(&[u8], Runtime); 8] = [
    (b"docker-", Runtime::Docker),
    (b"libpod-", Runtime::Podman),
    (b"cri-containerd-", Runtime::Containerd),
    (b"crio-", Runtime::CriO),
    (b"nerdctl-", Runtime::Containerd),
    (b"lxc.payload.", Runtime::Lxc),
    (b"systemd-nspawn@", Runtime::SystemdNspawn),
    (b"machine-", Runtime::SystemdNspawn),
];

/// Helpers of runtimes that live beside their containers, and virtual machines that machined registers.
const BESIDE: [&[u8]; 4] = [b"libpod-conmon-", b"crio-conmon-", b"machine-qemu", b"machine-lxc"];

/// The container whose processes are in the cgroup of this path, on either version; `None` when it is no container's.
#[must_use]
pub fn of_cgroup(path: &[u8]) -> Option<Membership> {
    let mut found: Option<Membership> = None;
    let (mut pod, mut claimed) = (false, false);
    let mut parent = None;
    for name in path.split(|byte| *byte == b'/') {
        claimed |= name.starts_with(b"user@") && name.ends_with(b".service");
        pod |= name == b"kubepods" || name.starts_with(b"kubepods.slice") || name.starts_with(b"kubepods-");
        let child = parent.take();
        if let Some((runtime, id)) = own_name(name) {
            found = Some(Membership { runtime, id, claimed });
        } else if let Some(runtime) = child {
            found = Some(Membership { runtime, id: id(name), claimed });
        } else if pod && is_long_id(name) {
            found = Some(Membership { runtime: Runtime::Kubernetes, id: id(name), claimed });
        } else {
            parent = PARENTS.iter().find(|(parent, _)| *parent == name).map(|(_, runtime)| *runtime);
        }
    }
    found.map(|found| if pod { Membership { runtime: Runtime::Kubernetes, ..found } } else { found })
}

/// A cgroup that is a container by its own name.
fn own_name(name: &[u8]) -> Option<(Runtime, Option<String>)> {
    if BESIDE.iter().any(|beside| name.starts_with(beside)) {
        return None;
    }
    // containerd asked for a cgroup of systemd's and was not given one: `SLICE:cri-containerd:ID`.
    let mut parts = name.rsplitn(3, |byte| *byte == b':');
    if let (Some(last), Some(b"cri-containerd"), Some(_)) = (parts.next(), parts.next(), parts.next()) {
        return Some((Runtime::Containerd, id(last)));
    }
    let (prefix, runtime) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    let rest = name.strip_prefix(*prefix)?;
    let unit = [&b".scope"[..], b".service"].iter().find_map(|suffix| rest.strip_suffix(*suffix));
    match (*runtime, unit) {
        // Only what machined registered: anybody may call a cgroup `machine-shop`.
        (Runtime::SystemdNspawn, None) => None,
        (_, unit) => Some((*runtime, id(unit.unwrap_or(rest)))),
    }
}

/// 64 hexadecimal digits, as the ids of OCI runtimes are.
fn is_long_id(name: &[u8]) -> bool {
    name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit)
}

/// A name that may be shown.
fn id(name: &[u8]) -> Option<String> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let shown = !name.is_empty() && name.len() <= 128 && name.iter().all(plain);
    shown.then(|| name.iter().map(|byte| char::from(*byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Runtime, whether the id is the long one, whether it is by the user's word only.
    fn found(path: &str) -> Option<(Runtime, bool, bool)> {
        let found = of_cgroup(path.replace("ID", ID).as_bytes())?;
        Some((found.runtime, found.id.as_deref() == Some(ID), found.claimed))
    }

    #[test]
    fn every_runtime_on_both_versions() {
        for (path, runtime) in [
            // Docker: cgroupfs and systemd driver.
            ("/docker/ID", Runtime::Docker),
            ("/system.slice/docker-ID.scope", Runtime::Docker),
            ("/system.slice/docker-ID.scope/init.scope", Runtime::Docker),
            // Docker within Docker: the inner one.
            ("/docker/0123/docker/ID", Runtime::Docker),
            // Podman.
            ("/machine.slice/libpod-ID.scope", Runtime::Podman),
            ("/machine.slice/libpod-ID.scope/container", Runtime::Podman),
            ("/libpod_parent/libpod-ID", Runtime::Podman),
            // containerd by nerdctl, and by names of systemd's on cgroupfs.
            ("/system.slice/nerdctl-ID.scope", Runtime::Containerd),
            ("/containerd/ID", Runtime::Containerd),
            // Kubernetes: every driver and runtime.
            ("/kubepods/burstable/pod3d1b9ac0-6a3b/ID", Runtime::Kubernetes),
            ("/kubepods/pod3d1b9ac0-6a3b/ID", Runtime::Kubernetes),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3d1b.slice/cri-containerd-ID.scope",
                Runtime::Kubernetes,
            ),
            ("/kubepods.slice/kubepods-pod3d1b.slice/crio-ID.scope", Runtime::Kubernetes),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod3d1b.slice/docker-ID.scope",
                Runtime::Kubernetes,
            ),
            (
                "/system.slice/containerd.service/kubepods-burstable-pod3d1b.slice:cri-containerd:ID",
                Runtime::Kubernetes,
            ),
            ("/k8s.io/ID", Runtime::Kubernetes),
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope",
                Runtime::Kubernetes,
            ),
        ] {
            assert_eq!(found(path), Some((runtime, true, false)), "{path}");
        }
    }

    #[test]
    fn those_that_are_called_by_names() {
        for (path, runtime, name) in [
            ("/lxc.payload.web", Runtime::Lxc, "web"),
            ("/lxc.payload.web/system.slice/cron.service", Runtime::Lxc, "web"),
            ("/lxc/web", Runtime::Lxc, "web"),
            ("/lxc.payload/web/init.scope", Runtime::Lxc, "web"),
            ("/machine.slice/systemd-nspawn@web.service/payload", Runtime::SystemdNspawn, "web"),
            ("/machine.slice/machine-web.scope", Runtime::SystemdNspawn, "web"),
        ] {
            let found = of_cgroup(path.as_bytes()).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((found.runtime, found.id.as_deref()), (runtime, Some(name)), "{path}");
        }
    }

    #[test]
    fn a_user_s_own_names_are_that_user_s_word() {
        let path = "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container";
        assert_eq!(found(path), Some((Runtime::Podman, true, true)));
    }

    #[test]
    fn what_lives_beside_containers_is_none() {
        for path in [
            "",
            "/",
            "/docker",
            "/system.slice/docker.service",
            "/system.slice/containerd.service",
            "/system.slice/kubelet.service",
            "/machine.slice",
            "/machine.slice/libpod-conmon-ID.scope",
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
            "/lxc.monitor.web",
            "/kubepods.slice",
            "/kubepods/burstable/pod3d1b",
            "/machine-shop",
            "/user.slice/user-1000.slice/session-3.scope",
            "/batch/ID",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn hostile_names_are_not_shown() {
        let found = of_cgroup(b"/docker/\x1b[31m\xff").unwrap();
        assert_eq!((found.runtime, found.id), (Runtime::Docker, None));
        let long = [b"/lxc/".as_slice(), &[b'a'; 129]].concat();
        assert_eq!(of_cgroup(&long).unwrap().id, None);
    }
}
