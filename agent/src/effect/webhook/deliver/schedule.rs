//! When a delivery is tried again.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// Before each attempt, in seconds, as Standard Webhooks recommends: 75.6 hours in all.
const WAITS: [u64; 10] =
    [0, 5, 5 * 60, 30 * 60, 2 * 3_600, 5 * 3_600, 10 * 3_600, 14 * 3_600, 20 * 3_600, 24 * 3_600];
/// How much longer or shorter than written a wait may be, in thousandths.
const JITTER: u64 = 200;

/// No wait is longer, jitter included.
pub const LONGEST: Duration = Duration::from_secs(24 * 3_600 * (1_000 + JITTER) / 1_000);
/// Attempts at a delivery that the receiver rejects.
pub const MOST_REJECTED: u32 = 3;

/// The wait before the next attempt at an event after `attempts` of them failed; `None` when there is none left.
///
/// The jitter comes from the event's id, so that hosts that a failure hit at the same moment do not come back at
/// the same moment.
#[must_use]
pub fn wait_after(attempts: u32, event: &str) -> Option<Duration> {
    let wait = *WAITS.get(usize::try_from(attempts).ok()?)?;
    let digest = Sha256::new().chain_update(event).chain_update(attempts.to_le_bytes()).finalize();
    let random = digest.iter().take(8).fold(0u64, |all, byte| all << 8 | u64::from(*byte));
    let thousandths = 1_000 - JITTER + random % (2 * JITTER + 1);
    Some(Duration::from_millis(wait * thousandths))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_attempts_over_three_days() {
        assert_eq!(wait_after(0, "e"), Some(Duration::ZERO));
        assert!((1..10).all(|attempts| wait_after(attempts, "e").is_some()));
        assert_eq!((wait_after(10, "e"), wait_after(u32::MAX, "e")), (None, None));
        let hours = WAITS.iter().sum::<u64>() as f64 / 3_600.0;
        assert!((75.5..75.7).contains(&hours), "{hours}");
    }

    proptest! {
        #[test]
        fn jitter_is_a_fifth_at_most_and_the_same_each_time(attempts in 0u32..10, event in "[a-z0-9_]{1,40}") {
            let wait = wait_after(attempts, &event).unwrap();
            let written = Duration::from_secs(WAITS[attempts as usize]);
            prop_assert!(wait >= written * 4 / 5 && wait <= written * 6 / 5 && wait <= LONGEST, "{wait:?}");
            prop_assert_eq!(wait_after(attempts, &event), Some(wait));
        }

        #[test]
        fn two_events_do_not_come_back_together(a in "evt_[0-9a-f]{32}", b in "evt_[0-9a-f]{32}") {
            prop_assume!(a != b);
            let waits = |event: &str| (1..10).map(|attempts| wait_after(attempts, event)).collect::<Vec<_>>();
            prop_assert_ne!(waits(&a), waits(&b));
        }
    }
}
