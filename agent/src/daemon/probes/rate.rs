//! What the program costs per switch on this machine: the bound of the benchmark, scaled by how long it takes here. Plain
//! arithmetic.

use std::time::Duration;

use crate::model::latency::Timing;
use crate::model::signal::Hundredths;

/// What the program is taken to cost per switch, ns, where nothing was measured: the bound that the benchmark holds it to.
pub(super) const NANOS_PER_SWITCH: u64 = 180;
/// What a timed switch takes on the machine that the bound is of, ns: the program on `sched_switch` without the way into
/// it, and one reading of the clock.
const TIMED_NANOS: u64 = 80;
/// Fewer timed switches than this tell too little.
const TIMED_MIN: u64 = 8;
/// Slower than fifty times or faster than half of that machine none is believed to be.
const LEAST: u64 = NANOS_PER_SWITCH / 2;
const MOST: u64 = NANOS_PER_SWITCH * 50;

/// What a switch costs, ns; `None` before enough of them were timed.
pub(super) fn per_switch(timing: Timing) -> Option<u64> {
    let Timing { timed, timed_ns } = timing;
    if timed < TIMED_MIN {
        return None;
    }
    let scaled =
        u128::from(timed_ns) * u128::from(NANOS_PER_SWITCH) / (u128::from(timed) * u128::from(TIMED_NANOS));
    Some(u64::try_from(scaled).unwrap_or(MOST).clamp(LEAST, MOST))
}

/// What so many switches cost at so many ns each, in hundredths of a percent of one CPU.
pub(super) fn cost(switches: u64, per_switch_ns: u64, time: Duration) -> Hundredths {
    let nanos = u128::from(switches) * u128::from(per_switch_ns);
    let share = nanos.saturating_mul(10_000).checked_div(time.as_nanos()).unwrap_or(0);
    Hundredths(u32::try_from(share).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn costs_are_shares_of_one_cpu() {
        assert_eq!(cost(27_777, 180, SECOND), Hundredths(49));
        assert_eq!(cost(27_777, 360, SECOND), Hundredths(99));
        assert_eq!(cost(0, 180, SECOND), Hundredths(0));
        assert_eq!(cost(u64::MAX, u64::MAX, Duration::from_nanos(1)), Hundredths(u32::MAX));
        assert_eq!(cost(1, 180, Duration::ZERO), Hundredths(0));
    }

    #[test]
    fn a_slow_machine_is_reckoned_with_as_such() {
        let of = |timed, each| per_switch(Timing { timed, timed_ns: timed * each });
        assert_eq!((of(0, 0), of(TIMED_MIN - 1, TIMED_NANOS)), (None, None));
        assert_eq!(of(TIMED_MIN, TIMED_NANOS), Some(NANOS_PER_SWITCH));
        assert_eq!(of(1_000, TIMED_NANOS * 4), Some(NANOS_PER_SWITCH * 4));
        assert_eq!((of(1_000, 1), of(1_000, u64::MAX / 1_000)), (Some(LEAST), Some(MOST)));
    }
}
