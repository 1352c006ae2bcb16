//! What of the machine a critical process is to have when others want it, too: weights, and memory that reclaim
//! spares. A share under contention, and no guarantee; it must not be mistaken for a limit.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::critical::{Level, Protection};
use crate::model::limits::Limits;
use crate::model::unit::{Bytes, CpuPercent, Weight};

/// What a cgroup has without anybody's doing (`CGROUP_WEIGHT_DFL` of linux/cgroup.h).
const DEFAULT: u64 = 100;
/// The greatest weight (`CGROUP_WEIGHT_MAX`).
const MOST: u64 = 10_000;
/// Thousandths of a percent in a whole CPU.
const MILLIS_PER_CPU: u64 = 100_000;

/// A share of something, by weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Share {
    /// The weight.
    pub weight: Weight,
    /// Whether the profile says so itself. One that only follows from a level is given where that is possible.
    pub stated: bool,
}

/// What all instances of a critical process are to have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reservation {
    /// Of the CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Share>,
    /// Of I/O.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<Share>,
    /// Memory that reclaim spares while there is other memory to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_low: Option<Bytes>,
}

impl Reservation {
    /// Nothing.
    pub const NONE: Self = Self { cpu: None, io: None, memory_low: None };

    /// Whether there is nothing to give.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Whether any of it is what the profile says itself: that it cannot be given is then an alert.
    #[must_use]
    pub fn is_stated(&self) -> bool {
        let stated = |share: Option<Share>| share.is_some_and(|share| share.stated);
        stated(self.cpu) || stated(self.io) || self.memory_low.is_some()
    }

    /// The part that the profile states itself.
    #[must_use]
    pub fn stated(&self) -> Self {
        let stated = |share: Option<Share>| share.filter(|share| share.stated);
        Self { cpu: stated(self.cpu), io: stated(self.io), memory_low: self.memory_low }
    }

    /// As values of a cgroup.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            cpu_weight: self.cpu.map(|share| share.weight),
            io_weight: self.io.map(|share| share.weight),
            memory_low: self.memory_low,
            ..Limits::default()
        }
    }
}

impl fmt::Display for Reservation {
    /// `cpu_weight=400 memory_low=512M`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limits().fmt(f)
    }
}

/// CPU time that is reserved, and the weight that comes to it on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReservedCpu {
    /// In percent of one CPU.
    pub percent: CpuPercent,
    /// See [`Self::on`].
    pub weight: Weight,
}

impl ReservedCpu {
    /// The weight with which a cgroup gets this much of the CPUs while one sibling of default weight for each CPU
    /// keeps them busy: `w / (w + 100 * cpus) = percent / (100 * cpus)`, rounded up. At least the default, which
    /// nobody is to lose by a reservation, and at most the kernel's greatest. `None` when there is no such machine.
    #[must_use]
    pub fn on(cpus: u32, percent: CpuPercent) -> Option<Self> {
        let cpus = u64::from(cpus.max(1));
        let rest = (cpus * MILLIS_PER_CPU).checked_sub(percent.millis())?;
        let wanted = (DEFAULT * cpus * percent.millis()).checked_div(rest);
        let exact = wanted.is_some_and(|whole| whole * rest == DEFAULT * cpus * percent.millis());
        let weight = wanted.map_or(MOST, |whole| whole + u64::from(!exact));
        Some(Self { percent, weight: Weight::new(weight.clamp(DEFAULT, MOST))? })
    }
}

impl Level {
    /// The CPU and I/O weight that follow from it.
    #[must_use]
    pub fn weight(self) -> Option<Weight> {
        Weight::new(match self {
            Self::Maximum => 800,
            Self::High => 400,
            Self::Medium => 200,
            Self::Low => 150,
        })
    }
}

impl Protection {
    /// What all instances are to have together: what is stated, and else what follows from the level.
    #[must_use]
    pub fn reservation(&self) -> Reservation {
        let implied = self.level.and_then(Level::weight).map(|weight| Share { weight, stated: false });
        let stated = |weight: Option<Weight>| weight.map(|weight| Share { weight, stated: true });
        let reserved = self.reserved_cpu.map(|reserved| reserved.weight);
        Reservation {
            cpu: stated(self.cpu_weight.or(reserved)).or(implied),
            io: stated(self.io_weight).or(implied),
            memory_low: self.memory_low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(cpus: u32, percent: &str) -> Option<u16> {
        ReservedCpu::on(cpus, percent.parse().unwrap()).map(|reserved| reserved.weight.get())
    }

    #[test]
    fn a_percentage_becomes_the_weight_that_it_takes() {
        for (cpus, percent, expected) in [
            (4, "20%", Some(100)),
            (4, "80%", Some(100)),
            (4, "100%", Some(134)),
            (4, "200%", Some(400)),
            (4, "300%", Some(1_200)),
            (4, "399%", Some(10_000)),
            (4, "400%", Some(10_000)),
            (4, "400.001%", None),
            (1, "50%", Some(100)),
            (1, "75%", Some(300)),
            (2, "150%", Some(600)),
        ] {
            assert_eq!(weight(cpus, percent), expected, "{percent} of {cpus}");
        }
    }

    #[test]
    fn the_share_is_what_was_asked_for_where_the_weight_is_not_clamped() {
        for cpus in [1_u32, 2, 4, 64] {
            for tenths in 1..cpus * 10 {
                let percent = CpuPercent::from_millis(u64::from(tenths) * 10_000).unwrap();
                let got = f64::from(ReservedCpu::on(cpus, percent).unwrap().weight.get());
                let share = got / (got + 100.0 * f64::from(cpus)) * f64::from(cpus) * 10.0;
                assert!(share + 1e-9 >= f64::from(tenths) || got >= 10_000.0, "{tenths} of {cpus}: {share}");
            }
        }
    }

    #[test]
    fn what_is_stated_comes_before_what_a_level_implies() {
        let level = Protection { level: Some(Level::High), ..Protection::NONE };
        let implied = level.reservation();
        assert_eq!(implied.to_string(), "cpu_weight=400 io_weight=400");
        assert!(!implied.is_stated() && implied.stated().is_empty());
        let reserved_cpu = ReservedCpu::on(2, "150%".parse().unwrap());
        let mixed = Protection { reserved_cpu, memory_low: "512M".parse().ok(), ..level }.reservation();
        assert_eq!(mixed.to_string(), "cpu_weight=600 memory_low=512M io_weight=400");
        assert!(mixed.is_stated());
        assert_eq!(mixed.stated().to_string(), "cpu_weight=600 memory_low=512M");
        assert!(Protection::NONE.reservation().is_empty());
    }
}
