//! What there is to be of a critical process, as written.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::error::Findings;
use crate::config::fields::Cursor;
use crate::config::policy::span;
use crate::model::critical::Expect;

const KEYS: &[&str] = &["min_instances", "start_within"];
/// Most instances that can be asked for; the number of processes bounds them anyway.
const INSTANCES_MAX: i128 = 1_000;
/// Shorter than a second, a slow start would be an alert.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const WITHIN_DEFAULT: Duration = Duration::from_secs(30);

pub(super) fn parse(at: &Cursor<'_>, findings: &mut Findings) -> Option<Expect> {
    let map = at.map(KEYS, &[], findings)?;
    let min_instances = match map.get("min_instances") {
        None => Some(1),
        Some(at) => at
            .integer(1..=INSTANCES_MAX, "a number of instances from 1 to 1000", findings)
            .and_then(|number| u32::try_from(number).ok()),
    };
    let start_within = span(map.get("start_within"), WITHIN, WITHIN_DEFAULT, findings);
    Some(Expect { min_instances: min_instances?, start_within: start_within? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::Source;
    use crate::config::host::Host;
    use crate::config::profile;

    fn parsed(expect: &str) -> (Option<Expect>, Vec<String>) {
        let text = format!(
            "name: web\ncritical_processes:\n  - name: c\n    match: {{ exe: /c }}\n    expect: {expect}\n"
        );
        let source = Source::new("/etc/p/web.yaml".into(), text);
        let (profile, findings) = profile::parse(&source, Some("web"), &Host::detect());
        let shown =
            findings.iter().map(|f| format!("{}:{} {}: {}", f.line, f.column, f.key, f.message)).collect();
        (profile.and_then(|profile| profile.critical[0].expect), shown)
    }

    #[test]
    fn defaults_and_bounds() {
        let expect = |min_instances, seconds| {
            Some(Expect { min_instances, start_within: Duration::from_secs(seconds) })
        };
        for (text, value) in [
            ("{}", expect(1, 30)),
            ("{ min_instances: 3 }", expect(3, 30)),
            ("{ min_instances: 1000, start_within: 1d }", expect(1_000, 86_400)),
            ("{ start_within: 1s }", expect(1, 1)),
        ] {
            assert_eq!(parsed(text), (value, Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        let at = "critical_processes[0].expect";
        for (text, finding) in [
            (
                "{ min_instances: 0 }",
                format!("5:30 {at}.min_instances: 0 is not a number of instances from 1 to 1000"),
            ),
            ("{ start_within: 999ms }", format!("5:29 {at}.start_within: 999ms is not between 1s and 1day")),
            ("{ start_within: 2d }", format!("5:29 {at}.start_within: 2d is not between 1s and 1day")),
            ("{ max_instances: 2 }", format!("5:15 {at}.max_instances: unknown key \"max_instances\"")),
            ("2", format!("5:13 {at}: expected a map of keys, found an integer")),
        ] {
            let (value, found) = parsed(text);
            assert_eq!((value, found), (None, vec![finding]), "{text}");
        }
    }
}
