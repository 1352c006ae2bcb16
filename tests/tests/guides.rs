//! What the guides tell the reader to type works, and shows what they say it shows.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use integration_tests::daemon::Turn;
use integration_tests::places::Places;

const LIMITS: &str = include_str!("../../docs/guides/limits.md");
const PROFILES: &str = include_str!("../../docs/guides/profiles.md");
const WEBHOOKS: &str = include_str!("../../docs/guides/webhooks.md");

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

#[test]
fn the_guide_on_webhooks_keeps_endpoints() -> Result<()> {
    let places = Places::new()?;
    let blocks = blocks(WEBHOOKS);
    let [add, chat, rotate, quiet] = blocks.as_slice() else { anyhow::bail!("{} blocks", blocks.len()) };
    let printed = run(&places, add)?;
    ensure!(printed.contains("secrets/ops.key") && printed.contains("health_check_failed"), "{printed}");
    let printed = run(&places, chat)?;
    ensure!(!printed.contains("XXXX") && printed.contains("warning and worse"), "{printed}");
    let printed = run(&places, rotate)?;
    ensure!(printed.contains("secrets/ops-2.key, "), "both keys sign: {printed}");
    let printed = run(&places, quiet)?;
    ensure!(printed.contains("removed from"), "{printed}");
    Ok(())
}

#[test]
fn the_guide_on_webhooks_checks_signatures() -> Result<()> {
    // The example of the reference libraries of Standard Webhooks.
    const EXAMPLE: &str = r#"
body = b'{"test": 2432232314}'
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
headers = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
old = genuine(headers, body, secret)
time.time = lambda: 1614265330
print(genuine(headers, body, secret), genuine(headers, body + b" ", secret), old)
"#;
    let block = WEBHOOKS.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let script = format!("{}{EXAMPLE}", block.context("a block of Python")?);
    let output = Command::new("python3").args(["-c", &script]).output().context("run Python")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(printed == "True False False\n", "{printed}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn the_guide_on_profiles_can_be_typed() -> Result<()> {
    let places = Places::new()?;
    let blocks = blocks(PROFILES);
    ensure!(blocks.len() == 6, "{} blocks", blocks.len());
    let mut printed = String::new();
    for block in blocks {
        printed.push_str(&run(&places, block)?);
    }
    for expected in
        ["throttling_rules.backups.limits.cpu", "cpu: 20% }", "# nightly", "profile server-test rolled back"]
    {
        ensure!(printed.contains(expected), "{expected}: {printed}");
    }
    Ok(())
}
