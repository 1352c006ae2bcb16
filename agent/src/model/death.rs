//! Who or what ended a process, as far as the kernel has told. It must not guess: what is not known is said so.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::event::{Exit, Status, signal_name};
use crate::model::process::Comm;
use crate::model::time::Timestamp;
use crate::model::unit::Bytes;

/// What is known beyond the wait status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cause {
    /// The signal that ended the process; if it ended by itself, the last one before that asked it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// The limit for whose sake the OOM killer ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<OomLimit>,
}

impl Cause {
    /// Nothing more is known than the wait status.
    pub const UNKNOWN: Self = Self { sent: None, oom: None };

    /// Whether nothing more is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::UNKNOWN
    }
}

/// Deaths by cause, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Toll {
    exited: u64,
    failed: u64,
    signal: u64,
    oom: u64,
    unknown: u64,
}

impl Toll {
    /// Counts a death.
    pub const fn count(&mut self, exit: &Exit) {
        let cause = match (exit.cause.oom, exit.status) {
            (Some(_), _) => &mut self.oom,
            (None, Some(Status::Code(0))) => &mut self.exited,
            (None, Some(Status::Code(_))) => &mut self.failed,
            (None, Some(Status::Signal { .. })) => &mut self.signal,
            (None, None) => &mut self.unknown,
        };
        *cause = cause.saturating_add(1);
    }

    /// All of them.
    #[must_use]
    pub const fn by_cause(&self) -> [(&'static str, u64); 5] {
        [
            ("exited", self.exited),
            ("failed", self.failed),
            ("signal", self.signal),
            ("oom", self.oom),
            ("unknown", self.unknown),
        ]
    }
}

/// A signal and who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sent {
    /// Number of the signal.
    pub signal: u8,
    /// Who sent it.
    pub by: Sender,
    /// When.
    pub at: Timestamp,
}

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sender {
    /// The kernel: a fault, the OOM killer, a terminal, a broken pipe.
    Kernel,
    /// A process.
    Process {
        /// Its pid. It may have ended since.
        pid: u32,
        /// Its real uid.
        uid: u32,
        /// The name that the sending thread has given itself.
        comm: Comm,
    },
    /// A timer, or a process that pretends to be one.
    Unknown,
}

/// A limit that the OOM killer enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OomLimit {
    /// The memory limit of a cgroup.
    Cgroup {
        /// Id of the cgroup: the inode number of its directory in the hierarchy of the memory controller.
        id: u64,
        /// The limit.
        limit: Bytes,
    },
    /// The memory of the machine, or of the nodes that the process may use.
    Machine,
    /// It cannot be told.
    Unknown,
}

/// Longest time between a request to end and an end that is taken for its consequence, in ns: twice what
/// service managers wait before they kill.
const REQUEST_HOLDS: u64 = 180_000_000_000;

/// How a process ended, in a sentence that begins with its verb.
#[derive(Clone, Copy, Debug)]
pub struct Obituary<'a> {
    /// The end.
    pub exit: &'a Exit,
    /// Path of the cgroup whose limit the OOM killer enforced, for people.
    pub oom_cgroup: Option<&'a str>,
}

impl fmt::Display for Obituary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exit { status, cause, at, process, .. } = self.exit;
        let status = match status {
            None => return f.write_str("ended, cause unknown to this event source"),
            Some(status) => status,
        };
        if let Some(limit) = cause.oom {
            f.write_str("was killed by the OOM killer: ")?;
            return match (limit, self.oom_cgroup) {
                (OomLimit::Cgroup { limit, .. }, Some(path)) => {
                    write!(f, "memory limit of cgroup {path} ({limit})")
                }
                (OomLimit::Cgroup { id, limit }, None) => {
                    write!(f, "memory limit of the cgroup with id {id} ({limit})")
                }
                (OomLimit::Machine, _) => f.write_str("the machine was out of memory"),
                (OomLimit::Unknown, _) => f.write_str("for which limit is unknown"),
            };
        }
        match status {
            Status::Code(code) => {
                write!(f, "ended with exit code {code}")?;
                let asked = cause.sent.filter(|sent| {
                    sent.at <= *at
                        && at.as_nanos() - sent.at.as_nanos() <= REQUEST_HOLDS
                        && sent.at >= process.started
                });
                let Some(sent) = asked else { return Ok(()) };
                write!(f, ", {:.3} s after {}", at.since(sent.at).as_secs_f64(), signal(sent.signal))?;
                by(sent.by, process.key.pid, f)
            }
            Status::Signal { number, core } => {
                write!(f, "was killed by {}", signal(*number))?;
                if let Some(sent) = cause.sent {
                    by(sent.by, process.key.pid, f)?;
                }
                if *core { f.write_str(", core dumped") } else { Ok(()) }
            }
        }
    }
}

fn signal(number: u8) -> String {
    signal_name(number).map_or_else(|| format!("signal {number}"), str::to_owned)
}

fn by(sender: Sender, own: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match sender {
        Sender::Kernel => f.write_str(" sent by the kernel"),
        Sender::Process { pid, .. } if pid == own => f.write_str(" sent by itself"),
        Sender::Process { pid, uid, comm } => write!(f, " sent by pid {pid} ({comm}, uid {uid})"),
        Sender::Unknown => f.write_str(" sent by a timer, or by somebody who says so"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::ProcKey;
    use crate::model::process::Process;

    fn exit(status: Option<Status>, cause: Cause) -> Exit {
        let process = Process {
            key: ProcKey { pid: 7, start: 100 },
            started: Timestamp::from_nanos(1_000_000_000),
            execed: None,
            ppid: 1,
            uid: 0,
            gid: 0,
            cgroup: 0,
            comm: Comm::from_bytes(b"nginx"),
            kthread: false,
        };
        Exit { process, at: Timestamp::from_nanos(9_000_000_000), status, cpu: None, peak_rss: None, cause }
    }

    fn told(status: Option<Status>, cause: Cause) -> String {
        Obituary { exit: &exit(status, cause), oom_cgroup: None }.to_string()
    }

    fn sent(signal: u8, by: Sender, millis: u64) -> Cause {
        let at = Timestamp::from_nanos(millis * 1_000_000);
        Cause { sent: Some(Sent { signal, by, at }), oom: None }
    }

    #[test]
    fn deaths_are_told_apart_by_cause() {
        let mut toll = Toll::default();
        let oom = Cause { sent: None, oom: Some(OomLimit::Machine) };
        for (status, cause) in [
            (Some(Status::Code(0)), Cause::UNKNOWN),
            (Some(Status::Code(3)), Cause::UNKNOWN),
            (KILLED, Cause::UNKNOWN),
            (KILLED, oom),
            (None, Cause::UNKNOWN),
            (None, Cause::UNKNOWN),
        ] {
            toll.count(&exit(status, cause));
        }
        let expected = [("exited", 1), ("failed", 1), ("signal", 1), ("oom", 1), ("unknown", 2)];
        assert_eq!(toll.by_cause(), expected);
    }

    const KILLED: Option<Status> = Some(Status::Signal { number: 9, core: false });

    #[test]
    fn plain_english() {
        let bash = Sender::Process { pid: 4242, uid: 1000, comm: Comm::from_bytes(b"ba\x1bsh") };
        let itself = Sender::Process { pid: 7, uid: 0, comm: Comm::from_bytes(b"nginx") };
        let fault = Some(Status::Signal { number: 11, core: true });
        for (status, cause, expected) in [
            (None, Cause::UNKNOWN, "ended, cause unknown to this event source"),
            (KILLED, Cause::UNKNOWN, "was killed by SIGKILL"),
            (KILLED, sent(9, bash, 8_000), "was killed by SIGKILL sent by pid 4242 (ba\\x1bsh, uid 1000)"),
            (KILLED, sent(9, Sender::Kernel, 8_000), "was killed by SIGKILL sent by the kernel"),
            (fault, sent(11, Sender::Kernel, 8_000), "was killed by SIGSEGV sent by the kernel, core dumped"),
            (
                Some(Status::Signal { number: 6, core: false }),
                sent(6, itself, 8_000),
                "was killed by SIGABRT sent by itself",
            ),
            (Some(Status::Signal { number: 40, core: false }), Cause::UNKNOWN, "was killed by signal 40"),
            (Some(Status::Code(3)), Cause::UNKNOWN, "ended with exit code 3"),
            (
                Some(Status::Code(0)),
                sent(15, bash, 8_750),
                "ended with exit code 0, 0.250 s after SIGTERM sent by pid 4242 (ba\\x1bsh, uid 1000)",
            ),
            (Some(Status::Code(0)), sent(15, bash, 9_001), "ended with exit code 0"),
        ] {
            assert_eq!(told(status, cause), expected);
        }
    }

    #[test]
    fn the_oom_killer_is_named_with_the_limit() {
        let oom = |limit| Cause { oom: Some(limit), ..sent(9, Sender::Kernel, 8_000) };
        let cgroup = OomLimit::Cgroup { id: 77, limit: Bytes::new(512 << 20).unwrap() };
        let with_path = exit(KILLED, oom(cgroup));
        assert_eq!(
            Obituary { exit: &with_path, oom_cgroup: Some("/system.slice/x") }.to_string(),
            "was killed by the OOM killer: memory limit of cgroup /system.slice/x (512M)"
        );
        assert_eq!(
            told(KILLED, oom(cgroup)),
            "was killed by the OOM killer: memory limit of the cgroup with id 77 (512M)"
        );
        assert_eq!(
            told(KILLED, oom(OomLimit::Machine)),
            "was killed by the OOM killer: the machine was out of memory"
        );
        assert_eq!(
            told(KILLED, oom(OomLimit::Unknown)),
            "was killed by the OOM killer: for which limit is unknown"
        );
    }

    #[test]
    fn a_request_of_long_ago_is_not_the_cause() {
        let mut exit = exit(Some(Status::Code(0)), sent(15, Sender::Kernel, 8_000));
        exit.at = exit.at.after(std::time::Duration::from_secs(200));
        assert_eq!(Obituary { exit: &exit, oom_cgroup: None }.to_string(), "ended with exit code 0");
    }

    #[test]
    fn ends_recorded_before_there_were_causes_can_be_read() {
        let whole = exit(KILLED, sent(9, Sender::Kernel, 8_000));
        let json = serde_json::to_value(whole).unwrap();
        assert_eq!(serde_json::from_value::<Exit>(json.clone()).unwrap(), whole);
        let mut old = json;
        old.as_object_mut().unwrap().remove("cause");
        assert_eq!(serde_json::from_value::<Exit>(old.clone()).unwrap().cause, Cause::UNKNOWN);
        let unknown = serde_json::to_value(exit(KILLED, Cause::UNKNOWN)).unwrap();
        assert_eq!(unknown, old, "what is not known takes no room");
    }
}
