//! The machine: its kernel, what it permits, its cgroups, and what this process is in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use super::{Category, Check};
use crate::cgroup::{Cgroup as _, Controller, Driver, Roots, detect};
use crate::config::Settings;
use crate::config::paths::Mounts;
use crate::container;
use crate::model::chain::chain;
use crate::procfs::Proc;
use crate::procfs::pressure::Resource;

const ABOUT: Category = Category::System;
/// The kernel's description of its own types.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// First bytes of it (Documentation/bpf/btf.rst), in this machine's byte order.
const BTF_MAGIC: u16 = 0xeb9f;
/// The oldest kernel with ring buffers, a task iterator and BTF of modules: what the programs are tested on is 6.1.
const KERNEL_MIN: (u32, u32) = (5, 11);
const KERNEL_TESTED: (u32, u32) = (6, 1);
/// Inode numbers of the initial namespaces (`PROC_PID_INIT_INO`, `PROC_CGROUP_INIT_INO` of linux/proc_ns.h).
const PID_INIT: u64 = 0xEFFF_FFFC;
const CGROUP_INIT: u64 = 0xEFFF_FFFB;

pub(super) fn check(settings: Option<&Settings>, host: &Mounts) -> Vec<Check> {
    let root = settings.map_or_else(|| host.cgroup.clone(), |settings| settings.cgroup_root.clone());
    let driver = detect(&Roots { cgroup: root.clone(), proc: host.proc.clone(), ..Roots::default() });
    vec![
        os(Path::new("/")),
        kernel(&rustix::system::uname().release().to_string_lossy()),
        btf(Path::new(BTF)),
        bpf(),
        match &driver {
            Ok(driver) => Check::ok(ABOUT, "cgroup", format!("{} at {}", driver.version(), root.display()))
                .detail("version", driver.version()),
            Err(error) => Check::error(ABOUT, "cgroup", chain(error))
                .run("see what is mounted", "findmnt --types cgroup,cgroup2"),
        },
        match &driver {
            Ok(driver) => controllers(driver),
            Err(_told_above) => Check::not_made(ABOUT, "controllers", "there are no cgroups"),
        },
        psi(&host.proc),
        permissions(),
        surroundings(),
    ]
}

/// os-release(5).
fn os(root: &Path) -> Check {
    let read = |path: &str| std::fs::read_to_string(root.join(path));
    let text = match read("etc/os-release").or_else(|_absent| read("usr/lib/os-release")) {
        Ok(text) => text,
        Err(error) => return Check::not_made(ABOUT, "os", format!("read os-release: {error}")),
    };
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Check::ok(ABOUT, "os", name.unwrap_or("unnamed").trim_matches(['"', '\'']))
}

fn kernel(release: &str) -> Check {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => return Check::not_made(ABOUT, "kernel", format!("{release:?} has no version")),
    };
    let check = if version < KERNEL_MIN {
        let (major, minor) = KERNEL_MIN;
        Check::warning(
            ABOUT,
            "kernel",
            format!("Linux {release} is older than {major}.{minor}: eBPF is not used"),
        )
        .advise("processes are watched by netlink or polling; a newer kernel does better")
    } else if version < KERNEL_TESTED {
        let (major, minor) = KERNEL_TESTED;
        let message = format!("Linux {release} is older than {major}.{minor}, the oldest that is tested");
        Check::warning(ABOUT, "kernel", message)
    } else {
        Check::ok(ABOUT, "kernel", format!("Linux {release}"))
    };
    check.detail("release", release)
}

fn btf(path: &Path) -> Check {
    let read = File::open(path).and_then(|mut file| {
        let mut magic = [0; 2];
        file.read_exact(&mut magic)?;
        Ok(u16::from_ne_bytes(magic))
    });
    match read {
        Ok(BTF_MAGIC) => Check::ok(ABOUT, "btf", format!("{} describes the kernel's types", path.display())),
        Ok(_) => Check::warning(ABOUT, "btf", format!("{} is not BTF", path.display())),
        Err(error) => Check::warning(ABOUT, "btf", format!("{}: {error}: eBPF is not used", path.display()))
            .advise("a kernel built with CONFIG_DEBUG_INFO_BTF has it; processes are watched by netlink meanwhile"),
    }
}

/// What loading the programs takes: `CAP_BPF` and `CAP_PERFMON`, or `CAP_SYS_ADMIN`, and no lockdown for confidentiality
/// (kernel_lockdown(7)).
fn bpf() -> Check {
    let sets = match capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => return Check::not_made(ABOUT, "bpf", format!("read capabilities: {error}")),
    };
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return Check::warning(
            ABOUT,
            "bpf",
            "the kernel is locked down for confidentiality: eBPF is not used",
        );
    }
    let enough = CapabilitySet::BPF | CapabilitySet::PERFMON;
    if sets.contains(enough) || sets.contains(CapabilitySet::SYS_ADMIN) {
        return Check::ok(
            ABOUT,
            "bpf",
            "this user may load programs; the daemon's source tells whether it did",
        );
    }
    Check::warning(ABOUT, "bpf", "this user may not load BPF programs (CAP_BPF and CAP_PERFMON are missing)")
        .advise("run the daemon as root, or give its container these capabilities")
}

fn controllers(driver: &Driver) -> Check {
    let available = match driver {
        Driver::V1(_) => None,
        Driver::V2(_) => {
            let path = driver.mount(Controller::Cpu).map(|mount| mount.join("cgroup.controllers"));
            let text = path.as_deref().map_or_else(|| Ok(String::new()), std::fs::read_to_string);
            match text {
                Ok(text) => Some(text),
                Err(error) => {
                    return Check::not_made(ABOUT, "controllers", format!("cgroup.controllers: {error}"));
                }
            }
        }
    };
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for controller in Controller::ALL {
        let (name, has) = match &available {
            None => (controller.v1_name(), driver.mount(controller).is_some()),
            Some(text) => {
                let name = controller.v2_name();
                (name, text.split_ascii_whitespace().any(|one| one == name))
            }
        };
        if has { there.push(name) } else { missing.push(name) }
    }
    if missing.is_empty() {
        return Check::ok(ABOUT, "controllers", there.join(", "));
    }
    let message = format!("missing: {}; there are {}", missing.join(", "), there.join(", "));
    let check = if missing.contains(&"cpu") {
        Check::error(ABOUT, "controllers", message)
    } else {
        Check::warning(ABOUT, "controllers", message)
    };
    check.run("see which the kernel has, and whether they are enabled", "cat /proc/cgroups")
}

fn psi(proc: &Path) -> Check {
    let read = Proc::of_host(proc).and_then(|proc| proc.pressure(Resource::Cpu));
    match read {
        Ok(Some(pressure)) => {
            let avg10 = pressure.some.avg10;
            Check::ok(
                ABOUT,
                "psi",
                format!("pressure is measured; cpu some avg10 is {}.{:02} %", avg10 / 100, avg10 % 100),
            )
        }
        Ok(None) => Check::warning(
            ABOUT,
            "psi",
            "the kernel measures no pressure: conditions and policies on it never hold",
        )
        .advise("boot with psi=1 on the kernel's command line (CONFIG_PSI)"),
        Err(error) => Check::not_made(ABOUT, "psi", chain(&error)),
    }
}

/// What limiting takes besides the programs.
fn permissions() -> Check {
    let sets = match capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => return Check::not_made(ABOUT, "permissions", format!("read capabilities: {error}")),
    };
    let needed = [
        ("CAP_DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
        ("CAP_SYS_PTRACE", CapabilitySet::SYS_PTRACE),
        ("CAP_SYS_NICE", CapabilitySet::SYS_NICE),
        ("CAP_SYS_RESOURCE", CapabilitySet::SYS_RESOURCE),
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
    ];
    let missing: Vec<&str> =
        needed.iter().filter(|(_, one)| !sets.contains(*one)).map(|(name, _)| *name).collect();
    let uid = rustix::process::geteuid().as_raw();
    if missing.is_empty() {
        return Check::ok(ABOUT, "permissions", format!("uid {uid} may do all that is needed"));
    }
    let missing = missing.join(", ");
    let check = if uid == 0 {
        Check::warning(ABOUT, "permissions", format!("root without {missing}"))
            .advise("give the container or unit these capabilities")
    } else {
        Check::warning(
            ABOUT,
            "permissions",
            format!("uid {uid} lacks {missing}: it can look, and limit little"),
        )
        .run("check as the daemon would run", "sudo process-throttler health")
    };
    check.detail("missing", missing)
}

/// Whether this is a container, and whether the host can be seen from it.
fn surroundings() -> Check {
    let own = |name: &str| {
        std::fs::metadata(format!("/proc/self/ns/{name}"))
            .map(|meta| std::os::unix::fs::MetadataExt::ino(&meta))
    };
    let (pid, cgroup) = match (own("pid"), own("cgroup")) {
        (Ok(pid), Ok(cgroup)) => (pid, cgroup),
        (Err(error), _) | (_, Err(error)) => {
            return Check::not_made(ABOUT, "container", format!("look at /proc/self/ns: {error}"));
        }
    };
    let found = container::detect();
    let mut apart = Vec::new();
    if pid != PID_INIT {
        apart.push("a pid namespace of its own: the host's processes are out of sight");
    }
    if cgroup != CGROUP_INIT {
        apart.push("a cgroup namespace of its own: the host's cgroups are out of reach");
    }
    let mut details = BTreeMap::from([
        ("pid_namespace", if pid == PID_INIT { "host" } else { "own" }.to_owned()),
        ("cgroup_namespace", if cgroup == CGROUP_INIT { "host" } else { "own" }.to_owned()),
    ]);
    let place = match &found {
        None => "not in a container".to_owned(),
        Some(found) => {
            details.insert("runtime", found.runtime.to_string());
            details.extend(found.id.clone().map(|id| ("id", id)));
            details.extend(found.signs.iter().map(|sign| match sign.place {
                container::Place::Environment => ("sign_environment", sign.says.clone()),
                container::Place::EnvironmentOfInit => ("sign_init_environment", sign.says.clone()),
                container::Place::SystemdFile => ("sign_systemd", sign.says.clone()),
                container::Place::ManagerFile => ("sign_manager", sign.says.clone()),
                container::Place::Containerenv => ("sign_containerenv", sign.says.clone()),
                container::Place::Dockerenv => ("sign_dockerenv", sign.says.clone()),
                container::Place::Cgroup => ("sign_cgroup", sign.says.clone()),
                container::Place::Mount => ("sign_mount", sign.says.clone()),
            }));
            format!("in a container of {found}")
        }
    };
    let check = if apart.is_empty() {
        Check::ok(ABOUT, "container", place)
    } else {
        Check::warning(ABOUT, "container", format!("{place}, with {}", apart.join("; "))).advise(
            "run the container with the host's pid and cgroup namespaces, and /sys/fs/cgroup writable in it",
        )
    };
    Check { details, ..check }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    #[test]
    fn kernels_old_and_new_and_strange() {
        for (release, status) in [
            ("6.18.2-arch1", Status::Ok),
            ("6.1.0-28-amd64", Status::Ok),
            ("5.15.0", Status::Warning),
            ("4.19.0", Status::Warning),
            ("unknown", Status::Warning),
            ("", Status::Warning),
        ] {
            assert_eq!(kernel(release).status, status, "{release}");
        }
        assert!(kernel("x").message.starts_with("not checked"));
    }

    #[test]
    fn what_cannot_be_read_is_said_to_be_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(os(dir.path()).message.starts_with("not checked: read os-release"));
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/os-release"), "ID=x\nPRETTY_NAME=\"X 1\"\n").unwrap();
        assert_eq!(os(dir.path()).message, "X 1");
        let blob = dir.path().join("btf");
        assert_eq!(btf(&blob).status, Status::Warning);
        std::fs::write(&blob, b"no").unwrap();
        assert!(btf(&blob).message.ends_with("is not BTF"));
        std::fs::write(&blob, BTF_MAGIC.to_ne_bytes()).unwrap();
        assert_eq!(btf(&blob).status, Status::Ok);
    }
}
