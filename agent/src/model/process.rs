//! What is known of a process.

use std::fmt;

use agent_common::text::{CommBytes, until_nul};
use serde::{Deserialize, Serialize};

use crate::model::id::ProcKey;
use crate::model::time::Timestamp;

/// A process's comm: up to 15 bytes chosen by the process itself, so not UTF-8 and not to be trusted.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Comm(pub CommBytes);

impl Comm {
    /// The bytes before the first NUL.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        until_nul(&self.0)
    }

    /// From the bytes of `/proc/PID/comm` or a name of a rule, cut at 15.
    #[must_use]
    pub fn from_bytes(text: &[u8]) -> Self {
        Self(agent_common::text::comm_key(text))
    }
}

impl fmt::Display for Comm {
    /// With everything that could disturb a terminal or a log line escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(self.bytes()))
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Comm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&printable(self.bytes()))
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unprintable(&text).map(|bytes| Self::from_bytes(&bytes)).ok_or_else(|| {
            serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &"a comm with \\xNN escapes")
        })
    }
}

/// Whether a character acts upon the text around it instead of being seen: controls, and the formatting characters of
/// Unicode (UAX #9, section 2; U+200B to U+200F, U+2028 to U+202E, U+2060 to U+206F, U+FEFF) by which a name can
/// pass for another.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    let formats =
        matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    c.is_control() || formats || c == '\u{feff}'
}

/// Bytes as text for people and JSON: valid UTF-8 as it is, but control characters and such as [`is_deceptive`] tells,
/// backslashes and invalid bytes as `\xNN`. Reversible by [`unprintable`].
#[must_use]
pub fn printable(bytes: &[u8]) -> Printable<'_> {
    Printable(bytes)
}

/// See [`printable`].
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '\\' || is_deceptive(c) {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    f.write_char(c)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// The bytes behind a [`printable`] text; `None` when an escape is malformed.
#[must_use]
pub fn unprintable(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (escape, tail) = rest.split_at_checked(3)?;
        let hex = std::str::from_utf8(escape).ok()?.strip_prefix('x')?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = tail;
    }
    Some(bytes)
}

/// A live process, as known from a kernel record or the task iterator: no `/proc` read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Process {
    /// Identity.
    pub key: ProcKey,
    /// Start, exact where the source knows it, else truncated to ticks.
    pub started: Timestamp,
    /// Last exec, where it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execed: Option<Timestamp>,
    /// Parent's pid.
    pub ppid: u32,
    /// Real uid.
    pub uid: u32,
    /// Real gid.
    pub gid: u32,
    /// Id of its cgroup; 0 when the source does not know it.
    pub cgroup: u64,
    /// Name that the process has given itself.
    pub comm: Comm,
    /// Whether it is a kernel thread.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kthread: bool,
}

/// What only `/proc` tells of a process; read when a rule needs it. Absent where it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Facts {
    /// Target of `/proc/PID/exe`, a ` (deleted)` ending removed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "escaped")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub exe: Option<Vec<u8>>,
    /// `/proc/PID/cmdline` with NULs as spaces, cut at 4096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "escaped")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub cmdline: Option<Vec<u8>>,
    /// Path of its cgroup below the root of the hierarchy that the driver uses, with a leading `/`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "escaped")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub cgroup_path: Option<Vec<u8>>,
}

/// Facts that only `/proc` has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Wants {
    /// Executable path.
    pub exe: bool,
    /// Command line.
    pub cmdline: bool,
    /// Cgroup path.
    pub cgroup_path: bool,
}

impl Wants {
    /// Whether nothing is wanted.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !(self.exe || self.cmdline || self.cgroup_path)
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            exe: self.exe || other.exe,
            cmdline: self.cmdline || other.cmdline,
            cgroup_path: self.cgroup_path || other.cgroup_path,
        }
    }

    /// What is wanted here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self {
            exe: self.exe && !other.exe,
            cmdline: self.cmdline && !other.cmdline,
            cgroup_path: self.cgroup_path && !other.cgroup_path,
        }
    }

    /// Every fact.
    pub const ALL: Self = Self { exe: true, cmdline: true, cgroup_path: true };
}

mod escaped {
    //! Bytes in JSON as escaped text.

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.collect_str(&super::printable(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| {
            super::unprintable(&text).ok_or_else(|| serde::de::Error::custom("malformed \\xNN escape"))
        })
        .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_survive_a_round_trip() {
        for bytes in [
            &b"plain"[..],
            b"new\nline",
            b"\x1b[31m",
            b"\xff\xfe",
            b"back\\slash",
            "umläut\u{85}".as_bytes(),
            "cod.\u{202e}txt\u{feff}\u{200b}\u{2066}".as_bytes(),
        ] {
            let text = printable(bytes).to_string();
            assert!(!text.chars().any(is_deceptive), "{text:?}");
            assert_eq!(unprintable(&text).unwrap(), bytes);
        }
        // Letters of any script are what they are.
        assert_eq!(printable("umläut кот 猫 🐈".as_bytes()).to_string(), "umläut кот 猫 🐈");
        for bad in ["\\", "\\x", "\\x1", "\\xzz", "\\n12"] {
            assert_eq!(unprintable(bad), None, "{bad:?}");
        }
    }
}
