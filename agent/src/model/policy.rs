//! Policies: how a group's limits change over time, and conditions under which a rule holds at all.

pub mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::hours::Hours;
use crate::model::limits::Limits;
use crate::model::signal::{Hundredths, Resource, Signal};
use crate::model::unit::{CpuPercent, Weight};

/// How limits change over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Policy {
    /// Not at all.
    #[default]
    Fixed,
    /// The CPU quota goes to the one of the limits in equal steps and stays there.
    Gradual(Gradual),
    /// The CPU quota is set so that something measured stays at its target.
    Adaptive(Adaptive),
    /// Other limits at other hours.
    Schedule(Schedule),
    /// None but its own until a critical process waits longer for a CPU than its objective says: then it gives way.
    Latency(Latency),
}

impl Policy {
    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        matches!(self, Self::Fixed)
    }

    /// Its name, as profiles have it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Fixed => Kind::Fixed,
            Self::Gradual(_) => Kind::Gradual,
            Self::Adaptive(_) => Kind::Adaptive,
            Self::Schedule(_) => Kind::Schedule,
            Self::Latency(_) => Kind::Latency,
        }
    }
}

/// The policies by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// See [`Policy::Fixed`].
    Fixed,
    /// See [`Policy::Gradual`].
    Gradual,
    /// See [`Policy::Adaptive`].
    Adaptive,
    /// See [`Policy::Schedule`].
    Schedule,
    /// See [`Policy::Latency`].
    Latency,
}

impl Kind {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Gradual => "gradual",
            Self::Adaptive => "adaptive",
            Self::Schedule => "schedule",
            Self::Latency => "latency",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Parameters of [`Policy::Gradual`]. The end is the group's own `cpu` limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gradual {
    /// The quota at first.
    pub from: CpuPercent,
    /// Until the end is reached, in ms.
    pub over_ms: u64,
    /// Between two steps, in ms.
    pub interval_ms: u64,
}

/// Parameters of [`Policy::Adaptive`]. The quota at first is the group's own `cpu` limit, if it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Adaptive {
    /// What is held, and where.
    pub target: Target,
    /// The lowest quota.
    pub min: CpuPercent,
    /// The highest quota.
    pub max: CpuPercent,
    /// Between two measurements, in ms.
    pub interval_ms: u64,
    /// At least this long between two changes of the quota, in ms. What is measured is the time since the last one.
    pub cooldown_ms: u64,
    /// How far from the target, in thousandths of it, nothing is changed.
    pub deadband_permille: u32,
}

/// What an adaptive policy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// CPU time of the group itself, in percent of one CPU.
    Cpu(CpuPercent),
    /// Share of the time since the last change in which some task of the machine waited for a CPU, in hundredths
    /// of a percent.
    PressureCpuSome(Hundredths),
    /// The same for memory.
    PressureMemorySome(Hundredths),
    /// The same for I/O.
    PressureIoSome(Hundredths),
    /// The load average of one minute.
    Load1(Hundredths),
}

impl Target {
    /// The resource whose pressure it is about.
    #[must_use]
    pub const fn resource(self) -> Option<Resource> {
        match self {
            Self::PressureCpuSome(_) => Some(Resource::Cpu),
            Self::PressureMemorySome(_) => Some(Resource::Memory),
            Self::PressureIoSome(_) => Some(Resource::Io),
            Self::Cpu(_) | Self::Load1(_) => None,
        }
    }

    /// Its key in a profile.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::PressureCpuSome(_) => "pressure_cpu_some",
            Self::PressureMemorySome(_) => "pressure_memory_some",
            Self::PressureIoSome(_) => "pressure_io_some",
            Self::Load1(_) => "load1",
        }
    }
}

impl std::fmt::Display for Target {
    /// `cpu 40%`, `load1 4.00`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu(percent) => write!(f, "cpu {percent}"),
            Self::PressureCpuSome(value) | Self::PressureMemorySome(value) | Self::PressureIoSome(value) => {
                write!(f, "{} {value}%", self.key())
            }
            Self::Load1(value) => write!(f, "load1 {value}"),
        }
    }
}

/// Parameters of [`Policy::Schedule`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Schedule {
    /// The first one that contains the present moment decides; outside of all, the group's own limits do.
    pub windows: Vec<Span>,
    /// Whose wall clock the hours are of.
    #[serde(default, skip_serializing_if = "Zone::is_system")]
    pub timezone: Zone,
}

/// Limits at certain hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Span {
    /// When.
    pub hours: Hours,
    /// What; empty: no limit then.
    pub limits: Limits,
}

/// Parameters of [`Policy::Latency`]. While no objective is violated the group has its own limits, which may be none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Latency {
    /// The CPU weight at which it is held first, 1 to 100.
    pub weight: Weight,
    /// The lowest CPU quota, where the weight is not enough.
    pub min: CpuPercent,
    /// At least this long between two steps back, in ms.
    pub cooldown_ms: u64,
}

/// A time zone by name. Whether there is one of that name is checked where it is read in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Zone(Option<String>);

impl Zone {
    /// A zone of the IANA database.
    #[must_use]
    pub const fn named(name: String) -> Self {
        Self(Some(name))
    }

    /// Its IANA name; `None`: the machine's own zone.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether it is the machine's own.
    #[must_use]
    pub const fn is_system(&self) -> bool {
        self.0.is_none()
    }
}

/// Conditions under which a rule holds; all of them must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct When {
    /// On measures of the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Threshold>,
    /// On the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// Whose wall clock the hours are of.
    #[serde(default, skip_serializing_if = "Zone::is_system")]
    pub timezone: Zone,
    /// At least this long between two changes on account of measures, in ms. The end of the hours does not wait.
    pub cooldown_ms: u64,
}

/// A measure beyond which a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Threshold {
    /// The measure.
    pub signal: Signal,
    /// On which side of the value the rule holds.
    pub side: Side,
    /// Beyond this it begins to hold.
    pub on: Hundredths,
    /// Short of this it ceases to; between both it is as it was.
    pub off: Hundredths,
}

/// A side of a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Greater values.
    Above,
    /// Smaller values.
    Below,
}

impl std::fmt::Display for Threshold {
    /// `pressure_cpu_some_avg10 above 20.00, until 16.00`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = match self.side {
            Side::Above => "above",
            Side::Below => "below",
        };
        write!(f, "{} {side} {}, until {}", self.signal, self.on, self.off)
    }
}

impl Gradual {
    /// See [`Self::over_ms`].
    #[must_use]
    pub const fn over(&self) -> Duration {
        Duration::from_millis(self.over_ms)
    }

    /// See [`Self::interval_ms`].
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

impl Latency {
    /// See [`Self::cooldown_ms`].
    #[must_use]
    pub const fn cooldown(&self) -> Duration {
        Duration::from_millis(self.cooldown_ms)
    }
}

impl Adaptive {
    /// See [`Self::interval_ms`].
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// See [`Self::cooldown_ms`].
    #[must_use]
    pub const fn cooldown(&self) -> Duration {
        Duration::from_millis(self.cooldown_ms)
    }
}
