//! Values of limits in the words of whichever cgroup version the host has, so that one test is about both.

use std::fs;
use std::path::Path;

/// A file on v1 and on v2.
pub(in crate::effect) type Either = [&'static str; 2];

pub(in crate::effect) const QUOTA: Either = ["cpu.cfs_quota_us", "cpu.max"];
pub(in crate::effect) const WEIGHT: Either = ["cpu.shares", "cpu.weight"];
pub(in crate::effect) const MEMORY_MAX: Either = ["memory.limit_in_bytes", "memory.max"];
pub(in crate::effect) const PIDS: Either = ["pids.max", "pids.max"];
pub(in crate::effect) const IO_READ: Either = ["blkio.throttle.read_bps_device", "io.max"];

/// The name of the one that a cgroup has.
pub(in crate::effect) fn name(dir: &Path, file: Either) -> &'static str {
    let [v1, v2] = file;
    if dir.join(v1).exists() { v1 } else { v2 }
}

pub(in crate::effect) fn value(dir: &Path, file: Either) -> String {
    fs::read_to_string(dir.join(name(dir, file))).unwrap().trim_end().to_owned()
}

pub(in crate::effect) fn set(dir: &Path, file: Either, value: &str) {
    fs::write(dir.join(name(dir, file)), value).unwrap();
}

/// Quota and period in µs, as v2 has them; `max` is no quota.
pub(in crate::effect) fn quota(dir: &Path) -> String {
    let text = value(dir, QUOTA);
    if name(dir, QUOTA) == "cpu.max" {
        return text;
    }
    let period = fs::read_to_string(dir.join("cpu.cfs_period_us")).unwrap();
    format!("{} {}", if text == "-1" { "max" } else { &text }, period.trim_end())
}

/// Sets [`quota`].
pub(in crate::effect) fn set_quota(dir: &Path, text: &str) {
    if name(dir, QUOTA) == "cpu.max" {
        return set(dir, QUOTA, text);
    }
    let (quota, period) = text.split_once(' ').unwrap();
    fs::write(dir.join("cpu.cfs_period_us"), period).unwrap();
    set(dir, QUOTA, quota);
}
