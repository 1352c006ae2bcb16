//! The agent in the places of the host, as a package installs it or by one. Only where systemd is pid 1 and the host is
//! there for the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::binary;
use crate::cgroup::complain;
use crate::clock::{SOON, wait_for, wait_until};
use crate::command::{Output, run_command};
use crate::program::copy_executable;
use crate::systemd::{property, require_systemd, systemctl};

/// The unit.
pub const UNIT: &str = "process-throttler.service";
/// Its socket.
pub const SOCKET: &str = "process-throttler.socket";

const NAME: &str = "process-throttler";
const PROGRAM: &str = "/usr/bin/process-throttler";
const UNITS: &str = "/etc/systemd/system";
const SERVICE_TEXT: &str = include_str!("../../packaging/systemd/process-throttler.service");
const SOCKET_TEXT: &str = include_str!("../../packaging/systemd/process-throttler.socket");
const GROUP: &str = "/usr/lib/sysusers.d/process-throttler.conf";
const GROUP_TEXT: &str = include_str!("../../packaging/sysusers.d/process-throttler.conf");
/// What the agent keeps, by default.
const DIRECTORIES: [&str; 4] = [
    "/etc/process-throttler",
    "/var/lib/process-throttler",
    "/run/process-throttler",
    "/var/log/process-throttler",
];

/// An installation; purged on drop.
#[derive(Debug)]
pub struct Installed {
    files: Vec<PathBuf>,
    by_package: bool,
}

impl Installed {
    /// Installs the agent's files, which takes less time than a package does; nothing is started.
    ///
    /// # Errors
    /// When the host has one already, or is not run by systemd.
    pub fn new() -> Result<Self> {
        nothing_there()?;
        let mut installed = Self { files: Vec::new(), by_package: false };
        let program = copy_executable(&binary::agent()?, Path::new("/usr/bin"), "process-throttler")?;
        installed.files.push(program);
        installed.write(UNIT, SERVICE_TEXT)?;
        installed.write(SOCKET, SOCKET_TEXT)?;
        fs::create_dir_all(Path::new(DIRECTORIES[0]).join("profiles")).context("create the configuration")?;
        fs::write(GROUP, GROUP_TEXT).with_context(|| format!("write {GROUP}"))?;
        installed.files.push(GROUP.into());
        run_command(Command::new("systemd-sysusers"))?.expect(0)?;
        systemctl(&["daemon-reload"])?;
        Ok(installed)
    }

    /// Installs the Debian package of this version.
    ///
    /// # Errors
    /// When the host has one already, or apt-get fails.
    pub fn by_package(version: &str) -> Result<Self> {
        nothing_there()?;
        let installed = Self { files: Vec::new(), by_package: true };
        installed.upgrade(version)?;
        Ok(installed)
    }

    /// Installs the package of another version over the one that is there.
    ///
    /// # Errors
    /// When apt-get fails.
    pub fn upgrade(&self, version: &str) -> Result<()> {
        let package = binary::package(&format!("process-throttler_{version}_amd64.deb"))?;
        packages("apt-get", &["install", "--reinstall", "--yes", &package.display().to_string()])
    }

    /// Removes the package; what was configured and recorded stays.
    ///
    /// # Errors
    /// When apt-get fails.
    pub fn remove(&self) -> Result<()> {
        packages("apt-get", &["remove", "--yes", NAME])
    }

    /// Removes everything.
    ///
    /// # Errors
    /// When apt-get fails.
    pub fn purge(&self) -> Result<()> {
        packages("apt-get", &["purge", "--yes", NAME])
    }

    fn write(&mut self, unit: &str, text: &str) -> Result<()> {
        let path = Path::new(UNITS).join(unit);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        self.files.push(path);
        Ok(())
    }

    /// Adds a drop-in to the unit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn drop_in(&self, text: &str) -> Result<()> {
        let dir = Path::new(UNITS).join(format!("{UNIT}.d"));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        fs::write(dir.join("test.conf"), text).context("write a drop-in")?;
        systemctl(&["daemon-reload"]).map(drop)
    }

    /// Writes `config.yaml`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, yaml: &str) -> Result<()> {
        fs::write(Path::new(DIRECTORIES[0]).join("config.yaml"), yaml).context("write config.yaml")
    }

    /// Writes a profile.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_profile(&self, name: &str, text: &str) -> Result<()> {
        let path = Path::new(DIRECTORIES[0]).join("profiles").join(format!("{name}.yaml"));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Runs the installed program.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("NO_COLOR", "1");
        run_command(command)
    }

    /// Runs it with `-o json`; returns what it tells.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn data(&self, arguments: &[&str]) -> Result<Value> {
        let reply = self.run(&[arguments, &["-o", "json"]].concat())?.expect(0)?.json()?;
        Ok(reply["data"].clone())
    }

    /// The daemon's pid, as systemd has it; `None` when it does not run.
    ///
    /// # Errors
    /// When systemd does not tell.
    pub fn pid(&self) -> Result<Option<u32>> {
        let pid: u32 = property(UNIT, "MainPID")?.parse().context("parse MainPID")?;
        Ok((pid != 0).then_some(pid))
    }

    /// Starts the unit.
    ///
    /// # Errors
    /// When it does not start; with what it logged.
    pub fn start(&self) -> Result<u32> {
        systemctl(&["start", UNIT]).with_context(|| self.log())?;
        self.pid()?.with_context(|| format!("started, but there is no main process\n{}", self.log()))
    }

    /// Waits until systemd has started another daemon than this one.
    ///
    /// # Errors
    /// When it does not soon; with what was logged.
    pub fn restarted(&self, before: u32) -> Result<u32> {
        let another = wait_for("systemd starts another daemon", SOON, || {
            let running = property(UNIT, "ActiveState")? == "active";
            Ok(self.pid()?.filter(|pid| running && *pid != before))
        });
        another.with_context(|| self.log())
    }

    /// What the unit has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let mut command = Command::new("journalctl");
        command.args(["--no-pager", "-o", "short-monotonic", "-n", "60", "-u", UNIT]);
        run_command(command).map_or_else(|error| format!("no log: {error:#}"), |output| output.stdout)
    }
}

fn nothing_there() -> Result<()> {
    require_systemd()?;
    for path in [Path::new(PROGRAM), &Path::new(UNITS).join(UNIT), &Path::new(UNITS).join(SOCKET)] {
        ensure!(!path.exists(), "{} is there already: this host is not the tests' own", path.display());
    }
    Ok(())
}

/// Runs a program that installs and removes packages.
fn packages(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    run_command(command)?.expect(0).map(drop)
}

impl Drop for Installed {
    fn drop(&mut self) {
        if self.by_package {
            // Unlike apt-get, dpkg does not mind when it is purged already.
            if let Err(error) = packages("dpkg", &["--purge", NAME]) {
                complain(&format!("the package is left behind: {error:#}"));
            }
            return;
        }
        if let Err(error) = systemctl(&["stop", SOCKET, UNIT]) {
            complain(&format!("the unit does not stop: {error:#}"));
        }
        let released = self.run(&["--yes", "release", "--all"]);
        if let Err(error) = released.and_then(|output| output.expect(0)) {
            complain(&format!("what is limited cannot be released: {error:#}"));
        }
        // A unit that never failed has nothing to reset.
        drop(systemctl(&["reset-failed", SOCKET, UNIT]));
        for path in self.files.drain(..) {
            if let Err(error) = fs::remove_file(&path) {
                complain(&format!("{} is left behind: {error}", path.display()));
            }
        }
        let drop_ins = PathBuf::from(format!("{UNITS}/{UNIT}.d"));
        for dir in DIRECTORIES.iter().map(Path::new).chain([drop_ins.as_path()]).filter(|dir| dir.exists()) {
            if let Err(error) = fs::remove_dir_all(dir) {
                complain(&format!("{} is left behind: {error}", dir.display()));
            }
        }
        let reloaded = systemctl(&["daemon-reload"]).map(drop);
        let gone =
            || wait_until("the unit is gone", SOON, || Ok(property(UNIT, "LoadState")? == "not-found"));
        if let Err(error) = reloaded.and_then(|()| gone()) {
            complain(&format!("{error:#}"));
        }
    }
}
