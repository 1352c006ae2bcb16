//! Critical processes are brought back by the program that the profile names, and given up when that does not help.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, Stopwatch, patience, wait_for, wait_until};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::{Program, copy_executable};
use integration_tests::receiver::{Receiver, SECRET};
use integration_tests::workload::Workload;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const RESTART: &str = "critical_process_restart";

fn vital(daemon: &Daemon<'_>) -> Result<Value> {
    daemon.data(&["critical", "show", "vital"])
}

/// The one instance that the agent knows.
fn instance(daemon: &Daemon<'_>) -> Result<Option<u32>> {
    let status = vital(daemon)?;
    let pid = status["instances"][0]["key"]["pid"].as_u64();
    Ok(pid.and_then(|pid| u32::try_from(pid).ok()))
}

fn wait_instance(daemon: &Daemon<'_>) -> Result<u32> {
    wait_for("an instance", SOON, || instance(daemon))
        .with_context(|| format!("{:?}\n{}", vital(daemon), daemon.printed()))
}

fn shoot(pid: u32) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).with_context(|| format!("kill {pid}"))
}

/// Ends what the agent has started, which is nobody's child here.
pub(crate) struct Leftover<'a>(pub(crate) &'a Path);

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let exe = std::fs::read_link(entry.path().join("exe"));
            if exe.is_ok_and(|exe| exe == self.0) && shoot(pid).is_err() {
                integration_tests::cgroup::complain(&format!("process {pid} is left behind"));
            }
        }
    }
}

/// One critical process, which that program starts again.
pub(crate) fn profile(exe: &Path, policy: &str, more: &Value) -> ProfileText {
    let mut restart =
        json!({ "command": [exe], "user": "nobody", "backoff": "300ms", "max": 3, "per": "10m" });
    if let (Some(restart), Some(more)) = (restart.as_object_mut(), more.as_object()) {
        restart.extend(more.clone());
    }
    ProfileText::new("vital").critical_with(
        "vital",
        exe,
        &json!({ "restart_policy": policy, "restart": restart }),
    )
}

/// A place whose programs others may run, and nobody else may change.
pub(crate) fn open(places: &Places) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for dir in [places.root(), &places.bin()] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("open {}", dir.display()))?;
    }
    Ok(())
}

fn results(daemon: &Daemon<'_>) -> Result<Vec<String>> {
    let events = daemon.events(RESTART)?;
    Ok(events.iter().map(|event| event["result"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn what_is_killed_comes_back_and_is_given_up_after_so_many_times() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, receiver) = (Places::new()?, Receiver::start()?);
    open(&places)?;
    places.write_webhook(&receiver.url(), SECRET)?;
    let program = Program::Wait.write(&places.bin(), "pt-lazarus")?;
    let _leftover = Leftover(&program);
    let mut first = Workload::spawn(&program)?;
    let mut daemon = Daemon::start(&places)?;
    daemon.activate(&profile(&program, "on-failure", &json!({})))?;
    ensure!(wait_instance(&daemon)? == first.pid(), "another one");

    let watch = Stopwatch::start();
    first.kill()?;
    let told = daemon.wait_event(RESTART, |event| event["result"] == "restarted")?;
    let took = watch.elapsed();
    ensure!(told["attempt"] == 1 && took >= Duration::from_millis(300), "{told} after {took:?}");
    ensure!(took < patience(Duration::from_secs(3)), "{took:?}");
    let pid = wait_instance(&daemon)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let uids = status.lines().find(|line| line.starts_with("Uid:")).context("uids")?;
    ensure!(uids.split_whitespace().skip(1).all(|uid| uid == "65534"), "{uids}");
    let family = |pid: u32| -> Result<(String, String)> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let mut fields = stat.split_whitespace().skip(3).map(str::to_owned);
        Ok((fields.next().context("a parent")?, fields.nth(1).context("a session")?))
    };
    let (parent, session) = family(pid)?;
    ensure!(parent != daemon.pid().to_string(), "it is a child of the agent");
    ensure!(session != family(daemon.pid())?.1, "it is in the session of the agent");
    // It was known by its program before it had the program's name.
    let back = daemon.wait_event("critical_process_recovered", |_| true)?;
    ensure!(back.to_string().contains("\"comm\":\"pt-lazarus\""), "{back}");

    shoot(pid)?;
    wait_until("two restarts", SOON, || Ok(results(&daemon)?.len() == 2))?;
    // A new agent goes on counting.
    daemon.stop()?;
    daemon = Daemon::start(&places)?;
    shoot(wait_instance(&daemon)?)?;
    wait_until("three restarts", SOON, || Ok(results(&daemon)?.len() == 3))?;
    shoot(wait_instance(&daemon)?)?;
    let given_up = daemon.wait_event(RESTART, |event| event["result"] == "given_up")?;
    ensure!(given_up["attempt"] == 3, "{given_up}");
    receiver.wait_for("the alert", SOON, |body| {
        body["type"] == RESTART && body["data"]["details"]["result"] == "given_up"
    })?;
    ensure!(vital(&daemon)?["state"] == "given_up", "{}", vital(&daemon)?);
    let expected = ["restarted", "restarted", "restarted", "given_up"];
    ensure!(results(&daemon)? == expected, "{:?}", results(&daemon)?);

    // By hand it is tried again, and counted anew.
    let refused = run(&places, &["critical", "restart", "vital"])?;
    ensure!(refused.code == 2 && refused.stderr.contains("--yes"), "{refused:?}");
    let dry = run(&places, &["--dry-run", "critical", "restart", "vital"])?.expect(0)?;
    ensure!(dry.stdout.contains("would be restarted") && instance(&daemon)?.is_none(), "{dry:?}");
    daemon.ask(&["critical", "restart", "vital", "--yes"])?;
    let pid = wait_instance(&daemon)?;
    let beside = run(&places, &["critical", "restart", "vital", "--yes"])?;
    ensure!(beside.code == 7 && beside.stderr.contains("another one"), "{beside:?}");
    shoot(pid)?;
    wait_until("restarted again", SOON, || {
        Ok(results(&daemon)?.iter().filter(|one| *one == "restarted").count() == 5)
    })?;
    daemon.stop()
}

#[test]
fn a_clean_end_is_left_alone_and_so_is_one_with_policy_never() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    open(&places)?;
    let program = Program::Wait.write(&places.bin(), "pt-resting")?;
    let _leftover = Leftover(&program);
    let daemon = Daemon::start(&places)?;
    for (policy, signal) in [("on-failure", Signal::SIGTERM), ("never", Signal::SIGKILL)] {
        let mut process = Workload::spawn(&program)?;
        daemon.activate(&profile(&program, policy, &json!({ "backoff": "100ms" })))?;
        wait_instance(&daemon)?;
        process.signal(signal)?;
        process.wait()?;
        wait_until("its death is known", SOON, || Ok(vital(&daemon)?["state"] == "down"))?;
        ensure!(vital(&daemon)?["restart"]["next"].is_null(), "{}", vital(&daemon)?);
    }
    ensure!(results(&daemon)?.is_empty(), "restarted");
    daemon.ask(&["critical", "restart", "vital", "--yes"])?;
    wait_instance(&daemon)?;
    daemon.stop()
}

#[test]
fn a_program_that_cannot_be_run_is_told_and_given_up() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    open(&places)?;
    let program = Program::Wait.write(&places.bin(), "pt-broken")?;
    let starter = copy_executable(&program, &places.bin(), "pt-starter")?;
    let mut process = Workload::spawn(&program)?;
    let daemon = Daemon::start(&places)?;
    let more = json!({ "command": [starter], "backoff": "100ms", "backoff_max": "200ms", "max": 2 });
    daemon.activate(&profile(&program, "always", &more))?;
    wait_instance(&daemon)?;
    std::fs::remove_file(&starter)?;

    process.kill()?;

    daemon.wait_event(RESTART, |event| event["result"] == "given_up")?;
    ensure!(results(&daemon)? == ["failed", "failed", "given_up"], "{:?}", results(&daemon)?);
    let failed = daemon.wait_event(RESTART, |event| event["result"] == "failed")?;
    ensure!(failed["detail"].as_str().is_some_and(|text| text.contains("pt-starter")), "{failed}");
    let by_hand = run(&places, &["critical", "restart", "vital", "--yes"])?;
    ensure!(by_hand.code == 1 && by_hand.stderr.contains("pt-starter"), "{by_hand:?}");
    daemon.stop()
}

#[test]
fn an_emergency_stop_does_not_keep_the_dead_dead() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    open(&places)?;
    let program = Program::Wait.write(&places.bin(), "pt-urgent")?;
    let _leftover = Leftover(&program);
    let mut process = Workload::spawn(&program)?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile(&program, "always", &json!({})))?;
    wait_instance(&daemon)?;
    daemon.ask(&["emergency", "stop", "a", "test"])?;

    process.kill()?;

    daemon.wait_event(RESTART, |event| event["result"] == "restarted")?;
    daemon.ask(&["emergency", "resume"])?;
    daemon.stop()
}

#[test]
fn what_is_needed_is_restarted_first() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    open(&places)?;
    let db = Program::Wait.write(&places.bin(), "pt-db")?;
    let app = Program::Wait.write(&places.bin(), "pt-app")?;
    let _leftovers = (Leftover(&db), Leftover(&app));
    let (mut first, mut second) = (Workload::spawn(&db)?, Workload::spawn(&app)?);
    let restart =
        |exe: &Path, backoff: &str| json!({ "command": [exe], "user": "nobody", "backoff": backoff });
    let profile = ProfileText::new("vital")
        .critical_with("vital", &app, &json!({ "restart": restart(&app, "100ms"), "dependencies": ["db"] }))
        .critical_with("db", &db, &json!({ "restart": restart(&db, "1s") }));
    let daemon = Daemon::start(&places)?;
    daemon.activate(&profile)?;
    let both = || {
        let list = daemon.data(&["critical", "list"])?;
        let list = list.as_array().context("a list")?;
        Ok(list.iter().all(|one| one["state"] == "up"))
    };
    wait_until("both are up", SOON, both)?;

    first.kill()?;
    second.kill()?;

    wait_until("both are back", SOON, || Ok(results(&daemon)?.len() == 2))?;
    let order: Vec<Value> = daemon.events(RESTART)?.iter().map(|event| event["name"].clone()).collect();
    ensure!(order == ["db", "vital"], "{order:?}");
    wait_until("both are up", SOON, both)?;
    daemon.stop()
}
