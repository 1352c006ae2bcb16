//! Without BPF the agent does the same on a lesser source, and says so.

use anyhow::{Result, ensure};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;

use crate::{critical_alert, exec_to_throttle};

const NETLINK: &str = "source: netlink\n";
const POLL: &str = "source: poll\n";

fn reported_as_degraded(config: &str, name: &str) -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    places.write_config(config)?;
    let daemon = Daemon::start(&places)?;
    let source = daemon.data(&["daemon", "status"])?["source"].clone();
    ensure!(source["name"] == name, "{source}");
    ensure!(source["degraded"].as_array().is_some_and(|why| !why.is_empty()), "no reason is given: {source}");
    daemon.stop()
}

#[test]
fn ebpf_is_used_where_it_can_be_and_is_not_degraded() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let source = daemon.data(&["daemon", "status"])?["source"].clone();
    ensure!(source["name"] == "ebpf", "{source}");
    ensure!(source["degraded"].as_array().is_some_and(Vec::is_empty), "{source}");
    daemon.stop()
}

/// Without these capabilities no BPF program can be loaded (capabilities(7)).
const NO_BPF: [&str; 4] = ["setpriv", "--bounding-set", "-bpf,-perfmon,-sys_admin", "--"];
/// The proc connector exists in the initial network namespace only.
const NO_CONNECTOR: [&str; 3] = ["unshare", "--net", "--"];

fn falls_back(prefix: &[&str], name: &str, reasons: usize) -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start_under(&places, prefix)?;
    let source = daemon.data(&["daemon", "status"])?["source"].clone();
    ensure!(source["name"] == name, "{source}");
    ensure!(source["degraded"].as_array().is_some_and(|why| why.len() == reasons), "{source}");
    daemon.stop()
}

#[test]
fn without_bpf_it_falls_back_to_netlink_and_says_why() -> Result<()> {
    falls_back(&NO_BPF, "netlink", 1)
}

#[test]
fn without_the_connector_too_it_falls_back_to_polling_and_says_why() -> Result<()> {
    falls_back(&[&NO_CONNECTOR[..], &NO_BPF].concat(), "poll", 2)
}

#[test]
fn netlink_is_reported_as_degraded() -> Result<()> {
    reported_as_degraded(NETLINK, "netlink")
}

#[test]
fn poll_is_reported_as_degraded() -> Result<()> {
    reported_as_degraded(POLL, "poll")
}

#[test]
fn netlink_limits_a_started_process() -> Result<()> {
    exec_to_throttle::started_process_is_limited_in_place(NETLINK)
}

#[test]
fn poll_limits_a_started_process() -> Result<()> {
    exec_to_throttle::started_process_is_limited_in_place(POLL)
}

#[test]
fn netlink_tells_deaths_with_their_cause() -> Result<()> {
    critical_alert::deaths_are_told(NETLINK, true)
}

#[test]
fn poll_tells_deaths_without_a_cause() -> Result<()> {
    critical_alert::deaths_are_told(POLL, false)
}
