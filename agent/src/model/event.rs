//! What sources report.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::death::Cause;
use crate::model::process::Process;
use crate::model::time::Timestamp;

/// A change among the processes, from whichever source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A process replaced its program.
    Exec(Process),
    /// A process was born.
    Fork(Process),
    /// A process is alive: from a snapshot or a sweep.
    Alive(Process),
    /// A process died, its last thread with it.
    Exit(Exit),
}

impl Event {
    /// The process that the event is about.
    #[must_use]
    pub const fn process(&self) -> &Process {
        match self {
            Self::Exec(process) | Self::Fork(process) | Self::Alive(process) => process,
            Self::Exit(exit) => &exit.process,
        }
    }
}

/// The end of a process and the account of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Exit {
    /// The process as it died.
    pub process: Process,
    /// Time of death.
    pub at: Timestamp,
    /// How it ended; absent where the source cannot tell (polling).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// CPU time used, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Duration>,
    /// Peak resident set in bytes, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rss: Option<u64>,
    /// Who or what ended it, where known: of watched processes only, and by eBPF only.
    #[serde(default, skip_serializing_if = "Cause::is_unknown")]
    pub cause: Cause,
}

impl Exit {
    /// From birth to death.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        self.at.since(self.process.started)
    }
}

/// How a process ended, from its wait status (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal {
        /// Signal number.
        number: u8,
        /// Whether a core was dumped.
        #[serde(default)]
        core: bool,
    },
}

impl Status {
    /// From the raw wait status.
    #[must_use]
    pub const fn from_wait(raw: u32) -> Self {
        let signal = (raw & 0x7f) as u8;
        if signal == 0 {
            Self::Code(((raw >> 8) & 0xff) as u8)
        } else {
            Self::Signal { number: signal, core: raw & 0x80 != 0 }
        }
    }

    /// Whether the process ended by itself with code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { number, core } => {
                write!(f, "signal {number}")?;
                if let Some(name) = signal_name(number) {
                    write!(f, " ({name})")?;
                }
                if core { f.write_str(", core dumped") } else { Ok(()) }
            }
        }
    }
}

/// Name of a signal on x86-64 and arm64 (signal(7)); `None` for real-time signals.
#[must_use]
pub fn signal_name(number: u8) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    usize::from(number).checked_sub(1).and_then(|index| NAMES.get(index)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses() {
        assert_eq!(Status::from_wait(0), Status::Code(0));
        assert_eq!(Status::from_wait(3 << 8), Status::Code(3));
        assert_eq!(Status::from_wait(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(Status::from_wait(0x8b).to_string(), "signal 11 (SIGSEGV), core dumped");
    }
}
