//! `--dry-run` changes nothing: not the kernel, not a file, not the state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::{TestCgroup, agent_groups};
use integration_tests::clock::{SOON, pause, wait_until};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::json;

/// Longer than after the last commit the journal's log is written back into the database.
const WRITTEN_BACK: Duration = Duration::from_secs(1);

/// Everything that a command could change, by what it is called.
type Everything = BTreeMap<String, Vec<u8>>;

fn capture(daemon: &Daemon<'_>, cgroup: &TestCgroup, process: &Workload) -> Result<Everything> {
    let places = daemon.places();
    let mut files = BTreeMap::new();
    for dir in [places.config(), places.state()] {
        read_all(&dir, &mut files)?;
    }
    let mut all: Everything =
        files.into_iter().map(|(path, bytes)| (path.display().to_string(), bytes)).collect();
    for (path, value) in cgroup.limits()? {
        all.insert(path.display().to_string(), value.into_bytes());
    }
    for (what, value) in [
        ("groups' cgroups", format!("{:?}", agent_groups()?)),
        ("nice", kernel::stat(process.pid())?.nice.to_string()),
        ("groups", groups(daemon)?),
        ("profile", daemon.data(&["daemon", "status"])?["profile"].to_string()),
        ("events", daemon.data(&["events"])?.to_string()),
    ] {
        all.insert(what.to_owned(), value.into_bytes());
    }
    Ok(all)
}

/// The groups without what is counted from clocks at each answer.
fn groups(daemon: &Daemon<'_>) -> Result<String> {
    let mut groups = daemon.data(&["status"])?;
    for group in groups.as_array_mut().context("groups are a list")? {
        for clocked in ["since", "throttled_periods", "throttled_us", "cpu_delay"] {
            group.as_object_mut().context("a group is an object")?.remove(clocked);
        }
    }
    Ok(groups.to_string())
}

/// What differs between two captures, in a form that fits a message.
fn differences(before: &Everything, after: &Everything) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let shown = |value: Option<&Vec<u8>>| value.map_or_else(String::new, |bytes| excerpt(bytes));
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    changed.map(|name| format!("{name}: {} -> {}", shown(before.get(name)), shown(after.get(name)))).collect()
}

fn excerpt(bytes: &[u8]) -> String {
    format!("{} bytes {:.300}", bytes.len(), String::from_utf8_lossy(bytes).replace(char::is_control, "."))
}

fn read_all(dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry.context("list")?.path();
        if path.is_dir() {
            read_all(&path, files)?;
        } else {
            files.insert(path.clone(), fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        }
    }
    Ok(())
}

#[test]
fn nothing_changes() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("dry-run")?);
    let process = Workload::spawn_in(&Program::Wait.write(&places.bin(), "pt-dry")?, &cgroup)?;
    let pid = process.pid_text();
    let profile = ProfileText::new("dry").rule("dry", "pt-dry", &json!({ "cpu": "10%", "nice": 5 }));
    places.write_profile("dry", profile.text().as_bytes())?;
    let other = places.root().join("imported.yaml");
    fs::write(&other, ProfileText::new("imported").rule("a", "pt-none", &json!({ "cpu": "10%" })).text())?;
    let other = other.to_str().context("the path is UTF-8")?;
    let daemon = Daemon::start(&places)?;

    let throttle = ["throttle", "--pid", &pid, "--cpu", "20%", "--nice", "9"];
    // First with nothing in force, then with a limit that the other commands would lift.
    unchanged(
        &daemon,
        &cgroup,
        &process,
        &[&throttle, &["profile", "activate", "dry"], &["profile", "import", other], &["daemon", "reload"]],
    )?;
    daemon.ask(&["profile", "activate", "dry"])?;
    wait_until("the limit is in force", SOON, || {
        Ok(cgroup.cpu_quota()? == Some(10.0) && kernel::stat(process.pid())?.nice == 5)
    })?;
    unchanged(
        &daemon,
        &cgroup,
        &process,
        &[
            &["release", "--all", "--yes"],
            &["release", "--group", "dry", "--yes"],
            &["release", "--pid", &pid, "--yes"],
            &["profile", "deactivate", "--yes"],
            &["profile", "create", "new"],
            &["profile", "clone", "dry", "copy"],
            &["profile", "edit", "dry", "--set", "description=other"],
            &["profile", "delete", "dry", "--force"],
            &["daemon", "stop"],
            &["daemon", "restart"],
        ],
    )?;
    daemon.stop()
}

fn unchanged(
    daemon: &Daemon<'_>,
    cgroup: &TestCgroup,
    process: &Workload,
    commands: &[&[&str]],
) -> Result<()> {
    pause(WRITTEN_BACK);
    for command in commands {
        // What the agent still writes down of things past is not the command's doing.
        let mut before = capture(daemon, cgroup, process)?;
        wait_until("the agent is at rest", SOON, || {
            let now = capture(daemon, cgroup, process)?;
            Ok(std::mem::replace(&mut before, now) == before)
        })?;
        let output = daemon.ask(&[&["--dry-run"], *command].concat())?;
        ensure!(
            !format!("{}{}", output.stdout, output.stderr).trim().is_empty(),
            "{} said nothing",
            output.line
        );
        let changed = differences(&before, &capture(daemon, cgroup, process)?);
        ensure!(changed.is_empty(), "{} changed:\n{}", output.line, changed.join("\n"));
    }
    Ok(())
}
