//! What the results were measured on.

use std::fs;

use anyhow::{Context as _, Result};

use crate::cargo::output_of;

/// A sentence on the machine, for what this command measured of this build (`release` or `debug`).
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn describe(by: &str, build: &str) -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
    let field = |text: &str, key: &str| {
        let value =
            text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':').map(|(_, value)| value));
        value.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
    };
    let cpu = field(&read("/proc/cpuinfo")?, "model name");
    let cpus = std::thread::available_parallelism().context("count the CPUs")?;
    let memory = field(&read("/proc/meminfo")?, "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let virtualised = if read("/proc/cpuinfo")?.contains("hypervisor") { ", virtual machine" } else { "" };
    let rustc = output_of("rustc", &["--version"])?;
    let cgroups = if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) { "v2" } else { "v1" };
    Ok(format!(
        "Measured by `{by}` on: {cpu}, {cpus} CPUs{virtualised}, memory {memory}, Linux {}, cgroup {cgroups}, \
         {build} build by {}.",
        kernel.trim(),
        rustc.trim()
    ))
}
