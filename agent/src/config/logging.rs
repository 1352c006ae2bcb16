//! The key `log`: what is logged, and how it is written. Logs nothing itself.

use super::error::Findings;
use super::fields::Cursor;

/// Least severe messages that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And what the agent does.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And every event.
    Trace,
}

impl LogLevel {
    /// As the filter of the `tracing` crates spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads `log.level`; what is wrong goes to `findings`.
pub(super) fn level(at: &Cursor<'_>, findings: &mut Findings) -> Option<LogLevel> {
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    at.choice(&levels.map(|level| (level.as_str(), level)), findings)
}

/// Reads `log.format`, likewise.
pub(super) fn format(at: &Cursor<'_>, findings: &mut Findings) -> Option<LogFormat> {
    at.choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)], findings)
}
