//! SIGKILL between any two steps of applying and releasing: the next start, or `release --all` without a
//! daemon, puts back every value, attribute and membership.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::command::run;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::restored::{DIE_AT, POINTS, capture};
use integration_tests::workload::Workload;
use serde_json::json;

/// Lets an agent die at a point, while it limits or, when it survives that, while it releases.
fn dies_at(places: &Places, point: &str) -> Result<()> {
    let variable = format!("{DIE_AT}={point}");
    let daemon = Daemon::start_under(places, &["env", &variable])?;
    let limits = json!({ "cpu": "30%", "cpu_weight": 50, "pids": 30, "nice": 6, "sched": "batch", "io_priority": 6,
        "cpu_affinity": "0", "oom_score_adj": 77 });
    let rule = |name: &str, comm: &str| json!({ "name": name, "match": { "comm": comm }, "limits": limits });
    let profile = ProfileText::new("points")
        .rule_value(rule("in-place", "pt-point-a"))
        .rule_value(rule("moved", "pt-point-b"));
    fs::write(places.profiles().join("points.yaml"), profile.text())?;
    // It dies before it can answer, or not yet.
    if run(places, &["profile", "activate", "points"])?.code == 0 {
        let released = run(places, &["release", "--all", "--yes"])?;
        ensure!(released.code != 0, "it answered the release, too");
    }
    daemon.died()
}

#[test]
fn at_every_point_the_next_agent_or_the_command_line_restores() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("points")?);
    let in_place = Program::Wait.write(&places.bin(), "pt-point-a")?;
    let moved = Program::Wait.write(&places.bin(), "pt-point-b")?;
    for (index, point) in POINTS.into_iter().enumerate() {
        let processes = [Workload::spawn_in(&in_place, &cgroup)?, Workload::spawn(&moved)?];
        let before = capture(&cgroup, &processes)?;

        dies_at(&places, point).with_context(|| format!("at {point}"))?;
        if index % 2 == 0 {
            run(&places, &["release", "--all", "--yes"])?.expect(0)?;
        } else {
            fs::remove_file(places.profiles().join("points.yaml"))?;
            Daemon::start(&places)?.stop()?;
        }

        let after = capture(&cgroup, &processes)?;
        ensure!(after == before, "killed at {point}: after {after:#?}, before {before:#?}");
    }
    Ok(())
}
