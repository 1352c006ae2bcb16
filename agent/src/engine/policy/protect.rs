//! The never-touch list. The engine asks it before it decides, and the executor again before it acts.

use std::fmt;

use crate::model::id::ProcKey;
use crate::model::process::Process;

/// Who the agent itself is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The agent.
    pub key: ProcKey,
    /// Its ancestors, as read at start.
    pub ancestors: Vec<ProcKey>,
}

/// Why a process is never limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protected {
    /// pid 1.
    Init,
    /// `kthreadd` or one of its children.
    KernelThread,
    /// The agent.
    Agent,
    /// The service manager, shell or session that started the agent.
    AgentAncestor,
    /// A daemon without which nobody can log in or repair the host.
    SystemDaemon,
}

impl fmt::Display for Protected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Init => "it is pid 1",
            Self::KernelThread => "it is a kernel thread",
            Self::Agent => "it is the agent itself",
            Self::AgentAncestor => "it is an ancestor of the agent",
            Self::SystemDaemon => "it is a system daemon on the never-touch list",
        })
    }
}

/// Comms of protected daemons, as the kernel cuts them.
const DAEMONS: [&[u8]; 8] = [
    b"systemd",
    b"systemd-journal",
    b"systemd-udevd",
    b"systemd-logind",
    b"dbus-daemon",
    b"dbus-broker",
    b"dbus-broker-lau",
    b"sshd",
];

/// Uids from here on belong to people (`SYS_UID_MAX` of login.defs(5) is 999). They may call their processes
/// what they like, so a name protects system users' processes only.
const FIRST_PERSON: u32 = 1_000;

/// Why this process must not be limited; `None` when it may be.
#[must_use]
pub fn verdict(process: &Process, own: &Own) -> Option<Protected> {
    let key = process.key;
    if key.pid == 1 {
        Some(Protected::Init)
    } else if process.kthread || key.pid == 2 {
        Some(Protected::KernelThread)
    } else if key == own.key {
        Some(Protected::Agent)
    } else if own.ancestors.contains(&key) {
        Some(Protected::AgentAncestor)
    } else if process.uid < FIRST_PERSON && DAEMONS.contains(&process.comm.bytes()) {
        Some(Protected::SystemDaemon)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::process;

    #[test]
    fn names_protect_system_users_only() {
        let own =
            Own { key: ProcKey { pid: 50, start: 100 }, ancestors: vec![ProcKey { pid: 40, start: 100 }] };
        let check = |process: Process| verdict(&process, &own);
        assert_eq!(check(process(1, "x").build()), Some(Protected::Init));
        assert_eq!(check(process(2, "x").build()), Some(Protected::KernelThread));
        assert_eq!(check(process(9, "x").kthread().build()), Some(Protected::KernelThread));
        assert_eq!(check(process(50, "x").build()), Some(Protected::Agent));
        assert_eq!(check(process(40, "x").build()), Some(Protected::AgentAncestor));
        assert_eq!(check(process(50, "x").start(101).build()), None);
        assert_eq!(check(process(9, "sshd").uid(0).build()), Some(Protected::SystemDaemon));
        assert_eq!(check(process(9, "systemd-journald").uid(0).build()), Some(Protected::SystemDaemon));
        assert_eq!(check(process(9, "dbus-daemon").uid(999).build()), Some(Protected::SystemDaemon));
        assert_eq!(check(process(9, "sshd").uid(1000).build()), None);
        assert_eq!(check(process(9, "sshd2").uid(0).build()), None);
    }
}
