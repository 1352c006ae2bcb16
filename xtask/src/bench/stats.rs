//! Medians, percentiles and ranges.

use std::fmt;

/// Measured values, at least one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Samples {
    measured: Vec<f64>,
    ascending: Vec<f64>,
}

impl Samples {
    /// From values in any order; `None` when there are none.
    pub(crate) fn new(measured: Vec<f64>) -> Option<Self> {
        let mut ascending = measured.clone();
        ascending.sort_by(f64::total_cmp);
        (!measured.is_empty()).then_some(Self { measured, ascending })
    }

    /// Ratios to others that were measured in turn with these: a slow spell of the machine hits both of a round.
    pub(crate) fn over(&self, others: &Self) -> Option<Self> {
        Self::new(self.measured.iter().zip(&others.measured).map(|(one, other)| one / other).collect())
    }

    /// The value below which `percent` of the others lie (nearest rank).
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.ascending.len() * percent).div_ceil(100).clamp(1, self.ascending.len());
        self.ascending[rank - 1]
    }

    /// The middle value; of an even number of values, the lower one.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The arithmetic mean.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn mean(&self) -> f64 {
        self.measured.iter().sum::<f64>() / self.measured.len() as f64
    }

    /// The largest value.
    pub(crate) fn max(&self) -> f64 {
        self.percentile(100)
    }

    /// The smallest value.
    pub(crate) fn min(&self) -> f64 {
        self.ascending[0]
    }
}

impl fmt::Display for Samples {
    /// Median and range, with the precision given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.median(), self.min(), self.max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let samples = Samples::new((1..=200).rev().map(f64::from).collect()).unwrap();
        let found = [1, 50, 99, 100].map(|percent| samples.percentile(percent));
        assert_eq!(found, [2.0, 100.0, 198.0, 200.0]);
        assert_eq!(Samples::new(vec![3.0]).unwrap().median(), 3.0);
        assert_eq!(format!("{:.2}", Samples::new(vec![3.0, 1.0, 2.0]).unwrap()), "2.00 (1.00–3.00)");
        assert_eq!(Samples::new(vec![3.0, 1.0, 8.0]).unwrap().mean(), 4.0);
        assert_eq!(Samples::new(Vec::new()), None);
    }

    #[test]
    fn ratios_are_of_values_of_one_round() {
        let [ours, theirs] = [vec![3.0, 1.0], vec![1.0, 2.0]].map(|values| Samples::new(values).unwrap());
        let ratios = ours.over(&theirs).unwrap();
        assert_eq!((ratios.min(), ratios.max()), (0.5, 3.0));
    }
}
