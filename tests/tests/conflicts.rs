//! When somebody else changes a value that a limit set, it is told at once, and theirs stays or ours comes
//! back, as the rule says; of two rules on one process the better one applies, and `explain` says why.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::{Value, json};

/// A quota that no test rule asks for, as the file of this host takes it.
fn foreign(file: &Path) -> &'static str {
    if file.ends_with("cpu.max") { "77000 100000" } else { "77000" }
}

fn rule(on_conflict: &str) -> ProfileText {
    let rule = json!({
        "name": "disputed", "match": { "comm": "pt-disputed" }, "limits": { "cpu": "20%", "pids": 40 },
        "on_conflict": on_conflict,
    });
    ProfileText::new("disputes").rule_value(rule)
}

fn conflict<'a>(response: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |event| event["group"] == "disputed" && event["response"] == response
}

#[test]
fn somebody_elses_value_stays_and_is_told() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("yield")?);
    let before = cgroup.limits()?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&rule("yield"))?;
    let _hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "pt-disputed")?, &cgroup)?;
    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(20.0)))?;
    daemon.wait_event("throttle_applied", |event| event["group"] == "disputed")?;

    let file = cgroup.quota_file()?;
    fs::write(&file, foreign(&file))?;

    let event = daemon.wait_event("throttle_conflict", conflict("yielded"))?;
    ensure!(event["clash"]["found"] == foreign(&file), "{event}");
    ensure!(cgroup.cpu_quota()? == Some(77.0), "theirs stays");
    let group = daemon.group("disputed")?.context("the group is shown")?;
    ensure!(group["conflicts"][0]["found"] == foreign(&file), "{group}");
    daemon.ask(&["release", "--group", "disputed", "--yes"])?;
    let mut expected = before;
    expected.insert(file.clone(), foreign(&file).to_owned());
    wait_until("ours is restored, theirs left", SOON, || Ok(cgroup.limits()? == expected))?;
    daemon.stop()
}

#[test]
fn our_value_comes_back_a_few_times_and_then_yields() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("reassert")?);
    let daemon = Daemon::start(&places)?;
    daemon.activate(&rule("reassert"))?;
    let _hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "pt-disputed")?, &cgroup)?;
    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(20.0)))?;
    daemon.wait_event("throttle_applied", |event| event["group"] == "disputed")?;
    let file = cgroup.quota_file()?;

    for _ in 0..3 {
        fs::write(&file, foreign(&file))?;
        wait_until("the quota is back", SOON, || Ok(cgroup.cpu_quota()? == Some(20.0)))?;
        wait_until("the dispute is over", SOON, || {
            Ok(daemon.group("disputed")?.is_some_and(|group| group["conflicts"].is_null()))
        })?;
    }
    fs::write(&file, foreign(&file))?;

    daemon.wait_event("throttle_conflict", conflict("gave_up"))?;
    ensure!(
        daemon.events("throttle_conflict")?.iter().filter(|event| conflict("reasserted")(event)).count() == 3
    );
    ensure!(cgroup.cpu_quota()? == Some(77.0), "theirs stays in the end");
    daemon.activate(&rule("reassert"))?;
    wait_until("limits stated anew are written", SOON, || Ok(cgroup.cpu_quota()? == Some(20.0)))?;
    daemon.stop()
}

#[test]
fn of_two_rules_the_better_one_applies_and_explain_says_why() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("priority")?);
    let daemon = Daemon::start(&places)?;
    let rule = |name: &str, priority: i32, cpu: &str| {
        json!({
            "name": name, "match": { "comm": "pt-twice" }, "limits": { "cpu": cpu }, "priority": priority,
        })
    };
    let profile = ProfileText::new("twice")
        .rule_value(rule("last", 5, "10%"))
        .rule_value(rule("first", 1, "30%"))
        .rule_value(rule("second", 1, "40%"));
    daemon.activate(&profile)?;

    let hog = Workload::spawn_in(&Program::Spin.write(&places.bin(), "pt-twice")?, &cgroup)?;

    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(30.0)))?;
    let told = daemon.data(&["explain", &hog.pid().to_string()])?;
    let why = |name: &str| -> Result<String> {
        let rules = told["rules"].as_array().context("rules")?;
        let rule = rules.iter().find(|rule| rule["rule"] == name).context("the rule is told of")?;
        Ok(rule["why"].as_str().context("why")?.to_owned())
    };
    ensure!(!why("first")?.contains("instead"), "{}", why("first")?);
    ensure!(
        why("second")?.contains("rule first applies instead: it has the same priority"),
        "{}",
        why("second")?
    );
    ensure!(why("last")?.contains("its priority 1 comes before 5"), "{}", why("last")?);
    daemon.stop()
}
