//! Log messages to the journal with their fields, where stderr leads there, and else to stderr, where a service manager or
//! the log file takes them.
//!
//! Levels: error, something is lost or broken; warn, somebody should look; info, what the agent did; debug,
//! why; trace, single events. Nothing that others can trigger at will is logged above debug per occurrence.

use std::fmt;
use std::io::IsTerminal as _;

use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::settings::{LogFormat, LogLevel, Settings};

/// What the names of fields in the journal begin with.
const FIELDS: &str = "PROCESS_THROTTLER";

/// Starts logging as configured. Only the first call of a process has an effect.
pub fn start(settings: &Settings) {
    let level = match settings.log_level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let journal = stream.is_some_and(|stream| is_stream(&stream, std::io::stderr()));
    let structured = journal && settings.log_format == LogFormat::Text;
    if let Some(layer) = structured.then(tracing_journald::layer).and_then(std::io::Result::ok) {
        // The field by field form, which the stream to the journal does not have.
        let layer = layer.with_field_prefix(Some(FIELDS.to_owned())).with_priority_mappings(PRIORITIES);
        let all = tracing_subscriber::registry().with(layer).with(LevelFilter::from_level(level));
        // The one error is that logging was started already.
        drop(all.try_init());
        return;
    }
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let plain = Format::default().with_target(false);
    let result = match settings.log_format {
        LogFormat::Text => {
            builder.with_ansi(colours).event_format(Ranked { journal, format: plain }).try_init()
        }
        LogFormat::Json => builder.json().event_format(Ranked { journal, format: plain.json() }).try_init(),
    };
    drop(result);
}

/// As [`rank`] has them.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};

/// Whether a file is the stream to the journal that `$JOURNAL_STREAM` names by device and inode (systemd.exec(5)).
fn is_stream(stream: &str, file: impl std::os::fd::AsFd) -> bool {
    let found = rustix::fs::fstat(file).map(|found| (found.st_dev, found.st_ino));
    let named = stream.split_once(':').and_then(|(dev, ino)| Some((dev.parse().ok()?, ino.parse().ok()?)));
    found.is_ok_and(|found| named == Some(found))
}

/// Messages with their rank before them where the journal reads them, so that it can be asked by `journalctl -p`
/// (sd-daemon(3)).
struct Ranked<F> {
    journal: bool,
    format: F,
}

impl<S, N, F> FormatEvent<S, N> for Ranked<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.journal {
            write!(writer, "<{}>", rank(*event.metadata().level()))?;
        }
        self.format.format_event(context, writer, event)
    }
}

/// As syslog numbers them.
fn rank(level: Level) -> u8 {
    if level == Level::ERROR {
        3
    } else if level == Level::WARN {
        4
    } else if level == Level::INFO {
        6
    } else {
        7
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_stream_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let meta = file.metadata().unwrap();
        assert!(is_stream(&format!("{}:{}", meta.dev(), meta.ino()), &file));
        for other in
            [format!("{}:{}", meta.dev(), meta.ino() + 1), String::new(), "1".to_owned(), "a:b".to_owned()]
        {
            assert!(!is_stream(&other, &file), "{other:?}");
        }
    }

    #[test]
    fn messages_have_their_rank_for_the_journal_only() {
        for (journal, expected) in [(true, ["<4>", "<6>"]), (false, ["", ""])] {
            let mut file = tempfile::tempfile().unwrap();
            let writer = std::sync::Mutex::new(file.try_clone().unwrap());
            let format = Format::default().with_target(false).without_time().with_ansi(false);
            let builder = tracing_subscriber::fmt().with_ansi(false).with_writer(writer);
            let subscriber = builder.event_format(Ranked { journal, format }).finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(endpoint = "ops", "look");
                tracing::info!("done");
            });
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            let [first, second] = expected;
            assert_eq!(text, format!("{first} WARN look endpoint=\"ops\"\n{second} INFO done\n"));
        }
    }
}
