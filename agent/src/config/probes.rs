//! The key `scheduler_probes`: whether the programs on the scheduler's tracepoints may be armed, when, for how long,
//! and what they may cost.

use std::time::Duration;

use super::error::Findings;
use super::fields::Cursor;
use crate::model::signal::Hundredths;

/// When the programs are armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbesMode {
    /// Never.
    #[default]
    Off,
    /// Always.
    On,
    /// For a window when processes wait for CPUs, and while somebody looks.
    Auto,
}

impl ProbesMode {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Auto => "auto",
        }
    }
}

/// How the scheduler is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbesSettings {
    /// When the programs are armed.
    pub mode: ProbesMode,
    /// How long pressure arms them in `auto`.
    pub window: Duration,
    /// What they may cost, in hundredths of a percent of one CPU.
    pub budget: Hundredths,
    /// Waits of critical processes for a CPU that are reported with who had it.
    pub threshold: Duration,
}

impl Default for ProbesSettings {
    fn default() -> Self {
        Self {
            mode: ProbesMode::Off,
            window: Duration::from_secs(60),
            budget: Hundredths(50),
            threshold: Duration::from_millis(10),
        }
    }
}

/// Reads the key; what is wrong goes to `findings`.
pub(super) fn parse(at: &Cursor<'_>, findings: &mut Findings) -> Option<ProbesSettings> {
    let map = at.map(&["mode", "window", "budget", "threshold"], &[], findings)?;
    let default = ProbesSettings::default();
    let modes = [ProbesMode::Off, ProbesMode::On, ProbesMode::Auto].map(|mode| (mode.as_str(), mode));
    let mode = map.get("mode").and_then(|at| at.choice(&modes, findings));
    let window = map.get("window").and_then(|at| {
        duration(at, Duration::from_secs(2), Duration::from_secs(3_600), "2s to 1h", findings)
    });
    let budget = map.get("budget").and_then(|at| budget(at, findings));
    let threshold = map.get("threshold").and_then(|at| {
        duration(at, Duration::from_micros(100), Duration::from_secs(10), "100us to 10s", findings)
    });
    Some(ProbesSettings {
        mode: mode.unwrap_or(default.mode),
        window: window.unwrap_or(default.window),
        budget: budget.unwrap_or(default.budget),
        threshold: threshold.unwrap_or(default.threshold),
    })
}

fn duration(
    at: &Cursor<'_>,
    least: Duration,
    most: Duration,
    range: &str,
    findings: &mut Findings,
) -> Option<Duration> {
    let text = at.text(findings)?;
    match humantime::parse_duration(text) {
        Ok(found) if (least..=most).contains(&found) => Some(found),
        Ok(_) => {
            findings.push(at.error(format!("{text:?} is not within {range}")));
            None
        }
        Err(error) => {
            let finding = at.error(format!("{text:?} is no duration: {error}"));
            findings.push(finding.with_fix(format!("write a time from {range}")));
            None
        }
    }
}

fn budget(at: &Cursor<'_>, findings: &mut Findings) -> Option<Hundredths> {
    let text = at.text(findings)?;
    let found = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<Hundredths>().ok());
    if let Some(found) = found.filter(|found| (1..=10_000).contains(&found.0)) {
        return Some(found);
    }
    let finding = at.error(format!("{text:?} is no share of a CPU from 0.01% to 100%"));
    findings.push(finding.with_fix("write 0.5%"));
    None
}
