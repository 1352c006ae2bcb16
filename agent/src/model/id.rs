//! Identities and names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A process: its pid and when it started. A bare pid is not an identity, because the kernel reuses it.
///
/// The start is in clock ticks since boot (field 22 of `/proc/PID/stat`, proc_pid_stat(5)), the one unit in
/// which the kernel's records, `/proc` and the task iterator agree. A pid cannot come round within a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

    /// What is recorded of a reservation for a critical process goes by this name. No pid is `all`. Two names that
    /// are too long to be told by what fits are told apart by a hash (FNV-1a), the same from start to start.
    #[must_use]
    pub fn of_reservation(critical: &Self) -> Self {
        const KEPT: usize = 32;
        const HASHED: usize = 17;
        let whole = critical.as_str();
        if PROTECTION.len() + ALL.len() + whole.len() <= NAME_MAX - HASHED {
            return Self(format!("{PROTECTION}{ALL}{whole}"));
        }
        let hash = whole.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let kept = whole.get(..KEPT.min(whole.len())).unwrap_or_default();
        Self(format!("{PROTECTION}{ALL}{kept}.{hash:016x}"))
    }

    /// Whether it is the name of a protection or reservation. Groups of limits may not have one.
    #[must_use]
    pub fn is_of_protection(&self) -> bool {
        self.0.starts_with(PROTECTION)
    }
}

/// How names of protections begin.
const PROTECTION: &str = "protected.";
/// How they go on for all instances together.
const ALL: &str = "all.";

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

    #[test]
    fn names_of_reservations_are_names_and_differ() {
        let long = |end: &str| format!("{}{end}", "a".repeat(63)).parse::<Name>().unwrap();
        let names: Vec<Name> = ["a".parse().unwrap(), "b".parse().unwrap(), long("a"), long("b")].into();
        let groups: std::collections::BTreeSet<Name> = names.iter().map(Name::of_reservation).collect();
        assert_eq!(groups.len(), names.len());
        for group in groups {
            assert!(group.is_of_protection() && group.as_str().parse::<Name>().is_ok(), "{group}");
        }
        assert_eq!(Name::of_reservation(&names[0]).as_str(), "protected.all.a");
    }
}
