//! A cgroup file system that is read-only, incomplete or absent: nothing is limited, and the error names operation
//! and path. Each in a mount namespace of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use integration_tests::cgroup::{TestCgroup, cpu_quota_of, is_v2};
use integration_tests::command::{Output, run_in_mount_namespace};
use integration_tests::daemon::Turn;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;

/// A process in a cgroup of its own, and what is in that.
struct Held {
    places: Places,
    // Ends before its cgroup is removed.
    process: Workload,
    cgroup: TestCgroup,
    before: BTreeMap<PathBuf, String>,
}

impl Held {
    fn new(name: &str) -> Result<Self> {
        let (places, cgroup) = (Places::new()?, TestCgroup::new(name)?);
        let process = Workload::spawn_in(&Program::Wait.write(&places.bin(), "pt-bad-cgroup")?, &cgroup)?;
        let before = cgroup.limits()?;
        Ok(Self { places, process, cgroup, before })
    }

    /// Tries to limit the process after `script` has changed what there is of cgroups.
    fn throttle(&self, script: &str, limit: &[&str]) -> Result<Output> {
        let script = format!("{script}\n\"$@\"");
        // The agent comes after the script's own arguments, its own arguments after it.
        let limit = limit.join(" ");
        let script = format!("{script} throttle --pid {} {limit}", self.process.pid());
        run_in_mount_namespace(&self.places, &script, &[])
    }

    fn ensure_untouched(&self) -> Result<()> {
        ensure!(self.cgroup.limits()? == self.before, "a value was changed: {:?}", self.cgroup.limits()?);
        ensure!(cpu_quota_of(self.process.pid())?.is_none(), "the process is limited");
        Ok(())
    }
}

#[test]
fn a_read_only_file_system_is_named_and_nothing_is_done() -> Result<()> {
    const READ_ONLY: &str = r#"
        for at in $(findmnt -rno TARGET -t cgroup,cgroup2); do mount -o remount,bind,ro "$at"; done"#;
    let _turn = Turn::take()?;
    let held = Held::new("read-only")?;
    for limit in [&["--cpu", "30%"][..], &["--cpu", "30%", "--pids", "50", "--memory", "1G"]] {
        let output = held.throttle(READ_ONLY, limit)?.expect(1)?;
        ensure!(output.stderr.contains("Read-only file system"), "{output:?}");
        ensure!(output.stderr.contains("/sys/fs/cgroup/"), "no path: {output:?}");
        held.ensure_untouched()?;
    }
    Ok(())
}

#[test]
fn what_is_missing_is_named_and_nothing_is_done() -> Result<()> {
    let _turn = Turn::take()?;
    let held = Held::new("missing")?;
    let output = held.throttle("mount -t tmpfs pt-test-none /sys/fs/cgroup", &["--cpu", "30%"])?.expect(1)?;
    ensure!(output.stderr.contains("/sys/fs/cgroup"), "{output:?}");
    held.ensure_untouched()?;
    if !is_v2() {
        // The CPU controller is there; the other one's absence takes it back.
        let hidden = "mount -t tmpfs pt-test-none /sys/fs/cgroup/pids";
        let output = held.throttle(hidden, &["--cpu", "30%", "--pids", "50"])?.expect(1)?;
        ensure!(output.stderr.contains("pids"), "{output:?}");
        held.ensure_untouched()?;
    }
    Ok(())
}
