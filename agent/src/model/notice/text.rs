//! Notices in words, for people.

use std::fmt;
use std::time::Duration;

use crate::model::absence::{Flapping, Revival};
use crate::model::critical::RestartResult;
use crate::model::death::Obituary;
use crate::model::latency::{HeldBy, SloEnd};
use crate::model::notice::Notice;
use crate::model::plural::counted;

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CriticalProcessDown {
                name,
                exit,
                remaining,
                wanted: _,
                flapping,
                group,
                circumstances,
            } => {
                let process = &exit.process;
                write!(f, "critical process {name} is down: pid {} ({}) ", process.key.pid, process.comm)?;
                let oom_cgroup = circumstances.as_ref().and_then(|found| found.oom_cgroup.as_deref());
                write!(f, "{}", Obituary { exit, oom_cgroup })?;
                write!(
                    f,
                    " after {:.3} s, {remaining} of its instances left",
                    exit.lifetime().as_secs_f64()
                )?;
                if let Some(Flapping { deaths, over, held: _ }) = flapping {
                    let seconds = over.as_secs_f64();
                    write!(
                        f,
                        "; the last of {deaths} deaths in {seconds:.0} s, which are summed up from now on"
                    )?;
                }
                if let Some(group) = group {
                    write!(f, "; it was limited in group {group}")?;
                }
                match circumstances.as_ref().map(ToString::to_string) {
                    Some(text) if !text.is_empty() => write!(f, "; {text}"),
                    Some(_) | None => Ok(()),
                }
            }
            Self::CriticalProcessMissing { name, instances, wanted, absent, why } => {
                let seconds = absent.as_secs_f64();
                write!(
                    f,
                    "critical process {name} is missing: {instances} of {wanted} instances for {seconds:.0} s; {why}"
                )
            }
            Self::CriticalProcessRecovered { name, how, instances, absent } => {
                let seconds = absent.as_secs_f64();
                match how {
                    Revival::ByOthers { key, comm, parent } => write!(
                        f,
                        "critical process {name} is back after {seconds:.3} s: pid {} ({comm}) was started by pid {parent}, {}",
                        key.pid,
                        counted(*instances, "instance", "instances")
                    ),
                    Revival::NotRequired => write!(
                        f,
                        "critical process {name} was away for {seconds:.3} s and is not asked for any more: the profile changed"
                    ),
                }
            }
            Self::CriticalProcessRestart { name, result, by, attempt, detail } => {
                let what = match result {
                    RestartResult::Restarted => "was restarted",
                    RestartResult::Failed => "could not be restarted",
                    RestartResult::Declined => "is not restarted",
                    RestartResult::GivenUp => "is given up and not restarted any more",
                };
                write!(f, "critical process {name} {what} by {by}")?;
                if *attempt > 0 {
                    write!(f, ", attempt {attempt}")?;
                }
                write!(f, ": {detail}")
            }
            Self::HealthCheckFailed { name, failures, error } => {
                write!(
                    f,
                    "critical process {name} is not healthy, {failures} checks in a row failed: {error}"
                )
            }
            Self::HealthCheckRecovered { name, lasted_ms } => {
                let lasted = Duration::from_millis(*lasted_ms);
                write!(f, "critical process {name} is healthy again after {:.3} s", lasted.as_secs_f64())
            }
            Self::LatencySloViolated {
                name,
                p99_us,
                objective_us,
                lasted_ms,
                held_by,
                candidates,
                at_floor,
                holders,
                held,
            } => {
                write!(
                    f,
                    "critical process {name} waits too long for a CPU for {}: p99 {}, objective {}",
                    seconds(*lasted_ms),
                    micros(*p99_us),
                    micros(*objective_us)
                )?;
                match (candidates, at_floor) {
                    (0, _) => f.write_str("; no group has the policy latency, so nobody gives way"),
                    (_, true) => write!(f, "; nobody can give way any further, {}", gave_way(held_by)),
                    (_, false) => write!(f, "; {}", gave_way(held_by)),
                }?;
                if !holders.is_empty() {
                    let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
                    write!(f, "; meanwhile {} had the CPUs", holders.join(", "))?;
                }
                held.as_ref().map_or(Ok(()), |held| write!(f, "; {held} of the last seconds"))
            }
            Self::LatencySloRecovered { name, p99_us, objective_us, lasted_ms, held_by, how } => {
                let lasted = seconds(*lasted_ms);
                match how {
                    SloEnd::Held => {
                        let p99 =
                            p99_us.map_or_else(|| "no waits".to_owned(), |us| format!("p99 {}", micros(us)));
                        write!(
                            f,
                            "critical process {name} is within its objective again after {lasted}: {p99}, objective {}; {}",
                            micros(*objective_us),
                            gave_way(held_by)
                        )
                    }
                    SloEnd::Unmeasured => write!(
                        f,
                        "critical process {name} waited too long for a CPU for {lasted}, and is not measured any more"
                    ),
                    SloEnd::NotAsked => write!(
                        f,
                        "critical process {name} waited too long for a CPU for {lasted}, and nobody asks for it any more"
                    ),
                }
            }
            Self::ThrottleApplied { group, limits, processes, how, reason, latency_ns } => {
                write!(
                    f,
                    "group {group} limited to {limits} {how}, {} added",
                    counted(processes.len(), "process", "processes")
                )?;
                if let Some(nanos) = latency_ns {
                    write!(f, ", in force after {} µs", nanos / 1_000)?;
                }
                write!(f, "; {reason}")
            }
            Self::ThrottleAdjusted { group, from, to, reason } => {
                write!(f, "group {group} limited to {to} instead of {from}; {reason}")
            }
            Self::ThrottleFailed { group, error, reason } => {
                write!(f, "group {group} could not be limited: {error}; {reason}")
            }
            Self::ThrottleRemoved { group, reason } => write!(f, "group {group} released: {reason}"),
            Self::ThrottleConflict { group, clash, response } => {
                write!(f, "group {group}: {clash}; {response}")
            }
            Self::EmergencyStop { reason, uid, groups } => {
                write!(
                    f,
                    "emergency stop by uid {uid}, {} lifted: {reason}",
                    counted(*groups, "group", "groups")
                )
            }
            Self::EmergencyResumed { uid } => write!(f, "emergency over, says uid {uid}: rules limit again"),
            Self::ProtectionFailed { name, process, error } => {
                write!(f, "critical process {name} is not protected, first pid {}: {error}", process.pid)
            }
            Self::EventsLost { dropped, missed_exits } => {
                write!(f, "{dropped} kernel records lost, {missed_exits} exits unseen; process table rebuilt")
            }
            Self::ProbesShed { cost, budget } => write!(
                f,
                "the scheduler's probes cost {cost} % of a CPU and may cost {budget} %: they rest for a minute, and waits for a CPU are not measured"
            ),
            Self::WebhookDisabled { endpoint, why } => write!(
                f,
                "webhook endpoint {endpoint} is disabled, {why}; process-throttler webhook enable {endpoint} undoes it"
            ),
            Self::ProfileActivated { profile: Some(profile) } => write!(f, "profile {profile} is active"),
            Self::ProfileActivated { profile: None } => f.write_str("no profile is active"),
            Self::ConfigurationChanged { detail, accepted } => {
                let verb = if *accepted { "loaded" } else { "refused, last good one kept" };
                write!(f, "configuration {verb}: {detail}")
            }
            Self::BackupCreated { name, path, size, encrypted } => {
                let how = if *encrypted { "encrypted" } else { "not encrypted" };
                write!(f, "backup {name} written to {path}: {size} bytes, {how}")
            }
            Self::SecurityViolation { uid, gid, pid, request: _, why, times } => {
                write!(f, "denied: {why} (gid {gid}")?;
                if let Some(pid) = pid {
                    write!(f, ", pid {pid}")?;
                }
                f.write_str(")")?;
                if *times > 1 {
                    write!(f, "; the last of {times} times that uid {uid} was denied something")?;
                }
                Ok(())
            }
            Self::Test { detail } => write!(f, "test: {detail}"),
        }
    }
}

fn micros(micros: u64) -> String {
    // Three digits are more than a histogram of powers of two knows.
    let whole = |unit: u64| format!("{}.{:02}", micros / unit, micros % unit * 100 / unit);
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", whole(1_000)),
        _ => format!("{} s", whole(1_000_000)),
    }
}

fn seconds(millis: u64) -> String {
    format!("{:.1} s", Duration::from_millis(millis).as_secs_f64())
}

fn gave_way(held_by: &[HeldBy]) -> String {
    if held_by.is_empty() {
        return "nobody gives way".to_owned();
    }
    let held: Vec<String> = held_by.iter().map(ToString::to_string).collect();
    format!("gives way: {}", held.join(", "))
}
