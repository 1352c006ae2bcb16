//! What is said to those who come from the earlier Go program is so.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use integration_tests::daemon::Turn;
use integration_tests::guide::{Detached, blocks, run_block, shell};
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;

const GUIDE: &str = include_str!("../../docs/predecessor.md");
/// Stands for the `rsync` of the guide, so that no such process of the host is touched.
const JOB: &str = "pt-rsync";
/// Every command that the earlier program had.
const COMMANDS: [&str; 55] = [
    "discover",
    "--match-type",
    "--exact",
    "list",
    "--sort",
    "--limit",
    "throttle --pattern",
    "throttle --pid",
    "--cpu",
    "--memory",
    "--pids",
    "--group",
    "status",
    "config show",
    "config example",
    "profile create",
    "--from-file",
    "--description",
    "--author",
    "profile list",
    "profile show",
    "profile edit",
    "profile delete",
    "profile clone",
    "profile activate",
    "profile export",
    "profile import",
    "profile diff",
    "profile validate",
    "validate system",
    "validate profile",
    "validate config",
    "validate dry-run",
    "audit search",
    "audit stats",
    "backup create",
    "backup list",
    "backup restore",
    "backup delete",
    "emergency stop",
    "emergency resume",
    "emergency status",
    "dynamic apply",
    "dynamic list",
    "dynamic remove",
    "dynamic policies",
    "metrics start",
    "metrics status",
    "webhook add",
    "webhook list",
    "webhook test",
    "webhook remove",
    "daemon start",
    "daemon status",
    "health",
];

/// What is there no more, and what shows it.
#[derive(Debug)]
struct Row {
    there: String,
    fate: String,
    command: String,
    /// The exit code that is said to come.
    code: i32,
}

impl Row {
    /// The row of a table, unless it is one of its head.
    fn parse(line: &str) -> Option<Result<Self>> {
        // A bar inside of a cell is escaped.
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?.replace("\\|", "\u{1f}");
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().replace('\u{1f}', "|")).collect();
        if line.starts_with("there") {
            return None;
        }
        Some(Self::of(&cells).with_context(|| format!("{cells:?}")))
    }

    fn of(cells: &[String]) -> Result<Self> {
        let [there, fate, _here, shown] = cells else { anyhow::bail!("{} cells", cells.len()) };
        let (_, rest) = shown.split_once('`').context("a command")?;
        let (command, rest) = rest.rsplit_once('`').context("the end of the command")?;
        let said = rest.trim().strip_prefix("(exit code ").and_then(|rest| rest.strip_suffix(')'));
        let code = match (said, fate.as_str()) {
            (Some(code), _) => code.parse().context("an exit code")?,
            (None, "works" | "changed" | "gone") => 0,
            (None, other) => anyhow::bail!("{other} is no fate"),
        };
        Ok(Self { there: there.clone(), fate: fate.clone(), command: command.to_owned(), code })
    }
}

#[test]
fn every_row_of_the_table_is_shown_by_its_command() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let _detached = Detached(&places);
    let _job = Workload::spawn(&Program::Wait.write(&places.bin(), JOB)?)?;
    let guide = GUIDE.replace("rsync", JOB);
    for block in blocks(&guide, "sh") {
        run_block(&places, block)?;
    }
    let rows = guide.lines().filter_map(Row::parse).collect::<Result<Vec<_>>>()?;
    let mut fates = BTreeMap::new();
    for Row { there, fate, command, code } in &rows {
        *fates.entry(fate.as_str()).or_insert(0) += 1;
        let output = shell(&places, command)?;
        ensure!(
            output.code == *code,
            "{there}: {command:?} ended with {} instead of {code}:\n{}{}",
            output.code,
            output.stdout,
            output.stderr
        );
    }
    ensure!(fates.len() == 3 && rows.len() > 100, "{fates:?}");
    let told: String = rows.iter().map(|row| row.there.as_str()).collect::<Vec<_>>().join("\n");
    let missing: Vec<&str> = COMMANDS.into_iter().filter(|command| !told.contains(command)).collect();
    ensure!(missing.is_empty(), "not in the table: {missing:?}");
    Ok(())
}
