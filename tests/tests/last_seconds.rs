//! What is told of the last seconds before a death: whether the critical process waited for a CPU, who had it, and
//! whether a quota held it back.

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel::waited_nanos;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::{Value, json};

const DOWN: &str = "critical_process_down";
const SECOND: u64 = 1_000_000_000;

/// Waits until it has waited for so much longer.
fn wait_for_more(process: &Workload, nanos: u64) -> Result<()> {
    let before = waited_nanos(process.pid())?;
    wait_until("it has waited for a CPU", SOON, || Ok(waited_nanos(process.pid())? >= before + nanos))
}

/// Kills it and returns what is told of its last seconds, by program and by text.
fn last_seconds(daemon: &Daemon<'_>, victim: &mut Workload) -> Result<(Value, String)> {
    victim.kill()?;
    let event = daemon.wait_event(DOWN, |event| event["exit"]["process"]["key"]["pid"] == victim.pid())?;
    let last = event["circumstances"]["last_seconds"].clone();
    ensure!(last["window_ms"].as_u64().is_some_and(|ms| (100..=15_000).contains(&ms)), "{event}");
    let shown = daemon.data(&["critical", "show", "vital"])?;
    ensure!(shown["last_death"]["circumstances"]["last_seconds"] == last, "{shown}");
    Ok((last, daemon.ask(&["events", "--kind", DOWN])?.stdout))
}

/// A share, in hundredths of a percent.
fn share(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is a share"))
}

#[test]
fn one_that_waits_for_a_cpu_is_told_with_who_had_it() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let (vital, hog) =
        (Program::Spin.write(&places.bin(), "pt-vital")?, Program::Spin.write(&places.bin(), "pt-hog")?);
    let cgroup = TestCgroup::new("hog")?;
    let daemon = Daemon::start(&places)?;
    // Before the first look, so that all of the window is shared.
    let hog = Workload::spawn_in(&hog, &cgroup)?;
    hog.pin()?;
    let mut victim = Workload::spawn(&vital)?;
    victim.pin()?;
    daemon.activate(&ProfileText::new("vital").critical("vital", &vital))?;
    crate::critical_alert::wait_known_critical(&daemon, &victim)?;
    wait_for_more(&victim, SECOND * 6 / 10)?;

    let (last, text) = last_seconds(&daemon, &mut victim)?;

    ensure!(share(&last["waited"]["waited"])? >= 1_000, "{last}");
    ensure!(last["waited"]["threads"] == 1 && last["waited"]["ended_ms"] == 0, "{last}");
    ensure!(last["held"]["share"] == 0, "no quota held it back: {last}");
    let path = format!("/{}", cgroup.name());
    let users = last["users"].as_array().context("somebody used the CPUs")?;
    let culprit = users.iter().find(|user| user["cgroup"] == path).with_context(|| format!("{last}"))?;
    ensure!(share(&culprit["share"])? >= 100 && culprit["own"].is_null(), "{last}");
    let shares: Vec<u64> = users.iter().map(|user| share(&user["share"])).collect::<Result<_>>()?;
    ensure!(shares.is_sorted_by(|a, b| a >= b) && shares.iter().sum::<u64>() <= 10_100, "{last}");
    ensure!(text.contains(" for a CPU, held back 0 %") && text.contains(&format!("{path} ")), "{text}");
    daemon.stop()
}

#[test]
fn one_that_our_own_quota_holds_back_is_told_apart() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let vital = Program::Spin.write(&places.bin(), "pt-held")?;
    let daemon = Daemon::start(&places)?;
    // A name alone earns no protection from limits.
    let profile = ProfileText::new("vital").critical_matching("vital", &json!({ "comm": "pt-held" })).rule(
        "held",
        "pt-held",
        &json!({ "cpu": "20%" }),
    );
    daemon.activate(&profile)?;
    let mut victim = Workload::spawn(&vital)?;
    wait_until("it is limited", SOON, || {
        Ok(daemon
            .group("held")?
            .is_some_and(|group| group["how"].as_str().is_some_and(|how| !how.is_empty())))
    })?;
    // The agent looks again within a second of the limit.
    wait_for_more(&victim, SECOND * 17 / 10)?;

    let (last, text) = last_seconds(&daemon, &mut victim)?;

    let held = &last["held"];
    ensure!(held["group"] == "held" && share(&held["share"])? >= 1_000, "{last}");
    ensure!(held["quota"]["throttled"].as_u64() > Some(0), "{last}");
    ensure!(share(&last["waited"]["waited"])? * 11 >= share(&held["share"])? * 10, "{last}");
    ensure!(text.contains("(group held) in "), "{text}");
    daemon.stop()
}
