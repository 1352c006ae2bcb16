//! A process that matches a rule is limited, whether it was there before the rule or is started later, and
//! gets back exactly what it had.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::{REAPED, TestCgroup, agent_groups, cpu_quota_of};
use integration_tests::clock::{SOON, repetitions, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::storm::Storm;
use integration_tests::workload::Workload;
use serde_json::json;

/// Long enough for ten periods of the CPU quota.
const SAMPLE: Duration = Duration::from_secs(1);

/// Started in its own cgroup under an active rule: limited there, in place, and restored on stop.
/// `config` chooses the event source.
pub(crate) fn started_process_is_limited_in_place(config: &str) -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("in-place")?);
    places.write_config(config)?;
    let hog = Program::Spin.write(&places.bin(), "pt-hog-a")?;
    let before = cgroup.limits()?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("hogs").rule("hog-a", "pt-hog-a", &json!({ "cpu": "20%" })))?;

    let hog = Workload::spawn_in(&hog, &cgroup)?;

    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(20.0)))?;
    let share = hog.cpu_share(SAMPLE)?;
    ensure!(share < 26.0, "a hog limited to 20 % uses {share:.1} % of a CPU");
    let applied = daemon.wait_event("throttle_applied", |event| event["group"] == "hog-a")?;
    ensure!(applied["how"] == "in place", "{applied}");
    let group = daemon.group("hog-a")?.context("the group is shown")?;
    ensure!(group["members"][0]["key"]["pid"] == hog.pid(), "{group}");
    daemon.stop()?;
    ensure!(cgroup.limits()? == before, "limits after: {:?}, before: {before:?}", cgroup.limits()?);
    Ok(())
}

#[test]
fn a_started_process_is_limited_in_place() -> Result<()> {
    started_process_is_limited_in_place("")
}

#[test]
fn a_running_process_is_limited_by_moving_and_moved_back() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let hog = Workload::spawn(&Program::Spin.write(&places.bin(), "pt-hog-b")?)?;
    let home = format!("/proc/{}/cgroup", hog.pid());
    let before = fs::read_to_string(&home)?;
    let daemon = Daemon::start(&places)?;

    daemon.activate(&ProfileText::new("hogs").rule("hog-b", "pt-hog-b", &json!({ "cpu": "30%" })))?;

    wait_until("the quota is in force", SOON, || Ok(cpu_quota_of(hog.pid())? == Some(30.0)))?;
    let share = hog.cpu_share(SAMPLE)?;
    ensure!(share < 38.0, "a hog limited to 30 % uses {share:.1} % of a CPU");
    daemon.ask(&["profile", "deactivate", "--yes"])?;
    wait_until("the process is back", SOON, || Ok(fs::read_to_string(&home)? == before))?;
    daemon.stop()
}

/// Lives so short that many end while they are moved.
#[test]
fn short_lives_leave_no_group_behind() -> Result<()> {
    let lives = repetitions(3_000);
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let life = Program::Exit(0).write(&places.bin(), "pt-brief")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("brief").rule("brief", "pt-brief", &json!({ "cpu": "50%" })))?;

    let account = Storm::of_lives(&life, lives)?.finish()?;

    ensure!(account.lives >= lives, "{account:?}");
    wait_until("no group is left", REAPED, || Ok(agent_groups()?.is_empty()))?;
    daemon.stop()
}

#[test]
fn every_limit_of_a_rule_is_in_force_and_restored() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("limits")?);
    let program = Program::Wait.write(&places.bin(), "pt-many-limits")?;
    let before = cgroup.limits()?;
    let limits = json!({
        "cpu": "40%", "cpu_weight": 50, "memory_max": "64M", "memory_high": "32M", "pids": 20, "nice": 7,
    });
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("many").rule("many-limits", "pt-many-limits", &limits))?;

    let process = Workload::spawn_in(&program, &cgroup)?;

    daemon.wait_event("throttle_applied", |event| event["group"] == "many-limits")?;
    let changed = cgroup.limits()?;
    let differs = |file: &str| {
        let mut values = before.iter().filter(|(path, _)| path.ends_with(file));
        values.any(|(path, value)| changed.get(path) != Some(value))
    };
    let either = |v1: &str, v2: &str| differs(v1) || differs(v2);
    ensure!(either("cpu.cfs_quota_us", "cpu.max"), "CPU quota: {changed:?}");
    ensure!(either("cpu.shares", "cpu.weight"), "CPU weight: {changed:?}");
    ensure!(either("memory.limit_in_bytes", "memory.max"), "memory maximum: {changed:?}");
    ensure!(either("memory.soft_limit_in_bytes", "memory.high"), "memory soft limit: {changed:?}");
    ensure!(differs("pids.max"), "pids: {changed:?}");
    let nice = || kernel::stat(process.pid()).map(|stat| stat.nice);
    ensure!(nice()? == 7, "nice is {}", nice()?);
    daemon.ask(&["release", "--group", "many-limits", "--yes"])?;
    wait_until("everything is restored", SOON, || Ok(cgroup.limits()? == before && nice()? == 0))?;
    daemon.stop()
}

#[test]
fn throttle_by_hand_is_explained_and_released() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("by-hand")?);
    let hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "pt-hog-c")?, &cgroup)?;
    let (before, pid) = (cgroup.limits()?, hog.pid_text());
    let daemon = Daemon::start(&places)?;

    daemon.ask(&["throttle", "--pid", &pid, "--cpu", "25%", "--group", "by-hand"])?;

    ensure!(cpu_quota_of(hog.pid())? == Some(25.0), "quota {:?}", cpu_quota_of(hog.pid())?);
    let explained = daemon.data(&["explain", &pid])?;
    ensure!(explained["group"]["group"] == "by-hand", "{explained}");
    ensure!(explained["group"]["reason"]["cause"] == "operator", "{explained}");
    daemon.ask(&["release", "--pid", &pid, "--yes"])?;
    ensure!(cpu_quota_of(hog.pid())?.is_none(), "still limited after release");
    wait_until("limits are restored", SOON, || Ok(cgroup.limits()? == before))?;
    daemon.stop()
}

#[test]
fn a_group_is_removed_when_its_last_process_ends() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let program = Program::Spin.write(&places.bin(), "pt-hog-d")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("hogs").rule("hog-d", "pt-hog-d", &json!({ "cpu": "50%" })))?;
    let mut hog = Workload::spawn(&program)?;
    wait_until("the quota is in force", SOON, || Ok(cpu_quota_of(hog.pid())? == Some(50.0)))?;

    hog.kill()?;

    wait_until("the group is gone", REAPED, || {
        let groups = agent_groups()?;
        Ok(!groups.iter().any(|group| group.ends_with("hog-d")) && daemon.group("hog-d")?.is_none())
    })?;
    daemon.stop()
}

#[test]
fn scope_process_gives_each_its_own_limit() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let program = Program::Spin.write(&places.bin(), "pt-hog-e")?;
    let matches = json!({ "comm": "pt-hog-e" });
    let profile =
        ProfileText::new("hogs").rule_matching("hog-e", &matches, &json!({ "cpu": "20%" }), "process");
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile)?;

    let hogs = [Workload::spawn(&program)?, Workload::spawn(&program)?];

    for hog in &hogs {
        wait_until("the quota is in force", SOON, || Ok(cpu_quota_of(hog.pid())? == Some(20.0)))?;
    }
    let cgroups = hogs.iter().map(|hog| fs::read_to_string(format!("/proc/{}/cgroup", hog.pid())));
    let cgroups = cgroups.collect::<Result<Vec<_>, _>>()?;
    ensure!(cgroups[0] != cgroups[1], "both are in {}", cgroups[0]);
    daemon.stop()
}
