//! Cgroups for the tests' own processes, and what the agent wrote into them.
//!
//! Names begin with `pt-test-`; no other cgroup is written to or removed, but for the root of a v2 hierarchy,
//! which has to hand its controllers down while there is a test cgroup.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clock::{SOON, wait_until};

const MOUNT: &str = "/sys/fs/cgroup";
const SUBTREE_CONTROL: &str = "cgroup.subtree_control";
/// v1 hierarchies in which a test cgroup is created, where they exist.
const HIERARCHIES: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "blkio"];
/// The controllers of v2 that limits need.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];
/// What sd_booted(3) looks for.
const SYSTEMD: &str = "/run/systemd/system";
/// Files whose values are limits, in v1 and v2.
const LIMIT_FILES: [&str; 14] = [
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.shares",
    "memory.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "blkio.weight",
    "blkio.bfq.weight",
    "blkio.throttle.read_bps_device",
    "cpu.max",
    "cpu.weight",
    "memory.max",
    "memory.high",
    "pids.max",
    "io.weight",
];

/// A cgroup of the tests' own, the same in every hierarchy; removed on drop.
#[derive(Debug)]
pub struct TestCgroup {
    name: String,
    dirs: Vec<PathBuf>,
    /// On v2, what the root did not hand down before.
    enabled: Vec<&'static str>,
}

impl TestCgroup {
    /// Creates `pt-test-NAME-PID`.
    ///
    /// # Errors
    /// When the host has no cgroup hierarchy to create it in, or not the permission.
    pub fn new(name: &str) -> Result<Self> {
        let name = format!("pt-test-{name}-{}", std::process::id());
        let mut cgroup = Self { name, dirs: Vec::new(), enabled: Vec::new() };
        if is_v2() {
            cgroup.enable()?;
        }
        for root in hierarchies()? {
            let dir = root.join(&cgroup.name);
            fs::create_dir(&dir).with_context(|| format!("create cgroup {}", dir.display()))?;
            cgroup.dirs.push(dir);
        }
        Ok(cgroup)
    }

    fn enable(&mut self) -> Result<()> {
        if Path::new(SYSTEMD).is_dir() {
            bail!("systemd takes controllers back that it does not use: run these tests by `cargo xtask vm`");
        }
        let handed_down = handed_down()?;
        for controller in CONTROLLERS.into_iter().filter(|one| !handed_down.contains(*one)) {
            hand_down('+', controller)?;
            self.enabled.push(controller);
        }
        Ok(())
    }

    /// Its name, which is also its path below each hierarchy's root.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes it and makes it again, as somebody does who has a cgroup for each of his jobs.
    ///
    /// # Errors
    /// When a process stays in it, or it cannot be made.
    pub fn make_anew(&self) -> Result<()> {
        self.dirs.iter().try_for_each(|dir| {
            // Killed members leave a cgroup only when they are reaped by the kernel.
            wait_until("remove cgroup", SOON, || Ok(fs::remove_dir(dir).is_ok()))?;
            fs::create_dir(dir).with_context(|| format!("create cgroup {}", dir.display()))
        })
    }

    /// The files by which a process joins it.
    pub fn procs_files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.dirs.iter().map(|dir| dir.join("cgroup.procs"))
    }

    /// Every limit in force, by file.
    ///
    /// # Errors
    /// When a file that exists cannot be read.
    pub fn limits(&self) -> Result<BTreeMap<PathBuf, String>> {
        let mut limits = BTreeMap::new();
        for dir in &self.dirs {
            for file in LIMIT_FILES {
                let path = dir.join(file);
                if path.exists() {
                    let value =
                        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                    limits.insert(path, value.trim().to_owned());
                }
            }
        }
        Ok(limits)
    }

    /// The file with the CPU quota.
    ///
    /// # Errors
    /// When the cgroup has no CPU controller.
    pub fn quota_file(&self) -> Result<PathBuf> {
        let mut files =
            self.dirs.iter().flat_map(|dir| ["cpu.cfs_quota_us", "cpu.max"].map(|file| dir.join(file)));
        files
            .find(|file| file.exists())
            .with_context(|| format!("cgroup {} has no CPU controller", self.name))
    }

    /// The CPU quota in percent of one CPU; `None` without one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn cpu_quota(&self) -> Result<Option<f64>> {
        for dir in &self.dirs {
            if dir.join("cpu.cfs_quota_us").exists() || dir.join("cpu.max").exists() {
                return cpu_quota(dir);
            }
        }
        bail!("cgroup {} has no CPU controller", self.name)
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        for dir in self.dirs.drain(..) {
            // Killed members leave a cgroup only when they are reaped by the kernel.
            let removed = wait_until("remove cgroup", SOON, || {
                fs::remove_dir(&dir)?;
                Ok(true)
            });
            if let Err(error) = removed {
                complain(&format!("cgroup {} is left behind: {error:#}", dir.display()));
            }
        }
        for controller in self.enabled.drain(..) {
            if let Err(error) = hand_down('-', controller) {
                complain(&format!("{error:#}"));
            }
        }
    }
}

/// Says what a guard could not clean up: a drop cannot fail, and must not be silent either.
#[expect(clippy::print_stderr, reason = "the only way out of a drop")]
pub fn complain(text: &str) {
    eprintln!("{text}");
}

/// Groups that an agent has made and not removed: `<root>/process-throttler/<group>`, by path.
///
/// # Errors
/// When a hierarchy cannot be listed.
pub fn agent_groups() -> Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    for root in hierarchies()? {
        let Ok(entries) = fs::read_dir(root.join("process-throttler")) else { continue };
        for entry in entries {
            let path = entry.context("list the agent's cgroups")?.path();
            if path.is_dir() {
                groups.push(path);
            }
        }
    }
    groups.sort();
    Ok(groups)
}

/// The quota of the cgroup in which a process is, as the kernel sees it now.
///
/// # Errors
/// When the process is gone or its cgroup cannot be read.
pub fn cpu_quota_of(pid: u32) -> Result<Option<f64>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let has_cpu = |controllers: &str| controllers.split(',').any(|controller| controller == "cpu");
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    let (mut v1, mut v2) = (None, None);
    for (controllers, inside) in lines {
        let inside = inside.trim_start_matches('/');
        if has_cpu(controllers) {
            v1 = Some(Path::new(MOUNT).join("cpu").join(inside));
        } else if controllers.is_empty() {
            v2 = Some(Path::new(MOUNT).join(inside));
        }
    }
    cpu_quota(&v1.or(v2).with_context(|| format!("{path} names no CPU hierarchy"))?)
}

fn cpu_quota(dir: &Path) -> Result<Option<f64>> {
    let read = |file: &str| {
        let path = dir.join(file);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let (quota, period) = if dir.join("cpu.cfs_quota_us").exists() {
        (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
    } else if dir.join("cpu.max").exists() {
        let text = read("cpu.max")?;
        let (quota, period) = text.trim().split_once(' ').with_context(|| format!("cpu.max is {text:?}"))?;
        (quota.to_owned(), period.to_owned())
    } else {
        // The root of a v2 hierarchy has no limits.
        return Ok(None);
    };
    if matches!(quota.trim(), "-1" | "max") {
        return Ok(None);
    }
    let quota: f64 = quota.trim().parse().with_context(|| format!("CPU quota {quota:?}"))?;
    let period: f64 = period.trim().parse().with_context(|| format!("CPU period {period:?}"))?;
    Ok(Some(quota / period * 100.0))
}

/// Whether the host has cgroup v2 with its controllers.
#[must_use]
pub fn is_v2() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The controllers that the root of the v2 hierarchy hands down to its children.
///
/// # Errors
/// When there is no v2 hierarchy.
pub fn handed_down() -> Result<BTreeSet<String>> {
    let path = Path::new(MOUNT).join(SUBTREE_CONTROL);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
}

fn hand_down(sign: char, controller: &str) -> Result<()> {
    let path = Path::new(MOUNT).join(SUBTREE_CONTROL);
    let word = format!("{sign}{controller}");
    fs::write(&path, &word).with_context(|| format!("write {word} to {}", path.display()))
}

pub(crate) fn hierarchies() -> Result<Vec<PathBuf>> {
    let mount = Path::new(MOUNT);
    if is_v2() {
        return Ok(vec![mount.to_owned()]);
    }
    let v1 = HIERARCHIES.iter().map(|controller| mount.join(controller));
    let there = v1.filter(|root| root.join("cgroup.procs").exists());
    // Two names may be links to one hierarchy.
    let canonical: std::io::Result<BTreeSet<PathBuf>> = there.map(fs::canonicalize).collect();
    let found: Vec<PathBuf> = canonical.context("find the cgroup hierarchies")?.into_iter().collect();
    if found.is_empty() {
        bail!("no cgroup hierarchy below {MOUNT}");
    }
    Ok(found)
}

/// The hierarchy in which CPU time is limited.
pub(crate) fn cpu_hierarchy() -> Result<PathBuf> {
    let mount = Path::new(MOUNT);
    if is_v2() {
        return Ok(mount.to_owned());
    }
    fs::canonicalize(mount.join("cpu")).context("find the hierarchy that limits CPU time")
}

/// The roots of the agent's own subtrees that are there, empty ones included.
///
/// # Errors
/// When there are no cgroups.
pub fn agent_roots() -> Result<Vec<PathBuf>> {
    let roots = hierarchies()?.into_iter().map(|root| root.join("process-throttler"));
    Ok(roots.filter(|root| root.is_dir()).collect())
}

/// How long the agent may take to remove an empty group.
pub const REAPED: Duration = Duration::from_secs(5);
