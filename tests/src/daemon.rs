//! An agent in private directories, stopped on drop.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::binary;
use crate::cgroup::{agent_groups, complain};
use crate::clock::{SOON, wait_for, wait_until};
use crate::command::{Output, agent_command, run, under};
use crate::places::{self, Places};
use crate::profile::ProfileText;

/// How long a start may take: loading the programs and the first snapshot.
const STARTS_WITHIN: Duration = Duration::from_secs(15);
/// How long a stop may take by the contract, and a margin for a busy machine.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Permission to run agents and storms: kernel tests of one machine take turns, because they measure it and
/// because the agents' cgroups lie side by side. Given back on drop.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for the turn, and ends what a run that was killed has left.
    ///
    /// # Errors
    /// When not root, the lock file cannot be locked, or what was left cannot be lifted.
    pub fn take() -> Result<Self> {
        binary::require_root()?;
        let path = std::env::temp_dir().join("pt-test.lock");
        let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
        places::recover_abandoned()?;
        Ok(Self { _lock: lock })
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Daemon<'a> {
    child: Child,
    places: &'a Places,
    groups_before: Vec<PathBuf>,
}

impl<'a> Daemon<'a> {
    /// Starts the agent and waits until it is ready.
    ///
    /// # Errors
    /// When it is not ready in time, with what it printed.
    pub fn start(places: &'a Places) -> Result<Self> {
        Self::start_under(places, &[])
    }

    /// Starts the agent by way of a command that takes something from it and becomes it, such as setpriv(1).
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_under(places: &'a Places, prefix: &[&str]) -> Result<Self> {
        let groups_before = agent_groups()?;
        let path = places.root().join("daemon.out");
        let output = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let mut command = under(prefix, agent_command(places));
        command
            .args(["daemon", "run"])
            .stdout(output.try_clone().context("share the output file")?)
            .stderr(output);
        let child = command.stdin(Stdio::null()).spawn().context("start the agent")?;
        let mut daemon = Self { child, places, groups_before };
        daemon.wait_ready().with_context(|| format!("the agent printed:\n{}", daemon.printed()))?;
        Ok(daemon)
    }

    fn wait_ready(&mut self) -> Result<()> {
        wait_until("the agent is ready", STARTS_WITHIN, || {
            // One that has ended will not become ready: told apart below.
            let ended = self.child.try_wait().context("look after the agent")?.is_some();
            Ok(ended || run(self.places, &["daemon", "status", "-o", "json"])?.code == 0)
        })?;
        match self.child.try_wait().context("look after the agent")? {
            Some(status) => bail!("the agent ended at once with {status}"),
            None => Ok(()),
        }
    }

    /// The places it runs in.
    #[must_use]
    pub fn places(&self) -> &'a Places {
        self.places
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        let text = std::fs::read(self.places.root().join("daemon.out")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn ask(&self, arguments: &[&str]) -> Result<Output> {
        run(self.places, arguments)?
            .expect(0)
            .with_context(|| format!("the agent printed:\n{}", self.printed()))
    }

    /// Runs a command with `-o json` and returns its answer.
    ///
    /// # Errors
    /// When it does not succeed or prints no JSON.
    pub fn ask_json(&self, arguments: &[&str]) -> Result<Value> {
        self.ask(&[arguments, &["-o", "json"]].concat())?.json()
    }

    /// Writes a profile and activates it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn activate(&self, profile: &ProfileText) -> Result<()> {
        self.places.write_profile(profile.name(), profile.text().as_bytes())?;
        self.ask(&["profile", "activate", profile.name()]).map(drop)
    }

    /// The `data` of a reply that a command prints with `-o json`.
    ///
    /// # Errors
    /// When the command fails or prints no versioned reply.
    pub fn data(&self, arguments: &[&str]) -> Result<Value> {
        let reply = self.ask_json(arguments)?;
        ensure!(reply["apiVersion"] == "v1", "no versioned reply: {reply}");
        Ok(reply["data"].clone())
    }

    /// The past events of one kind.
    ///
    /// # Errors
    /// When they cannot be asked for.
    pub fn events(&self, kind: &str) -> Result<Vec<Value>> {
        let data = self.data(&["events", "--kind", kind])?;
        Ok(data.as_array().context("events are a list")?.clone())
    }

    /// Waits for an event of a kind that satisfies `wanted`.
    ///
    /// # Errors
    /// When none comes soon.
    pub fn wait_event(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_for(&format!("event {kind}"), SOON, || Ok(self.events(kind)?.into_iter().find(&wanted)))
    }

    /// The group of this name, if it is limited now.
    ///
    /// # Errors
    /// When the groups cannot be asked for.
    pub fn group(&self, name: &str) -> Result<Option<Value>> {
        let data = self.data(&["status"])?;
        let groups = data.as_array().context("groups are a list")?;
        Ok(groups.iter().find(|group| group["group"] == name).cloned())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()).context("a pid fits an i32")?);
        kill(pid, signal).with_context(|| format!("send {signal} to the agent"))
    }

    /// Ends it as SIGKILL does: without warning.
    ///
    /// # Errors
    /// When it was gone already.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait().map(drop)
    }

    /// Waits for the end of one that kills itself by SIGKILL.
    ///
    /// # Errors
    /// When it does not, or ends otherwise.
    pub fn died(mut self) -> Result<()> {
        let status = self.wait()?;
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        ensure!(killed, "the agent ended with {status} and printed:\n{}", self.printed());
        Ok(())
    }

    /// Stops it in order, and checks that it ends well and leaves no cgroup behind.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.stopped()
    }

    /// Waits for the end of one that was told to stop, and checks the same.
    ///
    /// # Errors
    /// When it does not end well or leaves a cgroup behind.
    pub fn stopped(mut self) -> Result<()> {
        let status = self.wait()?;
        ensure!(status.success(), "the agent ended with {status} and printed:\n{}", self.printed());
        let left: Vec<PathBuf> =
            agent_groups()?.into_iter().filter(|group| !self.groups_before.contains(group)).collect();
        ensure!(left.is_empty(), "the agent left cgroups behind: {left:?}\nit printed:\n{}", self.printed());
        Ok(())
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_until("the agent stops", STOPS_WITHIN, || {
            status = self.child.try_wait().context("look after the agent")?;
            Ok(status.is_some())
        })?;
        status.context("the agent ended without a status")
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // Already reaped: stopped or killed on purpose.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // A stopped (SIGSTOP) agent does not handle SIGTERM.
        let asked = self.signal(Signal::SIGCONT).and_then(|()| self.signal(Signal::SIGTERM));
        if asked.and_then(|()| self.wait()).is_err() {
            complain("the agent does not stop and is killed; it printed:");
            complain(&self.printed());
            if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
                complain(&format!("the agent is left behind: {error}"));
            }
        }
        // Whatever a failed test left limited is released as a user would.
        match run(self.places, &["release", "--all", "--yes"]) {
            Ok(output) if output.code == 0 => {}
            Ok(output) => complain(&format!("{} ended with {}: {}", output.line, output.code, output.stderr)),
            Err(error) => complain(&format!("release: {error:#}")),
        }
    }
}
