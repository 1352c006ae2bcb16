//! What the agent lives in: its socket, its memory, and the cgroup file systems.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::{TestCgroup, cpu_quota_of};
use integration_tests::clock::{SOON, Stopwatch, wait_until};
use integration_tests::command::{run, run_command};
use integration_tests::daemon::Daemon;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::storm::Storm;
use integration_tests::workload::Workload;
use serde_json::{Value, json};

use crate::chaos::dice::Dice;
use crate::chaos::stage::{Setting, Stage};

/// Somebody deletes the socket's file.
pub(crate) fn lost_socket(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let stage = Stage::set(&places, "socket", "")?;
    let daemon = stage.start()?;
    let mode = |path: &Path| -> Result<u32> {
        Ok(std::os::unix::fs::MetadataExt::mode(&fs::symlink_metadata(path).context("look at the socket")?))
    };
    let before = mode(&places.socket())?;
    fs::remove_file(places.socket()).context("delete the socket")?;
    let watch = Stopwatch::start();
    wait_until(
        "it answers again",
        SOON,
        || Ok(run(&places, &["daemon", "status", "-o", "json"])?.code == 0),
    )?;
    let recovery = watch.elapsed();
    ensure!(mode(&places.socket())? == before, "others may use it now");
    stage.right(&daemon)?;
    stage.end(daemon)?;
    Ok(recovery)
}

/// Runs a command in the cgroup with these `cgroup.procs`.
const JOIN: &str = r#"echo $$ >"$1" && shift && exec "$@""#;

/// A cgroup for the agent itself, with the file that limits its memory and the one that tells what it uses.
struct Cell {
    cgroup: TestCgroup,
    dir: PathBuf,
}

impl Cell {
    fn new(name: &str) -> Result<Self> {
        let cgroup = TestCgroup::new(name)?;
        let has_memory = |dir: &PathBuf| {
            ["memory.limit_in_bytes", "memory.max"].iter().any(|file| dir.join(file).exists())
        };
        let dirs = cgroup.procs_files().filter_map(|procs| procs.parent().map(Path::to_owned));
        let dir = { dirs }.find(has_memory).context("a memory controller")?;
        Ok(Self { cgroup, dir })
    }

    fn start<'a>(&self, places: &'a Places) -> Result<Daemon<'a>> {
        let procs = self.dir.join("cgroup.procs");
        let procs = procs.to_str().context("a path of text")?;
        Daemon::start_under(places, &["sh", "-euc", JOIN, "sh", procs])
    }

    fn file(&self, v1: &str, v2: &str) -> PathBuf {
        let path = self.dir.join(v1);
        if path.exists() { path } else { self.dir.join(v2) }
    }

    /// Leaves this many bytes more than it uses now.
    fn leave(&self, bytes: u64) -> Result<()> {
        let usage = fs::read_to_string(self.file("memory.usage_in_bytes", "memory.current"))
            .context("read the use of memory")?;
        let usage: u64 = usage.trim().parse().context("the use of memory")?;
        let limit = self.file("memory.limit_in_bytes", "memory.max");
        fs::write(&limit, (usage + bytes).to_string()).with_context(|| format!("write {}", limit.display()))
    }
}

/// Hardly more memory than it has.
pub(crate) fn little_memory(setting: &Setting, dice: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage = Stage::set(&places, "little", "")?;
    let cell = Cell::new("chaos-cell")?;
    let daemon = stage.begin(cell.start(&places)?)?;
    cell.leave(2 << 20)?;
    let storm = Storm::for_time(&stage.life, dice.time(Duration::from_secs(1)))?;
    let victim = stage.kill_one()?;
    let account = storm.finish()?;
    let watch = Stopwatch::start();
    let (recovery, _) = stage.recovered(&daemon, &watch, &victim, account.lives)?;
    stage.end(daemon)?;
    drop(cell.cgroup);
    Ok(recovery)
}

/// Takes all that is left, and more.
const GREEDY: &str =
    r#"echo $$ >"$1" && exec perl -e 'my @all; push @all, "x" x (1 << 20) for 1 .. 512; sleep 30'"#;

/// Somebody else in its cgroup takes the memory; the OOM killer takes the agent.
pub(crate) fn no_memory(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let stage = Stage::set(&places, "none", "")?;
    let cell = Cell::new("chaos-cell")?;
    let daemon = stage.begin(cell.start(&places)?)?;
    // The first choice, whoever uses more.
    fs::write(format!("/proc/{}/oom_score_adj", daemon.pid()), "1000")
        .context("offer it to the OOM killer")?;
    cell.leave(8 << 20)?;
    let procs = cell.dir.join("cgroup.procs");
    let sh = Path::new("/bin/sh");
    let greedy = Workload::spawn_with(sh, &["-c", GREEDY, "sh", procs.to_str().context("a path of text")?])?;
    let died = daemon.died().context("the OOM killer");
    drop(greedy);
    died?;
    let watch = Stopwatch::start();
    let daemon = Daemon::start(&places)?;
    stage.right(&daemon)?;
    let recovery = watch.elapsed();
    stage.end(daemon)?;
    drop(cell.cgroup);
    Ok(recovery)
}

/// Changes how the agent, which has a mount namespace of its own, sees the cgroup file systems: `ro` or `rw`.
fn remount(daemon: &Daemon<'_>, how: &str) -> Result<()> {
    const SCRIPT: &str = r#"awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/self/mounts |
        while read -r mount; do mount -o "remount,bind,$1" "$mount"; done"#;
    let mut command = Command::new("nsenter");
    command.args(["--target", &daemon.pid().to_string(), "--mount", "sh", "-euc", SCRIPT, "sh", how]);
    run_command(command)?.expect(0).map(drop)
}

/// The cgroup file systems cannot be written for a while.
pub(crate) fn read_only(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    const LATE: &str = "pt-late";
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage = Stage::set(&places, "readonly", "")?
        .with(|profile| profile.rule(LATE, LATE, &json!({ "cpu": "25%" })));
    let program = Program::Wait.write(&places.bin(), LATE)?;
    let prefix = ["unshare", "--mount", "--propagation", "private"];
    let daemon = stage.begin(Daemon::start_under(&places, &prefix)?)?;
    remount(&daemon, "ro")?;
    let late = Workload::spawn(&program)?;
    daemon.wait_event("throttle_failed", |event| {
        event["group"] == LATE && event["error"].as_str().is_some_and(|why| why.contains("Read-only"))
    })?;
    let quota = || cpu_quota_of(late.pid());
    let group = daemon.group(LATE)?;
    let not_in_force =
        |group: &Value| group["how"].as_str().is_some_and(|how| how.starts_with("not in force"));
    ensure!(group.as_ref().is_none_or(not_in_force), "it is said to be limited: {group:?}");
    ensure!(quota()?.is_none(), "it is limited");
    let victim = stage.kill_one()?;
    stage.alerted(&victim)?;
    stage.right(&daemon)?;
    remount(&daemon, "rw")?;
    let watch = Stopwatch::start();
    let another = Workload::spawn(&program)?;
    wait_until("both are limited", SOON, || {
        Ok(quota()? == Some(25.0) && cpu_quota_of(another.pid())? == Some(25.0))
    })?;
    let recovery = watch.elapsed();
    drop((late, another));
    stage.end(daemon)?;
    Ok(recovery)
}
