//! Exit codes are an interface for scripts, and the message that the daemon is needed is exact.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use integration_tests::command::{run, run_as};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;

const NEEDS_DAEMON: &str = "requires the process-throttler daemon to be running.\n\
                            Start it with: process-throttler daemon start\n\
                            Or enable it as a service: systemctl enable --now process-throttler\n";

#[test]
fn commands_that_need_the_daemon_say_so_exactly() -> Result<()> {
    let places = Places::new()?;
    places.write_profile("some", ProfileText::new("some").text().as_bytes())?;
    let commands: [&[&str]; 6] = [
        &["daemon", "reload"],
        &["explain", "1"],
        &["events"],
        &["events", "--follow"],
        &["profile", "activate", "some"],
        &["profile", "deactivate", "--yes"],
    ];
    for command in commands {
        let output = run(&places, command)?.expect(3)?;
        ensure!(output.stdout.is_empty(), "{command:?} printed to stdout: {}", output.stdout);
        let feature =
            output.stderr.strip_prefix("Error: This feature (").and_then(|rest| rest.split_once(") "));
        ensure!(
            feature.is_some_and(|(name, rest)| !name.is_empty() && rest == NEEDS_DAEMON),
            "{command:?}: {output:?}"
        );
    }
    Ok(())
}

#[test]
fn status_of_a_stopped_daemon_is_data_with_code_3() -> Result<()> {
    let places = Places::new()?;
    let output = run(&places, &["daemon", "status", "-o", "json"])?.expect(3)?;
    ensure!(output.json()?["apiVersion"] == "v1", "{output:?}");
    Ok(())
}

#[test]
fn usage_errors_are_2() -> Result<()> {
    let places = Places::new()?;
    let commands: [&[&str]; 8] = [
        &["no-such-command"],
        &["status", "--no-such-option"],
        &["explain"],
        &["explain", "not-a-pid"],
        &["throttle"],
        &["throttle", "--pid", "1"],
        &["status", "-o", "no-such-format"],
        &["release"],
    ];
    for command in commands {
        let output = run(&places, command)?.expect(2)?;
        ensure!(output.stdout.is_empty() && !output.stderr.is_empty(), "{command:?}: {output:?}");
    }
    Ok(())
}

#[test]
fn what_does_not_exist_is_4() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    run(&places, &["profile", "show", "no-such-profile"])?.expect(4)?;
    let daemon = Daemon::start(&places)?;
    // pid_max is at most 2^22 (proc_sys_kernel(5)), so no process has this pid.
    for command in [
        &["explain", "4194304"][..],
        &["throttle", "--pid", "4194304", "--cpu", "30%"],
        &["release", "--group", "no-such-group", "--yes"],
        &["profile", "activate", "no-such-profile"],
    ] {
        run(&places, command)?.expect(4)?;
    }
    daemon.stop()
}

#[test]
fn what_may_not_be_read_is_5_and_never_looks_empty() -> Result<()> {
    // `nobody` on Debian.
    const NOBODY: u32 = 65_534;
    let places = Places::new()?;
    run(&places, &["profile", "create", "web"])?.expect(0)?;
    fs::set_permissions(places.state(), fs::Permissions::from_mode(0o700))?;
    for command in [&["profile", "history"][..], &["webhook", "deliveries"], &["status"], &["state", "check"]]
    {
        let output = run_as(NOBODY, &places, command)?.expect(5)?;
        ensure!(output.stdout.is_empty() && output.stderr.contains("hint: "), "{output:?}");
    }
    Ok(())
}

#[test]
fn destructive_commands_off_a_terminal_need_yes() -> Result<()> {
    let places = Places::new()?;
    let output = run(&places, &["release", "--all"])?;
    ensure!(output.code != 0 && output.stderr.contains("--yes"), "{output:?}");
    Ok(())
}

#[test]
fn success_is_0_and_data_is_on_stdout_alone() -> Result<()> {
    let places = Places::new()?;
    for command in [&["version"][..], &["list"], &["profile", "list"], &["completions", "bash"], &["--help"]]
    {
        let output = run(&places, command)?.expect(0)?;
        ensure!(output.stderr.is_empty(), "{command:?} printed to stderr: {}", output.stderr);
    }
    Ok(())
}
