//! Quantities with their units, ranges and the way people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no quantity of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct UnitError {
    /// The text.
    pub value: String,
    /// What it should have been, with an example.
    pub expected: &'static str,
}

fn error(value: &str, expected: &'static str) -> UnitError {
    UnitError { value: value.to_owned(), expected }
}

/// CPU time per wall time, in thousandths of a percent of **one** CPU: `150%` is one and a half CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct CpuPercent(u64);

const CPU_EXPECTED: &str = "a CPU limit from 1% (the kernel's smallest quota) to 100000%, in percent of one CPU, such as 30% or 150%";

impl CpuPercent {
    /// The scheduler's default period in µs (`cpu.max`, `cpu.cfs_period_us`).
    pub const PERIOD_US: u64 = 100_000;
    /// `min_cfs_quota_period` of kernel/sched: a quota below 1 ms is refused.
    const MIN_MILLIS: u64 = 1_000;
    const MAX_MILLIS: u64 = 100_000_000;
    /// The least quota: 1 %.
    pub const LEAST: Self = Self(Self::MIN_MILLIS);

    /// From thousandths of a percent; `None` outside 1 % to 100,000 %.
    #[must_use]
    pub fn from_millis(millis: u64) -> Option<Self> {
        (Self::MIN_MILLIS..=Self::MAX_MILLIS).contains(&millis).then_some(Self(millis))
    }

    /// Thousandths of a percent.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Quota in µs for a period of [`Self::PERIOD_US`].
    #[must_use]
    pub const fn quota_us(self) -> u64 {
        self.0 * Self::PERIOD_US / 100_000
    }
}

impl FromStr for CpuPercent {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || error(text, CPU_EXPECTED);
        let number = text.trim().strip_suffix('%').ok_or_else(bad)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 3 || !digits(whole) || !digits(part) {
            return Err(bad());
        }
        let whole: u64 = whole.parse().ok().ok_or_else(bad)?;
        let part: u64 = format!("{part:0<3}").parse().ok().ok_or_else(bad)?;
        whole.checked_mul(1_000).and_then(|v| v.checked_add(part)).and_then(Self::from_millis).ok_or_else(bad)
    }
}

impl fmt::Display for CpuPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1_000, self.0 % 1_000);
        if part == 0 {
            write!(f, "{whole}%")
        } else {
            write!(f, "{whole}.{}%", format!("{part:03}").trim_end_matches('0'))
        }
    }
}

/// An amount of memory, or of I/O per second, in bytes. Suffixes are powers of 1024, as systemd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(u64);

const BYTES_EXPECTED: &str = "a size of at least 4096 bytes, such as 65536, 512M, 1.5G or 2GiB";

impl Bytes {
    /// One page: the kernel rounds smaller limits to nothing.
    pub const MIN: u64 = 4_096;

    /// From a number of bytes; `None` below one page or above `i64::MAX` (the kernel's own bound).
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        (Self::MIN..=i64::MAX.unsigned_abs()).contains(&bytes).then_some(Self(bytes))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || error(text, BYTES_EXPECTED);
        let text_trimmed = text.trim();
        let end = text_trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text_trimmed.len());
        let (number, suffix) = text_trimmed.split_at(end);
        let shift = match suffix.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(bad()),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 6 || !digits(part) || (number.contains('.') && part.is_empty()) {
            return Err(bad());
        }
        let whole: u128 = whole.parse().ok().ok_or_else(bad)?;
        let scale = 10u128.pow(u32::try_from(part.len()).unwrap_or(0));
        let part: u128 = if part.is_empty() { 0 } else { part.parse().ok().ok_or_else(bad)? };
        let total = whole
            .checked_mul(scale)
            .and_then(|v| v.checked_add(part))
            .and_then(|v| v.checked_mul(1 << shift))
            .ok_or_else(bad)?
            / scale;
        u64::try_from(total).ok().and_then(Self::new).ok_or_else(bad)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, suffix) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0.trailing_zeros() >= shift {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A share relative to siblings: 1 to 10000, 100 is the default, as in cgroup v2 and systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "u64", into = "u64")]
pub struct Weight(u16);

const WEIGHT_EXPECTED: &str = "a weight from 1 to 10000 (100 is the default)";

impl Weight {
    /// From a number; `None` outside 1 to 10000.
    #[must_use]
    pub fn new(weight: u64) -> Option<Self> {
        u16::try_from(weight).ok().filter(|w| (1..=10_000).contains(w)).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl FromStr for Weight {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        text.trim().parse().ok().and_then(Self::new).ok_or_else(|| error(text, WEIGHT_EXPECTED))
    }
}

impl TryFrom<u64> for Weight {
    type Error = UnitError;

    fn try_from(weight: u64) -> Result<Self, UnitError> {
        Self::new(weight).ok_or_else(|| error(&weight.to_string(), WEIGHT_EXPECTED))
    }
}

impl From<Weight> for u64 {
    fn from(weight: Weight) -> Self {
        Self::from(weight.0)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Scheduling priority, -20 (first) to 19 (last).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "i64", into = "i64")]
pub struct Nice(i8);

const NICE_EXPECTED: &str = "a nice value from -20 to 19";

impl Nice {
    /// From a number; `None` outside -20 to 19.
    #[must_use]
    pub fn new(nice: i64) -> Option<Self> {
        i8::try_from(nice).ok().filter(|n| (-20..=19).contains(n)).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i8 {
        self.0
    }
}

impl FromStr for Nice {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        text.trim().parse().ok().and_then(Self::new).ok_or_else(|| error(text, NICE_EXPECTED))
    }
}

impl TryFrom<i64> for Nice {
    type Error = UnitError;

    fn try_from(nice: i64) -> Result<Self, UnitError> {
        Self::new(nice).ok_or_else(|| error(&nice.to_string(), NICE_EXPECTED))
    }
}

impl From<Nice> for i64 {
    fn from(nice: Nice) -> Self {
        Self::from(nice.0)
    }
}

impl fmt::Display for Nice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! text_conversions {
    ($($unit:ty),+) => {$(
        impl TryFrom<String> for $unit {
            type Error = UnitError;

            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }

        impl From<$unit> for String {
            fn from(value: $unit) -> Self {
                value.to_string()
            }
        }
    )+};
}
text_conversions!(CpuPercent, Bytes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_percent_edges() {
        for bad in [
            "",
            "%",
            "0%",
            "0.5%",
            "0.999%",
            "-1%",
            "30",
            "1e3%",
            "100000.001%",
            "9999999999999999999%",
            "1.2345%",
            "NaN%",
        ] {
            assert!(bad.parse::<CpuPercent>().is_err(), "{bad:?}");
        }
        for (text, quota, shown) in [
            ("1%", 1_000, "1%"),
            ("30%", 30_000, "30%"),
            ("12.5%", 12_500, "12.5%"),
            ("250%", 250_000, "250%"),
        ] {
            let value: CpuPercent = text.parse().unwrap();
            assert_eq!((value.quota_us(), value.to_string().as_str()), (quota, shown));
        }
    }

    #[test]
    fn bytes_edges() {
        for bad in [
            "",
            "G",
            "-1G",
            "0",
            "4095",
            "1.G",
            ".5G",
            "99999999999999999999",
            "99999999999GB",
            "1X",
            "1 G B",
            "1e6",
        ] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad:?}");
        }
        for (text, bytes, shown) in [
            ("4096", 4_096, "4K"),
            ("512M", 512 << 20, "512M"),
            ("1.5G", 3 << 29, "1536M"),
            ("2GiB", 2 << 30, "2G"),
            ("1g", 1 << 30, "1G"),
            ("10000", 10_000, "10000"),
        ] {
            let value: Bytes = text.parse().unwrap();
            assert_eq!((value.get(), value.to_string().as_str()), (bytes, shown));
        }
    }

    #[test]
    fn weights_and_nice() {
        assert!("0".parse::<Weight>().is_err());
        assert!("10001".parse::<Weight>().is_err());
        assert_eq!("100".parse::<Weight>().unwrap().get(), 100);
        assert!("20".parse::<Nice>().is_err());
        assert!("-21".parse::<Nice>().is_err());
        assert_eq!("-20".parse::<Nice>().unwrap().get(), -20);
    }
}
