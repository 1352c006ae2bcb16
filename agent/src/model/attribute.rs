//! Attributes that the kernel keeps per process or thread, outside of cgroups, and the values that a limit may
//! ask for. Not how they are read or written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::cpu_list::CpuList;
use crate::model::unit::{Nice, UnitError};

/// An attribute. All of them are inherited by children (sched(7), ioprio_set(2), proc_pid_oom_score_adj(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// The nice value of a thread.
    Nice,
    /// The scheduling policy of a thread.
    Sched,
    /// The I/O scheduling class and priority of a thread.
    IoPriority,
    /// The CPUs that a thread may run on.
    CpuAffinity,
    /// How likely the OOM killer takes a process.
    OomScoreAdj,
}

impl Attribute {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Nice, Self::Sched, Self::IoPriority, Self::CpuAffinity, Self::OomScoreAdj];

    /// Its name in records and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nice => "nice",
            Self::Sched => "sched",
            Self::IoPriority => "io_priority",
            Self::CpuAffinity => "cpu_affinity",
            Self::OomScoreAdj => "oom_score_adj",
        }
    }

    /// Whether a process has one value, as opposed to one per thread.
    #[must_use]
    pub const fn is_of_process(self) -> bool {
        match self {
            Self::OomScoreAdj => true,
            Self::Nice | Self::Sched | Self::IoPriority | Self::CpuAffinity => false,
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A nice value.
    Nice(Nice),
    /// A scheduling policy.
    Sched(Sched),
    /// An I/O class, and the priority within it.
    Io(IoPriority),
    /// CPUs.
    Cpus(CpuList),
    /// A score adjustment that it is raised to; one that is higher already stays.
    OomAtLeast(OomScoreAdj),
    /// A nice value that it is lowered to; one that is lower already stays.
    NiceAtMost(Nice),
    /// A score adjustment that it is lowered to; one that is lower already stays.
    OomAtMost(OomScoreAdj),
}

impl Demand {
    /// The attribute that it is about.
    #[must_use]
    pub const fn attribute(&self) -> Attribute {
        match self {
            Self::Nice(_) | Self::NiceAtMost(_) => Attribute::Nice,
            Self::Sched(_) => Attribute::Sched,
            Self::Io(_) => Attribute::IoPriority,
            Self::Cpus(_) => Attribute::CpuAffinity,
            Self::OomAtLeast(_) | Self::OomAtMost(_) => Attribute::OomScoreAdj,
        }
    }
}

impl fmt::Display for Demand {
    /// `nice 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attribute = self.attribute();
        match self {
            Self::Nice(nice) => write!(f, "{attribute} {nice}"),
            Self::Sched(sched) => write!(f, "{attribute} {sched}"),
            Self::Io(io) => write!(f, "{attribute} {io}"),
            Self::Cpus(cpus) => write!(f, "{attribute} {cpus}"),
            Self::OomAtLeast(score) => write!(f, "{attribute} {score} or above"),
            Self::NiceAtMost(nice) => write!(f, "{attribute} {nice} or below"),
            Self::OomAtMost(score) => write!(f, "{attribute} {score} or below"),
        }
    }
}

fn error(value: &str, expected: &'static str) -> UnitError {
    UnitError { value: value.to_owned(), expected }
}

/// A scheduling policy below the normal one, sched(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Sched {
    /// `SCHED_BATCH`: as the normal one, but it does not preempt others when it wakes.
    Batch,
    /// `SCHED_IDLE`: next to nothing while anybody else wants the CPU.
    Idle,
}

impl Sched {
    /// The words for them.
    pub const WORDS: [(&'static str, Self); 2] = [("batch", Self::Batch), ("idle", Self::Idle)];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Idle => "idle",
        }
    }
}

impl FromStr for Sched {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let found = Self::WORDS.into_iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| value).ok_or_else(|| error(text, "a scheduling policy, batch or idle"))
    }
}

impl fmt::Display for Sched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An I/O scheduling class that is not real-time, ioprio_set(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum IoClass {
    /// The normal one.
    BestEffort,
    /// Served only when nobody else wants the disk.
    Idle,
}

impl IoClass {
    /// The words for them, as systemd and ionice(1) have them.
    pub const WORDS: [(&'static str, Self); 2] = [("best-effort", Self::BestEffort), ("idle", Self::Idle)];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "best-effort",
            Self::Idle => "idle",
        }
    }
}

impl FromStr for IoClass {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let found = Self::WORDS.into_iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| value).ok_or_else(|| error(text, "an I/O class, best-effort or idle"))
    }
}

impl fmt::Display for IoClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A class, and the priority where the class has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPriority {
    /// Best effort.
    BestEffort(IoLevel),
    /// Idle.
    Idle,
}

impl fmt::Display for IoPriority {
    /// `best-effort/4`, `idle`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BestEffort(level) => write!(f, "best-effort/{level}"),
            Self::Idle => f.write_str("idle"),
        }
    }
}

macro_rules! number {
    ($name:ident, $inner:ty, $range:expr, $expected:expr) => {
        impl $name {
            /// What it should be, in words.
            pub const EXPECTED: &'static str = $expected;

            /// From a number; `None` outside the range.
            #[must_use]
            pub fn new(number: i64) -> Option<Self> {
                <$inner>::try_from(number).ok().filter(|number| $range.contains(number)).map(Self)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<Self, UnitError> {
                text.trim().parse().ok().and_then(Self::new).ok_or_else(|| error(text, Self::EXPECTED))
            }
        }

        impl TryFrom<i64> for $name {
            type Error = UnitError;

            fn try_from(number: i64) -> Result<Self, UnitError> {
                Self::new(number).ok_or_else(|| error(&number.to_string(), Self::EXPECTED))
            }
        }

        impl From<$name> for i64 {
            fn from(value: $name) -> Self {
                Self::from(value.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

/// Priority within the best-effort class, 0 (first) to 7 (last).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "i64", into = "i64")]
pub struct IoLevel(u8);
number!(IoLevel, u8, (0..=7), "an I/O priority from 0 to 7");

impl IoLevel {
    /// What a thread has that never asked: `IOPRIO_BE_NORM` of linux/ioprio.h.
    pub const NORMAL: Self = Self(4);
}

/// What is added to the OOM killer's score, -1000 (never) to 1000 (first).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "i64", into = "i64")]
pub struct OomScoreAdj(i16);
number!(OomScoreAdj, i16, (-1000..=1000), "an OOM score adjustment from -1000 to 1000");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_words() {
        assert_eq!("7".parse::<IoLevel>().unwrap().get(), 7);
        for bad in ["8", "-1", "", "x"] {
            assert!(bad.parse::<IoLevel>().is_err(), "{bad:?}");
        }
        assert_eq!("-1000".parse::<OomScoreAdj>().unwrap().get(), -1000);
        for bad in ["1001", "-1001", "99999999999"] {
            assert!(bad.parse::<OomScoreAdj>().is_err(), "{bad:?}");
        }
        for (word, value) in Sched::WORDS {
            assert_eq!(word.parse::<Sched>().unwrap(), value);
            assert_eq!(serde_json::to_value(value).unwrap(), word);
        }
        for (word, value) in IoClass::WORDS {
            assert_eq!(word.parse::<IoClass>().unwrap(), value);
            assert_eq!(serde_json::to_value(value).unwrap(), word);
        }
        assert!("fifo".parse::<Sched>().is_err() && "realtime".parse::<IoClass>().is_err());
    }
}
