//! A daemon that runs takes over what commands write to `webhooks.yaml`, and keeps what it has when the file is
//! bad.

use anyhow::{Result, ensure};
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;

const URL: &str = "https://example.com/hook";

#[test]
fn a_daemon_that_runs_takes_changes_over() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    for (arguments, expected) in [
        (&["webhook", "add", "a", URL][..], "the daemon has reloaded: webhook endpoints"),
        (&["webhook", "disable", "a"], "the daemon has reloaded: webhook endpoints"),
        (&["webhook", "disable", "a"], "nothing to change"),
        (&["webhook", "remove", "a", "--yes"], "the daemon has reloaded: webhook endpoints"),
    ] {
        let printed = run(&places, arguments)?.expect(0)?;
        ensure!(printed.stdout.contains(expected), "{printed:?}");
    }
    daemon.stop()
}

#[test]
fn a_bad_file_is_told_and_the_last_good_one_kept() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    run(&places, &["webhook", "add", "a", URL])?.expect(0)?;
    let file = places.config().join("webhooks.yaml");
    std::fs::write(&file, "webhooks:\n  - name: a\n    url: nothing\n")?;

    let refused = run(&places, &["daemon", "reload"])?.expect(6)?;

    ensure!(refused.stderr.contains("webhooks.yaml:3:10"), "{refused:?}");
    daemon.wait_event("configuration_changed", |event| {
        event["accepted"] == false
            && event["detail"].as_str().is_some_and(|text| text.contains("webhooks.yaml:3:10"))
    })?;
    // What is valid and cannot be taken over for another reason stands, and that is told.
    std::fs::write(&file, "webhooks: []\n")?;
    std::fs::write(places.config().join("config.yaml"), "nonsense: 1\n")?;
    let partly = run(&places, &["webhook", "add", "b", URL])?.expect(8)?;
    ensure!(partly.stderr.contains("written, but the daemon goes on as before"), "{partly:?}");
    ensure!(std::fs::read_to_string(&file)?.contains("name: b"), "it was written");
    daemon.stop()?;

    // At a start there is no good one to keep.
    let invalid = run(&places, &["daemon", "run"])?.expect(6)?;
    ensure!(invalid.stderr.contains("nonsense"), "{invalid:?}");
    Ok(())
}
