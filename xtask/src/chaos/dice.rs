//! What a seed decides: order and durations. SplitMix64, so that a seed means the same on every machine.

use std::time::Duration;

/// A sequence of numbers that its seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    state: u64,
    short: bool,
}

impl Dice {
    /// From a seed; with `short` every duration is the shortest.
    pub(crate) const fn new(seed: u64, short: bool) -> Self {
        Self { state: seed, short }
    }

    fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % end).unwrap_or(0)
    }

    /// A time from `shortest` to four times that.
    pub(crate) fn time(&mut self, shortest: Duration) -> Duration {
        if self.short {
            return shortest;
        }
        let extra = shortest.as_millis() * 3;
        let millis = u128::from(self.roll()) % (extra + 1);
        shortest + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Any order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for end in (1..all.len()).rev() {
            let other = self.below(end + 1);
            all.swap(end, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_and_all_is_within_bounds() {
        let (mut one, mut other) = (Dice::new(7, false), Dice::new(7, false));
        let mut order: Vec<usize> = (0..20).collect();
        one.shuffle(&mut order);
        let mut same: Vec<usize> = (0..20).collect();
        other.shuffle(&mut same);
        assert_eq!(order, same);
        assert_ne!(order, (0..20).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..20).collect::<Vec<_>>());
        let second = Duration::from_secs(1);
        let times: Vec<Duration> = (0..100).map(|_| one.time(second)).collect();
        assert!(times.iter().all(|time| (second..=second * 4).contains(time)));
        assert!(times.iter().any(|time| *time != times[0]));
        assert_eq!(Dice::new(7, true).time(second), second);
    }

    #[test]
    fn the_sequence_is_the_published_one() {
        // The first number of SplitMix64 from seed 0.
        assert_eq!(Dice::new(0, false).roll(), 0xe220_a839_7b1d_cdaf);
    }
}
