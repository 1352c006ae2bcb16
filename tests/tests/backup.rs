//! Backups from the installed binary: made while the daemon runs, put back after everything is damaged, and never half.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::{run, run_command, run_in_mount_namespace};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;

/// Every point of a restore, and how often it is passed before.
const POINTS: [&str; 8] = [
    "restore-recorded",
    "restore-moved-out",
    "restore-moved-in",
    "restore-moved-out:1",
    "restore-moved-in:1",
    "restore-moved-in:2",
    "restore-switched",
    "restore-committed",
];

fn files(places: &Places) -> Result<Vec<String>> {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let config = places.config();
    Ok(vec![
        read(&config.join("config.yaml")),
        read(&config.join("config.d/10.yaml")),
        read(&config.join("config.d/20.yaml")),
        read(&places.profiles().join("web.yaml")),
        read(&places.log().join("audit-of-test.jsonl")),
    ])
}

fn furnish(places: &Places) -> Result<()> {
    places.write_config("on_stop: release\n")?;
    fs::write(places.config().join("config.d/10.yaml"), "log: { level: debug }\n")?;
    places.write_profile("web", b"name: web\nversion: \"1\"\nthrottling_rules: []\n")?;
    fs::write(places.log().join("audit-of-test.jsonl"), "{\"seq\":1}\n")?;
    Ok(())
}

fn damage(places: &Places) -> Result<()> {
    places.write_config("on_stop: [\n")?;
    fs::remove_file(places.config().join("config.d/10.yaml"))?;
    fs::write(places.config().join("config.d/20.yaml"), "nonsense: 1\n")?;
    places.write_profile("web", b"\xff\xfe")?;
    fs::write(places.log().join("audit-of-test.jsonl"), "garbage")?;
    fs::write(
        places.state().join("journal.db"),
        "no database, but long enough to be looked at ".repeat(100),
    )?;
    fs::write(places.state().join("state.db"), "no database, but long enough to be looked at ".repeat(100))?;
    Ok(())
}

#[test]
fn what_a_running_daemon_backed_up_comes_back_after_everything_was_damaged() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    furnish(&places)?;
    let daemon = Daemon::start(&places)?;
    daemon.ask(&["profile", "activate", "web"])?;
    let made = daemon.data(&["backup", "create", "before"])?;
    ensure!(made["encrypted"] == false && made["files"].as_u64() >= Some(6), "{made}");
    let archive = made["path"].as_str().context("path")?.to_owned();
    ensure!(fs::metadata(&archive)?.permissions().mode() & 0o7777 == 0o600, "others may read {archive}");
    let told = daemon.wait_event("backup_created", |event| event["name"] == "before")?;
    ensure!(told["path"] == archive.as_str(), "{told}");
    let state = daemon.data(&["state", "check"])?;
    ensure!(state[0]["verdict"] == "sound" && state[1]["verdict"] == "sound", "{state}");
    let refused = run(&places, &["backup", "restore", "before", "--yes"])?.expect(7)?;
    ensure!(refused.stderr.contains("daemon stop"), "{}", refused.stderr);
    daemon.stop()?;

    let good = files(&places)?;
    damage(&places)?;
    ensure!(run(&places, &["state", "check"])?.expect(1)?.stdout.contains("damaged"), "damage is not told");
    let listed = run(&places, &["backup", "list", "-o", "json"])?.expect(0)?.json()?;
    ensure!(listed["data"][0]["name"] == "before", "{listed}");
    run(&places, &["backup", "verify", "before"])?.expect(0)?;
    let bad = files(&places)?;
    let planned =
        run(&places, &["backup", "restore", "before", "--dry-run", "-o", "json"])?.expect(0)?.json()?;
    ensure!(planned["data"]["changes"].as_array().is_some_and(|changes| changes.len() >= 7), "{planned}");
    ensure!(files(&places)? == bad, "a dry run changed something");
    run(&places, &["backup", "restore", "before"])?.expect(2)?;
    let restored =
        run(&places, &["backup", "restore", "before", "--yes", "-o", "json"])?.expect(0)?.json()?;
    ensure!(files(&places)? == good, "{restored}");
    let kept = restored["data"]["before"][0].as_str().context("before")?;
    ensure!(
        fs::read_to_string(Path::new(kept).join("config.yaml"))? == "on_stop: [\n",
        "the old is not in {kept}"
    );

    let daemon = Daemon::start(&places)?;
    let status = daemon.data(&["daemon", "status"])?;
    ensure!(status["profile"] == "web", "the active profile did not come back: {status}");
    daemon.stop()
}

#[test]
fn killed_at_any_point_a_restore_leaves_all_old_or_all_new() -> Result<()> {
    let _turn = Turn::take()?;
    for point in POINTS {
        let places = Places::new()?;
        furnish(&places)?;
        run(&places, &["backup", "create", "one"])?.expect(0)?;
        let good = files(&places)?;
        places.write_config("on_stop: keep\n")?;
        fs::write(places.config().join("config.d/20.yaml"), "source: poll\n")?;
        fs::write(places.log().join("audit-of-test.jsonl"), "garbage")?;
        let other = files(&places)?;
        let status = Command::new(places.agent())
            .args(places.arguments())
            .args(["backup", "restore", "one", "--yes"])
            .env("PROCESS_THROTTLER_DIE_AT", point)
            .output()?
            .status;
        ensure!(!status.success(), "it did not die at {point}");
        // Whatever is done next finds one of the two.
        let next = run(&places, &["validate", "config"])?.expect(0)?;
        let found = files(&places)?;
        if point == "restore-committed" {
            ensure!(found == good, "{point}: {found:?}");
        } else {
            ensure!(found == other, "{point}: {found:?}");
            ensure!(next.stderr.contains("has been undone"), "{point}: {}", next.stderr);
        }
        run(&places, &["backup", "restore", "one", "--yes"])?.expect(0)?;
        ensure!(files(&places)? == good, "{point}");
    }
    Ok(())
}

#[test]
fn backups_are_counted_deleted_and_refused() -> Result<()> {
    let places = Places::new()?;
    furnish(&places)?;
    for _ in 0..3 {
        run(&places, &["backup", "create", "--keep", "2"])?.expect(0)?;
    }
    run(&places, &["backup", "create", "mine"])?.expect(0)?;
    let listed = run(&places, &["backup", "list", "-o", "json"])?.expect(0)?.json()?;
    ensure!(listed["data"].as_array().is_some_and(|list| list.len() == 3), "{listed}");
    run(&places, &["backup", "create", "mine"])?.expect(7)?;
    run(&places, &["backup", "create", "Not A Name"])?.expect(2)?;
    run(&places, &["backup", "show", "gone"])?.expect(4)?;
    run(&places, &["backup", "delete", "mine"])?.expect(2)?;
    run(&places, &["backup", "delete", "mine", "--dry-run"])?.expect(0)?;
    run(&places, &["backup", "show", "mine", "-o", "yaml"])?.expect(0)?;
    run(&places, &["backup", "delete", "mine", "--yes"])?.expect(0)?;
    run(&places, &["backup", "show", "mine"])?.expect(4)?;
    let broken = places.root().join("broken.tar.gz");
    fs::write(&broken, b"no archive")?;
    let broken = broken.to_str().context("path")?;
    for command in ["show", "verify"] {
        run(&places, &["backup", command, broken])?.expect(1)?;
    }
    run(&places, &["backup", "restore", broken, "--yes"])?.expect(1)?;
    Ok(())
}

#[test]
fn a_newer_state_is_refused_and_a_damaged_one_set_aside() -> Result<()> {
    let places = Places::new()?;
    ensure!(run(&places, &["state", "check"])?.expect(0)?.stdout.contains("absent"), "nothing is there yet");
    fs::write(places.state().join("state.db"), "no database, but long enough to be looked at ".repeat(100))?;
    let planned = run(&places, &["state", "migrate", "--dry-run", "-o", "json"])?.expect(0)?.json()?;
    ensure!(planned["data"]["databases"][0]["action"] == "set_aside", "{planned}");
    run(&places, &["state", "check"])?.expect(1)?;
    let done = run(&places, &["state", "migrate", "-o", "json"])?.expect(0)?.json()?;
    let kept = done["data"]["databases"][0]["kept"].as_str().context("kept")?;
    ensure!(Path::new(kept).exists(), "{kept} is not there");
    run(&places, &["state", "check"])?.expect(0)?;
    // Bytes 60 to 63 of the file are its user_version (SQLite's file format, 1.3).
    let path = places.state().join("state.db");
    let mut bytes = fs::read(&path)?;
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&path, &bytes)?;
    ensure!(
        run(&places, &["state", "check"])?.expect(1)?.stdout.contains("newer"),
        "a newer one is not told"
    );
    run(&places, &["state", "migrate"])?.expect(1)?;
    ensure!(fs::read(&path)? == bytes, "a newer one was touched");
    Ok(())
}

#[test]
fn a_dry_run_of_a_restore_checks_the_configuration_and_leaves_no_trace() -> Result<()> {
    let places = Places::new()?;
    places.write_config("no_such_key: 1\n")?;
    run(&places, &["backup", "create", "bad"])?.expect(0)?;
    places.write_config("on_stop: keep\n")?;
    run(&places, &["backup", "create", "good"])?.expect(0)?;
    places.write_config("on_stop: release\n")?;
    let before = files(&places)?;
    let bad = run(&places, &["backup", "restore", "bad", "--dry-run"])?.expect(6)?;
    ensure!(bad.stderr.contains("no_such_key"), "{bad:?}");
    let good = run(&places, &["backup", "restore", "good", "--dry-run"])?.expect(0)?;
    ensure!(good.stdout.contains("would be valid") && good.stdout.contains("replace"), "{good:?}");
    ensure!(files(&places)? == before, "{before:?} became {:?}", files(&places)?);
    // As the restore itself says.
    run(&places, &["backup", "restore", "bad", "--yes"])?.expect(6)?;
    run(&places, &["backup", "restore", "good", "--yes"])?.expect(0)?;
    // On a machine that has nothing yet, too.
    let fresh = Places::new()?;
    let archive = places.state().join("backups/good.tar.gz");
    fs::remove_dir_all(fresh.config())?;
    let path = archive.to_str().context("UTF-8")?;
    run(&fresh, &["backup", "restore", path, "--dry-run"])?.expect(0)?;
    ensure!(!fresh.config().exists(), "a dry run has made the configuration directory");
    Ok(())
}

#[test]
fn a_backup_that_has_no_room_is_refused_before_anything_is_written() -> Result<()> {
    const SCRIPT: &str = r#"
        dir=$1; shift
        mkdir "$dir"
        mount -t tmpfs -o size=1m pt-test-small "$dir"
        "$@" backup create small --directory "$dir" || code=$?
        echo "code=$code left=$(ls -A "$dir")"
    "#;
    let places = Places::new()?;
    furnish(&places)?;
    let dir = places.root().join("small");
    let dir = dir.to_str().context("UTF-8")?;
    let output = run_in_mount_namespace(&places, SCRIPT, &[dir])?.expect(0)?;
    ensure!(output.stdout == "code=1 left=\n", "{output:?}");
    ensure!(output.stderr.contains(&format!("no room for a backup in {dir}: ")), "{output:?}");
    ensure!(output.stderr.contains("MiB are needed") && output.stderr.contains("--directory"), "{output:?}");
    Ok(())
}

#[test]
fn a_scheduled_backup_that_was_missed_is_made_at_the_next_start_once() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    // Never due while the test runs, and last due up to a year ago.
    places.write_config("backup: { schedule: \"0 0 29 2 *\" }\n")?;
    let automatic = || -> Result<usize> {
        let list = run(&places, &["backup", "list", "-o", "json"])?.expect(0)?.json()?;
        Ok(list["data"].as_array().context("a list")?.len())
    };
    let turn = |statement: &str| -> Result<String> {
        const PROGRAM: &str = "import sqlite3, sys
book = sqlite3.connect(sys.argv[1])
print(book.execute(sys.argv[2]).fetchone())
book.commit()";
        let mut python = Command::new("python3");
        python.args(["-c", PROGRAM]).arg(places.state().join("journal.db")).arg(statement);
        Ok(run_command(python)?.expect(0)?.stdout)
    };
    const READ: &str = "SELECT value FROM meta WHERE key = 'backup_turn'";
    let daemon = Daemon::start(&places)?;
    // A schedule that is new has missed nothing.
    wait_until("the turn is noted", SOON, || Ok(turn(READ)?.contains("0 0 29 2 *")))?;
    daemon.stop()?;
    ensure!(automatic()? == 0, "a backup that nobody has missed");

    turn("UPDATE meta SET value = '1500000000000 0 0 29 2 *' WHERE key = 'backup_turn'")?;
    let daemon = Daemon::start(&places)?;
    wait_until("the backup is made up for", SOON, || Ok(automatic()? == 1))?;
    daemon.wait_event("backup_created", |_| true)?;
    daemon.stop()?;
    ensure!(!turn(READ)?.contains("1500000000000"), "it would be made again");
    let daemon = Daemon::start(&places)?;
    daemon.ask(&["daemon", "status"])?;
    daemon.stop()?;
    ensure!(automatic()? == 1, "it was made twice");
    Ok(())
}
