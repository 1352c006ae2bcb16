//! Whether a figure grows: the straight line nearest to its samples.

use std::fmt;

/// The least-squares line through samples over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trend {
    /// The first value and the last.
    first: f64,
    last: f64,
    /// What the line gains from the first sample to the last.
    pub(crate) growth: f64,
}

impl Trend {
    /// Through pairs of time and value, in the order of time; `None` when there are none.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn of(points: &[(f64, f64)]) -> Option<Self> {
        let (first, last) = (points.first()?, points.last()?);
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (time, value) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - time).powi(2)).sum();
        let both: f64 = points.iter().map(|point| (point.0 - time) * (point.1 - value)).sum();
        // One moment alone has no slope.
        let slope = if spread > 0.0 { both / spread } else { 0.0 };
        Some(Self { first: first.1, last: last.1, growth: slope * (last.0 - first.0) })
    }
}

impl fmt::Display for Trend {
    /// With the precision given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        let Self { first, last, growth } = self;
        write!(f, "{growth:+.digits$}, from {first:.digits$} to {last:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_no_growth_and_a_leak_is() {
        let noise: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), f64::from(10 + i % 2))).collect();
        assert!(Trend::of(&noise).unwrap().growth.abs() < 0.1);
        let leak: Vec<(f64, f64)> =
            (0..100).map(|i| (f64::from(i), f64::from(10 + i % 2) + f64::from(i) / 10.0)).collect();
        let growth = Trend::of(&leak).unwrap().growth;
        assert!((9.8..10.1).contains(&growth), "{growth}");
    }

    #[test]
    fn one_sample_has_no_slope() {
        assert_eq!(Trend::of(&[]), None);
        assert_eq!(format!("{:.1}", Trend::of(&[(1.0, 5.0)]).unwrap()), "+0.0, from 5.0 to 5.0");
    }
}
