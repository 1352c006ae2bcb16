//! Policies and conditions as written, to validated ones. Measures nothing.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Findings;
use super::fields::{Cursor, Map};
use super::file::{Node, Place, Source, Value};
use super::host::Host;
use super::limits;
use crate::model::hours::Hours;
use crate::model::limits::Limits;
use crate::model::policy::table::{Description, POLICIES};
use crate::model::policy::{Adaptive, Gradual, Kind, Latency, Policy, Schedule, Span, Target, Zone};
use crate::model::signal::Hundredths;
use crate::model::time::millis;
use crate::model::unit::{CpuPercent, Weight};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
/// Longest ramp.
const OVER_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Most windows of a schedule.
const WINDOWS_MAX: usize = 32;
/// Reads the policy of a rule that has these limits; `None` when any part is wrong.
pub(super) fn parse(
    cursor: &Cursor<'_>,
    limits: &Limits,
    host: &Host,
    findings: &mut Findings,
) -> Option<Policy> {
    let description = describe(cursor, findings)?;
    let keys: Vec<&str> = description.parameters.iter().map(|parameter| parameter.name).collect();
    let map = cursor.map(&[&["type"], keys.as_slice()].concat(), &[], findings)?;
    match description.policy {
        Kind::Fixed => Some(Policy::Fixed),
        Kind::Gradual => gradual(&map, cursor, limits, host, findings).map(Policy::Gradual),
        Kind::Adaptive => adaptive(&map, limits, host, findings).map(Policy::Adaptive),
        Kind::Schedule => schedule(&map, cursor, limits, host, findings).map(Policy::Schedule),
        Kind::Latency => latency(&map, cursor, limits, host, findings).map(Policy::Latency),
    }
}

/// Whether the limits of a rule may be left out because its policy has some. Says nothing about errors.
pub(super) fn has_limits(cursor: &Cursor<'_>) -> bool {
    match kind(cursor) {
        Some(Value::Text(text)) => ["adaptive", "schedule", "latency"].contains(&text.as_str()),
        Some(_) | None => false,
    }
}

/// Limits that any policy of this type fits, where those that it was written for are not known.
pub(super) fn fitting(cursor: &Cursor<'_>) -> Limits {
    if has_limits(cursor) {
        return Limits::default();
    }
    Limits { cpu: CpuPercent::from_millis(1_000), ..Limits::default() }
}

fn kind<'a>(cursor: &Cursor<'a>) -> Option<&'a Value> {
    let Value::Map(entries) = cursor.value() else { return None };
    let is_type = |key: &Value| matches!(key, Value::Text(text) if text == "type");
    entries.iter().find(|(key, _)| is_type(&key.value)).map(|(_, value)| &value.value)
}

/// The row of the table that the type names.
fn describe(cursor: &Cursor<'_>, findings: &mut Findings) -> Option<&'static Description> {
    // The keys depend on the type: they are judged when it is known.
    let mut ignored = Findings::new();
    let Some(map) = cursor.map(&["type"], &[], &mut ignored) else {
        return cursor.map(&["type"], &[], findings).and(None);
    };
    let at = map.required("type", findings)?;
    if let Value::Text(text) = at.value()
        && let Some(found) = Description::find(text)
    {
        return Some(found);
    }
    let choices: Vec<_> = POLICIES.iter().map(|one| (one.policy.as_str(), one)).collect();
    at.choice(&choices, findings)
}

fn gradual(
    map: &Map<'_>,
    cursor: &Cursor<'_>,
    limits: &Limits,
    host: &Host,
    findings: &mut Findings,
) -> Option<Gradual> {
    let before = findings.errors();
    let from = percent_or(map.get("from"), || all_cpus(host), host, findings);
    let over = span(map.get("over"), SECOND..=OVER_MAX, Duration::from_secs(300), findings);
    let step = (over.unwrap_or(SECOND) / 30).clamp(SECOND, Duration::from_secs(10));
    let interval = span(map.get("interval"), SECOND..=HOUR, whole_seconds(step), findings);
    if limits.cpu.is_none() {
        let finding = cursor.error("gradual has no end: the limits have no cpu");
        findings.push(finding.with_fix("add cpu: to the limits, where the ramp ends"));
    }
    if let (Some(over), Some(interval), Some(at)) = (over, interval, map.get("interval"))
        && interval > over
    {
        findings.push(at.error("the interval is longer than the whole ramp"));
    }
    let policy = Gradual { from: from?, over_ms: millis(over?), interval_ms: millis(interval?) };
    (findings.errors() == before).then_some(policy)
}

fn adaptive(map: &Map<'_>, limits: &Limits, host: &Host, findings: &mut Findings) -> Option<Adaptive> {
    let before = findings.errors();
    let target_at = map.required("target", findings);
    let target = target_at.and_then(|at| target(at, host, findings));
    let (interval, rest) = match target {
        Some(Target::Cpu(_)) | None => (1, 3),
        Some(Target::Load1(_)) => (5, 30),
        Some(Target::PressureCpuSome(_) | Target::PressureMemorySome(_) | Target::PressureIoSome(_)) => {
            (1, 5)
        }
    };
    let least = CpuPercent::from_millis(5_000)?;
    let min = percent_or(map.get("min"), || Some(least), host, findings);
    let max = percent_or(map.get("max"), || all_cpus(host), host, findings);
    let interval = span(map.get("interval"), SECOND..=HOUR, Duration::from_secs(interval), findings);
    let rest = interval.unwrap_or(SECOND).max(Duration::from_secs(rest));
    let cooldown = span(map.get("cooldown"), interval.unwrap_or(SECOND)..=HOUR, rest, findings);
    let deadband_permille = match map.get("deadband") {
        Some(at) => {
            let text = at.text(findings).unwrap_or_default();
            let value =
                text.strip_suffix('%').and_then(|number| number.trim_end().parse::<Hundredths>().ok());
            let value = value.filter(|value| (100..=5_000).contains(&value.0));
            if value.is_none() {
                let finding = at.error(format!("{text:?} is no share of the target from 1% to 50%"));
                findings.push(finding.with_fix("write 5%"));
            }
            value.map(|value| value.0 / 10)
        }
        None => Some(50),
    };
    if let (Some(min), Some(max)) = (min, max) {
        let at = map.get("min").or(map.get("max")).or(target_at);
        if let Some(at) = at.filter(|_| min > max) {
            findings.push(at.error(format!("min {min} is above max {max}")));
        }
        if let (Some(Target::Cpu(target)), Some(at)) = (target, target_at)
            && !(min..=max).contains(&target)
        {
            findings.push(at.error(format!("target {target} is not within {min} and {max}")));
        }
        if let (Some(start), Some(at)) = (limits.cpu, at.or(target_at))
            && !(min..=max).contains(&start)
        {
            let finding = at.error(format!("the limits begin with cpu {start}, not within {min} and {max}"));
            findings.push(finding.with_fix("remove cpu from the limits, or widen the bounds"));
        }
    }
    let policy = Adaptive {
        target: target?,
        min: min?,
        max: max?,
        interval_ms: millis(interval?),
        cooldown_ms: millis(cooldown?),
        deadband_permille: deadband_permille?,
    };
    (findings.errors() == before).then_some(policy)
}

fn target(at: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<Target> {
    const KEYS: &[&str] = &["cpu", "pressure_cpu_some", "pressure_memory_some", "pressure_io_some", "load1"];
    let map = at.map(KEYS, &[], findings)?;
    let [(key, value)] = map.entries() else {
        let finding = at.error("expected exactly one target");
        findings.push(finding.with_fix(format!("one of {}", KEYS.join(", "))));
        return None;
    };
    if *key == "cpu" {
        return limits::cpu(value, host, findings).map(Target::Cpu);
    }
    let (make, max): (fn(Hundredths) -> Target, u32) = match *key {
        "pressure_cpu_some" => (Target::PressureCpuSome, 10_000),
        "pressure_memory_some" => (Target::PressureMemorySome, 10_000),
        "pressure_io_some" => (Target::PressureIoSome, 10_000),
        _ => (Target::Load1, 10_000_000),
    };
    number(value, max, findings).map(make)
}

fn schedule(
    map: &Map<'_>,
    cursor: &Cursor<'_>,
    limits: &Limits,
    host: &Host,
    findings: &mut Findings,
) -> Option<Schedule> {
    let before = findings.errors();
    let list = map.required("windows", findings)?.list(findings)?;
    let timezone = map.get("timezone").map_or(Some(Zone::default()), |at| zone(at, findings));
    if list.is_empty() || list.len() > WINDOWS_MAX {
        let message = format!("{} windows are not from 1 to {WINDOWS_MAX}", list.len());
        findings.push(cursor.error(message));
    }
    let mut windows = Vec::new();
    for item in &list {
        let Some(map) = item.map(&["hours", "limits"], &[], findings) else { continue };
        let hours = map.required("hours", findings).and_then(|at| hours(at, findings));
        let limits = map.required("limits", findings).and_then(|at| limits::parse_any(at, host, findings));
        if let (Some(hours), Some(limits)) = (hours, limits) {
            windows.push(Span { hours, limits });
        }
    }
    let nothing = limits.is_empty() && windows.iter().all(|window| window.limits.is_empty());
    if nothing && findings.errors() == before {
        findings.push(cursor.error("there is no limit in any window: the rule would do nothing"));
    }
    let schedule = Schedule { windows, timezone: timezone? };
    (findings.errors() == before).then_some(schedule)
}

fn latency(
    map: &Map<'_>,
    cursor: &Cursor<'_>,
    limits: &Limits,
    host: &Host,
    findings: &mut Findings,
) -> Option<Latency> {
    let before = findings.errors();
    let weight = match map.get("weight") {
        Some(at) => at
            .integer(1..=100, "a weight at which a group gives way, 1 to 100 (the default of all)", findings)
            .and_then(|number| u64::try_from(number).ok()),
        None => Some(10),
    };
    let least = CpuPercent::from_millis(5_000)?;
    let min = percent_or(map.get("min"), || Some(least), host, findings);
    let cooldown = span(map.get("cooldown"), SECOND..=HOUR, Duration::from_secs(5), findings);
    // Where it is held there must be something left to take.
    if let (Some(min), Some(cpu)) = (min, limits.cpu)
        && min > cpu
    {
        let finding = map
            .get("min")
            .unwrap_or(cursor)
            .error(format!("min {min} is above the cpu of the limits, {cpu}"));
        findings.push(finding.with_fix("lower min, or remove cpu from the limits"));
    }
    if let (Some(weight), Some(own)) = (weight, limits.cpu_weight)
        && weight > u64::from(own.get())
    {
        let at = map.get("weight").unwrap_or(cursor);
        let finding = at.error(format!("weight {weight} is above the cpu_weight of the limits, {own}"));
        findings.push(finding.with_fix("lower weight, or remove cpu_weight from the limits"));
    }
    let policy = Latency { weight: Weight::new(weight?)?, min: min?, cooldown_ms: millis(cooldown?) };
    (findings.errors() == before).then_some(policy)
}

pub(super) fn hours(at: &Cursor<'_>, findings: &mut Findings) -> Option<Hours> {
    match at.text(findings)?.parse::<Hours>() {
        Ok(hours) => Some(hours),
        Err(error) => {
            findings.push(at.error(error.to_string()));
            None
        }
    }
}

pub(super) fn zone(at: &Cursor<'_>, findings: &mut Findings) -> Option<Zone> {
    let name = at.text(findings)?;
    if let Err(error) = jiff::tz::TimeZone::get(name) {
        let finding = at.error(format!("there is no time zone {name:?}: {error}"));
        findings.push(finding.with_fix("write a name such as Europe/Berlin or UTC"));
        return None;
    }
    Some(Zone::named(name.to_owned()))
}

/// A number with at most two decimals, with or without `%`.
pub(super) fn number(at: &Cursor<'_>, max: u32, findings: &mut Findings) -> Option<Hundredths> {
    let text = match at.value() {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Text(text) => text.trim_end_matches('%').trim_end().to_owned(),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => return at.text(findings).and(None),
    };
    let value = text.parse::<Hundredths>().ok().filter(|value| value.0 > 0 && value.0 <= max);
    if value.is_none() {
        let max = max / 100;
        findings.push(at.error(format!("{text:?} is no number up to {max} with at most two decimals")));
    }
    value
}

fn percent_or(
    at: Option<&Cursor<'_>>,
    default: impl FnOnce() -> Option<CpuPercent>,
    host: &Host,
    findings: &mut Findings,
) -> Option<CpuPercent> {
    at.map_or_else(default, |at| limits::cpu(at, host, findings))
}

/// No limit yet: every CPU of the machine, or one where that is not known.
fn all_cpus(host: &Host) -> Option<CpuPercent> {
    CpuPercent::from_millis(u64::from(host.cpus.unwrap_or(1).max(1)) * 100_000)
}

pub(super) fn span(
    at: Option<&Cursor<'_>>,
    range: RangeInclusive<Duration>,
    default: Duration,
    findings: &mut Findings,
) -> Option<Duration> {
    let Some(at) = at else { return Some(default) };
    let text = at.text(findings)?;
    let finding = match humantime::parse_duration(text) {
        Ok(duration) if range.contains(&duration) && duration.subsec_nanos() % 1_000_000 == 0 => {
            return Some(duration);
        }
        Ok(_) => {
            let show = humantime::format_duration;
            at.error(format!("{text} is not between {} and {}", show(*range.start()), show(*range.end())))
        }
        Err(error) => at.error(format!("{text:?} is no duration: {error}")).with_fix("write 30s or 5m"),
    };
    findings.push(finding);
    None
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// Reads a policy that was not written in a file: its parameters by their keys. Without `limits` they are taken to
/// be such that the policy fits them.
///
/// # Errors
/// Everything that is wrong; the places of the findings mean nothing, their keys do.
pub fn read_policy(
    kind: &str,
    parameters: Vec<(&str, Value)>,
    limits: Option<&Limits>,
) -> Result<Policy, Findings> {
    let mut entries = vec![(node(Value::Text("type".to_owned())), node(Value::Text(kind.to_owned())))];
    entries
        .extend(parameters.into_iter().map(|(key, value)| (node(Value::Text(key.to_owned())), node(value))));
    let (source, root) = (Source::new(PathBuf::new(), String::new()), node(Value::Map(entries)));
    let mut findings = Findings::new();
    let cursor = Cursor::root(&source, &root);
    let assumed = fitting(&cursor);
    let policy = parse(&cursor, limits.unwrap_or(&assumed), &Host::detect(), &mut findings);
    match policy {
        Some(policy) if !findings.has_errors() => Ok(policy),
        Some(_) | None => Err(findings),
    }
}

/// A value that comes from no place in a file.
#[must_use]
pub fn node(value: Value) -> Node {
    Node { value, place: Place { line: 1, column: 1, file: 0 } }
}
