//! `daemon stop`: success is said when the process has ended, and not before.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Changed, holder, systemd};
use crate::cli::error::{CliResult, failed};
use crate::cli::globals::Context;
use crate::control::failure::{Failure, FailureKind};

/// The daemon itself takes 5 s at most.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn stop(context: &Context) -> CliResult<Changed> {
    let Some(pid) = holder(context)? else {
        return Ok(Changed { was: None, is: None, dry_run: false });
    };
    if context.dry_run {
        return Ok(Changed { was: Some(pid), is: None, dry_run: true });
    }
    if systemd::has_unit(context) && systemd::runs(pid) {
        systemd::stop()?;
    } else {
        signal(context, pid)?;
    }
    if let Some(still) = holder(context)? {
        let message = format!("a daemon still runs (pid {still}): another one was started meanwhile");
        return Err(Failure::new(FailureKind::Conflict, message).into());
    }
    Ok(Changed { was: Some(pid), is: None, dry_run: false })
}

fn signal(context: &Context, pid: u32) -> CliResult {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let unknown = || Failure::new(FailureKind::Failed, "the daemon holds its lock but names no pid yet");
    let process = match pidfd_open(raw.ok_or_else(unknown)?, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    // The lock goes with its process: held now by the same pid, it vouches for what the descriptor names.
    if holder(context)? != Some(pid) {
        return Ok(());
    }
    pidfd_send_signal(&process, Signal::TERM).map_err(|error| {
        let kind = if error == Errno::PERM { FailureKind::Denied } else { FailureKind::Failed };
        Failure::new(kind, format!("signal the daemon (pid {pid}): {error}"))
    })?;
    if ended_within(&process, STOP_TIMEOUT).map_err(|error| failed(&error))? {
        return Ok(());
    }
    let message = format!("the daemon (pid {pid}) has not ended within {} s", STOP_TIMEOUT.as_secs());
    let failure = Failure::new(FailureKind::Failed, message);
    Err(failure
        .with_hint(format!(
            "its limits can be lifted with: process-throttler release --all; see also {}",
            context.dirs.log_file().display()
        ))
        .into())
}

/// Whether a process ends in time. Its descriptor becomes readable then (pidfd_open(2)).
pub(super) fn ended_within(process: impl AsFd, timeout: Duration) -> rustix::io::Result<bool> {
    let deadline = crate::clock::now().after(timeout);
    loop {
        let left = deadline.since(crate::clock::now());
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        let left = Timespec::try_from(left).map_err(|_out_of_range| Errno::INVAL)?;
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
