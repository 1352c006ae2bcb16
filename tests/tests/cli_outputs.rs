//! Every read command has every output form, and the machine-readable ones parse.

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::json;

#[test]
fn every_read_command_has_every_form() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("outputs")?);
    let program = Program::Wait.write(&places.bin(), "pt-outputs")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("forms").rule("forms", "pt-outputs", &json!({ "cpu": "50%" })))?;
    let process = Workload::spawn_in(&program, &cgroup)?;
    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(50.0)))?;
    let pid = process.pid_text();
    let commands: [&[&str]; 12] = [
        &["daemon", "status"],
        &["status"],
        &["list", "--limit", "5"],
        &["discover", "pt-outputs"],
        &["explain", &pid],
        &["events"],
        &["profile", "list"],
        &["profile", "show", "forms"],
        &["profile", "plan", "forms"],
        &["profile", "history"],
        &["profile", "diff", "forms", "forms"],
        &["version"],
    ];
    for command in commands {
        for form in ["table", "wide", "json", "yaml", "jsonl"] {
            let output = run(&places, &[command, &["-o", form]].concat())?.expect(0)?;
            ensure!(!output.stdout.trim().is_empty(), "{} printed nothing", output.line);
            match form {
                "json" => drop(versioned(&output.json()?).with_context(|| output.line.clone())?),
                "jsonl" => ensure!(!output.json_lines()?.is_empty(), "{}", output.line),
                _ => ensure!(!output.stdout.contains('\u{1b}'), "{} is coloured off a terminal", output.line),
            }
        }
        let json = run(&places, &[command, &["--json"]].concat())?.expect(0)?.json()?;
        drop(versioned(&json)?);
    }
    daemon.stop()
}

fn versioned(reply: &serde_json::Value) -> Result<String> {
    let version = reply["apiVersion"].as_str().with_context(|| format!("no apiVersion: {reply}"))?;
    ensure!(!reply["kind"].is_null() && !reply["data"].is_null(), "no kind or data: {reply}");
    Ok(version.to_owned())
}

#[test]
fn discover_finds_by_every_field_but_never_itself() -> Result<()> {
    let places = Places::new()?;
    let program = Program::Wait.write(&places.bin(), "pt-findme")?;
    let process = Workload::spawn(&program)?;
    let pid = process.pid_text();
    let exe = program.to_str().context("the path is UTF-8")?;
    for (field, pattern) in [("name", "pt-findme"), ("cmdline", "pt-findme"), ("exe", exe), ("pid", &pid)] {
        let reply =
            run(&places, &["discover", pattern, "--match", field, "-o", "json"])?.expect(0)?.json()?;
        let found = reply["data"].as_array().context("a list")?;
        ensure!(found.len() == 1 && found[0]["pid"] == process.pid(), "{field}: {reply}");
    }
    let other = Workload::spawn(&Program::Wait.write(&places.bin(), "pt-process-throttler")?)?;
    let own = run(&places, &["discover", "process-throttler", "--match", "cmdline", "-o", "json"])?
        .expect(0)?
        .json()?;
    let found = own["data"].as_array().context("a list")?;
    let is_discover = |process: &&serde_json::Value| {
        process["cmdline"].as_str().is_some_and(|line| line.contains("discover"))
    };
    ensure!(found.iter().any(|process| process["pid"] == other.pid()), "{own}");
    ensure!(!found.iter().any(|process| is_discover(&process)), "it found itself: {own}");
    Ok(())
}

#[test]
fn completions_are_generated_for_every_shell() -> Result<()> {
    let places = Places::new()?;
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&places, &["completions", shell])?.expect(0)?;
        ensure!(output.stdout.contains("process-throttler") && output.stdout.contains("throttle"), "{shell}");
    }
    Ok(())
}
