//! `top` on a terminal: what it shows, what its keys do, and that it gives the terminal back.

use anyhow::{Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::agent_command;
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::terminal::Terminal;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;

const NAME: &str = "pt-top-load";

fn top(places: &Places) -> Result<Terminal> {
    let mut command = agent_command(places);
    command.args(["top", "--interval", "200ms"]);
    let terminal = Terminal::start(&command, 24, 80)?;
    terminal.wait_for(&["PID", "NAME"])?;
    terminal.wait_for(&["q quit", "t limit", "r release"])?;
    Ok(terminal)
}

#[test]
fn keys_find_limit_and_release_a_process_after_a_question() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("top")?);
    let daemon = Daemon::start(&places)?;
    let process = Workload::spawn_in(&Program::Wait.write(&places.bin(), NAME)?, &cgroup)?;
    let pid = process.pid_text();
    let mut terminal = top(&places)?;
    ensure!(terminal.screen().len() == 24, "{:?}", terminal.screen());
    terminal.press(&format!("/{NAME}\r"))?;
    terminal.wait_for(&[&pid, NAME])?;
    // Nothing else is left of the list.
    wait_until("only one process is listed", SOON, || {
        let screen = terminal.screen();
        let head = screen.iter().position(|line| line.starts_with("PID")).unwrap_or(screen.len());
        let rows = screen.iter().skip(head + 1).take_while(|line| !line.is_empty());
        Ok(rows.count() == 1)
    })?;

    terminal.press("t\r")?;
    terminal.wait_for(&["Limit process", &pid, "30%", "[y/N]"])?;
    terminal.press("n")?;
    terminal.wait_for(&["nothing was done"])?;
    ensure!(cgroup.cpu_quota()?.is_none(), "limited without a yes");

    terminal.press("t\r")?;
    terminal.wait_for(&["Limit process", "[y/N]"])?;
    terminal.press("y")?;
    wait_until("the quota is in force", SOON, || Ok(cgroup.cpu_quota()? == Some(30.0)))?;
    terminal.wait_for(&[&pid, NAME, "pid-"])?;

    terminal.press("r")?;
    terminal.wait_for(&["Release group", "[y/N]"])?;
    ensure!(cgroup.cpu_quota()? == Some(30.0), "released without a yes");
    terminal.press("y")?;
    wait_until("the quota is gone", SOON, || Ok(cgroup.cpu_quota()?.is_none()))?;

    terminal.press("q")?;
    ensure!(terminal.wait()?.success(), "{:?}", terminal.printed());
    terminal.ensure_restored()?;
    daemon.stop()
}

#[test]
fn signals_end_it_and_the_terminal_is_as_before() -> Result<()> {
    let places = Places::new()?;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut terminal = top(&places)?;
        terminal.signal(signal)?;
        ensure!(terminal.wait()?.success(), "{signal}: {:?}", terminal.printed());
        terminal.ensure_restored()?;
    }
    Ok(())
}
