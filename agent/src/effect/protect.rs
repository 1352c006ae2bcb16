//! Which processes are never touched: the second check, made right before the kernel is asked, by code that
//! shares nothing with the engine's.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::model::id::ProcKey;
use crate::procfs::stat::Stat;

/// Executables that are never limited: without them nobody can log in, or learn what happened.
const DAEMONS: [&[u8]; 14] = [
    b"systemd",
    b"init",
    b"dbus-daemon",
    b"dbus-broker",
    b"dbus-broker-launch",
    b"systemd-journald",
    b"systemd-udevd",
    b"systemd-logind",
    b"elogind",
    b"udevd",
    b"sshd",
    b"sshd-session",
    b"sshd-auth",
    b"rsyslogd",
];

/// Directories that only root can put an executable into.
const TRUSTED: [&[u8]; 9] = [
    b"/usr/sbin",
    b"/usr/bin",
    b"/sbin",
    b"/bin",
    b"/usr/lib/systemd",
    b"/lib/systemd",
    b"/usr/lib/openssh",
    b"/usr/libexec",
    b"/usr/libexec/openssh",
];

/// The checks, over one `/proc`.
#[derive(Clone, Debug)]
pub struct Guard {
    proc: PathBuf,
    own: BTreeSet<u32>,
}

/// A process that may be touched. The pidfd keeps what is known true or tells that it no longer is.
#[derive(Debug)]
pub struct Verified {
    /// Its identity, re-read.
    pub key: ProcKey,
    /// Its parent's pid.
    pub ppid: u32,
    /// Nice value of its first thread.
    pub nice: i64,
    /// Held so that the identity cannot pass to another process unnoticed.
    pub pidfd: Arc<OwnedFd>,
}

/// Why a process is not touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It ended, or its pid belongs to another process now.
    #[error("the process is gone")]
    Gone,
    /// It is on the list.
    #[error("never touched: {0}")]
    Never(&'static str),
    /// Limiting it would take what was not allowed.
    #[error("{0}")]
    NotAllowed(String),
}

impl Guard {
    /// The checks for this process and its ancestors as they are now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn new(proc: PathBuf) -> io::Result<Self> {
        let mut own = BTreeSet::new();
        let mut pid = std::process::id();
        while pid != 0 && own.insert(pid) {
            pid = Stat::read(&proc, pid)?.ppid;
        }
        Ok(Self { proc, own })
    }

    /// The same for a process that limits itself because it is about to run another program.
    #[must_use]
    pub fn allowing_itself(mut self) -> Self {
        self.own.remove(&std::process::id());
        self
    }

    /// Checks one process and takes hold of it.
    ///
    /// # Errors
    /// The reason why it is left alone.
    pub fn verify(&self, key: ProcKey, critical: &BTreeSet<ProcKey>) -> Result<Verified, Refusal> {
        if key.pid <= 1 {
            return Err(Refusal::Never("pid 1"));
        }
        if self.own.contains(&key.pid) {
            return Err(Refusal::Never("the agent and its ancestors"));
        }
        if critical.contains(&key) {
            return Err(Refusal::Never("a critical process"));
        }
        let pid = i32::try_from(key.pid).ok().and_then(Pid::from_raw).ok_or(Refusal::Gone)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| match error {
            rustix::io::Errno::SRCH | rustix::io::Errno::INVAL => Refusal::Gone,
            other => Refusal::NotAllowed(format!("pidfd_open: {}", io::Error::from(other))),
        })?;
        let stat = Stat::read(&self.proc, key.pid).map_err(|_gone| Refusal::Gone)?;
        if stat.start != key.start || stat.state == b'Z' {
            return Err(Refusal::Gone);
        }
        if stat.is_kthread() {
            return Err(Refusal::Never("a kernel thread"));
        }
        if self.is_daemon(key.pid, stat.comm.bytes()) {
            return Err(Refusal::Never("a system daemon"));
        }
        Ok(Verified { key, ppid: stat.ppid, nice: i64::from(stat.nice), pidfd: Arc::new(pidfd) })
    }

    /// By its executable, which a process cannot lie about; by its comm only where that cannot be read.
    fn is_daemon(&self, pid: u32, comm: &[u8]) -> bool {
        let Ok(exe) = std::fs::read_link(self.proc.join(pid.to_string()).join("exe")) else {
            return DAEMONS.iter().any(|name| name.get(..15).unwrap_or(name) == comm);
        };
        is_daemon_exe(exe.as_os_str().as_bytes())
    }
}

fn is_daemon_exe(exe: &[u8]) -> bool {
    let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    let Some(slash) = exe.iter().rposition(|byte| *byte == b'/') else { return false };
    let (dir, name) = exe.split_at(slash);
    TRUSTED.contains(&dir) && name.get(1..).is_some_and(|name| DAEMONS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_are_known_by_where_they_are() {
        for exe in [&b"/usr/sbin/sshd"[..], b"/usr/lib/systemd/systemd-journald", b"/usr/sbin/sshd (deleted)"]
        {
            assert!(is_daemon_exe(exe));
        }
        for exe in [&b"/home/x/sshd"[..], b"/usr/bin/rsync", b"sshd", b"/tmp/usr/sbin/sshd"] {
            assert!(!is_daemon_exe(exe));
        }
    }

    #[test]
    fn the_list_is_enforced() {
        let proc = PathBuf::from("/proc");
        let guard = Guard::new(proc.clone()).unwrap();
        let none = BTreeSet::new();
        let key = |pid| ProcKey { pid, start: Stat::read(&proc, pid).unwrap().start };
        let refusal = |key| guard.verify(key, &none).unwrap_err().to_string();
        assert_eq!(refusal(key(1)), "never touched: pid 1");
        let own = key(std::process::id());
        assert_eq!(refusal(own), "never touched: the agent and its ancestors");
        let parent = key(std::os::unix::process::parent_id());
        assert!(refusal(parent).starts_with("never touched"));
        // kthreadd, where it is visible.
        if let Ok(stat) = Stat::read(&proc, 2)
            && stat.is_kthread()
        {
            assert_eq!(refusal(key(2)), "never touched: a kernel thread");
        }
        assert_eq!(refusal(ProcKey { pid: u32::MAX, start: 1 }), "the process is gone");
        assert_eq!(refusal(ProcKey { pid: 0, start: 1 }), "never touched: pid 1");
    }
}
