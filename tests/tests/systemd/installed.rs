//! The agent as a unit: started, reloaded, killed, hung and stopped by systemd.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::{SOON, Stopwatch, patience, wait_until};
use integration_tests::daemon::Turn;
use integration_tests::guide::blocks;
use integration_tests::installed::{Installed, SOCKET, UNIT};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::systemd::{property, systemctl};
use integration_tests::workload::Workload;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What is left to the daemon after its start, of capability.h: DAC_OVERRIDE, NET_ADMIN, SYS_PTRACE, SYS_NICE,
/// SYS_RESOURCE, BPF.
const CAPABILITIES: u64 = 1 << 1 | 1 << 12 | 1 << 19 | 1 << 23 | 1 << 24 | 1 << 39;

fn signal(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(pid)?), signal).with_context(|| format!("send {signal} to {pid}"))
}

/// What the guides have a host with systemd type.
#[test]
fn the_guides_hold_where_the_unit_is_installed() -> Result<()> {
    const HANDBOOK: &str = include_str!("../../../docs/guides/handbook.md");
    const TROUBLESHOOTING: &str = include_str!("../../../docs/guides/troubleshooting.md");
    let (_turn, _installed) = (Turn::take()?, Installed::new()?);
    let run = |block: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-ec", block]);
        integration_tests::command::run_command(shell)?.expect(0)
    };
    let [enable, remove] = blocks(HANDBOOK, "sh systemd")[..] else { anyhow::bail!("other blocks") };
    let [journal] = blocks(TROUBLESHOOTING, "sh systemd")[..] else { anyhow::bail!("other blocks") };
    ensure!(run(enable)?.stdout.contains("active"), "it does not run");
    run(journal)?;
    run(remove)?;
    ensure!(property(UNIT, "ActiveState")? == "inactive", "it still runs");
    Ok(())
}

/// A process that the active profile gives a nice value of 6.
pub(crate) fn limited(installed: &Installed, places: &Places) -> Result<Workload> {
    let program = Program::Wait.write(&places.bin(), "pt-nicely")?;
    let profile = r#"{"name": "p", "throttling_rules": [
        {"name": "r", "match": {"comm": "pt-nicely"}, "limits": {"nice": 6}}]}"#;
    installed.write_profile("p", profile)?;
    installed.run(&["profile", "activate", "p"])?.expect(0)?;
    let process = Workload::spawn(&program)?;
    wait_for_nice(&process, 6).with_context(|| installed.log())?;
    Ok(process)
}

pub(crate) fn wait_for_nice(process: &Workload, nice: i32) -> Result<()> {
    wait_until(&format!("nice is {nice}"), SOON, || Ok(kernel::stat(process.pid())?.nice == nice))
}

/// Fails when systemd thinks that the unit could do too much harm.
pub(crate) fn exposure() -> Result<()> {
    let mut analyze = std::process::Command::new("systemd-analyze");
    analyze.args(["security", "--no-pager", "--threshold=30", UNIT]);
    let told = integration_tests::command::run_command(analyze)?.expect(0)?.stdout;
    let overall = told.lines().find(|line| line.contains("Overall exposure level")).context("a score")?;
    ensure!(
        overall.contains(&format!("{UNIT}: 2.")) || overall.contains(&format!("{UNIT}: 3.0")),
        "{overall}"
    );
    Ok(())
}

#[test]
fn it_is_started_when_it_answers_and_runs_with_few_rights() -> Result<()> {
    let (_turn, installed) = (Turn::take()?, Installed::new()?);
    let pid = installed.start()?;
    let status = installed.data(&["daemon", "status"])?;
    ensure!(status["pid"] == pid && status["state"] == "running", "{status}\n{}", installed.log());
    ensure!(status["source"]["name"] == "ebpf", "{status}\n{}", installed.log());
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).context(name);
        for set in ["CapPrm:\t", "CapEff:\t"] {
            let found = u64::from_str_radix(field(set)?, 16)?;
            ensure!(found == CAPABILITIES, "thread {}: {set}{found:x}", field("Name:\t")?);
        }
        ensure!(field("NoNewPrivs:\t")? == "1", "it may gain privileges");
    }
    ensure!(!installed.log().contains("may react late"), "no priority for the engine\n{}", installed.log());
    Ok(())
}

#[test]
fn its_messages_are_in_the_journal_with_their_fields() -> Result<()> {
    let (_turn, installed) = (Turn::take()?, Installed::new()?);
    let pid = installed.start()?;
    wait_until("the message", SOON, || {
        let mut journal = std::process::Command::new("journalctl");
        let fields = [&format!("_PID={pid}"), "PROCESS_THROTTLER_SOURCE=ebpf", "PRIORITY=6"];
        journal.args(["--no-pager", "-o", "cat", "-t", "process-throttler", "-u", UNIT]).args(fields);
        Ok(integration_tests::command::run_command(journal)?.stdout.lines().any(|line| line == "ready"))
    })
    .with_context(|| installed.log())
}

#[test]
fn its_exposure_is_at_most_3() -> Result<()> {
    let (_turn, installed) = (Turn::take()?, Installed::new()?);
    installed.start()?;
    exposure()
}

#[test]
fn the_units_are_valid() -> Result<()> {
    let (_turn, _installed) = (Turn::take()?, Installed::new()?);
    let mut analyze = std::process::Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no", UNIT, SOCKET]);
    let told = integration_tests::command::run_command(analyze)?.expect(0)?;
    let ours: Vec<&str> = told.stderr.lines().filter(|line| line.contains("process-throttler")).collect();
    ensure!(ours.is_empty(), "{ours:?}");
    Ok(())
}

#[test]
fn a_reload_returns_when_it_is_done_and_fails_when_it_is_refused() -> Result<()> {
    let (_turn, installed) = (Turn::take()?, Installed::new()?);
    let pid = installed.start()?;
    installed.configure("no_such_key: 1\n")?;
    ensure!(systemctl(&["reload", UNIT]).is_err(), "a bad configuration was accepted");
    let status = installed.data(&["daemon", "status"])?;
    ensure!(status["config_error"].as_str().is_some_and(|error| error.contains("no_such_key")), "{status}");
    installed.configure("# good\n")?;
    systemctl(&["reload", UNIT])?;
    let status = installed.data(&["daemon", "status"])?;
    ensure!(status["config_error"].is_null() && installed.pid()? == Some(pid), "{status}");
    Ok(())
}

#[test]
fn killed_it_comes_back_and_so_do_its_limits() -> Result<()> {
    let (_turn, installed, places) = (Turn::take()?, Installed::new()?, Places::new()?);
    let pid = installed.start()?;
    let process = limited(&installed, &places)?;
    signal(pid, Signal::SIGKILL)?;
    installed.restarted(pid)?;
    wait_for_nice(&process, 6).with_context(|| installed.log())?;
    systemctl(&["stop", UNIT])?;
    ensure!(kernel::stat(process.pid())?.nice == 0, "a stop leaves a limit\n{}", installed.log());
    Ok(())
}

#[test]
fn killed_for_good_it_leaves_nothing_limited() -> Result<()> {
    let (_turn, installed, places) = (Turn::take()?, Installed::new()?, Places::new()?);
    installed.drop_in("[Service]\nRestart=no\n")?;
    let pid = installed.start()?;
    let process = limited(&installed, &places)?;
    signal(pid, Signal::SIGKILL)?;
    wait_for_nice(&process, 0).with_context(|| installed.log())
}

#[test]
fn limits_that_are_to_be_kept_are_kept() -> Result<()> {
    let (_turn, installed, places) = (Turn::take()?, Installed::new()?, Places::new()?);
    installed.configure("on_stop: keep\n")?;
    installed.start()?;
    let process = limited(&installed, &places)?;
    systemctl(&["stop", SOCKET, UNIT])?;
    ensure!(kernel::stat(process.pid())?.nice == 6, "on_stop: keep was not obeyed\n{}", installed.log());
    installed.run(&["--yes", "release", "--all"])?.expect(0)?;
    ensure!(kernel::stat(process.pid())?.nice == 0, "a limit stays after release --all");
    Ok(())
}

#[test]
fn hung_it_is_restarted_and_busy_it_is_not() -> Result<()> {
    let (_turn, installed, places) = (Turn::take()?, Installed::new()?, Places::new()?);
    let seconds = patience(std::time::Duration::from_secs(1)).as_secs();
    installed.drop_in(&format!("[Service]\nWatchdogSec={seconds}\n"))?;
    let pid = installed.start()?;
    let process = limited(&installed, &places)?;
    // Questions without a pause, for longer than the watchdog waits.
    let watch = Stopwatch::start();
    while watch.elapsed().as_secs() < 2 * seconds {
        installed.data(&["status"])?;
    }
    ensure!(installed.pid()? == Some(pid), "a busy daemon was taken for a hung one\n{}", installed.log());
    signal(pid, Signal::SIGSTOP)?;
    installed.restarted(pid)?;
    ensure!(installed.log().contains("Watchdog timeout"), "{}", installed.log());
    wait_for_nice(&process, 6).with_context(|| installed.log())
}

#[test]
fn a_question_starts_it_but_asking_whether_it_runs_does_not() -> Result<()> {
    let (_turn, installed) = (Turn::take()?, Installed::new()?);
    systemctl(&["start", SOCKET])?;
    installed.run(&["daemon", "status"])?.expect(3)?;
    ensure!(installed.pid()?.is_none(), "daemon status has started it");
    installed.data(&["events"])?;
    let first = installed.pid()?.with_context(|| installed.log())?;
    // Who asks while it restarts gets an answer from its successor.
    systemctl(&["restart", "--no-block", UNIT])?;
    installed.data(&["events"])?;
    installed.restarted(first)?;
    Ok(())
}

#[test]
fn a_group_that_the_socket_is_not_for_is_told() -> Result<()> {
    let (_turn, installed) = (Turn::take()?, Installed::new()?);
    installed.configure("socket_group: users\n")?;
    installed.start()?;
    ensure!(installed.log().contains("set SocketGroup= in the socket unit"), "{}", installed.log());
    installed.run(&["daemon", "status"])?.expect(0)?;
    Ok(())
}

#[test]
fn the_daemon_commands_go_through_systemd() -> Result<()> {
    let (_turn, installed) = (Turn::take()?, Installed::new()?);
    installed.run(&["daemon", "start"])?.expect(0)?;
    let first = installed.pid()?.context("started by systemd")?;
    installed.run(&["daemon", "start"])?.expect(7)?;
    installed.run(&["daemon", "reload"])?.expect(0)?;
    installed.run(&["daemon", "restart"])?.expect(0)?;
    let second = installed.pid()?.context("restarted by systemd")?;
    ensure!(first != second, "restart kept process {first}");
    installed.run(&["daemon", "stop"])?.expect(0)?;
    for unit in [UNIT, SOCKET] {
        ensure!(property(unit, "ActiveState")? == "inactive", "{unit}: {}", property(unit, "ActiveState")?);
    }
    installed.run(&["daemon", "status"])?.expect(3)?;
    Ok(())
}
