//! Programs run by the agent itself, where no service manager does: without a shell, as the stated user, in a session
//! of their own, with nothing inherited but a pipe.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Group, User, getgrouplist};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::time::Timespec;
use tokio::net::unix::pipe::Receiver;

use crate::model::critical::Program;
use crate::model::process::printable;
use crate::sys::{self, Identity};

/// What programs find as `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most of the output that is kept.
const KEPT: usize = 200;
/// How long a process may take to be gone after SIGKILL.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// How a program ended.
#[derive(Debug)]
pub(crate) enum Ran {
    /// By itself.
    Ended {
        /// How.
        status: ExitStatus,
        /// The beginning of what it wrote.
        output: Excerpt,
    },
    /// Its time was up, and it was killed.
    TimedOut {
        /// The beginning of what it wrote.
        output: Excerpt,
    },
    /// It could not be run.
    NotStarted {
        /// Why.
        error: String,
    },
}

/// Runs a program to its end, for at most `timeout`. Whatever is left of its process group then is killed.
pub(crate) async fn run_to_end(program: &Program, timeout: Duration) -> Ran {
    let owned = program.clone();
    let not_started = |error: String| Ran::NotStarted { error };
    let end = tokio::time::sleep(timeout);
    let mut end = std::pin::pin!(end);
    // Accounts and programs may be on a file system that hangs. What starts after all when nobody waits any more is
    // killed with the value that holds it.
    let started = tokio::task::spawn_blocking(move || spawn(&owned));
    let started = tokio::select! {
        started = started => started,
        () = &mut end => return not_started(format!("it could not be started within {timeout:?}")),
    };
    let (mut group, pidfd, pipe) = match started {
        Ok(Ok(started)) => started,
        Ok(Err(error)) => return not_started(error),
        Err(error) => return not_started(format!("the thread that starts it ended: {error}")),
    };
    let reader = match Receiver::from_owned_fd(pipe) {
        Ok(reader) => reader,
        Err(error) => return not_started(format!("read what it writes: {error}")),
    };
    let mut output = Excerpt::default();
    let pidfd = Arc::new(pidfd);
    let mut gone = std::pin::pin!(gone_within(&pidfd, timeout));
    let ended = loop {
        tokio::select! {
            ended = &mut gone => break ended,
            () = output.fill(&reader) => {}
            () = &mut end => break false,
        }
    };
    output.drain(&reader);
    // While it is not waited for, its pid, and with it the number of its group, is nobody else's.
    kill(&group.child);
    // A process that the kernel cannot end is left to whoever is pid 1 after the agent.
    if !ended && !gone_within(&pidfd, KILLED_WITHIN).await {
        tracing::warn!(pid = group.child.id(), "a health check cannot be killed");
    }
    match group.child.try_wait() {
        Ok(Some(status)) if ended => Ran::Ended { status, output },
        Ok(_) if !ended => Ran::TimedOut { output },
        Ok(_) => Ran::NotStarted { error: "it ended, but cannot be waited for".to_owned() },
        Err(error) => Ran::NotStarted { error: format!("wait for it: {error}") },
    }
}

/// Starts a program that lives on when the agent does not. When this returns it has been executed.
///
/// # Errors
/// When it cannot be, in words.
pub(crate) fn start_detached(program: &Program) -> Result<(), String> {
    let mut command = command(program)?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    sys::detach(&mut command, identity(program)?, true);
    let mut child = command.spawn().map_err(|error| cannot_run(program, &error))?;
    // The child of the agent ends at once; its child is the program.
    child.wait().map(drop).map_err(|error| format!("wait for the start of {}: {error}", first(program)))
}

/// A program in a session of its own, killed with its process group when dropped.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it has been waited for there is nothing to kill, and its number may be another's.
        if let Ok(None) = self.child.try_wait() {
            kill(&self.child);
        }
    }
}

/// Waits for the end of a process, on a thread that does so for at most `timeout`.
async fn gone_within(pidfd: &Arc<OwnedFd>, timeout: Duration) -> bool {
    let pidfd = Arc::clone(pidfd);
    let wait = move || {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // A pidfd is readable when its process has ended (pidfd_open(2)).
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        loop {
            match poll(&mut fds, Some(&timeout)) {
                Err(Errno::INTR) => {}
                other => return other.is_ok_and(|ready| ready > 0),
            }
        }
    };
    tokio::task::spawn_blocking(wait).await.unwrap_or(false)
}

fn kill(child: &Child) {
    if let Err(error) = kill_process_group(Pid::from_child(child), Signal::KILL)
        && error != Errno::SRCH
    {
        tracing::warn!(%error, pid = child.id(), "cannot kill a health check");
    }
}

/// Starts a program. Its pidfd becomes readable when it has ended; the pipe holds what it writes.
fn spawn(program: &Program) -> Result<(Running, OwnedFd, OwnedFd), String> {
    let (reader, writer) = io::pipe().map_err(|error| format!("make a pipe: {error}"))?;
    let errors = writer.try_clone().map_err(|error| format!("copy a pipe: {error}"))?;
    let mut command = command(program)?;
    command.stdout(writer).stderr(errors);
    sys::detach(&mut command, identity(program)?, false);
    let child = command.spawn().map_err(|error| cannot_run(program, &error))?;
    // From here on it is killed when nobody waits for it.
    let running = Running { child };
    let pid = Pid::from_child(&running.child);
    let pidfd =
        pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("watch {}: {error}", first(program)))?;
    Ok((running, pidfd, OwnedFd::from(reader)))
}

fn command(program: &Program) -> Result<Command, String> {
    let (path, arguments) = program.command.split_first().ok_or("no program is named")?;
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null()).env_clear().env("PATH", PATH);
    command.envs(program.env.iter().map(|(key, value)| (key, value)));
    command.current_dir(program.cwd.as_deref().unwrap_or("/")).arg0(path);
    Ok(command)
}

/// Who it runs as; `None`: who the agent is, because that is who was asked for.
fn identity(program: &Program) -> Result<Option<Identity>, String> {
    let Program { user: name, group, .. } = program;
    let user = User::from_name(name).map_err(|error| format!("look up user {name:?}: {error}"))?;
    let user = user.ok_or_else(|| format!("there is no user {name:?}"))?;
    let gid = match group {
        None => user.gid,
        Some(group) => {
            let found =
                Group::from_name(group).map_err(|error| format!("look up group {group:?}: {error}"))?;
            found.ok_or_else(|| format!("there is no group {group:?}"))?.gid
        }
    };
    if !rustix::process::geteuid().is_root()
        && nix::unistd::geteuid() == user.uid
        && gid == nix::unistd::getegid()
    {
        return Ok(None);
    }
    let text = std::ffi::CString::new(name.as_str()).map_err(|error| format!("user {name:?}: {error}"))?;
    let groups = getgrouplist(&text, gid).map_err(|error| format!("groups of user {name:?}: {error}"))?;
    let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
    Ok(Some(Identity { uid: user.uid.as_raw(), gid: gid.as_raw(), groups }))
}

fn first(program: &Program) -> &str {
    program.command.first().map_or("", String::as_str)
}

fn cannot_run(program: &Program, error: &io::Error) -> String {
    format!("run {:?} as {:?}: {error}", first(program), program.user)
}

/// The beginning of what a program wrote. All of it is read, so that the program does not wait for a reader.
#[derive(Debug, Default)]
pub(crate) struct Excerpt {
    kept: Vec<u8>,
    ended: bool,
}

impl Excerpt {
    /// Takes in what there is. Never ends once nothing more can come.
    pub(crate) async fn fill(&mut self, reader: &Receiver) {
        if self.ended || reader.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
        let mut buffer = [0; 4_096];
        match reader.try_read(&mut buffer) {
            Ok(length) => self.keep(&buffer, length),
            Err(_empty) => {}
        }
    }

    /// Takes in what there is now, up to an amount that nobody needs.
    pub(crate) fn drain(&mut self, reader: &Receiver) {
        let mut buffer = [0; 4_096];
        for _ in 0..16 {
            // Asked of the kernel itself: the runtime may not have noticed yet.
            match rustix::io::read(reader, &mut buffer) {
                Ok(length) if length > 0 => self.keep(&buffer, length),
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn keep(&mut self, buffer: &[u8], length: usize) {
        self.ended |= length == 0;
        let room = KEPT.saturating_sub(self.kept.len()).min(length);
        self.kept.extend(buffer.iter().take(room));
    }

    /// The words, and after them what was written, escaped.
    pub(crate) fn after(&self, words: &str) -> String {
        if self.kept.is_empty() {
            return words.to_owned();
        }
        format!("{words}: {}", printable(self.kept.trim_ascii()))
    }
}
