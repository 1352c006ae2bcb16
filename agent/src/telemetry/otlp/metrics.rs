//! Figures as a request of OTLP 1.x for metrics (opentelemetry/proto/metrics/v1/metrics.proto). Sums are cumulative, so
//! that a push that is lost loses nothing that the next one does not tell.

use super::super::catalogue::Kind;
use super::super::wire::Message;
use super::super::{Family, Figure, Number, Point};
use super::{Origin, attribute, envelope};

/// `AggregationTemporality`.
const CUMULATIVE: u64 = 2;

/// The request, with figures as of `now_ns`, in ns since 1970.
#[must_use]
pub fn request(families: &[Family], origin: &Origin, now_ns: u64) -> Vec<u8> {
    envelope(origin, |scope| {
        for family in families {
            scope.message(2, |out| metric(out, family, origin.since_ns, now_ns));
        }
    })
}

fn metric(out: &mut Message, family: &Family, since_ns: u64, now_ns: u64) {
    out.text(1, &family.name);
    out.text(2, &family.help);
    out.text(3, if family.unit.is_empty() { "1" } else { &family.unit });
    let each = |out: &mut Message| {
        for point in &family.points {
            out.message(1, |out| data_point(out, point, since_ns, now_ns));
        }
    };
    match family.kind {
        Kind::Gauge => out.message(5, each),
        Kind::Counter => out.message(7, |out| {
            each(out);
            out.varint(2, CUMULATIVE);
            out.varint(3, 1);
        }),
        Kind::Histogram => out.message(9, |out| {
            each(out);
            out.varint(2, CUMULATIVE);
        }),
    }
}

fn data_point(out: &mut Message, point: &Point, since_ns: u64, now_ns: u64) {
    let attributes = match &point.figure {
        Figure::Value(_) => 7,
        Figure::Histogram(_) => 9,
    };
    for (label, value) in &point.labels {
        attribute(out, attributes, label, |any| any.text(1, value));
    }
    out.fixed64(2, point.since_ns.unwrap_or(since_ns));
    out.fixed64(3, now_ns);
    match &point.figure {
        // Counts beyond what a signed number holds are none that anything counts.
        Figure::Value(Number::Whole(whole)) => out.fixed64(6, (*whole).min(i64::MAX.unsigned_abs())),
        Figure::Value(Number::Real(real)) => out.double(4, *real),
        Figure::Histogram(buckets) => {
            out.fixed64(4, buckets.count());
            out.double(5, buckets.sum);
            out.packed(6, buckets.counts.iter().copied());
            out.packed(7, buckets.bounds.iter().map(|bound| bound.to_bits()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Is;
    use prost::Message as _;

    use super::super::super::catalogue::{CPU_TIME, EFFECT_TIME, EVENTS_LOST, PROCESSES};
    use super::super::super::histogram::Histogram;
    use super::super::super::sheet::Sheet;
    use super::*;

    #[test]
    fn others_read_the_same() {
        let mut sheet = Sheet::default();
        sheet.add(&EVENTS_LOST, &["ring"], 7_u64);
        sheet.add(&PROCESSES, &[], 300_u64);
        sheet.add_since(&CPU_TIME, &["backups"], Duration::from_millis(1_500), 50);
        let mut times = Histogram::default();
        times.observe(Duration::from_micros(20));
        sheet.histogram(&EFFECT_TIME, times.buckets());
        let origin = Origin { host: "web-1".to_owned(), instance: "a".to_owned(), since_ns: 40 };
        let bytes = request(&sheet.finish(), &origin, 90);

        let read = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
        // Nothing in it that they do not know: written by them it is the same.
        assert_eq!(read.encoded_len(), bytes.len());
        let [metrics] = &read.resource_metrics[..] else { panic!("{read:?}") };
        let attributes = &metrics.resource.as_ref().unwrap().attributes;
        let host = attributes.iter().find(|one| one.key == "host.name").unwrap();
        let Some(Value::StringValue(host)) = &host.value.as_ref().unwrap().value else { panic!("{host:?}") };
        assert_eq!(host, "web-1");
        let [scope] = &metrics.scope_metrics[..] else { panic!("{metrics:?}") };
        let of = |name: &str| {
            let found = scope.metrics.iter().find(|one| one.name == format!("process_throttler.{name}"));
            found.unwrap().data.as_ref().unwrap()
        };
        let Data::Sum(lost) = of("events.lost") else { panic!("{scope:?}") };
        assert!(lost.is_monotonic && lost.aggregation_temporality == 2);
        let point = &lost.data_points[0];
        assert_eq!((point.value, point.attributes[0].key.as_str()), (Some(Is::AsInt(7)), "stage"));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (40, 90));
        let Data::Gauge(processes) = of("processes") else { panic!("{scope:?}") };
        assert_eq!(processes.data_points[0].value, Some(Is::AsInt(300)));
        let Data::Sum(cpu) = of("cgroup.cpu.time") else { panic!("{scope:?}") };
        assert_eq!(
            (cpu.data_points[0].value, cpu.data_points[0].start_time_unix_nano),
            (Some(Is::AsDouble(1.5)), 50)
        );
        let Data::Histogram(times) = of("throttle.effect.duration") else { panic!("{scope:?}") };
        let point = &times.data_points[0];
        assert_eq!((point.count, point.bucket_counts[1]), (1, 1));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert!((point.explicit_bounds[1] - 25e-6).abs() < 1e-12 && point.sum == Some(20e-6));
    }
}
