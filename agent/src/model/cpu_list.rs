//! Lists of CPUs as the kernel and people write them: `0-2,5` (cpuset(7), "List format").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::unit::UnitError;

/// CPUs, at least one. Kept as ascending ranges with a gap between any two, so that equal sets are equal texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(Vec<(u16, u16)>);

const EXPECTED: &str = "a list of CPUs from 0 to 1023, such as 0-2,5";

impl CpuList {
    /// The highest CPU, `CPU_SETSIZE` of sched.h less one.
    pub const LAST: u16 = 1_023;

    /// These CPUs; `None` when there are none, or one is above [`Self::LAST`].
    pub fn new(cpus: impl IntoIterator<Item = u16>) -> Option<Self> {
        Self::from_ranges(cpus.into_iter().map(|cpu| (cpu, cpu)).collect())
    }

    fn from_ranges(mut ranges: Vec<(u16, u16)>) -> Option<Self> {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            if first > last || last > Self::LAST {
                return None;
            }
            match merged.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                Some(_) | None => merged.push((first, last)),
            }
        }
        (!merged.is_empty()).then_some(Self(merged))
    }

    /// The CPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Whether all of its CPUs are in the other list.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|(first, last)| other.0.iter().any(|(from, to)| from <= first && last <= to))
    }

    /// Whether any CPU is in both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().any(|(first, last)| other.0.iter().any(|(from, to)| from <= last && first <= to))
    }
}

impl FromStr for CpuList {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((number(first)?, number(last)?))
        };
        text.trim()
            .split(',')
            .map(|part| range(part.trim()))
            .collect::<Option<Vec<_>>>()
            .and_then(Self::from_ranges)
            .ok_or_else(|| UnitError { value: text.to_owned(), expected: EXPECTED })
    }
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (first, last) in &self.0 {
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuList {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> Self {
        list.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CpuList {
        text.parse().unwrap()
    }

    #[test]
    fn equal_sets_are_equal_texts() {
        for (text, canonical) in
            [("0", "0"), ("5,0-2", "0-2,5"), ("1,0,2-3, 3", "0-3"), ("0-0", "0"), ("1023\n", "1023")]
        {
            assert_eq!(list(text).to_string(), canonical, "{text:?}");
        }
        assert_eq!(CpuList::new([5, 0, 1]), Some(list("0-1,5")));
        assert_eq!(list("0-1,5").iter().collect::<Vec<_>>(), [0, 1, 5]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", ",", "0,", "2-1", "1024", "0-99999999", "-1", "+1", "a", "0x1", "0 1", "1-2-3"] {
            assert!(bad.parse::<CpuList>().is_err(), "{bad:?}");
        }
        assert_eq!(CpuList::new([]), None);
    }

    #[test]
    fn inclusion() {
        assert!(list("1,5").is_within(&list("0-2,5")) && !list("1-3").is_within(&list("0-2")));
        assert!(list("2-4").meets(&list("4-9")) && !list("0,2").meets(&list("1,3")));
    }
}
