//! Processes for the agent to find; killed and reaped on drop.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::{TestCgroup, complain};
use crate::clock::{SOON, Stopwatch, pause, wait_until};
use crate::kernel;

/// A running process of ours.
#[derive(Debug)]
pub struct Workload {
    child: Child,
    program: PathBuf,
}

impl Workload {
    /// Starts a program where this process is.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(program: &Path) -> Result<Self> {
        Self::start(program, Command::new(program), Stdio::null())
    }

    /// Starts a program with arguments, which reads its standard input until [`Self::finish`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_with(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start(program, command, Stdio::piped())
    }

    /// Starts a program that reads its standard input until [`Self::finish`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_reading(program: &Path) -> Result<Self> {
        Self::start(program, Command::new(program), Stdio::piped())
    }

    /// Starts a program in a cgroup: a shell joins it, then becomes the program, so that the agent sees the
    /// exec of a process that is already there.
    ///
    /// # Errors
    /// When it cannot be started or does not become the program.
    pub fn spawn_in(program: &Path, cgroup: &TestCgroup) -> Result<Self> {
        const JOIN: &str =
            r#"program=$1; shift; for procs; do echo $$ >"$procs" || exit 125; done; exec "$program""#;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", JOIN, "sh"]).arg(program).args(cgroup.procs_files());
        let workload = Self::start(program, command, Stdio::null())?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        wait_until("the shell becomes the program", SOON, || Ok(kernel::comm(workload.pid())? == name))?;
        Ok(workload)
    }

    fn start(program: &Path, mut command: Command, stdin: Stdio) -> Result<Self> {
        command.stdin(stdin).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, program: program.to_owned() })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its pid as text, as a command-line argument.
    #[must_use]
    pub fn pid_text(&self) -> String {
        self.pid().to_string()
    }

    /// Its share of one CPU over an interval from now on, in percent, from `/proc/PID/stat`.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_share(&self, interval: Duration) -> Result<f64> {
        let (before, watch) = (kernel::stat(self.pid())?.cpu, Stopwatch::start());
        pause(interval);
        let used = kernel::stat(self.pid())?.cpu.saturating_sub(before);
        Ok(used.as_secs_f64() / watch.elapsed().as_secs_f64() * 100.0)
    }

    /// Lets it run on one CPU only, the first that this process may use.
    ///
    /// # Errors
    /// When it is gone.
    pub fn pin(&self) -> Result<()> {
        let pid = i32::try_from(self.pid()).context("a pid fits an i32")?;
        pin(Pid::from_raw(pid)).with_context(|| format!("pin {}", self.program.display()))
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Ends its standard input and waits for its end.
    ///
    /// # Errors
    /// When it does not end soon.
    pub fn finish(&mut self) -> Result<ExitStatus> {
        self.close_input();
        self.wait()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()).context("a pid fits an i32")?);
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.program.display()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end soon.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_until("the process ends", SOON, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.context("the process ended without a status")
    }

    /// Kills it with SIGKILL and reaps it.
    ///
    /// # Errors
    /// When it was gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait().map(drop)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // A child that was reaped already is not signalled: std knows its status.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        match ended {
            Ok(status) if status.signal().is_some() || status.code().is_some() => {}
            Ok(status) => complain(&format!("{} is left behind: {status}", self.program.display())),
            Err(error) => complain(&format!("{} is left behind: {error}", self.program.display())),
        }
    }
}

/// Lets the calling thread run on one CPU only, the first that it may use.
///
/// # Errors
/// When the kernel refuses.
pub fn pin_this_thread() -> Result<()> {
    pin(Pid::from_raw(0))
}

fn pin(thread: Pid) -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("read our own CPUs")?;
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.context("we may use no CPU")?).context("a CPU has a place in the set")?;
    sched_setaffinity(thread, &one).context("sched_setaffinity")
}
