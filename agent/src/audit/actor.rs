//! Who did something: a person as the kernel knows them, a rule, or the agent itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::id::Name;
use crate::model::reason::Reason;

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// A process of a user.
    User {
        /// Effective uid, by `SO_PEERCRED` (unix(7)) or of the command itself.
        uid: u32,
        /// Effective gid; absent where only the uid is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
        /// The process; absent where it is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        /// Uid that logged in, whatever became of it since; absent for what no login started
        /// (`/proc/PID/loginuid`, pam_loginuid(8)).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loginuid: Option<u32>,
    },
    /// A rule of the active profile.
    Rule {
        /// The rule.
        rule: Name,
    },
    /// The agent by itself.
    Daemon,
}

impl Actor {
    /// A process at the other end of a connection. Its login is read now: it waits for an answer and lives.
    #[must_use]
    pub fn peer(uid: u32, gid: u32, pid: Option<u32>) -> Self {
        Self::User { uid, gid: Some(gid), pid, loginuid: pid.and_then(loginuid) }
    }

    /// This process.
    #[must_use]
    pub fn myself() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self::peer(uid, gid, Some(std::process::id()))
    }

    /// A user of whom nothing else is known.
    #[must_use]
    pub const fn uid(uid: u32) -> Self {
        Self::User { uid, gid: None, pid: None, loginuid: None }
    }

    /// Whoever a reason names.
    #[must_use]
    pub fn of(reason: &Reason) -> Self {
        match reason {
            Reason::Operator { uid, .. } => Self::uid(*uid),
            Reason::Rule { rule, .. }
            | Reason::RuleGone { rule }
            | Reason::Condition { rule, .. }
            | Reason::Adjusted { rule: Some(rule), .. } => Self::Rule { rule: rule.clone() },
            Reason::Adjusted { rule: None, .. }
            | Reason::Protected { .. }
            | Reason::Intruded { .. }
            | Reason::Empty
            | Reason::Expired
            | Reason::Stopping
            | Reason::Recovered => Self::Daemon,
        }
    }

    /// Whether a person means this one by `text`: `daemon`, `rule NAME`, a uid as `uid 0` or `0`; a uid is found by
    /// its login as well.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Daemon => text == "daemon",
            Self::Rule { rule } => {
                text == "rule" || text.strip_prefix("rule ").is_some_and(|name| name == rule.as_str())
            }
            Self::User { uid, loginuid, .. } => {
                let wanted = text.strip_prefix("uid ").unwrap_or(text).parse::<u32>().ok();
                wanted.is_some_and(|wanted| wanted == *uid || Some(wanted) == *loginuid)
            }
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon => f.write_str("daemon"),
            Self::Rule { rule } => write!(f, "rule {rule}"),
            Self::User { uid, loginuid, .. } => {
                write!(f, "uid {uid}")?;
                match loginuid {
                    Some(login) if login != uid => write!(f, " (login {login})"),
                    Some(_) | None => Ok(()),
                }
            }
        }
    }
}

/// `(uid_t) -1` says that nobody logged in.
fn loginuid(pid: u32) -> Option<u32> {
    // A process that is gone, or a kernel without audit, tells none.
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_are_found_as_people_name_them() {
        let sudo = Actor::User { uid: 0, gid: Some(0), pid: Some(7), loginuid: Some(1_000) };
        assert!(sudo.is("0") && sudo.is("uid 0") && sudo.is("1000") && !sudo.is("7") && !sudo.is("daemon"));
        assert_eq!(sudo.to_string(), "uid 0 (login 1000)");
        let rule = Actor::Rule { rule: "backups".parse().unwrap() };
        assert!(rule.is("rule backups") && rule.is("rule") && !rule.is("rule other") && !rule.is("0"));
        assert!(Actor::Daemon.is("daemon") && !Actor::Daemon.is("rule"));
    }

    #[test]
    fn this_process_is_known_by_its_pid() {
        assert!(matches!(Actor::myself(), Actor::User { pid: Some(pid), .. } if pid == std::process::id()));
        assert_eq!(loginuid(0), None, "there is no such process");
    }
}
