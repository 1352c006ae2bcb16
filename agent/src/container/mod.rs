//! Whether this process runs in a container, told from several signs, each of which a runtime may lack. Reads a few
//! small files below a root and judges them; changes nothing and trusts no single one of them with more than a name.

mod mounts;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;

use crate::model::container::{Runtime, of_cgroup};
use crate::model::process::printable;

/// Most that is read of one file, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// Longest value of a sign that is shown, in bytes.
const SHOWN_MAX: usize = 200;

/// Where a sign was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// `container=` in the environment of this process.
    Environment,
    /// `container=` in that of pid 1 (systemd's container interface).
    EnvironmentOfInit,
    /// `/run/systemd/container`, which a systemd within writes.
    SystemdFile,
    /// `/run/host/container-manager`, of the same interface.
    ManagerFile,
    /// `/run/.containerenv`, of Podman.
    Containerenv,
    /// `/.dockerenv`.
    Dockerenv,
    /// The cgroup of pid 1 or of this process.
    Cgroup,
    /// The root file system, or one mounted over `/etc/hostname` and its like.
    Mount,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "environment",
            Self::EnvironmentOfInit => "environment of pid 1",
            Self::SystemdFile => "/run/systemd/container",
            Self::ManagerFile => "/run/host/container-manager",
            Self::Containerenv => "/run/.containerenv",
            Self::Dockerenv => "/.dockerenv",
            Self::Cgroup => "cgroup",
            Self::Mount => "mounts",
        })
    }
}

/// Something that only a container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sign {
    /// Where.
    pub place: Place,
    /// Of which runtime.
    pub runtime: Runtime,
    /// What it says, escaped.
    pub says: String,
    /// The container's id or name, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The container that this process is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// What runs it.
    pub runtime: Runtime,
    /// Its id or name, where a sign tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// All that was found, in the order of [`Place`].
    pub signs: Vec<Sign>,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.signs.iter().map(|sign| sign.place.to_string()).collect();
        write!(f, "{} (by {})", self.runtime, places.join(", "))
    }
}

/// Looks at the surroundings of this process; `None` when nothing speaks for a container.
#[must_use]
pub fn detect() -> Option<Container> {
    use std::os::unix::ffi::OsStrExt as _;
    let own = std::env::var_os("container");
    let pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    look(Path::new("/"), own.as_ref().map(|value| value.as_bytes()), pod)
}

/// Looks at the files below `root`. `own` is `container` of the environment; `pod`: whether that has the address of
/// Kubernetes' API server, which is no sign by itself, since anybody may set it.
fn look(root: &Path, own: Option<&[u8]>, pod: bool) -> Option<Container> {
    let mut signs = Vec::new();
    let mut named = |place, name: &[u8]| {
        let name = name.trim_ascii();
        if !name.is_empty() {
            signs.push(Sign { place, runtime: Runtime::named(name), says: shown(name), id: None });
        }
    };
    if let Some(own) = own {
        named(Place::Environment, own);
    }
    let file = |path: &str| read(&root.join(path));
    if let Some(environ) = file("proc/1/environ") {
        let variables = environ.split(|byte| *byte == 0);
        if let Some(value) = variables.filter_map(|variable| variable.strip_prefix(b"container=")).next() {
            named(Place::EnvironmentOfInit, value);
        }
    }
    for (place, path) in
        [(Place::SystemdFile, "run/systemd/container"), (Place::ManagerFile, "run/host/container-manager")]
    {
        if let Some(name) = file(path) {
            named(place, &name);
        }
    }
    for (place, path, runtime) in [
        (Place::Containerenv, "run/.containerenv", Runtime::Podman),
        (Place::Dockerenv, ".dockerenv", Runtime::Docker),
    ] {
        if root.join(path).symlink_metadata().is_ok() {
            signs.push(Sign { place, runtime, says: "exists".to_owned(), id: None });
        }
    }
    let paths = ["proc/1/cgroup", "proc/self/cgroup"].into_iter().filter_map(file);
    signs.extend(paths.filter_map(|text| by_cgroups(&text)).next());
    if let Some(mountinfo) = file("proc/self/mountinfo") {
        signs.extend(mounts::signs(&mountinfo));
    }
    judge(signs, pod)
}

/// A sign in the text of `/proc/PID/cgroup` (cgroups(7)), whichever hierarchy has it.
fn by_cgroups(text: &[u8]) -> Option<Sign> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let path = line.splitn(3, |byte| *byte == b':').nth(2)?;
        let found = of_cgroup(path).filter(|found| !found.claimed)?;
        Some(Sign { place: Place::Cgroup, runtime: found.runtime, says: shown(path), id: found.id })
    })
}

/// A pod beats the runtime that it uses, and a sign with a name beats one without.
fn judge(signs: Vec<Sign>, pod: bool) -> Option<Container> {
    let first = signs.first()?.runtime;
    let kubernetes = pod || signs.iter().any(|sign| sign.runtime == Runtime::Kubernetes);
    let named = signs.iter().map(|sign| sign.runtime).find(|runtime| *runtime != Runtime::Other);
    let runtime = if kubernetes { Runtime::Kubernetes } else { named.unwrap_or(first) };
    let id = signs.iter().find_map(|sign| sign.id.clone());
    Some(Container { runtime, id, signs })
}

fn shown(bytes: &[u8]) -> String {
    printable(bytes.get(..SHOWN_MAX).unwrap_or(bytes)).to_string()
}

/// A file's text, the first [`FILE_MAX`] bytes of it. One that may not be read tells nothing, as one that is not there.
fn read(path: &Path) -> Option<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(path)?.take(FILE_MAX).read_to_end(&mut text)?;
        Ok(text)
    };
    read().ok()
}
