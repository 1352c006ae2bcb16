//! What the program prints as JSON while a daemon runs satisfies the published schemas, `docs/schemas`.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::receiver::{Receiver, SECRET};
use integration_tests::schemas::Documents;
use integration_tests::workload::Workload;
use serde_json::json;

#[test]
fn documents_of_a_running_daemon_satisfy_their_schemas() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup, receiver) = (Places::new()?, TestCgroup::new("schemas")?, Receiver::start()?);
    let noisy = Program::Wait.write(&places.bin(), "pt-schema-noisy")?;
    let vital = Program::Wait.write(&places.bin(), "pt-schema-vital")?;
    let secret = places.write_secret("ops.secret", SECRET)?;
    places.write_webhooks(&[json!({ "name": "ops", "url": receiver.url(), "secret_file": secret })])?;
    let mut documents = Documents::default();
    let daemon = Daemon::start(&places)?;
    let profile = ProfileText::new("web")
        .critical_with(
            "vital",
            &vital,
            &json!({
                "protection_level": "high",
                "expect": { "min_instances": 1, "start_within": "30s" },
                "health_check": { "type": "file", "target": vital, "interval": "1s", "timeout": "1s", "retries": 1 },
            }),
        )
        .rule("noisy", "pt-schema-noisy", &json!({ "cpu": "50%" }));
    daemon.activate(&profile)?;
    let process = Workload::spawn_in(&noisy, &cgroup)?;
    let mut precious = Workload::spawn(&vital)?;
    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(50.0)))?;
    wait_until("the critical process is up", SOON, || {
        Ok(daemon.data(&["critical", "show", "vital"])?["state"] == "up")
    })?;

    let by_hand = Workload::spawn(&Program::Wait.write(&places.bin(), "pt-schema-hand")?)?;
    let (pid, hand) = (process.pid_text(), by_hand.pid_text());
    for change in [
        &["throttle", "--pid", &hand, "--nice", "5", "--group", "hand", "--for", "10m"][..],
        &["throttle", "--pid", &hand, "--nice", "5", "--dry-run"],
        &["dynamic", "apply", "noisy", "--policy", "gradual", "--from", "90%", "--over", "10m"],
        &["webhook", "test", "ops"],
        &["daemon", "reload"],
        &["backup", "create", "nightly"],
        &["profile", "activate", "web", "--dry-run"],
    ] {
        documents.once(&places, change, 0)?;
    }
    documents.read(&places, &["critical", "list"], 0)?;
    precious.kill()?;
    daemon.wait_event("critical_process_down", |event| event["name"] == "vital")?;
    documents.once(&places, &["critical", "ack", "vital", "--comment", "seen"], 0)?;

    for read in [
        &["daemon", "status"][..],
        &["status"],
        &["status", "--group", "noisy"],
        &["status", "--group", "hand"],
        &["explain", &pid],
        &["explain", "1"],
        &["events"],
        &["critical", "list"],
        &["critical", "show", "vital"],
        &["dynamic", "list"],
        &["profile", "list"],
        &["profile", "show", "web"],
        &["profile", "plan", "web"],
        &["profile", "history"],
        &["webhook", "list"],
        &["webhook", "show", "ops"],
        &["webhook", "deliveries"],
        &["backup", "list"],
        &["state", "check"],
        &["audit", "search"],
        &["audit", "stats"],
        &["emergency", "status"],
        &["list", "--limit", "5"],
        &["discover", "pt-schema"],
    ] {
        documents.read(&places, read, 0)?;
    }
    let deliveries = daemon.data(&["webhook", "deliveries", "ops"])?;
    let id = deliveries[0]["id"].as_i64().context("a delivery has a number")?.to_string();
    documents.read(&places, &["webhook", "deliveries", &id], 0)?;
    let recording = places.root().join("recording");
    let recording = recording.to_str().context("the path is UTF-8")?;
    documents.once(&places, &["record", recording, "--for", "200ms"], 0)?;
    documents.read(&places, &["replay", recording, "--profile", "web"], 0)?;
    ensure!(fs::metadata(recording)?.len() > 0, "nothing was recorded");
    for change in [
        &["webhook", "replay", &id][..],
        &["dynamic", "remove", "noisy"],
        &["release", "--group", "hand"],
        &["emergency", "stop", "a test"],
        &["emergency", "resume"],
        &["profile", "deactivate"],
        &["release", "--all", "--yes"],
    ] {
        documents.once(&places, change, 0)?;
    }
    ensure!(documents.kinds().len() >= 30, "only {} kinds: {:?}", documents.kinds().len(), documents.kinds());
    documents.judge()?;
    daemon.stop()
}
