//! `daemon`: running, starting, stopping and asking after the agent.

mod start;
mod status;
mod stop;
mod systemd;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::error::{CliError, CliResult, failed};
use super::globals::Context;
use super::output::View;
use super::page::Page;
use crate::control::failure::{Failure, FailureKind};
use crate::control::feature;
use crate::control::proto::{DryRun, Reloaded, Request};
use crate::daemon::lock::PidLock;

/// Arguments of `daemon`.
#[derive(Args, Debug)]
pub(super) struct Daemon {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run in the foreground until SIGTERM or SIGINT; SIGHUP reloads
    Run(Run),
    /// Start in the background: the systemd unit where one is installed
    Start,
    /// Stop and wait until it has ended
    Stop,
    /// Stop, then start
    Restart,
    /// Read the configuration again; a bad one is refused and the last good one kept
    Reload,
    /// State, event source and features; exit code 3 when it does not run
    Status,
}

/// Arguments of `daemon run`.
#[derive(Args, Debug)]
struct Run {
    /// Leave the session of whoever started it
    #[arg(long, hide = true)]
    detached: bool,
}

impl Daemon {
    /// Whether this process is to become the daemon.
    pub(super) const fn is_run(&self) -> bool {
        matches!(self.command, Command::Run(_))
    }

    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.command {
            Command::Run(run) => run.run(context),
            Command::Start => context.output.show(&start::start(context)?),
            Command::Stop => context.output.show(&stop::stop(context)?),
            Command::Restart => {
                let stopped = stop::stop(context)?;
                if context.dry_run {
                    if stopped.was.is_none() {
                        return context.output.show(&start::start(context)?);
                    }
                    context.output.message("It would be started again after that.");
                    return context.output.show(&stopped);
                }
                let was = stopped.was;
                let changed = start::start(context)?;
                context.output.show(&Changed { was, ..changed })
            }
            Command::Reload => reload(context),
            Command::Status => status::status(context),
        }
    }
}

impl Run {
    fn run(self, context: &Context) -> CliResult {
        if self.detached {
            // Fails only for a leader of a process group, which is a session of its own to no less an extent.
            rustix::process::setsid().map_err(|error| failed(&error))?;
        }
        if context.dry_run {
            let message = "daemon run has no --dry-run; daemon start and profile plan have";
            return Err(Failure::new(FailureKind::Usage, message).into());
        }
        crate::daemon::run(&context.dirs, &context.socket).map_err(CliError::from)
    }
}

/// What became of the daemon.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Changed {
    /// Pid before; absent when it did not run.
    was: Option<u32>,
    /// Pid now; absent when it does not run.
    is: Option<u32>,
    /// Nothing was done.
    dry_run: bool,
}

impl View for Changed {
    const KIND: &'static str = "DaemonChange";

    fn page(&self, page: &mut Page) {
        let would = if self.dry_run { "would be " } else { "" };
        match (self.was, self.is) {
            (None, None) if self.dry_run => page.line("the daemon would be started"),
            (None, None) => page.line("the daemon does not run"),
            (Some(was), None) => page.line(format!("daemon {would}stopped (pid {was})")),
            (_, Some(is)) => page.line(format!("daemon {would}started (pid {is})")),
        }
    }
}

fn reload(context: &Context) -> CliResult {
    let request = Request::Reload(DryRun { dry_run: context.dry_run });
    let reloaded: Reloaded = context.ask(feature::MONITORING, &request)?;
    context.output.show(&reloaded)
}

impl View for Reloaded {
    const KIND: &'static str = "Reloaded";

    fn page(&self, page: &mut Page) {
        let verb = if self.dry_run { "would change" } else { "changed" };
        page.line(format!("{verb}: {}", self.detail));
    }
}

/// Pid of the daemon that holds the lock of these directories.
pub(super) fn holder(context: &Context) -> CliResult<Option<u32>> {
    PidLock::holder(&context.dirs.pid_file()).map_err(|error| failed(&error))
}

/// Whether no daemon runs, but a service manager may listen in its place.
pub(super) fn sleeps(context: &Context) -> CliResult<bool> {
    Ok(systemd::has_unit(context) && holder(context)?.is_none())
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    status::samples(gallery);
    for dry_run in [false, true] {
        let dry = if dry_run { " --dry-run" } else { "" };
        gallery.show(&format!("daemon stop{dry}"), &Changed { was: Some(700), is: None, dry_run });
    }
    gallery.show("daemon stop", &Changed { was: None, is: None, dry_run: false });
    gallery.show("daemon start --dry-run", &Changed { was: None, is: None, dry_run: true });
    gallery.show("daemon start", &Changed { was: None, is: Some(701), dry_run: false });
    gallery.show("daemon restart", &Changed { was: Some(700), is: Some(701), dry_run: false });
}
