//! How long a critical process may wait for a CPU, as written.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::error::Findings;
use crate::config::fields::Cursor;
use crate::config::policy::span;
use crate::model::latency::LatencySlo;
use crate::model::time::millis;

const KEYS: &[&str] = &["run_queue_p99", "for"];
/// Below 100 µs the scheduler itself cannot keep the promise; above 10 s it is none.
const P99: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(10);
const P99_RANGE: &str = "100us to 10s";
/// Waits are counted ten times a second: less would be a single count.
const LASTING: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
const LASTING_DEFAULT: Duration = Duration::from_secs(10);

pub(super) fn parse(at: &Cursor<'_>, findings: &mut Findings) -> Option<LatencySlo> {
    let map = at.map(KEYS, &[], findings)?;
    let p99 = map.required("run_queue_p99", findings).and_then(|at| p99(at, findings));
    let lasting = span(map.get("for"), LASTING, LASTING_DEFAULT, findings);
    let run_queue_p99_us = u64::try_from(p99?.as_micros()).ok()?;
    Some(LatencySlo { run_queue_p99_us, for_ms: millis(lasting?) })
}

fn p99(at: &Cursor<'_>, findings: &mut Findings) -> Option<Duration> {
    let text = at.text(findings)?;
    let finding = match humantime::parse_duration(text) {
        Ok(found) if P99.contains(&found) && found.subsec_nanos() % 1_000 == 0 => return Some(found),
        Ok(_) => at.error(format!("{text} is not within {P99_RANGE}, in whole microseconds")),
        Err(error) => at.error(format!("{text:?} is no duration: {error}")),
    };
    findings.push(finding.with_fix("write 5ms"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::Source;
    use crate::config::host::Host;
    use crate::config::profile;

    fn parsed(matches: &str, slo: &str) -> (Option<LatencySlo>, Vec<String>) {
        let text = format!(
            "name: web\ncritical_processes:\n  - name: c\n    match: {{ {matches}: /c }}\n    latency_slo: {slo}\n"
        );
        let source = Source::new("/etc/p/web.yaml".into(), text);
        let (profile, findings) = profile::parse(&source, Some("web"), &Host::detect());
        let shown =
            findings.iter().map(|f| format!("{}:{} {}: {}", f.line, f.column, f.key, f.message)).collect();
        (profile.and_then(|profile| profile.critical[0].latency_slo), shown)
    }

    #[test]
    fn defaults_and_bounds() {
        for (text, p99, lasting) in [
            ("{ run_queue_p99: 5ms }", 5_000, 10_000),
            ("{ run_queue_p99: 100us, for: 100ms }", 100, 100),
            ("{ run_queue_p99: 10s, for: 1h }", 10_000_000, 3_600_000),
            ("{ run_queue_p99: 1ms 500us, for: 2s }", 1_500, 2_000),
        ] {
            let slo = LatencySlo { run_queue_p99_us: p99, for_ms: lasting };
            assert_eq!(parsed("exe", text), (Some(slo), Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        let at = "critical_processes[0].latency_slo";
        let within = format!("is not within {P99_RANGE}, in whole microseconds");
        for (text, finding) in [
            ("{}", format!("5:18 {at}: key \"run_queue_p99\" is missing")),
            ("5ms", format!("5:18 {at}: expected a map of keys, found a text")),
            ("{ run_queue_p99: 99us }", format!("5:35 {at}.run_queue_p99: 99us {within}")),
            ("{ run_queue_p99: 11s }", format!("5:35 {at}.run_queue_p99: 11s {within}")),
            ("{ run_queue_p99: 200500ns }", format!("5:35 {at}.run_queue_p99: 200500ns {within}")),
            ("{ run_queue_p99: 5 }", format!("5:35 {at}.run_queue_p99: expected a text, found an integer")),
            ("{ run_queue_p99: 5ms, for: 99ms }", format!("5:45 {at}.for: 99ms is not between 100ms and 1h")),
            ("{ run_queue_p99: 5ms, p50: 1ms }", format!("5:40 {at}.p50: unknown key \"p50\"")),
        ] {
            let (value, found) = parsed("exe", text);
            assert_eq!((value, found), (None, vec![finding]), "{text}");
        }
    }

    #[test]
    fn nobody_may_have_others_held_back_by_taking_a_name() {
        let (slo, found) = parsed("comm", "{ run_queue_p99: 5ms }");
        assert_eq!(slo, None);
        let told =
            found.iter().any(|one| one.starts_with("5:18 ") && one.contains("others would be held back"));
        assert!(told, "{found:?}");
    }
}
