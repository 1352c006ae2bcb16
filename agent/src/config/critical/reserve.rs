//! Reservations as written: how much of the machine critical processes are to have, checked against what it has.

use crate::config::error::Findings;
use crate::config::fields::{Cursor, Map};
use crate::config::file::Value;
use crate::config::host::Host;
use crate::config::limits::size;
use crate::model::critical::Protection;
use crate::model::reservation::ReservedCpu;
use crate::model::unit::{Bytes, CpuPercent};

const KEYS: &[&str] = &["cpu_percent", "memory"];
const CPU_EXPECTED: &str = "a percentage of one CPU from 1 to 100000";
/// Thousandths of a percent in a whole CPU.
const MILLIS_PER_CPU: u64 = 100_000;

/// What an entry reserves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reserve {
    pub(super) cpu: Option<ReservedCpu>,
    pub(super) memory: Option<Bytes>,
}

pub(super) fn parse(at: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Reserve {
    let Some(map) = at.map(KEYS, &[], findings) else { return Reserve::default() };
    if matches!(at.value(), Value::Map(keys) if keys.is_empty()) {
        findings.push(at.error("nothing is reserved").with_fix(format!("add one of {}", KEYS.join(", "))));
    }
    let cpu = map.get("cpu_percent").and_then(|at| cpu(at, host, findings));
    Reserve { cpu, memory: map.get("memory").and_then(|at| size(at, findings)) }
}

fn cpu(at: &Cursor<'_>, host: &Host, findings: &mut Findings) -> Option<ReservedCpu> {
    let percent = match at.value() {
        Value::Text(text) => text.parse::<CpuPercent>().ok(),
        Value::Integer(_) => {
            let number = at.integer(1..=100_000, CPU_EXPECTED, findings)?;
            u64::try_from(number).ok().and_then(|number| CpuPercent::from_millis(number * 1_000))
        }
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
    };
    let Some(percent) = percent else {
        findings.push(at.error(format!("expected {CPU_EXPECTED}")).with_fix("write 20, or 12.5%"));
        return None;
    };
    // What is too much for this machine is told with the sum.
    let least = u32::try_from(percent.millis().div_ceil(MILLIS_PER_CPU)).unwrap_or(u32::MAX);
    ReservedCpu::on(host.cpus.unwrap_or(least).max(least), percent)
}

/// What all entries so far reserve together.
#[derive(Debug, Default)]
pub(super) struct Sum {
    cpu_millis: u64,
    memory: u64,
}

impl Sum {
    /// Adds an entry; the first with which it is more than the machine has is the one that is told.
    pub(super) fn add(&mut self, map: &Map<'_>, entry: &Protection, host: &Host, findings: &mut Findings) {
        let Some(at) = map.get("reserve") else { return };
        let (cpu_before, memory_before) = (self.cpu_millis, self.memory);
        let cpu = entry.reserved_cpu.map_or(0, |reserved| reserved.percent.millis());
        self.cpu_millis = self.cpu_millis.saturating_add(cpu);
        self.memory = self.memory.saturating_add(entry.memory_low.map_or(0, Bytes::get));
        let fix = "reserve less: what is promised twice is had by nobody";
        if let Some(cpus) = host.cpus {
            let has = u64::from(cpus) * MILLIS_PER_CPU;
            if cpu_before <= has && self.cpu_millis > has {
                let message = format!(
                    "with this, {}% of a CPU is reserved, and this machine has {}%",
                    self.cpu_millis / 1_000,
                    has / 1_000
                );
                findings.push(at.error(message).with_fix(fix));
            }
        }
        if let Some(has) = host.memory
            && memory_before <= has
            && self.memory > has
        {
            let message = format!(
                "with this, {} bytes of memory are reserved, and this machine has {has}",
                self.memory
            );
            findings.push(at.error(message).with_fix(fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::Source;
    use crate::config::profile;

    fn host() -> Host {
        Host { cpus: Some(2), memory: Some(1 << 30), ..Host::detect() }
    }

    fn read(keys: &[&str]) -> (Option<Vec<Protection>>, Vec<String>) {
        let mut text = String::from("name: web\ncritical_processes:\n");
        for (index, keys) in keys.iter().enumerate() {
            text.push_str(&format!("  - name: c{index}\n    match: {{ exe: /c{index} }}\n    {keys}\n"));
        }
        let source = Source::new("/etc/p/web.yaml".into(), text);
        let (profile, findings) = profile::parse(&source, Some("web"), &host());
        let shown =
            findings.iter().map(|f| format!("{}:{} {}: {}", f.line, f.column, f.key, f.message)).collect();
        (profile.map(|profile| profile.critical.into_iter().map(|one| one.protection).collect()), shown)
    }

    #[test]
    fn what_people_write() {
        for (text, shown) in [
            ("reserve: { cpu_percent: 150, memory: 512M }", "cpu_weight=600 memory_low=512M"),
            ("reserve: { cpu_percent: 12.5% }", "cpu_weight=100"),
            ("cpu_weight: 300", "cpu_weight=300"),
            ("io_weight: 250", "io_weight=250"),
            ("protection_level: low", "cpu_weight=150 io_weight=150"),
            ("nice: -1", "none"),
        ] {
            let (read, findings) = read(&[text]);
            assert_eq!(findings, Vec::<String>::new(), "{text}");
            assert_eq!(read.unwrap()[0].reservation().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        let at = "critical_processes[0].reserve";
        for (text, finding) in [
            ("reserve: {}", format!("5:14 {at}: nothing is reserved")),
            ("reserve: 5", format!("5:14 {at}: expected a map of keys, found an integer")),
            ("reserve: { cpus: 2 }", format!("5:16 {at}.cpus: unknown key \"cpus\"")),
            ("reserve: { cpu_percent: 0 }", format!("5:29 {at}.cpu_percent: 0 is not {CPU_EXPECTED}")),
            ("reserve: { cpu_percent: a lot }", format!("5:29 {at}.cpu_percent: expected {CPU_EXPECTED}")),
            ("reserve: { cpu_percent: 1.5 }", format!("5:29 {at}.cpu_percent: expected {CPU_EXPECTED}")),
            (
                "io_weight: 99",
                "5:16 critical_processes[0].io_weight: 99 is not a weight that protects, 100 (the default) to 10000"
                    .to_owned(),
            ),
            (
                "reserve: { cpu_percent: 201 }",
                format!("5:14 {at}: with this, 201% of a CPU is reserved, and this machine has 200%"),
            ),
            (
                "reserve: { memory: 2G }",
                format!(
                    "5:14 {at}: with this, 2147483648 bytes of memory are reserved, and this machine has 1073741824"
                ),
            ),
        ] {
            let (read, found) = read(&[text]);
            assert_eq!((read.is_none(), found), (true, vec![finding]), "{text}");
        }
    }

    #[test]
    fn a_weight_beside_a_percentage_is_refused() {
        let (read, found) = read(&["reserve: { cpu_percent: 20 }\n    cpu_weight: 300"]);
        assert!(read.is_none() && found.len() == 1 && found[0].starts_with("6:17 "), "{found:?}");
    }

    #[test]
    fn the_sum_of_all_entries_is_what_counts() {
        let half = "reserve: { cpu_percent: 100, memory: 512M }";
        assert_eq!(read(&[half, half]).1, Vec::<String>::new());
        let (read, found) = read(&[half, half, "reserve: { cpu_percent: 1 }", "reserve: { cpu_percent: 1 }"]);
        assert!(read.is_none() && found.len() == 1, "{found:?}");
        assert!(found[0].starts_with("11:14 critical_processes[2].reserve: with this, 201%"), "{found:?}");
    }
}
