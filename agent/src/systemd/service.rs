//! Services: restarted by systemd, or made to run a program under another user.
//!
//! What was stopped on purpose and what systemd restarts by itself is left alone, and told apart from what failed.

use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use zbus::Variant;

use crate::clock;
use crate::model::critical::{APPEARS_WITHIN, Program, Restarted};
use crate::systemd::bus::{Bus, MANAGER, MANAGER_PATH};
use crate::systemd::error::SystemdError;
use crate::systemd::name::DESCRIPTION;
use crate::systemd::transient::{Properties, begin, settle_within, stop};
use crate::systemd::unit::{SERVICE, UNIT, Unit};

/// `SIGKILL`, signal(7).
const SIGKILL: i32 = 9;
/// Longest wait for systemd to have killed what took too long.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
/// Exit statuses by which systemd says that it could not even start a program: 200 to 243, "Process Exit Codes" of
/// systemd.exec(5).
const NOT_EXECUTED: std::ops::RangeInclusive<i32> = 200..=243;
/// `CLD_EXITED`, waitid(2).
const CLD_EXITED: i32 = 1;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With 0.
    Well,
    /// Otherwise, in words.
    Badly(String),
    /// It could not be started, in words.
    NotStarted(String),
}

/// Restarts a service, unless systemd or somebody else has it in hand. With `force` it is restarted although it runs
/// or was stopped on purpose.
///
/// # Errors
/// When systemd refuses, or the service does not run within `patience`.
pub fn restart(bus: &Bus, name: &str, force: bool, patience: Duration) -> Result<Restarted, SystemdError> {
    let what = || format!("restart unit {name}");
    let unit = Unit::load(bus, name)?;
    if unit.load == "masked" {
        return Ok(Restarted::Declined { why: format!("unit {name} is masked") });
    }
    if unit.load != "loaded" {
        return Err(SystemdError::other(what(), format!("its state of loading is {}", unit.load)));
    }
    if !force {
        if let Some(why) = in_hand(bus, &unit)? {
            return Ok(Restarted::Pending { why: format!("systemd has unit {name} in hand: {why}") });
        }
        if unit.active == "inactive" && stopped_on_purpose(bus, &unit)? {
            let why = format!("unit {name} was stopped, on purpose as far as systemd tells");
            return Ok(Restarted::Declined { why });
        }
    }
    bus.call(what, MANAGER_PATH, MANAGER, "RestartUnit", (name.to_owned(), "replace".to_owned()))?;
    match settle_within(bus, name, patience, what)? {
        Some(unit) if unit.active == "active" => {
            Ok(Restarted::Done { how: format!("systemd has restarted unit {name}") })
        }
        Some(unit) => {
            let result: String = unit.get(bus, SERVICE, "Result")?;
            Err(SystemdError::other(what(), format!("it is {} afterwards, result {result}", unit.active)))
        }
        None => Err(SystemdError::other(what(), "it is gone afterwards")),
    }
}

/// Why systemd is about to change a unit or has just done so, if it is so. The kernel tells of a death before systemd
/// has taken it in: until then the service is active with a dead main process, and soon after it may be active with a
/// new one.
fn in_hand(bus: &Bus, unit: &Unit) -> Result<Option<String>, SystemdError> {
    if unit.has_job(bus)? || matches!(unit.active.as_str(), "activating" | "deactivating" | "reloading") {
        return Ok(Some(format!("it is {}", unit.active)));
    }
    if unit.active != "active" || unit.interface() != SERVICE {
        return Ok(None);
    }
    let main: u32 = unit.get(bus, SERVICE, "MainPID")?;
    let Some(pid) = i32::try_from(main).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let ended = has_ended(pid)
        .map_err(|error| SystemdError::other(format!("look at process {main}"), error.to_string()))?;
    if ended {
        return Ok(Some(format!("it has not seen yet that process {main} has ended")));
    }
    let started: u64 = unit.get(bus, SERVICE, "ExecMainStartTimestampMonotonic")?;
    let age = clock::monotonic().saturating_sub(Duration::from_micros(started));
    Ok((age < APPEARS_WITHIN).then(|| format!("it has started process {main} {age:.1?} ago")))
}

/// Whether a process is gone, or a zombie that its parent has not waited for: its pidfd is readable then
/// (pidfd_open(2)).
fn has_ended(pid: Pid) -> Result<bool, Errno> {
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(true),
        Err(error) => return Err(error),
    };
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&at_once))? > 0)
}

/// Whether a service left its active state before its main process ended: then somebody asked for it. When the
/// process ends first, systemd notes its end before it changes the state. Of a unit that is stopped, that has not failed
/// and that nothing refers to, systemd remembers nothing: that counts as asked for, because starting what somebody has
/// stopped is worse than leaving it to be told.
fn stopped_on_purpose(bus: &Bus, unit: &Unit) -> Result<bool, SystemdError> {
    let left: u64 = unit.get(bus, UNIT, "ActiveExitTimestampMonotonic")?;
    let ended: u64 = unit.get(bus, SERVICE, "ExecMainExitTimestampMonotonic")?;
    Ok(left == 0 || ended > left)
}

/// Starts a program as a service of its own, which lives on when the agent does not. What is left of an earlier one of
/// that name is ended first.
///
/// # Errors
/// When systemd refuses, or cannot start the program.
pub fn start(bus: &Bus, name: &str, why: &str, program: &Program) -> Result<(), SystemdError> {
    let what = || format!("start {:?} as {name}", program.command.first().map_or("", String::as_str));
    let mut properties = of_program(program, why);
    properties.extend([
        // Its start has failed when the program cannot be executed.
        ("Type", Variant::from("exec")),
        // A program that puts itself into the background ends, and what it has left behind is to live.
        ("RemainAfterExit", Variant::from(true)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ]);
    discard(bus, name)?;
    begin(bus, name, "fail", properties)?;
    match settle_within(bus, name, bus.patience(), what)? {
        Some(unit) if unit.active == "active" => Ok(()),
        Some(unit) => Err(SystemdError::other(what(), format!("it is {} afterwards", unit.active))),
        None => Err(SystemdError::other(what(), "the program could not be executed, or failed at once")),
    }
}

/// Runs a program to its end as a service of its own, and ends whatever it leaves behind. Its output goes to a file,
/// such as a FIFO.
///
/// # Errors
/// When systemd refuses or does not answer.
pub fn run(
    bus: &Bus,
    name: &str,
    why: &str,
    program: &Program,
    output: &Path,
    timeout: Duration,
) -> Result<Ended, SystemdError> {
    let micros = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
    let mut properties = of_program(program, why);
    properties.extend([
        ("Type", Variant::from("oneshot")),
        // That it is active afterwards is how its success is known.
        ("RemainAfterExit", Variant::from(true)),
        ("TimeoutStartUSec", Variant::from(micros)),
        ("TimeoutStopUSec", Variant::from(1_000_000_u64)),
        ("KillMode", Variant::from("control-group")),
        ("KillSignal", Variant::from(SIGKILL)),
        ("StandardOutputFile", Variant::from(output.to_string_lossy().into_owned())),
        ("StandardError", Variant::from("inherit")),
        // Its starts and ends are no news.
        ("LogLevelMax", Variant::from(4_i32)),
    ]);
    match begin(bus, name, "fail", properties.clone()) {
        // An agent that was killed has left it.
        Err(error) if error.is_taken() => {
            discard(bus, name)?;
            begin(bus, name, "fail", properties)?;
        }
        other => other?,
    }
    let patience = timeout.saturating_add(KILLED_WITHIN);
    let ended = match settle_within(bus, name, patience, || format!("run {name}"))? {
        Some(unit) if unit.active == "active" => Ended::Well,
        Some(unit) => failure(bus, &unit, timeout)?,
        None => Ended::NotStarted("its service is gone".to_owned()),
    };
    discard(bus, name)?;
    Ok(ended)
}

fn failure(bus: &Bus, unit: &Unit, timeout: Duration) -> Result<Ended, SystemdError> {
    let result: String = unit.get(bus, SERVICE, "Result")?;
    let (code, status): (i32, i32) =
        (unit.get(bus, SERVICE, "ExecMainCode")?, unit.get(bus, SERVICE, "ExecMainStatus")?);
    Ok(match result.as_str() {
        "timeout" => Ended::Badly(format!("it took longer than {timeout:?} and was killed")),
        "exit-code" if code == CLD_EXITED && NOT_EXECUTED.contains(&status) => {
            Ended::NotStarted(format!("systemd could not start it, status {status}, see systemd.exec(5)"))
        }
        "exit-code" => Ended::Badly(format!("it ended with exit code {status}")),
        "signal" | "core-dump" => Ended::Badly(format!("it was ended by signal {status}")),
        other => Ended::NotStarted(format!("its service is {}, result {other}", unit.active)),
    })
}

/// Ends what is left of a service of ours, and forgets its failure.
///
/// # Errors
/// When systemd refuses, or takes too long.
pub fn discard(bus: &Bus, name: &str) -> Result<(), SystemdError> {
    if Unit::loaded(bus, name)?.is_none() {
        return Ok(());
    }
    stop(bus, name)?;
    let what = || format!("reset unit {name}");
    match bus.call(what, MANAGER_PATH, MANAGER, "ResetFailedUnit", (name.to_owned(),)) {
        Err(error) if !error.is_gone() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn of_program(program: &Program, why: &str) -> Properties {
    let Program { command, user, group, cwd, env } = program;
    let path = command.first().cloned().unwrap_or_default();
    // systemd replaces variables in arguments; of two dollar signs it leaves one (systemd.service(5), "Command Lines").
    let arguments: Vec<String> = command.iter().map(|word| word.replace('$', "$$")).collect();
    let mut properties = vec![
        ("Description", Variant::from(format!("{DESCRIPTION}{why}"))),
        ("ExecStart", Variant::from(vec![(path, arguments, false)])),
        ("User", Variant::from(user.clone())),
        ("WorkingDirectory", Variant::from(cwd.clone().unwrap_or_else(|| "/".to_owned()))),
    ];
    if let Some(group) = group {
        properties.push(("Group", Variant::from(group.clone())));
    }
    if !env.is_empty() {
        let pairs: Vec<String> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        properties.push(("Environment", Variant::from(pairs)));
    }
    properties
}

#[cfg(test)]
mod tests;
