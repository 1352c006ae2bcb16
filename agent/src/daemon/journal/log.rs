//! What of the notices and of the outbox goes to the log: enough to follow what happens, and never a flood.

use std::collections::BTreeMap;
use std::time::Duration;

use super::message::Entry;
use crate::model::notice::Severity;
use crate::model::time::Timestamp;
use crate::store::owed::Dropped;

/// Notices that are logged at most in one [`WINDOW`]; all of them are in the event stream. Processes that
/// come and go under a rule would fill the log otherwise.
const MOST: u32 = 50;
/// See [`MOST`].
const WINDOW: Duration = Duration::from_secs(10);

/// What has been logged in the present window.
#[derive(Default)]
pub(super) struct Log {
    since: Timestamp,
    written: u32,
    kept_back: u64,
    dropped: BTreeMap<String, Dropped>,
}

impl Log {
    /// Logs a notice, at `now`; the critical always.
    pub(super) fn take(&mut self, entry: &Entry, now: Timestamp) {
        self.turn(now);
        if self.written >= MOST && entry.notice.severity() != Severity::Critical {
            self.kept_back += 1;
            return;
        }
        self.written = self.written.saturating_add(1);
        tracing::info!(kind = entry.notice.kind(), id = entry.id, "{}", entry.notice);
    }

    /// Logs deliveries that were given up for want of room, summed up over a window.
    pub(super) fn overflow(&mut self, endpoint: &str, dropped: Dropped, now: Timestamp) {
        self.turn(now);
        if dropped == Dropped::default() {
            return;
        }
        let sum = self.dropped.entry(endpoint.to_owned()).or_default();
        sum.critical += dropped.critical;
        sum.others += dropped.others;
    }

    /// Begins another window when this one is over.
    fn turn(&mut self, now: Timestamp) {
        if now.since(self.since) >= WINDOW {
            self.finish();
            self.since = now;
        }
    }

    /// Logs what the window summed up.
    pub(super) fn finish(&mut self) {
        let Self { since, written: _, kept_back, dropped } = std::mem::take(self);
        self.since = since;
        if kept_back > 0 {
            tracing::info!(notices = kept_back, "more notices than are logged; all are in the events");
        }
        for (endpoint, Dropped { critical, others }) in dropped {
            tracing::error!(
                endpoint,
                critical,
                others,
                "deliveries given up: too many are pending for the endpoint"
            );
        }
    }

    /// When the present window is to be summed up, if there is something to say.
    pub(super) fn due(&self) -> Option<Timestamp> {
        (self.kept_back > 0 || !self.dropped.is_empty()).then(|| self.since.after(WINDOW))
    }

    /// Sums up if it is time to.
    pub(super) fn wake(&mut self, now: Timestamp) {
        if self.due().is_some_and(|due| due <= now) {
            self.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::model::notice::Notice;

    #[test]
    fn a_flood_is_kept_back_from_the_log() {
        let now = clock::now();
        let mut log = Log::default();
        let entry = || Entry::new(now, Notice::Test { detail: "x".to_owned() });
        for _ in 0..MOST + 7 {
            log.take(&entry(), now);
        }
        assert_eq!((log.written, log.kept_back), (MOST, 7));
        log.overflow("ops", Dropped { critical: 1, others: 2 }, now);
        log.overflow("ops", Dropped { critical: 0, others: 2 }, now);
        assert_eq!(log.dropped["ops"], Dropped { critical: 1, others: 4 });
        assert_eq!(log.due(), Some(now.after(WINDOW)));
        log.take(&entry(), now.after(WINDOW));
        assert_eq!((log.written, log.kept_back, log.due()), (1, 0, None));
    }
}
