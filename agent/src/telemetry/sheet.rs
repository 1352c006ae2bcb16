//! Figures being put together: one series each, bounded in number.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::catalogue::{self, Instrument, OVERFLOWED};
use super::{Buckets, Family, Figure, Number, Point};

/// Most series of a metric; the rest are added up in one more. As OpenTelemetry has it.
const SERIES_MAX: usize = 2_000;
/// What the labels of that one say.
pub const OTHER: &str = "other";

type Series = BTreeMap<Vec<String>, (Figure, Option<u64>)>;

/// See the module.
#[derive(Debug, Default)]
pub struct Sheet {
    metrics: BTreeMap<&'static str, Series>,
    overflowed: u64,
}

impl Sheet {
    /// Adds a figure. Two with the same labels are added up. `values` are those of the instrument's labels, in its
    /// order.
    pub fn add(&mut self, instrument: &Instrument, values: &[&str], figure: impl Into<Number>) {
        self.put(instrument, values, Figure::Value(figure.into()), None);
    }

    /// As [`Self::add`], of what is counted since a moment of its own, in ns since 1970.
    pub fn add_since(
        &mut self,
        instrument: &Instrument,
        values: &[&str],
        figure: impl Into<Number>,
        since_ns: u64,
    ) {
        self.put(instrument, values, Figure::Value(figure.into()), Some(since_ns));
    }

    /// Adds a histogram.
    pub fn histogram(&mut self, instrument: &Instrument, buckets: Buckets) {
        self.put(instrument, &[], Figure::Histogram(buckets), None);
    }

    /// As [`Self::add_since`], of a histogram. Those of one metric have the same bounds.
    pub fn histogram_since(
        &mut self,
        instrument: &Instrument,
        values: &[&str],
        buckets: Buckets,
        since_ns: u64,
    ) {
        self.put(instrument, values, Figure::Histogram(buckets), Some(since_ns));
    }

    fn put(&mut self, instrument: &Instrument, values: &[&str], figure: Figure, since: Option<u64>) {
        debug_assert_eq!(values.len(), instrument.labels.len(), "{}", instrument.name);
        let series = self.metrics.entry(instrument.name).or_default();
        let mut key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        if series.len() >= SERIES_MAX && !series.contains_key(&key) {
            key = values.iter().map(|_| OTHER.to_owned()).collect();
            self.overflowed += 1;
        }
        match series.get_mut(&key) {
            None => {
                series.insert(key, (figure, since));
            }
            Some((known, begun)) => {
                *begun = (*begun).min(since);
                match (known, figure) {
                    (Figure::Value(known), Figure::Value(more)) => *known = *known + more,
                    (Figure::Histogram(known), Figure::Histogram(more)) => known.add(&more),
                    // An instrument is of one kind.
                    (Figure::Value(_), Figure::Histogram(_)) | (Figure::Histogram(_), Figure::Value(_)) => {}
                }
            }
        }
    }

    /// All metrics that have a series, in the order of the catalogue.
    #[must_use]
    pub fn finish(mut self) -> Vec<Family> {
        self.add(&OVERFLOWED, &[], self.overflowed);
        catalogue::all()
            .filter_map(|instrument| {
                let series = self.metrics.remove(instrument.name)?;
                Some(Family {
                    name: Cow::Borrowed(instrument.name),
                    prometheus: instrument.prometheus(),
                    kind: instrument.kind,
                    unit: Cow::Borrowed(instrument.unit),
                    help: catalogue::sentence(&instrument),
                    points: series.into_iter().map(|series| point(&instrument, series)).collect(),
                })
            })
            .collect()
    }
}

fn point(
    instrument: &Instrument,
    (values, (figure, since_ns)): (Vec<String>, (Figure, Option<u64>)),
) -> Point {
    let names = instrument.labels.iter().map(|label| Cow::Borrowed(*label));
    Point { labels: names.zip(values).collect(), since_ns, figure }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::{CPU_TIME, EVENTS_LOST, GROUP_PROCESSES, GROUP_WAIT, PROCESSES};
    use super::*;

    #[test]
    fn series_are_ordered_and_alike_ones_are_added_up() {
        let mut sheet = Sheet::default();
        sheet.add(&GROUP_PROCESSES, &["b"], 2_u64);
        sheet.add(&GROUP_PROCESSES, &["a"], 1_u64);
        sheet.add(&GROUP_PROCESSES, &["b"], 3_u64);
        sheet.add(&PROCESSES, &[], 9_u64);
        let families = sheet.finish();
        let names: Vec<&str> = families.iter().map(|family| family.prometheus.as_str()).collect();
        let expected = [
            "process_throttler_processes",
            "process_throttler_group_processes",
            "process_throttler_metrics_overflowed",
        ];
        assert_eq!(names, expected);
        let points: Vec<_> =
            families[1].points.iter().map(|point| (&point.labels["group"], &point.figure)).collect();
        let whole = |number| Figure::Value(Number::Whole(number));
        assert_eq!(points, [(&"a".to_owned(), &whole(1)), (&"b".to_owned(), &whole(5))]);
    }

    #[test]
    fn histograms_are_added_up_bucket_by_bucket() {
        let buckets = |counts: [u64; 2], sum| Buckets { bounds: vec![0.5], counts: counts.to_vec(), sum };
        let mut sheet = Sheet::default();
        sheet.histogram_since(&GROUP_WAIT, &["a"], buckets([1, 2], 3.0), 9);
        sheet.histogram_since(&GROUP_WAIT, &["a"], buckets([10, 20], 0.5), 8);
        let families = sheet.finish();
        let [point] = &families[0].points[..] else { panic!("{families:?}") };
        assert_eq!((&point.figure, point.since_ns), (&Figure::Histogram(buckets([11, 22], 3.5)), Some(8)));
    }

    #[test]
    fn what_is_too_much_is_added_up() {
        let mut sheet = Sheet::default();
        for number in 0..SERIES_MAX + 3 {
            sheet.add_since(&CPU_TIME, &[&format!("g{number:05}")], 1_u64, 7);
        }
        sheet.add(&EVENTS_LOST, &["ring"], 1_u64);
        let families = sheet.finish();
        let of = |name: &str| families.iter().find(|family| family.name.ends_with(name)).unwrap();
        let groups = of("cgroup.cpu.time");
        assert_eq!(groups.points.len(), SERIES_MAX + 1);
        let other = groups.points.iter().find(|point| point.labels["group"] == OTHER).unwrap();
        assert_eq!((&other.figure, other.since_ns), (&Figure::Value(Number::Whole(3)), Some(7)));
        assert_eq!(of("overflowed").points[0].figure, Figure::Value(Number::Whole(3)));
    }
}
