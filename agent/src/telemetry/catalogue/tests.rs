//! The catalogue against the rules for names, and `docs/metrics.md` against the catalogue.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

#[test]
fn names_are_unique_and_follow_the_rules() {
    let (mut names, mut texts) = (BTreeSet::new(), BTreeSet::new());
    for one in all() {
        assert!(names.insert(one.name), "{} twice", one.name);
        assert!(texts.insert(one.prometheus()), "{} twice", one.prometheus());
        assert!(one.name.starts_with("process_throttler."), "{}", one.name);
        let fine = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(one.prometheus().chars().all(fine), "{}", one.prometheus());
        assert!(!one.help.is_empty() && sentence(&one).ends_with('.'), "{}", one.name);
        let known = matches!(one.unit, "" | "s" | "By") || one.unit.starts_with('{');
        assert!(known, "{}: unit {}", one.name, one.unit);
        // Identities that come and go without bound.
        assert!(one.labels.iter().all(|label| !matches!(*label, "pid" | "process" | "comm" | "cgroup")));
    }
}

#[test]
fn every_event_that_is_given_has_its_metric() {
    for row in EVENT_TYPES.iter().filter(|row| row.given) {
        assert!(all().any(|one| one.name == row.metric), "{}: no {}", row.name, row.metric);
    }
    assert_eq!(of_event("critical_process_down"), None, "by cause");
    assert_eq!(
        of_event("throttle_applied").unwrap().prometheus(),
        "process_throttler_throttle_applied_total"
    );
}

#[test]
fn prometheus_names() {
    assert_eq!(THROTTLED_TIME.prometheus(), "process_throttler_cgroup_cpu_throttled_seconds_total");
    assert_eq!(MEMORY.prometheus(), "process_throttler_cgroup_memory_usage_bytes");
    assert_eq!(EFFECT_TIME.prometheus(), "process_throttler_throttle_effect_duration_seconds");
    assert_eq!(PROCESSES.prometheus(), "process_throttler_processes");
}

/// What the rules and the dashboard ask for.
#[test]
fn what_is_shipped_for_prometheus_and_grafana_asks_for_metrics_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let known: BTreeSet<String> = all()
        .flat_map(|one| {
            let parts: &[&str] = match one.kind {
                Kind::Histogram => &["_bucket", "_sum", "_count"],
                Kind::Counter | Kind::Gauge => &[""],
            };
            parts.iter().map(move |part| format!("{}{part}", one.prometheus()))
        })
        .collect();
    for file in [
        "prometheus/process-throttler.rules.yaml",
        "prometheus/process-throttler.rules.test.yaml",
        "grafana/process-throttler.json",
    ] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        // Recorded series have a level before the metric's name and an operation after it.
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let named: BTreeSet<&str> = words.filter(|word| word.starts_with("process_throttler_")).collect();
        assert!(named.len() > 10, "{file}: {named:?}");
        for metric in named {
            assert!(known.contains(metric), "{file}: there is no {metric}");
        }
    }
}

#[test]
fn reference_is_current() {
    let mut text = "\
# Metrics

Generated from the catalogue of metrics; do not edit. How to read them: [guides/metrics.md](guides/metrics.md).

The first name is that of Prometheus' text, the second that of OTLP. Counters begin at 0 with the agent; those of a group or of a
critical process with it. No label holds a pid.

| Prometheus | OTLP | kind | unit | labels | meaning |
|---|---|---|---|---|---|
"
    .to_owned();
    for one in all() {
        let labels: Vec<String> = one.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = if one.unit.is_empty() { String::new() } else { format!("`{}`", one.unit) };
        text.push_str(&format!(
            "| `{}` | `{}` | {} | {unit} | {} | {} |\n",
            one.prometheus(),
            one.name,
            one.kind.as_str(),
            labels.join(", "),
            sentence(&one),
        ));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/metrics.md is stale: run this test with UPDATE_REFERENCE=1");
}
