//! Units for the tests, and what systemd and the kernel say of them. Only where systemd is pid 1.
//!
//! Names begin with `pt-test-`; no other unit is started, stopped or changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cgroup::complain;
use crate::clock::{SOON, wait_for, wait_until};
use crate::command::{Output, run_command};

const UNITS: &str = "/run/systemd/system";
const CGROUPS: &str = "/sys/fs/cgroup";
/// Where systemd keeps what was set until the next boot.
const RUNTIME: [&str; 2] = ["/run/systemd/system.control", "/run/systemd/transient"];
/// Properties that limit a unit, and what tells whether it was left alone.
const PROPERTIES: [&str; 14] = [
    "ActiveState",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "ControlGroup",
    "IOReadBandwidthMax",
    "IOWeight",
    "IOWriteBandwidthMax",
    "KillMode",
    "MainPID",
    "MemoryHigh",
    "MemoryMax",
    "Slice",
    "TasksMax",
];

/// Fails where systemd does not run the host with cgroup v2.
///
/// # Errors
/// With what is missing.
pub fn require_systemd() -> Result<()> {
    ensure!(
        Path::new("/run/systemd/system").is_dir() && Path::new(CGROUPS).join("cgroup.controllers").exists(),
        "these tests need systemd as pid 1 and cgroup v2: they run in the virtual machine of `cargo xtask vm`"
    );
    crate::binary::require_root()
}

/// Runs systemctl.
///
/// # Errors
/// When it does not succeed.
pub fn systemctl(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("systemctl");
    command.args(arguments);
    Ok(run_command(command)?.expect(0)?.stdout)
}

/// A property of a unit.
///
/// # Errors
/// When systemctl does not tell it.
pub fn property(unit: &str, name: &str) -> Result<String> {
    Ok(systemctl(&["show", "--value", "-p", name, unit])?.trim_end().to_owned())
}

/// A service or scope of the tests; stopped and removed on drop.
#[derive(Debug)]
pub struct TestUnit {
    id: String,
    scope: Option<std::process::Child>,
}

impl TestUnit {
    /// Starts `pt-test-NAME.service` that runs a shell script, with these lines in its `[Service]` section.
    ///
    /// # Errors
    /// When it does not start.
    pub fn service(name: &str, script: &str, lines: &[&str]) -> Result<Self> {
        let id = format!("pt-test-{name}.service");
        let text = format!("[Service]\nExecStart=/bin/sh -c '{script}'\n{}\n", lines.join("\n"));
        let path = Path::new(UNITS).join(&id);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let unit = Self { id, scope: None };
        systemctl(&["daemon-reload"])?;
        systemctl(&["start", &unit.id])?;
        Ok(unit)
    }

    /// Starts `pt-test-NAME.scope` around a shell script, as a login session is one.
    ///
    /// # Errors
    /// When it does not start.
    pub fn scope(name: &str, script: &str) -> Result<Self> {
        let id = format!("pt-test-{name}.scope");
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--scope", "--unit", &id, "/bin/sh", "-c", script]);
        let child = command.spawn().context("start systemd-run")?;
        let unit = Self { id, scope: Some(child) };
        wait_until("the scope is active", SOON, || Ok(property(&unit.id, "ActiveState")? == "active"))?;
        Ok(unit)
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its cgroup.
    ///
    /// # Errors
    /// When it has none.
    pub fn cgroup(&self) -> Result<PathBuf> {
        let path = property(&self.id, "ControlGroup")?;
        ensure!(path.len() > 1, "{} has no cgroup", self.id);
        Ok(Path::new(CGROUPS).join(path.trim_start_matches('/')))
    }

    /// Its processes whose command line has this in it, once there are as many.
    ///
    /// # Errors
    /// When there are not soon.
    pub fn pids(&self, wanted: &str, count: usize) -> Result<Vec<u32>> {
        wait_for(&format!("{count} processes with {wanted:?} in {}", self.id), SOON, || {
            let found: Vec<u32> = procs(&self.cgroup()?)?
                .into_iter()
                .filter(|pid| command_line(*pid).contains(wanted))
                .collect();
            Ok((found.len() == count).then_some(found))
        })
    }

    /// What a release must leave as it was: properties, limits in the kernel, drop-ins.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn capture(&self) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for name in PROPERTIES {
            all.insert(name.to_owned(), property(&self.id, name)?);
        }
        let cgroup = self.cgroup()?;
        for file in ["cpu.max", "cpu.weight", "memory.high", "memory.max", "pids.max", "io.weight", "io.max"]
        {
            let path = cgroup.join(file);
            all.insert(file.to_owned(), fs::read_to_string(&path).unwrap_or_else(|_| "absent".to_owned()));
        }
        for dir in RUNTIME {
            let dir = Path::new(dir).join(format!("{}.d", self.id));
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries {
                let path = entry.context("list drop-ins")?.path();
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                all.insert(path.display().to_string(), text);
            }
        }
        Ok(all)
    }
}

impl Drop for TestUnit {
    fn drop(&mut self) {
        // A unit that a test has stopped is gone already; one that is started again whenever it ends is to be stopped, too.
        let ended = systemctl(&["kill", "--signal=SIGKILL", &self.id]);
        if let Err(error) = ended.and_then(|_| systemctl(&["stop", &self.id])) {
            let gone = format!("{error:#}").contains("not loaded");
            if !gone && property(&self.id, "ActiveState").is_ok_and(|state| state == "active") {
                complain(&format!("{} is left behind: {error:#}", self.id));
            }
        }
        if let Some(child) = &mut self.scope
            && let Err(error) = child.kill().and_then(|()| child.wait())
        {
            complain(&format!("systemd-run is left behind: {error}"));
        }
        let path = Path::new(UNITS).join(&self.id);
        if path.exists()
            && let Err(error) = fs::remove_file(&path)
        {
            complain(&format!("{} is left behind: {error}", path.display()));
        }
    }
}

/// Processes in a cgroup and below it.
///
/// # Errors
/// When it cannot be read.
pub fn procs(dir: &Path) -> Result<Vec<u32>> {
    let path = dir.join("cgroup.procs");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut pids: Vec<u32> = text.lines().map(str::parse).collect::<Result<_, _>>().context("parse a pid")?;
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry.context("list a cgroup")?.path();
        if path.is_dir() {
            pids.extend(procs(&path)?);
        }
    }
    Ok(pids)
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// The v2 cgroup of a process, with a leading `/`; `None` when it is gone.
#[must_use]
pub fn cgroup_of(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Units of the agent that are loaded.
///
/// # Errors
/// When systemctl does not list them.
pub fn agent_units() -> Result<Vec<String>> {
    let list = systemctl(&[
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "process*.slice",
        "process-throttler-*",
    ])?;
    Ok(list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Hides systemd's sockets from a command.
///
/// # Errors
/// When it cannot be started.
pub fn run_without_systemd(places: &crate::places::Places, arguments: &[&str]) -> Result<Output> {
    const SCRIPT: &str = r#"
        mount -t tmpfs none /run/dbus
        mount --bind /dev/null /run/systemd/private
        count=$1; shift
        words=; for i in $(seq "$count"); do words="$words '$1'"; shift; done
        eval "exec \"\$@\" $words""#;
    let count = arguments.len().to_string();
    let words: Vec<&str> = [count.as_str()].into_iter().chain(arguments.iter().copied()).collect();
    crate::command::run_in_mount_namespace(places, SCRIPT, &words)
}
