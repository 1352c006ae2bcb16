//! Time and waiting. Nothing else in the harness or the tests sleeps: everything waits for a condition.
//!
//! How long a thing may take is written for a common machine. On one that is slower by nature, such as an
//! emulated one, [`SLOWNESS_VARIABLE`] says by how much, and every such time goes through [`patience`].

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a condition may take that should hold at once; generous, because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(10);

/// Environment variable: how many times slower than a common machine this one is, from 1 to 100.
pub const SLOWNESS_VARIABLE: &str = "PROCESS_THROTTLER_TEST_SLOWNESS";

/// What something may take on this machine that may take `time` on a common one.
///
/// # Panics
/// When [`SLOWNESS_VARIABLE`] is set to what is no number from 1 to 100.
#[must_use]
pub fn patience(time: Duration) -> Duration {
    time * of_this_machine()
}

/// How often something is to be repeated on this machine that is repeated `count` times on a common one: what is
/// gained by repetition is gained per time. At least once.
///
/// # Panics
/// As [`patience`].
#[must_use]
pub fn repetitions(count: u64) -> u64 {
    (count / u64::from(of_this_machine())).max(1)
}

fn of_this_machine() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| std::env::var(SLOWNESS_VARIABLE).map_or(1, |text| slowness(&text)))
}

#[expect(clippy::panic, reason = "a test run that was set up wrongly must not go on")]
fn slowness(text: &str) -> u32 {
    match text.parse() {
        Ok(number @ 1..=100) => number,
        Ok(_) | Err(_) => panic!("{SLOWNESS_VARIABLE} is {text:?}, not a number from 1 to 100"),
    }
}

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// A monotonic stopwatch.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the harness measures the agent from outside")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Seconds since the Unix epoch.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "signatures carry wall-clock time")]
pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Nanoseconds since the Unix epoch.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "events carry wall-clock time")]
pub fn unix_nanos() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Polls `look` until it has a value.
///
/// # Errors
/// When it has none after the [`patience`] for `timeout` (the text names `what` and the last error), never earlier: an error of
/// `look` counts as "not yet".
pub fn wait_for<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let (watch, timeout) = (Stopwatch::start(), patience(timeout));
    loop {
        let look_watch = Stopwatch::start();
        let last = look();
        let look_took = look_watch.elapsed();
        if let Ok(Some(value)) = last {
            return Ok(value);
        }
        if watch.elapsed() >= timeout {
            last.with_context(|| format!("{what}: not within {timeout:?}"))?;
            bail!("{what}: not within {timeout:?}");
        }
        // A look that starts a program must not take the CPU from what is waited for.
        pause(look_took.max(POLL));
    }
}

/// Polls `condition` until it holds.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, timeout, || Ok(condition()?.then_some(())))
}

/// Lets a measured interval pass. For measurements only: a test that waits for something uses [`wait_until`].
pub fn pause(interval: Duration) {
    std::thread::sleep(interval);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowness_is_a_number_in_range() {
        assert_eq!((slowness("1"), slowness("100")), (1, 100));
        for bad in ["", "0", "101", "2.5", "fast"] {
            assert!(std::panic::catch_unwind(|| slowness(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_condition_that_never_holds_times_out_with_its_name_and_error() {
        let error = wait_until("the moon", Duration::from_millis(20), || bail!("still far")).unwrap_err();
        let expected = format!("the moon: not within {:?}: still far", patience(Duration::from_millis(20)));
        assert_eq!(format!("{error:#}"), expected);
    }

    #[test]
    fn a_condition_that_holds_later_is_seen() {
        let mut looks = 0;
        let value = wait_for("third look", SOON, || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(value.unwrap(), 3);
    }
}
