//! The agent's sudden death leaves nothing limited for good.

use anyhow::{Result, ensure};
use integration_tests::cgroup::{TestCgroup, agent_groups, cpu_quota_of};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::json;

/// Starts an agent that limits one process in place and one by moving, and kills it.
fn limited_and_orphaned(places: &Places, cgroup: &TestCgroup) -> Result<[Workload; 2]> {
    let program = Program::Spin.write(&places.bin(), "pt-orphan")?;
    let moved = Program::Spin.write(&places.bin(), "pt-orphan-moved")?;
    let daemon = Daemon::start(places)?;
    let profile = ProfileText::new("orphans")
        .rule("orphan", "pt-orphan", &json!({ "cpu": "30%", "nice": 5 }))
        .rule("orphan-moved", "pt-orphan-moved", &json!({ "cpu": "35%" }));
    daemon.activate(&profile)?;
    let hogs = [Workload::spawn_in(&program, cgroup)?, Workload::spawn(&moved)?];
    wait_until("both quotas are in force", SOON, || {
        Ok(cpu_quota_of(hogs[0].pid())? == Some(30.0) && cpu_quota_of(hogs[1].pid())? == Some(35.0))
    })?;
    daemon.kill()?;
    ensure!(cgroup.cpu_quota()? == Some(30.0), "a limit outlives the agent's sudden death");
    Ok(hogs)
}

#[test]
fn release_all_works_without_a_daemon() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("orphan-release")?);
    let (before, groups) = (cgroup.limits()?, agent_groups()?);
    let hogs = limited_and_orphaned(&places, &cgroup)?;

    run(&places, &["release", "--all", "--yes"])?.expect(0)?;

    ensure!(cgroup.limits()? == before, "limits after: {:?}, before: {before:?}", cgroup.limits()?);
    ensure!(integration_tests::kernel::stat(hogs[0].pid())?.nice == 0, "nice is not restored");
    ensure!(cpu_quota_of(hogs[1].pid())?.is_none(), "the moved process is still limited");
    ensure!(agent_groups()? == groups, "cgroups are left: {:?}", agent_groups()?);
    Ok(())
}

#[test]
fn a_restart_converges_and_a_stop_restores() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("orphan-restart")?);
    let (before, groups) = (cgroup.limits()?, agent_groups()?);
    let hogs = limited_and_orphaned(&places, &cgroup)?;

    let daemon = Daemon::start(&places)?;

    // Either it took over or it released: what it says and what the kernel has must agree.
    for (hog, group) in hogs.iter().zip(["orphan", "orphan-moved"]) {
        wait_until("the agent and the kernel agree", SOON, || {
            Ok(daemon.group(group)?.is_some() == cpu_quota_of(hog.pid())?.is_some())
        })?;
    }
    daemon.stop()?;
    ensure!(cgroup.limits()? == before, "limits after: {:?}, before: {before:?}", cgroup.limits()?);
    ensure!(agent_groups()? == groups, "cgroups are left: {:?}", agent_groups()?);
    Ok(())
}

#[test]
fn a_restart_after_the_processes_died_leaves_nothing() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("orphan-dead")?);
    let (before, groups) = (cgroup.limits()?, agent_groups()?);
    drop(limited_and_orphaned(&places, &cgroup)?);

    let daemon = Daemon::start(&places)?;

    wait_until("limits are restored", SOON, || Ok(cgroup.limits()? == before && agent_groups()? == groups))?;
    daemon.stop()
}

#[test]
fn limits_whose_records_a_disk_lost_are_found_by_their_marks() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("orphan-torn")?);
    let (before, groups) = (cgroup.limits()?, agent_groups()?);
    // At the stop everything moves into the database; all that comes later is in its log.
    Daemon::start(&places)?.stop()?;
    let hogs = limited_and_orphaned(&places, &cgroup)?;
    let log = places.state().join("state.db-wal");
    ensure!(std::fs::metadata(&log)?.len() > 0, "the log is empty");
    std::fs::write(&log, "")?;
    // Without a profile nothing is limited again.
    std::fs::remove_file(places.state().join("journal.db"))?;
    std::fs::remove_file(places.state().join("journal.db-wal"))?;

    let daemon = Daemon::start(&places)?;

    ensure!(cgroup.limits()? == before, "limits after: {:?}, before: {before:?}", cgroup.limits()?);
    ensure!(cpu_quota_of(hogs[1].pid())?.is_none(), "the moved process is still limited");
    ensure!(agent_groups()? == groups, "cgroups are left: {:?}", agent_groups()?);
    daemon.stop()
}
