//! The table of results in docs/SPECIFICATION.md, between two markers.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result};

use crate::cargo::workspace_root;

const FILE: &str = "docs/SPECIFICATION.md";
const BEGIN: &str = "<!-- results of cargo xtask bench: begin -->";
const END: &str = "<!-- results of cargo xtask bench: end -->";

/// A promise and what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: &'static str,
    /// What is promised.
    pub(crate) promise: &'static str,
    /// The result, with its range and unit.
    pub(crate) measured: String,
    /// Whether the promise is kept.
    pub(crate) kept: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, promise, measured, kept } = self;
        write!(f, "{}: {what}: {measured}; promised {promise}", if *kept { "kept" } else { "MISSED" })
    }
}

/// Replaces the results in the document.
///
/// # Errors
/// When the document has no markers or cannot be written.
pub(crate) fn write(machine: &str, rows: &[Row]) -> Result<()> {
    let path = workspace_root()?.join(FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("read {FILE}"))?;
    let text =
        replace(&text, &table(machine, rows)).with_context(|| format!("{FILE} has no {BEGIN} and {END}"))?;
    fs::write(&path, text).with_context(|| format!("write {FILE}"))?;
    println!("results are in {FILE}");
    Ok(())
}

fn table(machine: &str, rows: &[Row]) -> String {
    let mut table =
        format!("{machine}\n\n| measured | promised | result, median (range) | kept |\n|---|---|---|---|\n");
    for Row { what, promise, measured, kept } in rows {
        let kept = if *kept { "yes" } else { "**no**" };
        table.push_str(&format!("| {what} | {promise} | {measured} | {kept} |\n"));
    }
    table
}

fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("# A\n{BEGIN}\nold\n{END}\nend\n");
        assert_eq!(replace(&text, "new\n").unwrap(), format!("# A\n{BEGIN}\nnew\n{END}\nend\n"));
        assert_eq!(replace("no markers", "new"), None);
    }

    #[test]
    fn a_missed_promise_is_visible() {
        let row = Row { what: "a", promise: "b", measured: "c".to_owned(), kept: false };
        assert!(table("m", std::slice::from_ref(&row)).contains("| a | b | c | **no** |"));
        assert!(row.to_string().starts_with("MISSED"));
    }
}
