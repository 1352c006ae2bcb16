//! Every read command has every output form, and the machine-readable ones parse.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::{agent_command, run, run_command};
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
        ensure!(output.stdout.contains("PROCESS_THROTTLER_COMPLETE"), "{shell}: {}", output.stdout);
        // Called by name at the end, when it was loaded for a completion.
        let own = output.stdout.contains("function _clap_dynamic_completer_process_throttler()");
        ensure!(own == (shell == "zsh"), "{shell}: {}", output.stdout);
    }
    // As the script for bash asks: the words, and which of them is completed.
    places.write_profile("completed", b"name: completed\nversion: \"1.0\"\n")?;
    for (words, wanted) in [(&["thr"][..], "throttle"), (&["profile", "activate", "com"], "completed")] {
        let mut command = agent_command(&places);
        command
            .env("PROCESS_THROTTLER_CONFIG_DIR", places.config())
            .env("PROCESS_THROTTLER_COMPLETE", "bash");
        command.env("_CLAP_COMPLETE_INDEX", words.len().to_string()).env("_CLAP_IFS", "\n");
        command.args(["--", "process-throttler"]).args(words);
        let output = run_command(command)?.expect(0)?;
        ensure!(output.stdout.lines().any(|line| line == wanted), "{}: {}", output.line, output.stdout);
    }
    Ok(())
}

#[test]
fn manual_pages_are_printed_and_written() -> Result<()> {
    let places = Places::new()?;
    let page = run(&places, &["man", "profile", "activate"])?.expect(0)?;
    ensure!(page.stdout.contains(".TH process-throttler-profile-activate 1"), "{}", page.stdout);
    run(&places, &["man", "no-such-command"])?.expect(2)?;
    let dir = places.root().join("man1");
    let written = [OsStr::new("man"), OsStr::new("--dir"), dir.as_os_str()];
    run(&places, &[&written[..], &[OsStr::new("--dry-run")]].concat())?.expect(0)?;
    ensure!(!dir.exists(), "a dry run wrote {}", dir.display());
    run(&places, &written)?.expect(0)?;
    ensure!(dir.join("process-throttler.1").is_file() && dir.join("process-throttler-throttle.1").is_file());
    Ok(())
}

#[test]
fn watching_streams_lines_of_json_into_a_pipe() -> Result<()> {
    let places = Places::new()?;
    let mut command = agent_command(&places);
    command.args(["status", "--watch", "--interval", "200ms"]).stdout(Stdio::piped());
    let mut watching = command.spawn()?;
    let out = BufReader::new(watching.stdout.take().context("stdout is piped")?);
    let lines: Vec<String> = out.lines().take(3).collect::<Result<_, _>>()?;
    watching.kill()?;
    watching.wait()?;
    for line in lines {
        let document: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        ensure!(document["kind"] == "GroupList", "{line}");
    }
    Ok(())
}

#[test]
fn top_says_that_it_needs_a_terminal() -> Result<()> {
    let output = run(&Places::new()?, &["top"])?.expect(2)?;
    ensure!(output.stderr.contains("status --watch"), "no hint: {}", output.stderr);
    Ok(())
}
