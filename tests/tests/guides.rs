//! What the guides tell the reader to type works, and shows what they say it shows.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use integration_tests::daemon::Turn;
use integration_tests::places::Places;

const LIMITS: &str = include_str!("../../docs/guides/limits.md");

/// The blocks of shell commands of a guide.
fn blocks(guide: &str) -> Vec<&str> {
    guide.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Runs a block as a reader would, with the agent's directories elsewhere.
fn run(places: &Places, block: &str) -> Result<String> {
    let bin = places.agent().parent().and_then(Path::to_str).context("the agent is in a directory")?;
    let path = std::env::var("PATH").context("PATH")?;
    let output = Command::new("sh")
        .args(["-ec", block])
        .env("PATH", format!("{bin}:{path}"))
        .env("PROCESS_THROTTLER_CONFIG_DIR", places.config())
        .env("PROCESS_THROTTLER_STATE_DIR", places.state())
        .env("PROCESS_THROTTLER_RUNTIME_DIR", places.runtime())
        .env("PROCESS_THROTTLER_LOG_DIR", places.log())
        .output()
        .context("run a block of a guide")?;
    ensure!(output.status.success(), "a block failed:\n{block}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number after `label: ` in what a block printed.
fn figure(printed: &str, label: &str) -> Result<u32> {
    let line = printed.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(": "));
    let number = line.and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.with_context(|| format!("no figure for {label:?} in:\n{printed}"))
}

#[test]
fn the_guide_on_limits_shows_what_each_does() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let blocks = blocks(LIMITS);
    let [quota, weight, memory] = blocks.as_slice() else { anyhow::bail!("{} blocks", blocks.len()) };

    let printed = run(&places, quota)?;
    let (free, capped) = (figure(&printed, "without a limit")?, figure(&printed, "with a quota of 30 %")?);
    ensure!(capped <= 36 && free > capped, "{printed}");
    let printed = run(&places, weight)?;
    let low = figure(&printed, "weight 10 against weight 100")?;
    let high = figure(&printed, "weight 100 against weight 10")?;
    ensure!(low * 3 < high, "{printed}");
    ensure!(figure(&printed, "weight 10, alone")? > low * 2, "{printed}");
    // The program under limits ends with a signal, and the block goes on: without `-e`, as in a terminal.
    let printed = run(&places, &format!("set +e\n{memory}"))?;
    ensure!(printed.contains("ended with 137"), "{printed}");
    let none_left = integration_tests::command::run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    ensure!(!none_left.stdout.contains("demo"), "{none_left:?}");
    Ok(())
}
