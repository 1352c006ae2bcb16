//! What the guides tell the reader to type works, and shows what they say it shows.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use integration_tests::binary::unpacked;
use integration_tests::daemon::Turn;
use integration_tests::guide::{Detached, blocks, directories, run_block as run};
use integration_tests::places::Places;
use integration_tests::prometheus::shipped;

const HANDBOOK: &str = include_str!("../../docs/guides/handbook.md");
const TROUBLESHOOTING: &str = include_str!("../../docs/guides/troubleshooting.md");
const METRICS: &str = include_str!("../../docs/guides/metrics.md");
const LIMITS: &str = include_str!("../../docs/guides/limits.md");
const PROFILES: &str = include_str!("../../docs/guides/profiles.md");
const WEBHOOKS: &str = include_str!("../../docs/guides/webhooks.md");

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
    let blocks = blocks(LIMITS, "sh");
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
    let blocks = blocks(WEBHOOKS, "sh");
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
    let block = blocks(WEBHOOKS, "python");
    let script = format!("{}{EXAMPLE}", block.first().context("a block of Python")?);
    let output = Command::new("python3").args(["-c", &script]).output().context("run Python")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(printed == "True False False\n", "{printed}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn the_guide_on_profiles_can_be_typed() -> Result<()> {
    let places = Places::new()?;
    let blocks = blocks(PROFILES, "sh");
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

#[test]
fn the_guide_on_metrics_loads_the_rules() -> Result<()> {
    let places = Places::new()?;
    let promtool = unpacked("prometheus", "usr/bin/promtool")?;
    let own = places.root().join("prometheus");
    // What the package installs, and where Prometheus has its configuration.
    let placed = |text: &str| -> Result<String> {
        let shipped = shipped(".").canonicalize().context("the files that are shipped")?;
        let text = text.replace("/usr/share/process-throttler", shipped.to_str().context("UTF-8")?);
        Ok(text.replace("/etc/prometheus", own.to_str().context("UTF-8")?))
    };
    let bin = promtool.parent().context("promtool is in a directory")?.display();
    let blocks_of = |language| blocks(METRICS, language);
    ensure!(blocks_of("sh prometheus").len() == 2, "{:?}", blocks_of("sh prometheus"));
    let mut printed = String::new();
    for block in blocks_of("sh prometheus") {
        printed.push_str(&run(&places, &format!("PATH={bin}:$PATH\n{}", placed(block)?))?);
    }
    ensure!(printed.matches("SUCCESS").count() == 2, "{printed}");
    let [config] = blocks_of("yaml prometheus rules")[..] else { anyhow::bail!("one configuration") };
    std::fs::write(own.join("prometheus.yml"), placed(config)?).context("write the configuration")?;
    let printed = run(
        &places,
        &format!("{} check config {}", promtool.display(), own.join("prometheus.yml").display()),
    )?;
    ensure!(printed.contains("1 rule files found"), "{printed}");
    let [provider] = blocks_of("yaml grafana")[..] else { anyhow::bail!("one provider") };
    let dir = placed(provider)?;
    let dir = dir.split("path: ").nth(1).and_then(|rest| rest.split(' ').next()).context("a path")?;
    ensure!(Path::new(dir).join("process-throttler.json").is_file(), "{dir}");
    Ok(())
}

/// The first column of the tables of files, by the directory that heads them.
fn files(guide: &str) -> Vec<(&str, Vec<&str>)> {
    let mut tables: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in guide.lines() {
        if let Some(rest) = line.strip_prefix("| in `") {
            tables.extend(rest.split('`').next().map(|dir| (dir, Vec::new())));
            inside = true;
        } else if let (true, Some(cells)) = (inside, line.strip_prefix("| `")) {
            let names = cells.split(" | ").next().unwrap_or_default().split('`').step_by(2);
            if let Some((_, patterns)) = tables.last_mut() {
                patterns.extend(names.filter(|name| !name.is_empty()));
            }
        } else {
            inside &= line.starts_with('|');
        }
    }
    tables
}

/// Whether a name is as a pattern says, in which `*` stands for any text within a part of a path. What is in a
/// directory that is listed as one needs no entry of its own.
fn fits(pattern: &str, name: &str) -> bool {
    fn glob(pattern: &str, name: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == name,
            Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
                rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| glob(tail, &rest[at..]))
            }),
        }
    }
    let (patterns, names): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), name.split('/').collect());
    patterns.len() <= names.len() && patterns.iter().zip(&names).all(|(pattern, name)| glob(pattern, name))
}

fn below(dir: &Path, prefix: &str, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry.context("list a directory")?;
        let name = format!("{prefix}{}", entry.file_name().to_str().context("a name is UTF-8")?);
        if entry.file_type().context("type of a file")?.is_dir() {
            below(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.insert(name);
        }
    }
    Ok(())
}

#[test]
fn the_handbook_leads_from_the_first_start_to_the_removal() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let _detached = Detached(&places);
    let blocks = blocks(HANDBOOK, "sh");
    let (removal, others) = blocks.split_last().context("blocks")?;
    let mut printed = String::new();
    for block in others {
        printed.push_str(&run(&places, block)?);
    }
    for expected in [
        "Source:       ebpf",
        "profile night activated",
        "\"status\":",
        "group copy released",
        "Reason:         the backup must finish",
        "backup before-upgrade written",
    ] {
        ensure!(printed.contains(expected), "{expected}: {printed}");
    }

    let tables = files(HANDBOOK);
    for (default, own) in directories(&places) {
        let (_, patterns) = tables
            .iter()
            .find(|(dir, _)| *dir == default)
            .with_context(|| format!("a table of {default}"))?;
        let mut found = BTreeSet::new();
        below(&own, "", &mut found)?;
        ensure!(!found.is_empty(), "nothing in {default}");
        for name in found {
            ensure!(
                patterns.iter().any(|pattern| fits(pattern, &name)),
                "{default}/{name}: not in {patterns:?}"
            );
        }
    }

    run(&places, removal)?;
    for (default, own) in directories(&places) {
        ensure!(!own.exists(), "{default} is left");
    }
    Ok(())
}

#[test]
fn what_troubleshooting_looks_at_is_there() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let _detached = Detached(&places);
    places.write_webhooks(&[])?;
    let mut printed = String::new();
    for block in blocks(TROUBLESHOOTING, "sh") {
        printed.push_str(&run(&places, block)?);
    }
    for expected in
        ["exit code 3", "Source:       ebpf", "no profile is active", "Emergency stop: inactive", "Records:"]
    {
        ensure!(printed.contains(expected), "{expected}: {printed}");
    }
    // What the messages are called there.
    places.write_config("no_such_key: 1\n")?;
    let refused = integration_tests::command::run(&places, &["daemon", "reload"])?.expect(6)?;
    ensure!(refused.stderr.contains("no_such_key"), "{refused:?}");
    let status = run(&places, "process-throttler daemon status")?;
    ensure!(status.contains("last good one kept"), "{status}");
    Ok(())
}
