//! Rich rows for people: `list` and `discover`. Reads five files per process, so not for the hot path.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::clock;
use crate::model::id::{ProcKey, TICK_NANOS};
use crate::model::process::{Comm, printable};
use crate::model::time::Timestamp;
use crate::procfs::{Proc, ProcError, read};

/// One process. Its JSON form escapes bytes that are not printable text as `\xNN`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    /// Identity.
    #[serde(flatten)]
    pub key: ProcKey,
    /// Parent's pid.
    pub ppid: u32,
    /// Real uid.
    pub uid: u32,
    /// Real gid.
    pub gid: u32,
    /// comm.
    pub comm: Comm,
    /// Command line, NULs as spaces, cut at 4096 bytes; empty for kernel threads and zombies.
    #[serde(serialize_with = "escaped")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub cmdline: Vec<u8>,
    /// Executable; absent for kernel threads and where it may not be read.
    #[serde(serialize_with = "escaped_option")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub exe: Option<Vec<u8>>,
    /// State letter of proc_pid_stat(5).
    pub state: char,
    /// CPU use in percent of one CPU: over the sample when there is one, else over the whole life.
    pub cpu_percent: f64,
    /// Resident set in bytes.
    pub rss: u64,
    /// Nice value of the leader.
    pub nice: i32,
    /// Number of threads.
    pub threads: u32,
    /// Path of its cgroup below the root of the hierarchy in use.
    #[serde(serialize_with = "escaped_option")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub cgroup: Option<Vec<u8>>,
    /// Start, to 1/100 s.
    pub started: Timestamp,
    /// Whether it is a kernel thread.
    pub kthread: bool,
}

/// CPU time of every process at one moment, the first half of a sample.
#[derive(Clone, Debug)]
pub struct CpuTimes {
    at: Timestamp,
    ticks: HashMap<ProcKey, u64>,
}

impl Proc {
    /// Every process, zombies included, with its CPU use over its whole life or since `base`. Processes that
    /// end meanwhile or that may not be read (`hidepid=`) are left out.
    ///
    /// # Errors
    /// When `/proc` cannot be listed or a file of a process is malformed.
    pub fn rows(&self, now: Timestamp, base: Option<&CpuTimes>) -> Result<Vec<Row>, ProcError> {
        let mut rows = Vec::new();
        for pid in self.pids()? {
            rows.extend(read::permitted(self.row(pid?, now, base))?);
        }
        Ok(rows)
    }

    /// One process; `None` when it is gone.
    ///
    /// # Errors
    /// When a file of it cannot be read or is malformed.
    pub fn row(&self, pid: u32, now: Timestamp, base: Option<&CpuTimes>) -> Result<Option<Row>, ProcError> {
        let Some(entry) = self.entry(pid)? else { return Ok(None) };
        let Some(stat) = entry.stat()? else { return Ok(None) };
        let Some(ids) = entry.ids()? else { return Ok(None) };
        let cgroup = match &self.hierarchy {
            Some(hierarchy) => entry.cgroup_path(hierarchy)?,
            None => None,
        };
        let started = Timestamp::from_nanos(stat.start.saturating_mul(TICK_NANOS));
        let used = stat.utime.saturating_add(stat.stime);
        let before = base.and_then(|base| Some((base.at, *base.ticks.get(&stat.key())?)));
        let (since, earlier) = before.unwrap_or((started, 0));
        Ok(Some(Row {
            key: stat.key(),
            ppid: stat.ppid,
            uid: ids.uid,
            gid: ids.gid,
            comm: stat.comm,
            cmdline: entry.cmdline()?.unwrap_or_default(),
            exe: entry.exe()?,
            state: char::from(stat.state),
            cpu_percent: percent(used.saturating_sub(earlier), now.since(since)),
            rss: stat.rss_pages.saturating_mul(rustix::param::page_size() as u64),
            nice: stat.nice,
            threads: stat.threads,
            cgroup,
            started,
            kthread: stat.is_kthread(),
        }))
    }

    /// CPU time of every process now.
    ///
    /// # Errors
    /// When `/proc` cannot be listed or a file of a process is malformed.
    pub fn cpu_times(&self, now: Timestamp) -> Result<CpuTimes, ProcError> {
        let mut ticks = HashMap::new();
        for pid in self.pids()? {
            if let Some(stat) = self.stat(pid?)? {
                ticks.insert(stat.key(), stat.utime.saturating_add(stat.stime));
            }
        }
        Ok(CpuTimes { at: now, ticks })
    }

    /// Every process with its CPU use over `interval`, for which the calling thread sleeps. A process born
    /// meanwhile is measured over its life.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn sample(&self, interval: Duration) -> Result<Vec<Row>, ProcError> {
        let base = self.cpu_times(clock::now())?;
        std::thread::sleep(interval);
        self.rows(clock::now(), Some(&base))
    }
}

/// Ticks of CPU time in percent of the time passed; a tick is the shortest time that can be told.
fn percent(ticks: u64, passed: Duration) -> f64 {
    let tick = Duration::from_nanos(TICK_NANOS);
    let used = tick.as_secs_f64() * ticks as f64;
    100.0 * used / passed.max(tick).as_secs_f64()
}

fn escaped<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&printable(bytes))
}

fn escaped_option<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => escaped(bytes, serializer),
        None => serializer.serialize_none(),
    }
}
