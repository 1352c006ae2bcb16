//! What the modules below have to say while a command works: on stderr, warnings and worse unless asked for
//! more.

use std::io::IsTerminal as _;

use tracing::Level;

use super::globals::Context;

/// Starts logging for this process, with the time of each message if it lives long enough for that to matter.
/// Only the first call has an effect.
pub(super) fn start(context: &Context, with_time: bool) {
    let level = match context.verbose {
        0 if context.output.quiet => Level::ERROR,
        0 => Level::WARN,
        1 => Level::DEBUG,
        2.. => Level::TRACE,
    };
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let log = log.with_target(false).with_ansi(colours);
    // The one error is that logging was started already.
    drop(if with_time { log.try_init() } else { log.without_time().try_init() });
}
