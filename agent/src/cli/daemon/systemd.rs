//! The daemon as a systemd unit, where one is installed.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::cli::error::CliResult;
use crate::cli::globals::Context;
use crate::control::failure::{Failure, FailureKind};

const UNIT: &str = "process-throttler.service";
/// Starts the daemon when somebody connects.
const SOCKET: &str = "process-throttler.socket";
/// The directory in which the unit's daemon runs.
const RUNTIME: &str = "/run/process-throttler";

/// Whether the daemon of these directories is a unit's: systemd is there (sd_booted(3)), it knows the unit,
/// and no other directories were chosen.
pub(super) fn has_unit(context: &Context) -> bool {
    context.dirs.runtime == Path::new(RUNTIME)
        && Path::new("/run/systemd/system").is_dir()
        && property(UNIT, "LoadState").as_deref() == Some("loaded")
}

/// Whether the unit's main process is this one, as opposed to a daemon started by hand.
pub(super) fn runs(pid: u32) -> bool {
    property(UNIT, "MainPID").as_deref() == Some(pid.to_string().as_str())
}

/// Starts the unit, and the socket that it needs.
pub(super) fn start() -> CliResult {
    control("start", &[UNIT])
}

/// Stops the unit, and the socket: the next question would start it again.
pub(super) fn stop() -> CliResult {
    let has_socket = property(SOCKET, "LoadState").as_deref() == Some("loaded");
    control("stop", if has_socket { &[SOCKET, UNIT] } else { &[UNIT] })
}

/// `systemctl VERB`, which waits for the jobs to end.
fn control(verb: &str, units: &[&str]) -> CliResult {
    let output = systemctl(&[&[verb], units].concat())
        .map_err(|error| Failure::new(FailureKind::Failed, format!("run systemctl: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    let message = format!("systemctl {verb} {UNIT}: {}\n{said}", output.status);
    let failure = Failure::new(FailureKind::Failed, message.trim_end());
    Err(failure.with_hint(format!("see: journalctl -u {UNIT}")).into())
}

fn property(unit: &str, name: &str) -> Option<String> {
    let output = systemctl(&["show", "--value", "-p", name, unit]).ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn systemctl(args: &[&str]) -> std::io::Result<Output> {
    Command::new("systemctl").arg("--no-ask-password").args(args).stdin(Stdio::null()).output()
}
