//! Limits as written, to validated ones.

use super::error::Findings;
use super::fields::Cursor;
use super::file::Value;
use super::host::Host;
use crate::model::attribute::{IoClass, IoLevel, OomScoreAdj, Sched};
use crate::model::cpu_list::CpuList;
use crate::model::limits::Limits;
use crate::model::unit::{Bytes, CpuPercent, Nice, Weight};

pub(super) const KEYS: &[&str] = &[
    "cpu",
    "cpu_weight",
    "memory_high",
    "memory_max",
    "pids",
    "io_weight",
    "io_read",
    "io_write",
    "nice",
    "sched",
    "io_class",
    "io_priority",
    "cpu_affinity",
    "oom_score_adj",
];

/// `PID_MAX_LIMIT` of 64-bit kernels; `pids.max` takes no more.
pub(super) const PIDS_MAX: i128 = 4 << 20;

/// Reads the limits of a rule; `None` when any is wrong or there is none.
pub(super) fn parse(cursor: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<Limits> {
    let limits = parse_any(cursor, host, findings)?;
    if limits.is_empty() {
        let finding = cursor.error("limits are empty: the rule would do nothing");
        findings.push(finding.with_fix(format!("add one of {}", KEYS.join(", "))));
        return None;
    }
    Some(limits)
}

/// Reads limits, which may be none; `None` when any is wrong.
pub(super) fn parse_any(cursor: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<Limits> {
    let before = findings.errors();
    let map = cursor.map(KEYS, &[], findings)?;
    let mut limits = Limits::default();
    for (key, value) in map.entries() {
        match *key {
            "cpu" => limits.cpu = cpu(value, host, findings),
            "cpu_weight" => limits.cpu_weight = weight(value, findings),
            "memory_high" => limits.memory_high = memory(value, host, findings),
            "memory_max" => limits.memory_max = memory(value, host, findings),
            "pids" => {
                let number = value.integer(1..=PIDS_MAX, "a number of tasks from 1 to 4194304", findings);
                limits.pids = number.and_then(|number| u32::try_from(number).ok());
            }
            "io_weight" => limits.io_weight = weight(value, findings),
            "io_read" => limits.io_read = size(value, findings),
            "io_write" => limits.io_write = size(value, findings),
            "nice" => {
                let number = value.integer(-20..=19, "a nice value from -20 to 19", findings);
                limits.nice = number.and_then(|n| i64::try_from(n).ok()).and_then(Nice::new);
            }
            "sched" => limits.sched = value.choice(&Sched::WORDS, findings),
            "io_class" => limits.io_class = value.choice(&IoClass::WORDS, findings),
            "io_priority" => {
                let number = value.integer(0..=7, IoLevel::EXPECTED, findings);
                limits.io_priority = number.and_then(|n| i64::try_from(n).ok()).and_then(IoLevel::new);
            }
            "cpu_affinity" => limits.cpu_affinity = cpus(value, host, findings),
            "oom_score_adj" => limits.oom_score_adj = oom_score_adj(value, findings),
            other => findings.push(value.error(format!("limit {other:?} has no reader"))),
        }
    }
    if let (Some(high), Some(max)) = (limits.memory_high, limits.memory_max)
        && high > max
        && let Some(at) = map.get("memory_high")
    {
        let message = format!("memory_high {high} is above memory_max {max}: it would never be reached");
        findings.push(at.error(message).with_fix("make memory_high the smaller one"));
    }
    if let (Some(why), Some(at)) = (limits.contradiction(), map.get("io_priority")) {
        findings.push(at.error(why).with_fix("remove io_priority, or make io_class best-effort"));
    }
    (findings.errors() == before).then_some(limits)
}

pub(super) fn cpu(value: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<CpuPercent> {
    if let Value::Integer(number) = value.value() {
        let finding = value.error(format!("{number} has no unit"));
        findings.push(finding.with_fix(format!("write {number}%, in percent of one CPU")));
        return None;
    }
    match value.text(findings)?.parse::<CpuPercent>() {
        Ok(percent) => {
            if let Some(cpus) = host.cpus
                && percent.millis() > u64::from(cpus) * 100_000
            {
                let message =
                    format!("{percent} is more than the {cpus} CPUs of this machine: no limit at all");
                findings.push(value.warning(message));
            }
            Some(percent)
        }
        Err(error) => {
            findings.push(value.error(error.to_string()));
            None
        }
    }
}

/// A list, which a single CPU need not be.
fn cpus(value: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<CpuList> {
    let text = match value.value() {
        Value::Integer(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            value.text(findings)?.to_owned()
        }
    };
    match text.parse::<CpuList>() {
        Ok(list) => {
            if let Some(online) = (host.online)().filter(|online| !list.meets(online)) {
                let message =
                    format!("none of the CPUs {list} is online on this machine, which {online} are");
                findings.push(value.error(message).with_fix("name at least one that is online"));
                return None;
            }
            Some(list)
        }
        Err(error) => {
            findings.push(value.error(error.to_string()));
            None
        }
    }
}

/// A number as `/proc/PID/oom_score_adj` takes it.
pub(super) fn oom_score_adj(value: &Cursor<'_>, findings: &mut Findings) -> Option<OomScoreAdj> {
    let number = value.integer(-1000..=1000, OomScoreAdj::EXPECTED, findings)?;
    i64::try_from(number).ok().and_then(OomScoreAdj::new)
}

fn memory(value: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<Bytes> {
    let bytes = size(value, findings)?;
    if let Some(total) = host.memory
        && bytes.get() > total
    {
        let message = format!("{bytes} is more than the {total} bytes of this machine: no limit at all");
        findings.push(value.warning(message));
    }
    Some(bytes)
}

/// A size with or without a suffix, or a plain number of bytes.
pub(super) fn size(value: &Cursor<'_>, findings: &mut Findings) -> Option<Bytes> {
    let text = match value.value() {
        Value::Integer(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            value.text(findings)?.to_owned()
        }
    };
    match text.parse() {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let error: crate::model::unit::UnitError = error;
            findings.push(value.error(error.to_string()));
            None
        }
    }
}

fn weight(value: &Cursor<'_>, findings: &mut Findings) -> Option<Weight> {
    let number = value.integer(1..=10_000, "a weight from 1 to 10000 (100 is the default)", findings)?;
    u64::try_from(number).ok().and_then(Weight::new)
}
