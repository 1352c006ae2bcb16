//! Each runtime as its files are documented to be, on both versions of cgroups, and what must not be taken for one.

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A root with these files; `ID` stands for a long id.
fn judged(files: &[(&str, &str)], own: Option<&str>, pod: bool) -> Option<Container> {
    look(rooted(files).path(), own.map(str::as_bytes), pod)
}

fn rooted(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace("ID", ID)).unwrap();
    }
    root
}

fn places(container: &Container) -> Vec<Place> {
    container.signs.iter().map(|sign| sign.place).collect()
}

#[test]
fn docker_with_each_version() {
    // v1, without a cgroup namespace: every hierarchy has the path.
    let v1 = "12:pids:/docker/ID\n3:cpu,cpuacct:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service\n";
    let found = judged(&[(".dockerenv", ""), ("proc/1/cgroup", v1)], None, false).unwrap();
    assert_eq!((found.runtime, found.id.as_deref()), (Runtime::Docker, Some(ID)));
    assert_eq!(places(&found), [Place::Dockerenv, Place::Cgroup]);
    // v2, with one: the path is that of the root, the mounts have the id.
    let mounts = "593 476 0:57 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/ABC:/var/lib/docker/overlay2/l/DEF,upperdir=/var/lib/docker/overlay2/0a/diff,workdir=/var/lib/docker/overlay2/0a/work\n\
                  605 593 254:1 /var/lib/docker/containers/ID/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw\n";
    let found = judged(&[("proc/1/cgroup", "0::/\n"), ("proc/self/mountinfo", mounts)], None, false).unwrap();
    assert_eq!((found.runtime, found.id.as_deref()), (Runtime::Docker, Some(ID)));
    assert_eq!(places(&found), [Place::Mount]);
}

#[test]
fn podman_with_each_version() {
    let v2 = [
        ("run/.containerenv", "engine=\"podman-4.3.1\"\n"),
        ("proc/1/environ", "PATH=/bin\0container=podman\0"),
        ("proc/1/cgroup", "0::/\n"),
    ];
    let found = judged(&v2, Some("podman"), false).unwrap();
    assert_eq!(found.runtime, Runtime::Podman);
    assert_eq!(places(&found), [Place::Environment, Place::EnvironmentOfInit, Place::Containerenv]);
    let v1 = "4:memory:/machine.slice/libpod-ID.scope\n1:name=systemd:/machine.slice/libpod-ID.scope\n";
    let found = judged(&[("proc/1/cgroup", v1)], None, false).unwrap();
    assert_eq!((found.runtime, found.id.as_deref()), (Runtime::Podman, Some(ID)));
}

#[test]
fn containerd_alone_and_under_kubernetes() {
    let root = "100 90 0:50 / / rw - overlay overlay rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/9/fs\n";
    let found = judged(&[("proc/self/mountinfo", root)], None, false).unwrap();
    assert_eq!(found.runtime, Runtime::Containerd);
    let given = "101 100 254:1 /var/lib/kubelet/pods/3d1b9ac0/etc-hosts /etc/hosts rw - ext4 /dev/vda1 rw\n";
    let text = format!("{root}{given}");
    let found = judged(&[("proc/self/mountinfo", &text), ("proc/1/cgroup", "0::/\n")], None, false).unwrap();
    assert_eq!(found.runtime, Runtime::Kubernetes);
    // By the address of the API server too, but not by that alone.
    assert_eq!(judged(&[("proc/self/mountinfo", root)], None, true).unwrap().runtime, Runtime::Kubernetes);
    assert_eq!(judged(&[], None, true), None);
    let v1 = "5:cpu,cpuacct:/kubepods/burstable/pod3d1b/ID\n";
    assert_eq!(judged(&[("proc/self/cgroup", v1)], None, false).unwrap().runtime, Runtime::Kubernetes);
}

#[test]
fn lxc_and_nspawn() {
    let lxc = [("proc/1/environ", "container=lxc\0TERM=linux\0"), ("run/systemd/container", "lxc\n")];
    let found = judged(&lxc, None, false).unwrap();
    assert_eq!(
        (found.runtime, places(&found)),
        (Runtime::Lxc, vec![Place::EnvironmentOfInit, Place::SystemdFile])
    );
    let found =
        judged(&[("proc/1/cgroup", "1:name=systemd:/lxc.payload.web/init.scope\n")], None, false).unwrap();
    assert_eq!((found.runtime, found.id.as_deref()), (Runtime::Lxc, Some("web")));
    let nspawn = [("run/host/container-manager", "systemd-nspawn\n"), ("proc/1/cgroup", "0::/init.scope\n")];
    assert_eq!(judged(&nspawn, None, false).unwrap().runtime, Runtime::SystemdNspawn);
    let found =
        judged(&[("proc/1/cgroup", "0::/machine.slice/systemd-nspawn@web.service/payload\n")], None, false);
    assert_eq!(found.unwrap().id.as_deref(), Some("web"));
}

#[test]
fn a_host_that_runs_containers_is_none() {
    let mounts = "29 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
                  300 29 0:50 / /var/lib/docker/overlay2/0a/merged rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n";
    let host = [
        ("proc/1/cgroup", "0::/init.scope\n"),
        ("proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope\n"),
        ("proc/1/environ", "PATH=/bin\0mycontainer=docker\0"),
        ("proc/self/mountinfo", mounts),
    ];
    assert_eq!(judged(&host, None, false), None);
    // A user may call a cgroup of the own service manager as they like.
    let own = "0::/user.slice/user-1.slice/user@1.service/docker/ID\n";
    assert_eq!(judged(&[("proc/self/cgroup", own)], None, false), None);
}

#[test]
fn hostile_files_are_read_to_a_bound_and_shown_escaped() {
    let long = "x".repeat(2 << 20);
    let found = judged(&[("run/systemd/container", &long)], Some("\x1b[31mred"), false).unwrap();
    assert_eq!(found.runtime, Runtime::Other);
    assert!(found.signs.iter().all(|sign| sign.says.len() <= 4 * SHOWN_MAX && !sign.says.contains('\x1b')));
    assert_eq!(judged(&[("proc/self/mountinfo", "1 2 3\n\n - \n / / / / / - overlay\n")], None, false), None);
}
