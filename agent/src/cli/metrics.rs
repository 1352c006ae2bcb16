//! `metrics`: all figures, as Prometheus reads them.

use super::error::CliResult;
use super::globals::Context;
use super::output::View;
use super::page::Page;
use crate::control::feature;
use crate::control::proto::Request;
use crate::telemetry::{Family, prometheus};

pub(super) fn run(context: &Context) -> CliResult {
    let families: Vec<Family> = context.ask(feature::METRICS, &Request::Metrics)?;
    context.output.show(&families)
}

impl View for Vec<Family> {
    const KIND: &'static str = "MetricList";

    fn page(&self, page: &mut Page) {
        for line in prometheus::text(self).lines() {
            page.line(line);
        }
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    use std::time::Duration;

    use crate::telemetry::catalogue::{CPU_TIME, EFFECT_TIME, EVENTS_LOST};
    use crate::telemetry::histogram::Histogram;
    use crate::telemetry::sheet::Sheet;

    let mut sheet = Sheet::default();
    sheet.add(&EVENTS_LOST, &["ring"], 2_u64);
    sheet.add_since(&CPU_TIME, &["backups"], Duration::from_millis(1_500), 1_740_830_400_000_000_000);
    let mut times = Histogram::default();
    times.observe(Duration::from_micros(80));
    sheet.histogram(&EFFECT_TIME, times.buckets());
    gallery.show("metrics", &sheet.finish());
}
