//! What the agent itself costs, read from the kernel when somebody asks.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use rustix::param::page_size;

use crate::telemetry::catalogue::{
    BPF_RUNS, BPF_TIME, SELF_CPU, SELF_FILES, SELF_MEMORY, SELF_SWITCHES, SELF_THREADS,
};
use crate::telemetry::sheet::Sheet;

/// Descriptors that are looked at for BPF programs.
const FILES_MAX: usize = 4_096;

/// Puts down what can be read; what cannot is left out. `counts` says that the kernel counts what BPF programs take
/// because the agent has it do so.
pub(super) fn put(sheet: &mut Sheet, counts: bool) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        sheet.add(&SELF_CPU, &["user"], time(usage.user_time()));
        sheet.add(&SELF_CPU, &["system"], time(usage.system_time()));
        for (kind, switches) in [
            ("voluntary", usage.voluntary_context_switches()),
            ("involuntary", usage.involuntary_context_switches()),
        ] {
            sheet.add(&SELF_SWITCHES, &[kind], u64::try_from(switches).unwrap_or(0));
        }
    }
    if let Some(pages) = statm("/proc/self/statm") {
        sheet.add(&SELF_MEMORY, &[], pages.saturating_mul(page_size() as u64));
    }
    if let Ok(threads) = fs::read_dir("/proc/self/task") {
        sheet.add(&SELF_THREADS, &[], threads.count());
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // Less the one that the count itself takes.
        sheet.add(&SELF_FILES, &[], files.count().saturating_sub(1));
    }
    let by_others =
        || fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|text| text.trim() == "1");
    if counts || by_others() {
        let (time, runs) = programs();
        sheet.add(&BPF_TIME, &[], time);
        sheet.add(&BPF_RUNS, &[], runs);
    }
}

fn statm(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn time(value: TimeVal) -> Duration {
    let micros = u32::try_from(value.tv_usec()).unwrap_or(0);
    Duration::new(u64::try_from(value.tv_sec()).unwrap_or(0), micros.saturating_mul(1_000))
}

/// Time and runs of the BPF programs that this process holds (Documentation/bpf, `bpf_prog_show_fdinfo`).
fn programs() -> (Duration, u64) {
    let (mut nanos, mut runs) = (0_u64, 0_u64);
    for file in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().take(FILES_MAX) {
        if !fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:bpf-prog") {
            continue;
        }
        let info = std::path::Path::new("/proc/self/fdinfo").join(file.file_name());
        // A program that is detached meanwhile has nothing more to add.
        let Ok(text) = fs::read_to_string(info) else { continue };
        let number = |key: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
            found.unwrap_or(0)
        };
        nanos = nanos.saturating_add(number("run_time_ns:"));
        runs = runs.saturating_add(number("run_cnt:"));
    }
    (Duration::from_nanos(nanos), runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Figure, Number};

    #[test]
    fn this_process_costs_something() {
        let mut sheet = Sheet::default();
        put(&mut sheet, false);
        let families = sheet.finish();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name.ends_with(name)).unwrap();
            let Figure::Value(number) = &family.points[0].figure else { panic!("{family:?}") };
            match *number {
                Number::Whole(whole) => whole as f64,
                Number::Real(real) => real,
            }
        };
        assert!(value("self.memory.usage") > 1e6);
        assert!(value("self.threads") >= 2.0);
        assert!((3.0..1e6).contains(&value("self.open_files")));
        assert!(families.iter().any(|family| family.name.ends_with("self.context_switches")));
    }
}
