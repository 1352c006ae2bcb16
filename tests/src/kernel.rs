//! What the kernel says of a process, read from `/proc` by the tests' own code, so that the agent is not
//! checked against itself.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Nanoseconds of a clock tick (`USER_HZ` is 100).
const TICK: Duration = Duration::from_millis(10);

/// The fields of `/proc/PID/stat` that the tests need (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// State: `R`, `S`, `Z`, …
    pub state: char,
    /// Parent.
    pub ppid: u32,
    /// User and system time.
    pub cpu: Duration,
    /// Nice value.
    pub nice: i32,
    /// Start in ticks since boot.
    pub start: u64,
}

/// Reads `/proc/PID/stat`.
///
/// # Errors
/// When the process is gone or the file is not as documented.
pub fn stat(pid: u32) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read(&path).with_context(|| format!("read {path}"))?;
    parse_stat(&text).with_context(|| format!("parse {path}"))
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The comm may hold anything, closing parentheses too: the last one ends it.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)?.checked_add(number(15)?)?;
    Some(Stat {
        state: fields.first()?.chars().next()?,
        ppid: u32::try_from(number(4)?).ok()?,
        cpu: TICK.checked_mul(u32::try_from(ticks).ok()?)?,
        nice: fields.get(19 - 3)?.parse().ok()?,
        start: number(22)?,
    })
}

/// The comm of a process, without its newline.
///
/// # Errors
/// When the process is gone.
pub fn comm(pid: u32) -> Result<String> {
    let path = format!("/proc/{pid}/comm");
    let text = fs::read(&path).with_context(|| format!("read {path}"))?;
    Ok(String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(&text)).into_owned())
}

/// Pid and start of every process that is not a zombie.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn processes() -> Result<BTreeMap<u32, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let name = entry.context("list /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended in between is none.
        let Ok(stat) = stat(pid) else { continue };
        if stat.state != 'Z' && stat.state != 'X' {
            found.insert(pid, stat.start);
        }
    }
    Ok(found)
}

/// A field of `/proc/PID/status` in its own unit.
///
/// # Errors
/// When the process is gone or has no such field.
pub fn status_field(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix(field)?.strip_prefix(':')?.split_ascii_whitespace().next()?.parse().ok()
        })
        .with_context(|| format!("{path} has no {field}"))
}

/// Resident memory in bytes.
///
/// # Errors
/// When the process is gone.
pub fn rss(pid: u32) -> Result<u64> {
    Ok(status_field(pid, "VmRSS")? * 1024)
}

/// CPU time in nanoseconds of all live threads, from `/proc/PID/task/*/schedstat`: ticks are too coarse for an
/// agent that uses microseconds.
///
/// # Errors
/// When the process is gone.
pub fn cpu_nanos(pid: u32) -> Result<u64> {
    sum_over_threads(pid, "schedstat", |text| text.split_ascii_whitespace().next()?.parse().ok())
}

/// Time in nanoseconds that all live threads have waited for a CPU, from the same files.
///
/// # Errors
/// When the process is gone.
pub fn waited_nanos(pid: u32) -> Result<u64> {
    sum_over_threads(pid, "schedstat", |text| text.split_ascii_whitespace().nth(1)?.parse().ok())
}

/// Context switches of all threads: each is a wake-up that happened.
///
/// # Errors
/// When the process is gone.
pub fn context_switches(pid: u32) -> Result<u64> {
    sum_over_threads(pid, "status", |text| {
        let counts = text.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        Some(counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum())
    })
}

fn sum_over_threads(pid: u32, file: &str, read: impl Fn(&str) -> Option<u64>) -> Result<u64> {
    let dir = format!("/proc/{pid}/task");
    let mut sum = 0;
    for entry in fs::read_dir(&dir).with_context(|| format!("list {dir}"))? {
        let path = entry.with_context(|| format!("list {dir}"))?.path().join(file);
        // A thread that ended in between has nothing more to count.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        sum += read(&text).with_context(|| format!("parse {}", path.display()))?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comm_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) b) (c) S 7 1 1 0 -1 4194304 1 0 0 0 12 30 0 0 20 -5 1 0 998877 0 0 0";
        let stat = parse_stat(line).unwrap();
        let cpu = Duration::from_millis(420);
        assert_eq!(stat, Stat { state: 'S', ppid: 7, cpu, nice: -5, start: 998_877 });
        assert_eq!(parse_stat(b"42 (a"), None);
    }

    #[test]
    fn this_process_is_among_the_processes() {
        let own = std::process::id();
        assert_eq!(processes().unwrap().get(&own), Some(&stat(own).unwrap().start));
        assert!(rss(own).unwrap() > 0);
        assert!(cpu_nanos(own).unwrap() > 0);
        assert!(context_switches(own).unwrap() > 0);
    }
}
