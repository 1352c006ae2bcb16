//! `daemon start`: success is said when the daemon answers, and not before.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{Changed, holder, systemd};
use crate::cli::error::{CliResult, failed};
use crate::cli::globals::{Context, runtime};
use crate::control::failure::{Failure, FailureKind};
use crate::control::proto::{DaemonState, Reply, Request};

/// Time to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks.
const POLL: Duration = Duration::from_millis(25);
/// Time for a start that failed to clean up after itself.
const ABORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Most of a failed start's log that is shown, in bytes.
const LOG_TAIL: u64 = 4_096;

pub(super) fn start(context: &Context) -> CliResult<Changed> {
    if let Some(pid) = holder(context)? {
        let failure = Failure::new(FailureKind::Conflict, format!("the daemon runs already (pid {pid})"));
        return Err(failure.with_hint("see: process-throttler daemon status").into());
    }
    if context.dry_run {
        return Ok(Changed { was: None, is: None, dry_run: true });
    }
    if systemd::has_unit(context) {
        systemd::start()?;
        return Ok(Changed { was: None, is: holder(context)?, dry_run: false });
    }
    let (mut log, began) = open_log(context)?;
    let mut child = spawn(context, &log)?;
    let ready = runtime()?.block_on(wait_until_ready(context, &mut child));
    match ready? {
        Start::Ready => Ok(Changed { was: None, is: Some(child.id()), dry_run: false }),
        Start::Ended(how) => {
            // The daemon ends with the codes of every command: an invalid configuration stays one.
            let kind = how.code().and_then(FailureKind::from_exit_code).unwrap_or(FailureKind::Failed);
            let message = format!("the daemon did not start: {how}");
            Err(told(Failure::new(kind, message), context, &mut log, began).into())
        }
        Start::TimedOut => {
            abort(&mut child)?;
            let message = format!("the daemon was not ready within {} s", READY_TIMEOUT.as_secs());
            Err(told(Failure::new(FailureKind::Failed, message), context, &mut log, began).into())
        }
    }
}

/// What became of a start.
enum Start {
    Ready,
    Ended(ExitStatus),
    TimedOut,
}

fn open_log(context: &Context) -> CliResult<(File, u64)> {
    let path = context.dirs.log_file();
    let at = |operation: &'static str, path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| {
            let kind = if error.kind() == std::io::ErrorKind::PermissionDenied {
                FailureKind::Denied
            } else {
                FailureKind::Failed
            };
            Failure::new(kind, format!("{operation} {path}: {error}"))
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&context.dirs.log)
        .map_err(at("create", &context.dirs.log))?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o640)
        .open(&path)
        .map_err(at("open", &path))?;
    let began = log.metadata().map_err(at("look at", &path))?.len();
    Ok((log, began))
}

/// Runs this same program, in a session of its own and with the same directories whatever its environment.
fn spawn(context: &Context, log: &File) -> CliResult<Child> {
    let streams = || log.try_clone().map_err(|error| failed(&error));
    let mut command = Command::new("/proc/self/exe");
    command.arg0(crate::cli::BINARY).args(["daemon", "run", "--detached"]);
    for (flag, path) in [
        ("--config-dir", &context.dirs.config),
        ("--state-dir", &context.dirs.state),
        ("--runtime-dir", &context.dirs.runtime),
        ("--log-dir", &context.dirs.log),
        ("--socket", &context.socket),
    ] {
        command.arg(flag).arg(path);
    }
    command.args((0..context.verbose).map(|_| "-v"));
    command.current_dir("/").stdin(Stdio::null()).stdout(streams()?).stderr(streams()?);
    command.spawn().map_err(|error| failed(&error))
}

async fn wait_until_ready(context: &Context, child: &mut Child) -> CliResult<Start> {
    let client = context.client();
    let wait = async {
        let mut tick = tokio::time::interval(POLL);
        loop {
            tick.tick().await;
            if let Some(status) = child.try_wait().map_err(|error| failed(&error))? {
                return Ok(Start::Ended(status));
            }
            if let Ok(Reply::Status(status)) = client.call(&Request::Status).await
                && status.pid == child.id()
                && status.state == DaemonState::Running
            {
                return Ok(Start::Ready);
            }
        }
    };
    tokio::time::timeout(READY_TIMEOUT, wait).await.unwrap_or(Ok(Start::TimedOut))
}

/// Ends a daemon that does not become ready, in order if it still can.
fn abort(child: &mut Child) -> CliResult {
    let mut end = || -> std::io::Result<()> {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        if !super::stop::ended_within(
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?,
            ABORT_TIMEOUT,
        )? {
            child.kill()?;
        }
        child.wait().map(drop)
    };
    end().map_err(|error| failed(&error))
}

/// A failure with what the daemon itself wrote about it.
fn told(failure: Failure, context: &Context, log: &mut File, began: u64) -> Failure {
    let path = context.dirs.log_file();
    let mut text = Vec::new();
    let read = log.metadata().map(|meta| meta.len()).and_then(|len| {
        log.seek(SeekFrom::Start(began.max(len.saturating_sub(LOG_TAIL))))?;
        log.take(LOG_TAIL).read_to_end(&mut text)
    });
    let said = match read {
        Ok(_) => String::from_utf8_lossy(&text).trim_end().to_owned(),
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    };
    let message = if said.is_empty() { failure.message } else { format!("{}\n{said}", failure.message) };
    Failure::new(failure.kind, message).with_hint(format!("see {}", path.display()))
}
