//! `run`: a command is limited before its first instruction, and is itself otherwise: its pid, output, exit code
//! and end by a signal.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::{REAPED, agent_groups};
use integration_tests::clock::wait_until;
use integration_tests::command::{Output, run, run_as};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::write_executable;
use serde_json::{Value, json};

/// Prints its pid, the path of its cgroup with the CPU controller, and the quota there.
const TELL: &str = r#"
echo $$
while IFS=: read -r id controllers path; do
    case ",$controllers," in
    *,cpu,*) file=/sys/fs/cgroup/cpu$path/cpu.cfs_quota_us ;;
    ,,) file=/sys/fs/cgroup$path/cpu.max ;;
    *) continue ;;
    esac
    if [ -e "$file" ]; then
        echo "$path"
        cat "$file"
    fi
done </proc/$$/cgroup
"#;

/// What [`TELL`] prints: pid, cgroup, quota.
fn told(output: &Output) -> Result<[String; 3]> {
    let lines: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
    lines.try_into().map_err(|lines| anyhow::anyhow!("{lines:?}\n{}", output.stderr))
}

/// `run` with these options and this command.
fn start(places: &Places, options: &[&str], command: &[&str]) -> Result<Output> {
    run(places, &[&["run"], options, &["--"], command].concat())
}

fn gone(groups: &[std::path::PathBuf]) -> Result<()> {
    wait_until("the group is gone", REAPED, || Ok(agent_groups()? == groups))
}

#[test]
fn a_command_is_limited_from_its_first_instruction_on() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, groups) = (Places::new()?, agent_groups()?);
    let daemon = Daemon::start(&places)?;

    let output = start(&places, &["--cpu", "30%", "--nice", "7"], &["sh", "-c", TELL])?.expect(0)?;

    let [pid, cgroup, quota] = told(&output)?;
    ensure!(cgroup.ends_with(&format!("/process-throttler/run-{pid}")), "{cgroup} of {pid}");
    ensure!(quota.starts_with("30000"), "{quota}");
    ensure!(output.stderr.is_empty(), "{}", output.stderr);
    gone(&groups)?;
    wait_until("nothing is limited", REAPED, || {
        Ok(daemon.data(&["status"])?.as_array().is_some_and(Vec::is_empty))
    })?;
    let nice =
        start(&places, &["--nice", "7"], &["sh", "-c", "cut -d ' ' -f 19 /proc/$$/stat"])?.expect(0)?;
    ensure!(nice.stdout.trim() == "7", "{}", nice.stdout);
    daemon.stop()
}

#[test]
fn the_end_is_the_commands_own() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, groups) = (Places::new()?, agent_groups()?);
    let daemon = Daemon::start(&places)?;
    let limit = ["--cpu", "50%"];

    start(&places, &limit, &["sh", "-c", "exit 7"])?.expect(7)?;
    start(&places, &limit, &["sh", "-c", "kill -TERM $$"])?.expect(128 + 15)?;
    let grouped = start(&places, &["--cpu", "50%", "--group", "pt-job"], &["sh", "-c", TELL])?.expect(0)?;
    ensure!(told(&grouped)?[1].ends_with("/process-throttler/pt-job"));

    gone(&groups)?;
    daemon.stop()
}

#[test]
fn what_cannot_be_started_leaves_nothing_limited() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, groups) = (Places::new()?, agent_groups()?);
    let limit = ["--cpu", "50%"];
    let plain = places.bin().join("pt-plain");
    fs::write(&plain, "text")?;
    let orphan = write_executable(&places.bin(), "pt-no-interpreter", b"#!/no/such/interpreter\n")?;
    let (plain, orphan) = (plain.to_string_lossy(), orphan.to_string_lossy());
    let checks = || -> Result<()> {
        let missing = start(&places, &limit, &["pt-no-such-command"])?.expect(127)?;
        ensure!(missing.stderr.contains("pt-no-such-command is not found"), "{}", missing.stderr);
        start(&places, &limit, &[&plain])?.expect(126)?;
        start(&places, &limit, &["/tmp"])?.expect(126)?;
        // Found out when it is too late to look for it: limited already, and released again.
        start(&places, &limit, &[&orphan])?.expect(127)?;
        start(&places, &[], &["true"])?.expect(2)?;
        ensure!(agent_groups()? == groups, "{:?}", agent_groups()?);
        Ok(())
    };

    checks()?;
    let daemon = Daemon::start(&places)?;
    checks()?;
    let denied = {
        let line = ["run", "--cpu", "50%", "--", "sh", "-c", "echo started"];
        run_as(65_534, &places, &line)?.expect(5)?
    };
    ensure!(denied.stdout.is_empty(), "it was started all the same");
    daemon.stop()
}

#[test]
fn without_a_daemon_it_works_and_a_later_daemon_cleans_up() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, groups) = (Places::new()?, agent_groups()?);

    let output = start(&places, &["--cpu", "30%"], &["sh", "-c", TELL])?.expect(0)?;

    let [pid, cgroup, quota] = told(&output)?;
    ensure!(cgroup.ends_with(&format!("/process-throttler/run-{pid}")), "{cgroup} of {pid}");
    ensure!(quota.starts_with("30000"), "{quota}");
    let daemon = Daemon::start(&places)?;
    ensure!(agent_groups()? == groups && daemon.group(&format!("run-{pid}"))?.is_none());
    daemon.stop()
}

#[test]
fn a_rule_of_a_profile_gives_the_limits() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let shell = ProfileText::new("several").rule("other", "pt-other", &json!({ "cpu": "20%" })).rule(
        "shell",
        "sh",
        &json!({ "cpu": "40%", "pids": 50 }),
    );
    let one = ProfileText::new("one").rule("other", "pt-other", &json!({ "cpu": "20%" }));
    for profile in [&shell, &one] {
        places.write_profile(profile.name(), profile.text().as_bytes())?;
    }
    let quota = |options: &[&str]| -> Result<String> {
        let output = start(&places, options, &["sh", "-c", TELL])?.expect(0)?;
        let [_, _, quota] = told(&output)?;
        Ok(quota.split(' ').next().context("a quota")?.to_owned())
    };

    ensure!(quota(&["--profile", "several"])? == "40000", "the rule that matches");
    ensure!(quota(&["--profile", "several", "--rule", "other"])? == "20000", "the rule that is named");
    ensure!(quota(&["--profile", "one"])? == "20000", "the only rule");
    ensure!(quota(&["--profile", "several", "--cpu", "60%"])? == "60000", "what is stated comes first");

    let none = start(&places, &["--profile", "several"], &["true"])?.expect(2)?;
    ensure!(none.stderr.contains("other, shell"), "the rules are not listed: {}", none.stderr);
    let wrong = start(&places, &["--profile", "several", "--rule", "nope"], &["true"])?.expect(4)?;
    ensure!(wrong.stderr.contains("other, shell"), "the rules are not listed: {}", wrong.stderr);
    start(&places, &["--profile", "nope"], &["true"])?.expect(4)?;
    start(&places, &["--rule", "other"], &["true"])?.expect(2)?;
    daemon.stop()
}

#[test]
fn a_dry_run_starts_nothing() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, groups) = (Places::new()?, agent_groups()?);
    let check = || -> Result<()> {
        let line = ["run", "--cpu", "30%", "--dry-run", "-o", "json", "--", "sh", "-c", "echo started"];
        let told: Value = run(&places, &line)?.expect(0)?.json()?;
        ensure!(told["data"]["dry_run"] == true && told["data"]["limits"]["cpu"] == "30%", "{told}");
        ensure!(agent_groups()? == groups);
        Ok(())
    };
    check()?;
    let daemon = Daemon::start(&places)?;
    check()?;
    daemon.stop()
}
