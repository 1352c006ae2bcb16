//! The audit log tells who changed what, with and without a daemon, across its death, and shows when it was altered.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_for};
use integration_tests::command::{run, run_as};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::{Value, json};

const NOBODY: u32 = 65_534;

/// What `audit search` finds, oldest first.
fn search(places: &Places, arguments: &[&str]) -> Result<Vec<Value>> {
    let line = [&["audit", "search", "-o", "jsonl"], arguments].concat();
    run(places, &line)?.expect(0)?.json_lines()
}

/// What `audit search` finds once it is so many. A request waits for its record for 2 s; a disk that has much to write
/// takes longer.
fn found(places: &Places, arguments: &[&str], count: usize) -> Result<Vec<Value>> {
    wait_for(&format!("there are {count} records of {arguments:?}"), SOON, || {
        let found = search(places, arguments)?;
        ensure!(found.len() <= count, "{arguments:?}: {found:#?}");
        Ok((found.len() == count).then_some(found))
    })
}

/// The one record of this type.
fn only(places: &Places, kind: &str) -> Result<Value> {
    found(places, &["--type", kind], 1)?.pop().context("there is one")
}

fn verified(places: &Places) -> Result<Value> {
    Ok(run(places, &["audit", "verify", "-o", "json"])?.expect(0)?.json()?["data"].take())
}

#[test]
fn every_change_and_every_refusal_is_on_record_across_a_kill() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let cgroup = TestCgroup::new("audit")?;
    let hog = Workload::spawn_in(&Program::Wait.write(&places.bin(), "pt-audit")?, &cgroup)?;
    let pid = hog.pid_text();
    let daemon = Daemon::start(&places)?;

    daemon.ask(&["throttle", "--pid", &pid, "--cpu", "40%", "--group", "by-hand"])?;
    let asked = only(&places, "request.throttle")?;
    let own = std::process::id();
    ensure!(asked["outcome"] == "success" && asked["subject"] == "group by-hand", "{asked}");
    ensure!(asked["actor"]["uid"] == 0 && asked["actor"]["gid"] == 0, "{asked}");
    ensure!(asked["actor"]["pid"].as_u64().is_some_and(|pid| pid != u64::from(own)), "{asked}");
    ensure!(asked["facts"]["limits"].as_str().is_some_and(|limits| limits.contains("40")), "{asked}");
    let applied = only(&places, "throttle.applied")?;
    ensure!(applied["actor"] == json!({ "kind": "user", "uid": 0 }), "{applied}");
    ensure!(applied["event"].as_str().is_some_and(|id| id.starts_with("evt_")), "{applied}");

    run(&places, &["throttle", "--pid", "1", "--cpu", "40%"])?.expect(7)?;
    let refused = found(&places, &["--type", "request", "--outcome", "denied"], 1)?;
    ensure!(refused[0]["subject"] == "group pid-1", "{refused:#?}");
    ensure!(refused[0]["detail"].as_str().is_some_and(|why| why.contains("pid 1")), "{refused:#?}");
    daemon.ask(&["throttle", "--pid", &pid, "--cpu", "40%", "--dry-run"])?;
    ensure!(search(&places, &["--type", "request"])?.len() == 2, "a dry run changes nothing");

    let profile = ProfileText::new("audited").rule("waits", "pt-audit-none", &json!({ "cpu": "30%" }));
    daemon.activate(&profile)?;
    ensure!(only(&places, "request.activate")?["subject"] == "profile audited");
    only(&places, "profile.activated")?;

    let before = verified(&places)?;
    daemon.kill()?;
    let after_kill = verified(&places)?;
    ensure!(after_kill["last"].as_u64() >= before["last"].as_u64(), "{before} {after_kill}");

    let daemon = Daemon::start(&places)?;
    daemon.ask(&["release", "--group", "by-hand"])?;
    ensure!(only(&places, "request.release")?["outcome"] == "success");
    found(&places, &["--type", "daemon.started"], 2)?;
    daemon.stop()?;
    ensure!(only(&places, "daemon.stopped")?["actor"]["kind"] == "daemon");

    run(&places, &["emergency", "stop", "a", "test"])?.expect(0)?;
    let stopped = only(&places, "request.emergency_stop")?;
    ensure!(stopped["facts"] == json!({ "daemon": "not running", "reason": "a test" }), "{stopped}");
    ensure!(run(&places, &["throttle", "--pid", &pid, "--cpu", "40%"])?.code == 7);
    run(&places, &["emergency", "resume", "--yes"])?.expect(0)?;
    found(&places, &["--type", "request", "--outcome", "denied"], 2)?;

    let end = verified(&places)?;
    ensure!(end["intact"] == true && end["first"] == 1, "{end}");
    let file = fs::metadata(places.log().join("audit.jsonl"))?;
    ensure!(file.permissions().mode() & 0o137 == 0, "mode {:o}", file.permissions().mode());
    Ok(())
}

#[test]
fn a_refused_peer_is_a_security_violation() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    // Somebody was careless; whom the daemon serves does not hang on it.
    fs::set_permissions(places.root(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(places.runtime(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(places.socket(), fs::Permissions::from_mode(0o666))?;
    run_as(NOBODY, &places, &["release", "--all", "--yes"])?.expect(5)?;
    let record = only(&places, "security.violation")?;
    ensure!(record["actor"]["uid"] == NOBODY && record["outcome"] == "denied", "{record}");
    daemon.wait_event("security_violation", |event| event["uid"] == NOBODY)?;
    daemon.stop()
}

#[test]
fn an_altered_record_is_found_and_named() -> Result<()> {
    let places = Places::new()?;
    for reason in ["one", "two", "three"] {
        run(&places, &["emergency", "stop", reason])?.expect(0)?;
    }
    run(&places, &["emergency", "resume", "--yes"])?.expect(0)?;
    let path = places.log().join("audit.jsonl");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text.replace("\"reason\":\"two\"", "\"reason\":\"owt\""))?;
    let output = run(&places, &["audit", "verify"])?.expect(1)?;
    let place = format!("{}:2: its hash is ", path.display());
    ensure!(output.stdout.starts_with(&place), "{output:?}");

    // A torn line is set aside by the next record, and that is on record.
    fs::write(&path, &text[..text.len() - 7])?;
    ensure!(run(&places, &["audit", "verify"])?.expect(1)?.stdout.contains(":4: "));
    let owner = fs::metadata(&path)?.uid();
    run(&places, &["emergency", "resume", "--yes"])?.expect(0)?;
    ensure!(fs::metadata(&path)?.uid() == owner);
    ensure!(verified(&places)?["records"] == 5);
    ensure!(only(&places, "audit.repaired")?["outcome"] == "success");
    let stats = run(&places, &["audit", "stats", "-o", "json"])?.expect(0)?.json()?;
    ensure!(stats["data"]["types"]["request.emergency_stop"] == 3, "{stats}");
    let tail = run(&places, &["audit", "tail", "-n", "1", "-o", "jsonl"])?.expect(0)?.json_lines()?;
    ensure!(tail.len() == 1 && tail[0]["type"] == "request.emergency_resume", "{tail:?}");
    Ok(())
}
