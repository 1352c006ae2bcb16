//! Conditions of rules as written, to validated ones. Measures nothing.

use std::time::Duration;

use super::error::Findings;
use super::fields::Cursor;
use super::file::Value;
use super::policy::{HOUR, SECOND, hours, number, span, zone};
use crate::model::policy::{Side, Threshold, When, Zone};
use crate::model::signal::{Hundredths, Signal};
use crate::model::time::millis;

/// Keys of `when` besides the measures.
const WHEN_KEYS: [&str; 3] = ["hours", "timezone", "cooldown"];
/// Least time between two changes of a rule on account of measures.
const COOLDOWN: Duration = Duration::from_secs(30);

/// Reads the conditions of a rule; `None` when any part is wrong.
pub(super) fn when(cursor: &Cursor<'_>, findings: &mut Findings) -> Option<When> {
    let before = findings.errors();
    let signals: Vec<&str> = Signal::all().map(Signal::name).collect();
    let keys: Vec<&str> = signals.iter().copied().chain(WHEN_KEYS).collect();
    let map = cursor.map(&keys, &[], findings)?;
    let mut thresholds = Vec::new();
    for (key, at) in map.entries() {
        if let Ok(signal) = key.parse::<Signal>() {
            thresholds.extend(threshold(signal, at, findings));
        }
    }
    let hours = map.get("hours").map(|at| hours(at, findings));
    let timezone = map.get("timezone").map_or(Some(Zone::default()), |at| zone(at, findings));
    let cooldown = span(map.get("cooldown"), SECOND..=HOUR, COOLDOWN, findings);
    if thresholds.is_empty() && hours.is_none() && findings.errors() == before {
        let finding = cursor.error("there is no condition");
        findings.push(finding.with_fix(format!("add hours or one of {}", signals.join(", "))));
    }
    let when = When {
        thresholds,
        hours: hours.unwrap_or(None),
        timezone: timezone?,
        cooldown_ms: millis(cooldown?),
    };
    (findings.errors() == before).then_some(when)
}

fn threshold(signal: Signal, at: &Cursor<'_>, findings: &mut Findings) -> Option<Threshold> {
    let max = signal.max();
    let (side, on, off) = match at.value() {
        Value::Map(_) => {
            let map = at.map(&["above", "below", "until"], &[], findings)?;
            let (side, on_at) = match (map.get("above"), map.get("below")) {
                (Some(at), None) => (Side::Above, at),
                (None, Some(at)) => (Side::Below, at),
                (Some(_), Some(_)) | (None, None) => {
                    findings.push(at.error("expected exactly one of above and below"));
                    return None;
                }
            };
            let on = number(on_at, max, findings);
            let off = map.get("until").map(|at| number(at, max, findings));
            (side, on?, off.unwrap_or_else(|| Some(short_of(side, on?, max))))
        }
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::List(_) => {
            let bad = |text: &str| {
                let finding = at.error(format!("{text:?} is no condition on a number"));
                finding.with_fix("write \"> 20\" or { above: 20, until: 15 }")
            };
            let text = at.text(findings)?.trim();
            let (side, rest) = match (text.strip_prefix('>'), text.strip_prefix('<')) {
                (Some(rest), _) => (Side::Above, rest),
                (None, Some(rest)) => (Side::Below, rest),
                (None, None) => {
                    findings.push(bad(text));
                    return None;
                }
            };
            let rest = rest.trim().trim_end_matches('%').trim_end();
            let on = rest.parse::<Hundredths>().ok().filter(|value| value.0 <= max);
            if on.is_none() {
                findings.push(bad(text));
            }
            (side, on?, Some(short_of(side, on?, max)))
        }
    };
    let off = off?;
    let (possible, word) = match side {
        Side::Above => (off <= on && on.0 < max, "at or below"),
        Side::Below => (off >= on && on.0 > 0, "at or above"),
    };
    if !possible {
        let message = format!("it could not hold and cease to: until {off} has to be {word} {on}");
        findings.push(at.error(message));
        return None;
    }
    Some(Threshold { signal, side, on, off })
}

/// Where a rule ceases to hold, unless something else is said: a fifth short of where it begins.
pub(super) fn short_of(side: Side, on: Hundredths, max: u32) -> Hundredths {
    match side {
        Side::Above => Hundredths(on.0 / 5 * 4 + on.0 % 5 * 4 / 5),
        Side::Below => Hundredths(on.0.saturating_add(on.0 / 4).min(max)),
    }
}
