//! Critical processes are asked whether they work: by a server, by programs that would rather not end, by files.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::{Receiver, SECRET};
use integration_tests::workload::Workload;
use serde_json::{Value, json};

const FAILED: &str = "health_check_failed";
const RECOVERED: &str = "health_check_recovered";

/// A profile with one critical process and this health check.
fn profile(exe: &Path, check: &Value) -> ProfileText {
    ProfileText::new("vital").critical_with("vital", exe, &json!({ "health_check": check }))
}

fn health(daemon: &Daemon<'_>) -> Result<Value> {
    Ok(daemon.data(&["critical", "show", "vital"])?["health"].clone())
}

fn wait_state(daemon: &Daemon<'_>, state: &str) -> Result<()> {
    wait_until(&format!("it is {state}"), SOON, || Ok(health(daemon)?["state"] == state))
        .with_context(|| format!("{:?}\n{}", health(daemon), daemon.printed()))
}

/// A real HTTP server; killed on drop.
struct Server(Child);

impl Server {
    /// Serves a directory at a port of the loopback interface.
    fn start(dir: &Path, port: u16) -> Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string(), "--directory"]).arg(dir);
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(server.context("start python3 -m http.server")?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            integration_tests::cgroup::complain(&format!("a server is left behind: {error}"));
        }
    }
}

/// A port that nobody listens at.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr().context("its address")?.port())
}

#[test]
fn a_server_that_dies_and_comes_back_is_told_once_each() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    places.write_webhook(&receiver.url(), SECRET)?;
    let (site, port) = (places.root().join("site"), free_port()?);
    fs::create_dir(&site)?;
    fs::write(site.join("health"), "well")?;
    let program = Program::Wait.write(&places.bin(), "pt-served")?;
    let process = Workload::spawn(&program)?;
    let server = Server::start(&site, port)?;
    let target = format!("http://127.0.0.1:{port}/health");
    let daemon = Daemon::start(&places)?;

    let check =
        json!({ "type": "http", "target": target, "interval": "1s", "timeout": "500ms", "retries": 2 });
    daemon.activate(&profile(&program, &check))?;
    wait_state(&daemon, "healthy")?;
    drop(server);
    let failed = daemon.wait_event(FAILED, |event| event["name"] == "vital")?;
    ensure!(failed["failures"] == 2, "{failed}");
    // More checks fail, and are not told.
    wait_until("more checks fail", SOON, || Ok(health(&daemon)?["failures"].as_u64() >= Some(4)))?;
    let _server = Server::start(&site, port)?;
    let recovered = daemon.wait_event(RECOVERED, |event| event["name"] == "vital")?;
    ensure!(recovered["lasted_ms"].as_u64() > Some(900), "{recovered}");
    wait_state(&daemon, "healthy")?;

    ensure!(daemon.events(FAILED)?.len() == 1 && daemon.events(RECOVERED)?.len() == 1, "told more than once");
    for kind in [FAILED, RECOVERED] {
        let request = receiver.wait_for(kind, SOON, |body| body["type"] == kind)?;
        request.verify(SECRET)?;
    }
    // The bad page of a good server is bad.
    fs::remove_file(site.join("health"))?;
    wait_state(&daemon, "unhealthy")?;
    ensure!(
        health(&daemon)?["found"]["error"].as_str().is_some_and(|text| text.contains("404")),
        "not told why"
    );
    ensure!(kernel::comm(process.pid()).is_ok(), "nobody asked for a restart");
    daemon.stop()
}

#[test]
fn nothing_is_asked_while_there_is_no_instance() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let marks = places.root().join("marks");
    let program = Program::Wait.write(&places.bin(), "pt-absent")?;
    let script = format!("echo asked >> {}", marks.display());
    let check =
        json!({ "type": "command", "command": ["/bin/sh", "-c", script], "user": "root", "interval": "1s" });
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile(&program, &check))?;
    ensure!(health(&daemon)?["state"] == "unknown" && !marks.exists(), "it was asked");

    let mut process = Workload::spawn(&program)?;

    wait_state(&daemon, "healthy")?;
    process.kill()?;
    daemon.wait_event("critical_process_down", |event| event["name"] == "vital")?;
    let asked = fs::read_to_string(&marks)?.lines().count();
    let mut other = Workload::spawn(&program)?;
    // Asked at once when it is back, and so many times only.
    wait_until("it is asked again", SOON, || Ok(fs::read_to_string(&marks)?.lines().count() > asked))?;
    other.kill()?;
    daemon.stop()
}

#[test]
fn a_program_runs_as_its_user_and_is_killed_with_its_children() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let dir = tempfile::tempdir_in("/tmp")?;
    std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_534))?;
    let file = dir.path().join("pids");
    let program = Program::Wait.write(&places.bin(), "pt-slow")?;
    let _process = Workload::spawn(&program)?;
    let script = format!(
        "trap '' TERM; id -un > {0}.user; (trap '' TERM; sleep 1000) & echo $! >> {0}; echo $$ >> {0}; \
         echo waiting; sleep 1000",
        file.display()
    );
    let check = json!({ "type": "command", "command": ["/bin/sh", "-c", script], "user": "nobody",
        "interval": "60s", "timeout": "1s", "retries": 1 });
    let daemon = Daemon::start(&places)?;

    daemon.activate(&profile(&program, &check))?;

    let failed = daemon.wait_event(FAILED, |event| event["name"] == "vital")?;
    let error = failed["error"].as_str().context("an error")?;
    ensure!(error.contains("longer than 1s") && error.contains("waiting"), "{error}");
    ensure!(fs::read_to_string(dir.path().join("pids.user"))?.trim() == "nobody", "not as nobody");
    let pids = fs::read_to_string(&file)?;
    ensure!(pids.lines().count() == 2, "{pids}");
    for pid in pids.lines() {
        let gone = || Ok(!kernel_lives(pid));
        wait_until(&format!("process {pid} is gone"), SOON, gone)?;
    }
    daemon.stop()
}

/// Whether a process is there and not a zombie.
fn kernel_lives(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn a_daemon_that_stops_takes_its_checks_along() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let file = places.root().join("pid");
    let program = Program::Wait.write(&places.bin(), "pt-long")?;
    let _process = Workload::spawn(&program)?;
    let script = format!("trap '' TERM; echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", file.display());
    let check = json!({ "type": "command", "command": ["/bin/sh", "-c", script], "user": "root",
        "interval": "60s", "timeout": "60s" });
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile(&program, &check))?;
    wait_until("the check runs", SOON, || Ok(file.exists()))?;

    daemon.stop()?;

    let pid = fs::read_to_string(&file)?;
    wait_until("the check is gone", SOON, || Ok(!kernel_lives(pid.trim())))
}

#[test]
fn what_is_asked_is_shown_in_every_form() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let alive = places.root().join("alive");
    let program = Program::Wait.write(&places.bin(), "pt-shown")?;
    let process = Workload::spawn(&program)?;
    fs::write(&alive, "")?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile(
        &program,
        &json!({ "type": "file", "target": alive, "interval": "1s", "retries": 1 }),
    ))?;
    wait_state(&daemon, "healthy")?;

    let list = daemon.data(&["critical", "list"])?;
    ensure!(list[0]["state"] == "up" && list[0]["instances"][0]["key"]["pid"] == process.pid(), "{list}");
    for form in ["table", "wide", "yaml", "jsonl"] {
        let shown = daemon.ask(&["critical", "list", "-o", form])?.stdout;
        ensure!(shown.contains("vital") && shown.contains("healthy"), "{form}: {shown}");
        let shown = daemon.ask(&["critical", "show", "vital", "-o", form])?.stdout;
        ensure!(shown.contains("alive"), "{form}: {shown}");
    }
    fs::remove_file(&alive)?;
    wait_state(&daemon, "unhealthy")?;
    ensure!(daemon.data(&["critical", "list"])?[0]["state"] == "unhealthy", "the list says otherwise");
    let missing = integration_tests::command::run(&places, &["critical", "show", "other"])?;
    ensure!(missing.code == 4, "{missing:?}");
    daemon.stop()?;
    let absent = integration_tests::command::run(&places, &["critical", "restart", "vital", "--yes"])?;
    let text = "Error: This feature (critical-process-monitoring) requires the process-throttler daemon to be running.";
    ensure!(absent.code == 3 && absent.stderr.starts_with(text), "{absent:?}");
    Ok(())
}
