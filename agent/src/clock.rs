//! The only place that asks for the time. Everything else is told.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::model::time::{Timestamp, nanos};

/// Time since boot, suspend included: the clock of kernel events and of the engine.
#[must_use]
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// How far `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`: the time spent suspended. Turns the timestamps of
/// kernel interfaces that use the latter.
#[must_use]
pub fn suspended() -> Duration {
    let monotonic = monotonic();
    // Read second, so that the few ns between the two readings show as suspension and never as its lack.
    Duration::from_nanos(now().as_nanos()).saturating_sub(monotonic)
}

/// Time since boot without suspend: the clock of systemd's `…TimestampMonotonic` properties, for instance.
#[must_use]
pub fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Wall-clock time, for people and for receivers; never for measuring.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// The wall-clock time of a moment since boot, by the clocks' present distance.
#[must_use]
pub fn wall_at(at: Timestamp) -> SystemTime {
    let (boot, wall) = (now(), wall());
    if at > boot {
        wall.checked_add(at.since(boot)).unwrap_or(wall)
    } else {
        wall.checked_sub(boot.since(at)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Milliseconds since the Unix epoch.
#[must_use]
pub fn unix_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Nanoseconds since the Unix epoch.
#[must_use]
pub fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    nanos(since)
}

/// What a test may wait on this machine for what takes `time` on a common one. The variable says how many times
/// slower this one is; the kernel tests read the same.
#[cfg(test)]
pub(crate) fn patience(time: Duration) -> Duration {
    let slowness = std::env::var("PROCESS_THROTTLER_TEST_SLOWNESS");
    time * slowness.map_or(1, |text| text.parse().expect("a number"))
}
