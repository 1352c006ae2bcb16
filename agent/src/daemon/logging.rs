//! Log messages to stderr, where a service manager or the log file takes them.
//!
//! Levels: error, something is lost or broken; warn, somebody should look; info, what the agent did; debug,
//! why; trace, single events. Nothing that others can trigger at will is logged above debug per occurrence.

use std::io::IsTerminal as _;

use tracing::Level;

use crate::config::settings::{LogFormat, LogLevel, Settings};

/// Starts logging as configured. Only the first call of a process has an effect.
pub fn start(settings: &Settings) {
    let level = match settings.log_level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let builder =
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let result = match settings.log_format {
        LogFormat::Text => builder.with_ansi(colours).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // The one error is that logging was started already.
    drop(result);
}
