//! `health`: what it says with and without a daemon, of bad files, and from within a container.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use integration_tests::command::{Output, run, run_command, run_in_mount_namespace};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use serde_json::Value;

/// The checks of a report, whose exit code goes with its verdict.
fn checks(output: &Output) -> Result<Vec<Value>> {
    let report = output.json()?;
    ensure!(report["apiVersion"] == "v1" && report["kind"] == "Health", "{report}");
    let data = &report["data"];
    let failed = data["errors"].as_u64().context("errors")? > 0;
    ensure!(output.code == i32::from(failed) && (data["status"] == "error") == failed, "{output:?}");
    let checks = data["checks"].as_array().context("checks")?.clone();
    for check in &checks {
        for key in ["category", "name", "status", "message", "details"] {
            ensure!(!check[key].is_null(), "a check without {key}: {check}");
        }
    }
    Ok(checks)
}

fn find<'a>(checks: &'a [Value], category: &str, name: &str) -> Result<&'a Value> {
    let found = checks.iter().find(|check| check["category"] == category && check["name"] == name);
    found.with_context(|| format!("no check {category}/{name} in {checks:?}"))
}

fn says(check: &Value, words: &str) -> Result<()> {
    ensure!(check["message"].as_str().is_some_and(|text| text.contains(words)), "not {words:?}: {check}");
    Ok(())
}

#[test]
fn without_a_daemon_it_says_what_was_not_checked_and_its_commands_can_be_typed() -> Result<()> {
    let places = Places::new()?;
    places.write_config("no_such_key: 1\n")?;
    let output = run(&places, &["health", "--check-all", "-o", "json"])?;
    let checks = checks(&output)?;
    ensure!(output.code == 1, "a bad file is no error: {output:?}");
    let bad = find(&checks, "configuration", "config.yaml")?;
    ensure!(bad["status"] == "error", "{bad}");
    says(bad, "1:1: unknown key")?;
    says(find(&checks, "daemon", "losses")?, "not checked: no daemon runs")?;
    says(find(&checks, "critical", "critical processes")?, "not checked")?;
    let mut tried = 0;
    for check in &checks {
        let Some(words) = check["command"].as_str() else { continue };
        let Some(ours) = words.strip_prefix("process-throttler ") else { continue };
        let arguments: Vec<&str> = ours.split(' ').chain(["--help"]).collect();
        run(&places, &arguments)?.expect(0)?;
        tried += 1;
    }
    ensure!(tried >= 2, "only {tried} commands are recommended: {checks:?}");
    // For people: the same checks, what to do, and the verdict at the end.
    let table = run(&places, &["health"])?.expect(1)?.stdout;
    ensure!(table.contains("process-throttler validate config"), "{table}");
    ensure!(table.lines().last().is_some_and(|line| line.starts_with("error: ")), "{table}");
    Ok(())
}

#[test]
fn with_a_daemon_it_tells_of_its_source_and_losses() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let checks = checks(&run(&places, &["health", "-o", "json"])?)?;
    says(find(&checks, "daemon", "state")?, &format!("pid {}", daemon.pid()))?;
    says(find(&checks, "daemon", "source")?, "events come from")?;
    ensure!(find(&checks, "daemon", "losses")?["details"]["dropped"].is_string(), "{checks:?}");
    says(find(&checks, "configuration", "in force")?, "no complaint")?;
    says(find(&checks, "critical", "critical processes")?, "no active profile")?;
    daemon.stop()
}

#[test]
fn endpoints_are_asked_only_when_that_is_wanted() -> Result<()> {
    let places = Places::new()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("bind")?;
    let address = listener.local_addr().context("address")?;
    places.write_webhook(&format!("http://{address}/hook"), "a secret of more than 24 bytes")?;
    let asked = |arguments: &[&str]| -> Result<Vec<Value>> {
        checks(&run(&places, &[&["health", "-o", "json"], arguments].concat())?)
    };
    says(find(&asked(&[])?, "webhooks", "endpoints")?, "none was asked")?;
    says(find(&asked(&["--check-all"])?, "webhooks", "default")?, "accepts connections; nothing was sent")?;
    drop(listener);
    let checks = asked(&["--check-all"])?;
    let refused = find(&checks, "webhooks", "default")?;
    ensure!(refused["status"] == "error", "{refused}");
    says(refused, "Connection refused")
}

/// Runs a script as pid 1 of new mount, pid and cgroup namespaces, with the agent's command line; the places are given
/// but for the configuration's.
fn in_container(places: &Places, container: Option<&str>, script: &str) -> Result<Output> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--cgroup", "--fork", "--mount-proc", "--propagation", "private"]);
    command.args(["sh", "-euc", script, "sh"]).arg(places.config()).arg(places.agent());
    for (option, dir) in
        [("--state-dir", places.state()), ("--runtime-dir", places.runtime()), ("--log-dir", places.log())]
    {
        command.arg(option).arg(dir);
    }
    command.env("NO_COLOR", "1").env_remove("container").stdin(Stdio::null());
    if let Some(container) = container {
        command.env("container", container);
    }
    run_command(command)
}

#[test]
fn a_container_is_told_by_its_signs_and_has_the_host_s_configuration_where_it_says() -> Result<()> {
    const PODMAN: &str = r#"
        config=$1; shift
        mount -t tmpfs pt-test-run /run
        echo 'engine="podman-4.3.1"' >/run/.containerenv
        PT_HOST_CONFIG_PATH=$config exec "$@" health -o json
    "#;
    const LXC: &str = r#"
        shift
        mount -t tmpfs pt-test-run /run
        env -u container "$@" health -o json
    "#;
    let places = Places::new()?;
    places.write_config("# the host's\n")?;
    let podman = checks(&in_container(&places, None, PODMAN)?)?;
    let check = find(&podman, "system", "container")?;
    says(check, "a pid namespace of its own")?;
    says(check, "a cgroup namespace of its own")?;
    ensure!(check["details"]["sign_containerenv"] == "exists" && check["status"] == "warning", "{check}");
    let path = find(&podman, "configuration", "config.yaml")?["details"]["path"].clone();
    ensure!(path.as_str().map(Path::new) == Some(&places.config().join("config.yaml")), "{path}");

    let lxc = checks(&in_container(&places, Some("lxc"), LXC)?)?;
    let check = find(&lxc, "system", "container")?;
    ensure!(check["details"]["sign_init_environment"] == "lxc", "{check}");
    Ok(())
}

#[test]
fn a_state_directory_that_cannot_be_written_is_an_error() -> Result<()> {
    const SCRIPT: &str = r#"
        state=$1; shift
        mount -t tmpfs -o ro pt-test-ro "$state"
        "$@" health -o json
    "#;
    let places = Places::new()?;
    let state = places.state();
    let output = run_in_mount_namespace(&places, SCRIPT, &[state.to_str().context("UTF-8")?])?;
    let checks = checks(&output)?;
    let check = find(&checks, "resources", "state directory")?;
    ensure!(output.code == 1 && check["status"] == "error", "{check}");
    says(check, "mounted read-only")
}
