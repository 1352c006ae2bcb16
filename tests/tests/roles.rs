//! Who may do what over the control socket: each role gets as far as it goes, and what it is denied is told.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::cpu_quota_of;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::{Output, run_as};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::workload::Workload;

/// A user and a group that own nothing here, as Debian calls them.
const NOBODY: u32 = 65_534;
const DENIED: i32 = 5;

fn configure(places: &Places, access: &str) -> Result<()> {
    places.write_config(&format!("socket_group: nogroup\naccess: {access}\n"))
}

/// A process of that user's.
fn of_nobody() -> Result<Workload> {
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--", "sleep", "120"];
    let workload = Workload::spawn_with(Path::new("setpriv"), &as_nobody)?;
    wait_until("it becomes the other user's", SOON, || Ok(kernel::comm(workload.pid())? == "sleep"))?;
    Ok(workload)
}

fn denied(output: Output, words: &str) -> Result<()> {
    let told =
        output.code == DENIED && output.stderr.contains(words) && output.stderr.contains("ask one of: root");
    ensure!(told, "{words:?} is not what it says: {output:?}");
    Ok(())
}

#[test]
fn a_viewer_sees_an_operator_acts_within_the_limits_and_others_are_kept_out() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    configure(&places, "{ members: none, grants: [ { role: viewer, users: [nobody] } ] }")?;
    places.write_profile("web", ProfileText::new("web").text().as_bytes())?;
    let daemon = Daemon::start(&places)?;
    let (own, other) = (of_nobody()?, Workload::spawn_with(Path::new("sleep"), &["120"])?);
    let (own_pid, other_pid) = (own.pid_text(), other.pid_text());
    let ask = |arguments: &[&str]| run_as(NOBODY, &places, arguments);
    let limit = |pid: &str| ask(&["throttle", "--pid", pid, "--cpu", "50%", "--group", "nobodys"]);

    ask(&["status"])?.expect(0)?;
    denied(limit(&own_pid)?, "needs the role operator or admin; uid 65534 has the role viewer")?;
    denied(ask(&["profile", "activate", "web"])?, "profile activate needs the role operator without limits")?;
    let event = daemon.wait_event("security_violation", |event| event["uid"] == NOBODY)?;
    ensure!(event["request"] == "throttle" && event["severity"] == "critical", "{event}");

    // What a reload grants holds from then on, and goes no further than its limits.
    configure(&places, "{ grants: [ { role: operator, users: [nobody], only: { users: [nobody] } } ] }")?;
    daemon.ask(&["daemon", "reload"])?;
    denied(limit(&other_pid)?, "operator limited to users nobody")?;
    ensure!(cpu_quota_of(other.pid())?.is_none(), "it was limited all the same");
    limit(&own_pid)?.expect(0)?;
    ensure!(cpu_quota_of(own.pid())?.is_some(), "it is not limited");
    daemon.ask(&["throttle", "--pid", &other_pid, "--cpu", "50%", "--group", "roots"])?;
    denied(ask(&["release", "--group", "roots"])?, "group roots: pid")?;
    denied(ask(&["release", "--all", "--yes"])?, "release --all needs the role operator without limits")?;
    denied(ask(&["emergency", "stop"])?, "emergency stop needs")?;
    denied(ask(&["daemon", "reload"])?, "daemon reload needs the role admin")?;
    ask(&["release", "--group", "nobodys"])?.expect(0)?;
    ensure!(
        daemon.group("roots")?.is_some() && daemon.group("nobodys")?.is_none(),
        "the wrong one was released"
    );

    configure(&places, "{ members: none }")?;
    daemon.ask(&["daemon", "reload"])?;
    denied(ask(&["status"])?, "it has no role")?;
    daemon.ask(&["release", "--all", "--yes"])?;
    daemon.stop()
}

#[test]
fn members_of_the_socket_s_group_operate_and_do_not_administer() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    places.write_config("socket_group: nogroup\n")?;
    places.write_profile("web", ProfileText::new("web").text().as_bytes())?;
    let daemon = Daemon::start(&places)?;
    run_as(NOBODY, &places, &["profile", "activate", "web"])?.expect(0)?;
    denied(run_as(NOBODY, &places, &["daemon", "reload"])?, "daemon reload needs the role admin")?;
    let status = daemon.data(&["daemon", "status"])?;
    ensure!(status["profile"].as_str().context("a profile")? == "web", "{status}");
    daemon.stop()
}
