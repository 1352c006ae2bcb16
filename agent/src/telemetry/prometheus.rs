//! Figures in Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

use super::{Buckets, Family, Figure, Number, Point};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All of them as text.
#[must_use]
pub fn text(families: &[Family]) -> String {
    let mut text = String::with_capacity(64 * 1_024);
    for family in families {
        let name = &family.prometheus;
        // Help texts and names are the program's own; writing to a string does not fail.
        let _written = writeln!(text, "# HELP {name} {}", escaped(&family.help, false));
        let _written = writeln!(text, "# TYPE {name} {}", family.kind.as_str());
        for point in &family.points {
            match &point.figure {
                Figure::Value(number) => line(&mut text, name, "", point, None, *number),
                Figure::Histogram(buckets) => histogram(&mut text, name, point, buckets),
            }
        }
    }
    text
}

fn histogram(text: &mut String, name: &str, point: &Point, buckets: &Buckets) {
    let mut below = 0_u64;
    let bounds = buckets.bounds.iter().map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(&buckets.counts) {
        below = below.saturating_add(*count);
        line(text, name, "_bucket", point, Some(&bound), Number::Whole(below));
    }
    line(text, name, "_sum", point, None, Number::Real(buckets.sum));
    line(text, name, "_count", point, None, Number::Whole(below));
}

fn line(text: &mut String, name: &str, suffix: &str, point: &Point, bound: Option<&str>, number: Number) {
    text.push_str(name);
    text.push_str(suffix);
    let labels = point.labels.iter().map(|(label, value)| (label.as_ref(), value.as_str()));
    let mut sign = '{';
    for (label, value) in labels.chain(bound.map(|bound| ("le", bound))) {
        let _written = write!(text, "{sign}{label}=\"{}\"", escaped(value, true));
        sign = ',';
    }
    if sign == ',' {
        text.push('}');
    }
    let _written = match number {
        Number::Whole(whole) => writeln!(text, " {whole}"),
        Number::Real(real) => writeln!(text, " {real}"),
    };
}

/// A label's value, or a help text, which may have quotes.
fn escaped(text: &str, quotes: bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => safe.push_str("\\\\"),
            '\n' => safe.push_str("\\n"),
            '"' if quotes => safe.push_str("\\\""),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::catalogue::{EFFECT_TIME, GROUP_PROCESSES, SELF_CPU};
    use super::super::histogram::Histogram;
    use super::super::sheet::Sheet;
    use super::*;

    #[test]
    fn the_text_is_prometheus_own() {
        let mut sheet = Sheet::default();
        sheet.add(&GROUP_PROCESSES, &["a\"b\\c\nd"], 2_u64);
        sheet.add(&SELF_CPU, &["user"], Duration::from_millis(1_250));
        let mut times = Histogram::default();
        times.observe(Duration::from_micros(20));
        times.observe(Duration::from_secs(100));
        sheet.histogram(&EFFECT_TIME, times.buckets());
        let text = text(&sheet.finish());
        for expected in [
            "# TYPE process_throttler_group_processes gauge\n",
            "process_throttler_group_processes{group=\"a\\\"b\\\\c\\nd\"} 2\n",
            "process_throttler_self_cpu_time_seconds_total{mode=\"user\"} 1.25\n",
            "# TYPE process_throttler_throttle_effect_duration_seconds histogram\n",
            "process_throttler_throttle_effect_duration_seconds_bucket{le=\"0.00001\"} 0\n",
            "process_throttler_throttle_effect_duration_seconds_bucket{le=\"0.000025\"} 1\n",
            "process_throttler_throttle_effect_duration_seconds_bucket{le=\"60\"} 1\n",
            "process_throttler_throttle_effect_duration_seconds_bucket{le=\"+Inf\"} 2\n",
            "process_throttler_throttle_effect_duration_seconds_sum 100.00002\n",
            "process_throttler_throttle_effect_duration_seconds_count 2\n",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        assert!(text.lines().all(|line| !line.trim().is_empty()), "{text}");
    }
}
