//! A histogram of times from microseconds to a minute, for one thread: plain counters, no lock, no allocation.

use std::time::Duration;

use super::Buckets;
use crate::model::time::nanos;

/// Upper bounds of the buckets, in µs. What takes longer than the last is in a bucket without one.
pub const BOUNDS_US: [u64; 20] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 30_000_000, 60_000_000,
];

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUNDS_US.len() + 1],
    sum_ns: u64,
}

impl Histogram {
    /// Counts a time.
    pub fn observe(&mut self, time: Duration) {
        let ns = nanos(time);
        let bucket = BOUNDS_US.partition_point(|bound| bound.saturating_mul(1_000) < ns);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// As it is told, in seconds.
    #[must_use]
    pub fn buckets(&self) -> Buckets {
        Buckets {
            bounds: BOUNDS_US.iter().map(|us| *us as f64 / 1e6).collect(),
            counts: self.counts.to_vec(),
            sum: Duration::from_nanos(self.sum_ns).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for (us, bucket) in [(0, 0), (10, 0), (11, 1), (1_000, 6), (60_000_000, 19), (60_000_001, 20)] {
            let mut one = Histogram::default();
            one.observe(Duration::from_micros(us));
            assert_eq!(one.counts.iter().position(|count| *count == 1), Some(bucket), "{us} µs");
            histogram.observe(Duration::from_micros(us));
        }
        let buckets = histogram.buckets();
        assert_eq!((buckets.count(), buckets.counts.len()), (6, buckets.bounds.len() + 1));
        assert!((buckets.sum - 120.001_022).abs() < 1e-9, "{}", buckets.sum);
        assert!(BOUNDS_US.is_sorted());
    }
}
