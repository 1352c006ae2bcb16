//! Identities and names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A process: its pid and when it started. A bare pid is not an identity, because the kernel reuses it.
///
/// The start is in clock ticks since boot (field 22 of `/proc/PID/stat`, proc_pid_stat(5)), the one unit in
/// which the kernel's records, `/proc` and the task iterator agree. A pid cannot come round within a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcKey {
    /// Process id (tgid) in the initial namespace.
    pub pid: u32,
    /// Start in ticks of 1/100 s since boot.
    pub start: u64,
}

/// `USER_HZ`: fixed at 100 on every architecture that Linux runs servers on; `sysconf(_SC_CLK_TCK)`.
pub const TICK_NANOS: u64 = 10_000_000;

impl ProcKey {
    /// The key of a process whose start is known in nanoseconds since boot.
    #[must_use]
    pub const fn from_start_ns(pid: u32, start_ns: u64) -> Self {
        Self { pid, start: start_ns / TICK_NANOS }
    }
}

impl fmt::Display for ProcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start)
    }
}

/// Name of a profile, group, rule, endpoint or backup: `[a-z0-9][a-z0-9._-]{0,63}`, so that it is safe as a
/// file name, a cgroup name and a log field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Longest [`Name`] in bytes.
pub const NAME_MAX: usize = 64;

/// Why a text is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than [`NAME_MAX`].
    #[error("name of {0} bytes is longer than {NAME_MAX}")]
    TooLong(usize),
    /// A byte outside the set, or a first one that is no letter or digit.
    #[error("name {0:?} must match [a-z0-9][a-z0-9._-]{{0,63}}")]
    Charset(String),
}

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is recorded of the protection of a process goes by this name.
    #[must_use]
    pub fn of_protection(key: ProcKey) -> Self {
        Self(format!("{PROTECTION}{}.{}", key.pid, key.start))
    }

    /// Whether it is such a name. Groups of limits may not have one.
    #[must_use]
    pub fn is_of_protection(&self) -> bool {
        self.0.starts_with(PROTECTION)
    }
}

/// How names of protections begin.
const PROTECTION: &str = "protected.";

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().ok_or(NameError::Empty)?;
        if text.len() > NAME_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if plain(first) && text.bytes().all(|byte| plain(byte) || b"._-".contains(&byte)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Charset(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_directory() {
        for bad in ["", "../x", ".hidden", "a/b", "a b", "a\nb", "A", "ä", "-x", "a\0", &"a".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        for good in ["a", "backups", "web-1.prod_x", &"a".repeat(64)] {
            assert!(good.parse::<Name>().is_ok(), "{good:?}");
        }
    }
}
