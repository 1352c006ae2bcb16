//! Pressure stall information: `/proc/pressure/*` and `*.pressure` of cgroups (Documentation/accounting/psi).

use serde::Serialize;

pub use crate::model::signal::Resource;
use crate::procfs::read::number;
use crate::procfs::{Proc, ProcError};

/// A pressure file is three or four short lines.
const PRESSURE_MAX: usize = 1024;

/// Stall of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pressure {
    /// Time in which at least one task waited.
    pub some: Stall,
    /// Time in which all tasks waited; absent where the kernel has no such line.
    pub full: Option<Stall>,
}

/// A share of time. Hundredths of a percent, 0 to 10,000, exactly as the kernel prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stall {
    /// Over the last 10 seconds.
    pub avg10: u32,
    /// Over the last minute.
    pub avg60: u32,
    /// Over the last five minutes.
    pub avg300: u32,
    /// Total in microseconds.
    pub total_us: u64,
}

impl Pressure {
    /// Parses the text of a pressure file. `None` when it is cut off or malformed.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut some = None;
        let mut full = None;
        for line in text.strip_suffix(b"\n")?.split(|byte| *byte == b'\n') {
            if let Some(fields) = line.strip_prefix(b"some ") {
                some = Some(Stall::parse(fields)?);
            } else if let Some(fields) = line.strip_prefix(b"full ") {
                full = Some(Stall::parse(fields)?);
            }
        }
        Some(Self { some: some?, full })
    }
}

impl Stall {
    fn parse(fields: &[u8]) -> Option<Self> {
        let mut fields = fields.split(|byte| *byte == b' ');
        let avg10 = hundredths(fields.next()?.strip_prefix(b"avg10=")?)?;
        let avg60 = hundredths(fields.next()?.strip_prefix(b"avg60=")?)?;
        let avg300 = hundredths(fields.next()?.strip_prefix(b"avg300=")?)?;
        let total_us = number(fields.next()?.strip_prefix(b"total=")?)?;
        fields.next().is_none().then_some(Self { avg10, avg60, avg300, total_us })
    }
}

/// `12.34` as 1234.
fn hundredths(text: &[u8]) -> Option<u32> {
    let dot = text.iter().position(|byte| *byte == b'.')?;
    let (whole, fraction) = (text.get(..dot)?, text.get(dot + 1..)?);
    if fraction.len() != 2 {
        return None;
    }
    number::<u32>(whole)?.checked_mul(100)?.checked_add(number(fraction)?)
}

impl Proc {
    /// System-wide pressure; `None` where the kernel keeps none (not built in, or `psi=0`).
    ///
    /// # Errors
    /// When the file exists but cannot be read or is malformed.
    pub fn pressure(&self, resource: Resource) -> Result<Option<Pressure>, ProcError> {
        let name = match resource {
            Resource::Cpu => "pressure/cpu",
            Resource::Memory => "pressure/memory",
            Resource::Io => "pressure/io",
        };
        let text = match self.file(name, PRESSURE_MAX) {
            // With `psi=0` the files exist and refuse to be opened.
            Err(ProcError::Io { source, .. }) if source.kind() == std::io::ErrorKind::Unsupported => None,
            other => other?,
        };
        let Some(text) = text else { return Ok(None) };
        Pressure::parse(&text)
            .map(Some)
            .ok_or_else(|| ProcError::malformed(self.path.join(name), "a pressure file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"some avg10=0.22 avg60=10.59 avg300=100.00 total=21166739\n\
        full avg10=0.00 avg60=0.00 avg300=0.05 total=7\n";

    #[test]
    fn both_lines_or_the_first_alone() {
        let some = Stall { avg10: 22, avg60: 1059, avg300: 10_000, total_us: 21_166_739 };
        let full = Stall { avg10: 0, avg60: 0, avg300: 5, total_us: 7 };
        assert_eq!(Pressure::parse(TEXT), Some(Pressure { some, full: Some(full) }));
        let first = &TEXT[..=TEXT.iter().position(|byte| *byte == b'\n').unwrap()];
        assert_eq!(Pressure::parse(first), Some(Pressure { some, full: None }));
    }

    #[test]
    fn cut_off_or_malformed_is_an_error() {
        let first_line = TEXT.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for end in 0..TEXT.len() {
            assert_eq!(Pressure::parse(&TEXT[..end]).is_some(), end == first_line, "cut at {end}");
        }
        for bad in [
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
            "some avg10=0.0 avg60=0.00 avg300=0.00 total=1\n",
            "some avg10=-0.01 avg60=0.00 avg300=0.00 total=1\n",
            "some avg10=nan avg60=0.00 avg300=0.00 total=1\n",
            "some avg10=99999999999.00 avg60=0.00 avg300=0.00 total=1\n",
            "some avg60=0.00 avg10=0.00 avg300=0.00 total=1\n",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1 more=2\n",
        ] {
            assert_eq!(Pressure::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
