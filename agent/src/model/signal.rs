//! What of the whole machine can be measured, by the names that conditions have for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What tasks wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A CPU.
    Cpu,
    /// Memory.
    Memory,
    /// I/O.
    Io,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Io];

    /// As in `/proc/pressure`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

/// Over which time something is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// The shortest: 10 s of pressure, 1 min of load.
    Short,
    /// 60 s of pressure, 5 min of load.
    Middle,
    /// The longest: 300 s of pressure, 15 min of load.
    Long,
}

impl Window {
    /// All of them, shortest first.
    pub const ALL: [Self; 3] = [Self::Short, Self::Middle, Self::Long];

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Short => 0,
            Self::Middle => 1,
            Self::Long => 2,
        }
    }
}

/// A measure of the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub enum Signal {
    /// Pressure stall information: the share of time in which tasks waited.
    Pressure {
        /// For what.
        resource: Resource,
        /// All of them, as opposed to at least one. Not for the CPU: on a whole machine somebody has it.
        full: bool,
        /// Averaged over this.
        window: Window,
    },
    /// The load average: tasks that run, want to, or wait uninterruptibly.
    Load {
        /// Averaged over this.
        window: Window,
    },
}

const fn pressure(resource: Resource, full: bool, window: Window) -> Signal {
    Signal::Pressure { resource, full, window }
}

/// Every signal by its name, in the order in which they are listed.
const NAMES: [(&str, Signal); 18] = {
    use Resource::{Cpu, Io, Memory};
    use Window::{Long, Middle, Short};
    [
        ("pressure_cpu_some_avg10", pressure(Cpu, false, Short)),
        ("pressure_cpu_some_avg60", pressure(Cpu, false, Middle)),
        ("pressure_cpu_some_avg300", pressure(Cpu, false, Long)),
        ("pressure_memory_some_avg10", pressure(Memory, false, Short)),
        ("pressure_memory_some_avg60", pressure(Memory, false, Middle)),
        ("pressure_memory_some_avg300", pressure(Memory, false, Long)),
        ("pressure_memory_full_avg10", pressure(Memory, true, Short)),
        ("pressure_memory_full_avg60", pressure(Memory, true, Middle)),
        ("pressure_memory_full_avg300", pressure(Memory, true, Long)),
        ("pressure_io_some_avg10", pressure(Io, false, Short)),
        ("pressure_io_some_avg60", pressure(Io, false, Middle)),
        ("pressure_io_some_avg300", pressure(Io, false, Long)),
        ("pressure_io_full_avg10", pressure(Io, true, Short)),
        ("pressure_io_full_avg60", pressure(Io, true, Middle)),
        ("pressure_io_full_avg300", pressure(Io, true, Long)),
        ("load1", Signal::Load { window: Short }),
        ("load5", Signal::Load { window: Middle }),
        ("load15", Signal::Load { window: Long }),
    ]
};

impl Signal {
    /// Every signal, in the order in which they are listed.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(_, signal)| signal)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        // The table is complete: a test looks.
        NAMES.into_iter().find(|(_, signal)| *signal == self).map_or("?", |(name, _)| name)
    }

    /// The largest value that makes sense, in hundredths: 100 % of pressure, a load of 100,000.
    #[must_use]
    pub const fn max(self) -> u32 {
        match self {
            Self::Pressure { .. } => 10_000,
            Self::Load { .. } => 10_000_000,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no signal has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no measure {0:?}")]
pub struct UnknownSignal(pub String);

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let found = NAMES.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, signal)| signal).ok_or_else(|| UnknownSignal(text.to_owned()))
    }
}

impl TryFrom<String> for Signal {
    type Error = UnknownSignal;

    fn try_from(text: String) -> Result<Self, UnknownSignal> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

/// A number with two decimals, as the kernel prints pressure and load: `12.34` is 1234.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Hundredths(pub u32);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl FromStr for Hundredths {
    type Err = ();

    /// A plain number with at most two decimals.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return Err(());
        }
        let whole: u32 = whole.parse().map_err(|_too_long| ())?;
        let part: u32 = format!("{part:0<2}").parse().map_err(|_too_long| ())?;
        whole.checked_mul(100).and_then(|whole| whole.checked_add(part)).map(Self).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_signals_are_one_to_one() {
        let names: std::collections::BTreeSet<&str> = Signal::all().map(Signal::name).collect();
        assert_eq!(names.len(), NAMES.len());
        for resource in Resource::ALL {
            for window in Window::ALL {
                for full in [false, true] {
                    let named = pressure(resource, full, window).name() != "?";
                    assert_eq!(named, resource != Resource::Cpu || !full);
                }
                assert_ne!(Signal::Load { window }.name(), "?");
            }
        }
        for signal in Signal::all() {
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
        assert!("pressure_cpu_full_avg10".parse::<Signal>().is_err() && "load2".parse::<Signal>().is_err());
    }

    #[test]
    fn numbers() {
        for (text, value) in [("20", 2_000), ("0.5", 50), ("12.34", 1_234), ("0", 0)] {
            assert_eq!(text.parse(), Ok(Hundredths(value)));
        }
        for bad in ["", ".5", "1.", "1.234", "-1", "1e3", " 1", "99999999999", "42949673"] {
            assert!(bad.parse::<Hundredths>().is_err(), "{bad}");
        }
    }
}
