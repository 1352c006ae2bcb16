//! Limits on whole units: set by systemd, kept by systemd, and gone as if they had never been.

use std::fs;

use anyhow::{Result, bail, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::Turn;
use integration_tests::places::Places;
use integration_tests::systemd::{TestUnit, property, require_systemd, systemctl};

const LONELY: &str = "exec sleep 1000";
const SHARED: &str = "sleep 1001 & sleep 1002 & wait";
const LIMITS: [&str; 12] = [
    "--cpu",
    "20%",
    "--cpu-weight",
    "50",
    "--memory",
    "64M",
    "--memory-high",
    "32M",
    "--pids",
    "40",
    "--io-weight",
    "30",
];

#[test]
fn a_whole_unit_is_limited_and_restored_exactly() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("lonely", LONELY, &[])?;
    let pid = unit.pids("sleep", 1)?[0].to_string();
    let before = unit.capture()?;

    let throttle = [&["throttle", "--pid", &pid, "--group", "g"][..], &LIMITS].concat();
    let told = run(&places, &throttle)?.expect(0)?.stdout;
    ensure!(
        told.contains("on unit pt-test-lonely.service: all of its processes belong to the group"),
        "{told}"
    );
    let limited = unit.capture()?;
    for (file, value) in [
        ("cpu.max", "20000 100000\n"),
        ("cpu.weight", "50\n"),
        ("memory.max", "67108864\n"),
        ("memory.high", "33554432\n"),
        ("pids.max", "40\n"),
    ] {
        ensure!(limited[file] == value, "{file}: {:?}", limited[file]);
    }

    systemctl(&["daemon-reload"])?;
    systemctl(&["set-property", "--runtime", unit.id(), "IPAccounting=yes"])?;
    ensure!(unit.capture()?["cpu.max"] == "20000 100000\n", "the quota did not survive");
    systemctl(&["set-property", "--runtime", unit.id(), "IPAccounting=no"])?;
    fs::remove_file(format!("/run/systemd/system.control/{}.d/50-IPAccounting.conf", unit.id()))?;

    run(&places, &["release", "--group", "g"])?.expect(0)?;
    ensure!(unit.capture()? == before, "after: {:#?}\nbefore: {before:#?}", unit.capture()?);
    systemctl(&["daemon-reload"])?;
    ensure!(unit.capture()? == before, "after a reload: {:#?}\nbefore: {before:#?}", unit.capture()?);
    ensure!(property(unit.id(), "NeedDaemonReload")? == "no", "a reload leaves nothing to be read");
    Ok(())
}

#[test]
fn limits_on_devices_come_and_go() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("devices", LONELY, &[])?;
    let pid = unit.pids("sleep", 1)?[0].to_string();
    let before = unit.capture()?;
    let throttle = ["throttle", "--pid", &pid, "--group", "g", "--io-read", "10M", "--io-write", "5M"];

    run(&places, &throttle)?.expect(0)?;
    let limited = unit.capture()?;
    let line = format!("{} rbps=10485760 wbps=5242880 riops=max wiops=max", block_device()?);
    ensure!(limited["io.max"].lines().any(|one| one == line), "no {line:?}: {:?}", limited["io.max"]);

    run(&places, &["release", "--group", "g"])?.expect(0)?;
    let mut after = unit.capture()?;
    ensure!(after["io.max"].trim().is_empty(), "{:?}", after["io.max"]);
    // systemd remembers devices without a limit until it reads the unit again, and keeps the controller for them.
    for file in ["io.max", "io.weight"] {
        after.insert(file.to_owned(), before[file].clone());
    }
    ensure!(after == before, "after: {after:#?}\nbefore: {before:#?}");
    systemctl(&["daemon-reload"])?;
    wait_until("systemd takes the controller back", SOON, || Ok(unit.capture()? == before))
}

/// `MAJ:MIN` of a block device with a medium, which the virtual machine has.
fn block_device() -> Result<String> {
    for device in fs::read_dir("/sys/block")? {
        let dir = device?.path();
        if fs::read_to_string(dir.join("size"))?.trim() != "0" {
            return Ok(fs::read_to_string(dir.join("dev"))?.trim().to_owned());
        }
    }
    bail!("there is no block device")
}

#[test]
fn what_an_administrator_had_set_is_what_comes_back() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit =
        TestUnit::service("set", LONELY, &["CPUQuota=50%", "CPUQuotaPeriodSec=10ms", "MemoryMax=200M"])?;
    systemctl(&["set-property", "--runtime", unit.id(), "TasksMax=77", "CPUWeight=333"])?;
    let pid = unit.pids("sleep", 1)?[0].to_string();
    let before = unit.capture()?;
    ensure!(before["cpu.max"] == "5000 10000\n", "{before:?}");

    let throttle = [&["throttle", "--pid", &pid, "--group", "g"][..], &LIMITS].concat();
    run(&places, &throttle)?.expect(0)?;
    ensure!(unit.capture()?["cpu.max"] == "2000 10000\n", "{:?}", unit.capture()?);
    // Other limits for the same group: what is no longer asked for is as before.
    run(&places, &["throttle", "--pid", &pid, "--group", "g", "--cpu", "10%"])?.expect(0)?;
    let limited = unit.capture()?;
    ensure!(
        limited["cpu.max"] == "1000 10000\n" && limited["cpu.weight"] == before["cpu.weight"],
        "{limited:?}"
    );
    ensure!(limited["pids.max"] == "77\n", "{limited:?}");

    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    ensure!(unit.capture()? == before, "after: {:#?}\nbefore: {before:#?}", unit.capture()?);
    Ok(())
}

#[test]
fn what_somebody_else_set_meanwhile_is_left() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("drift", LONELY, &[])?;
    let pid = unit.pids("sleep", 1)?[0].to_string();
    run(&places, &["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%", "--pids", "30"])?.expect(0)?;
    systemctl(&["set-property", "--runtime", unit.id(), "CPUQuota=70%"])?;
    run(&places, &["release", "--group", "g"])?.expect(0)?;
    let after = unit.capture()?;
    ensure!(after["cpu.max"] == "70000 100000\n", "{after:?}");
    ensure!(after.keys().any(|key| key.ends_with("50-CPUQuota.conf")), "{after:?}");
    ensure!(!after.keys().any(|key| key.ends_with("50-TasksMax.conf")), "{after:?}");
    Ok(())
}

#[test]
fn a_shared_unit_is_limited_only_when_that_is_wanted() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("shared", SHARED, &[])?;
    let pid = unit.pids("sleep 1001", 2)?.into_iter().min().unwrap_or(0).to_string();
    unit.pids("sleep", 3)?;
    let before = unit.capture()?;

    let refused =
        run(&places, &["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%"])?.expect(5)?.stderr;
    ensure!(
        refused.contains("shares pt-test-shared.service with 2 others (")
            && refused.contains(" sleep): use --whole-unit or --allow-move"),
        "{refused}"
    );
    ensure!(unit.capture()? == before, "a refusal changed something");

    let whole = ["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%", "--whole-unit"];
    let would = run(&places, &[&whole[..], &["--dry-run"]].concat())?.expect(0)?.stdout;
    ensure!(would.contains("on unit pt-test-shared.service: with all of it, also 2 others ("), "{would}");
    ensure!(unit.capture()? == before, "a dry run changed something");
    run(&places, &whole)?.expect(0)?;
    ensure!(unit.capture()?["cpu.max"] == "20000 100000\n", "{:?}", unit.capture()?);
    run(&places, &["release", "--group", "g"])?.expect(0)?;
    ensure!(unit.capture()? == before, "after: {:#?}\nbefore: {before:#?}", unit.capture()?);
    Ok(())
}

#[test]
fn a_unit_that_was_stopped_meanwhile_starts_without_limits() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let unit = TestUnit::service("stopped", LONELY, &[])?;
    let before = unit.capture()?;
    let pid = unit.pids("sleep", 1)?[0].to_string();
    run(&places, &["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%"])?.expect(0)?;
    systemctl(&["stop", unit.id()])?;
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    systemctl(&["start", unit.id()])?;
    let mut after = unit.capture()?;
    after.insert("MainPID".to_owned(), before["MainPID"].clone());
    ensure!(after == before, "after: {after:#?}\nbefore: {before:#?}");
    Ok(())
}

#[test]
fn processes_below_a_delegated_unit_are_limited_in_place() -> Result<()> {
    require_systemd()?;
    let (_turn, places) = (Turn::take()?, Places::new()?);
    let script = "mkdir /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/job /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/rest; \
                  cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); sleep 1001 & echo $! > job/cgroup.procs; \
                  echo $$ > rest/cgroup.procs; echo +cpu > cgroup.subtree_control; sleep 1002; wait";
    let unit = TestUnit::service("delegated", &script.replace('$', "$$"), &["Delegate=yes"])?;
    let job = unit.cgroup()?.join("job");
    wait_until("the job has a quota file", SOON, || {
        Ok(job.join("cpu.max").exists() && unit.pids("sleep 1002", 2).is_ok())
    })?;
    let pid = fs::read_to_string(job.join("cgroup.procs"))?.trim().to_owned();
    let told = run(&places, &["throttle", "--pid", &pid, "--group", "g", "--cpu", "20%"])?.expect(0)?.stdout;
    ensure!(told.contains(" in place"), "{told}");
    ensure!(fs::read_to_string(job.join("cpu.max"))? == "20000 100000\n");
    run(&places, &["release", "--group", "g"])?.expect(0)?;
    ensure!(fs::read_to_string(job.join("cpu.max"))? == "max 100000\n");
    Ok(())
}
