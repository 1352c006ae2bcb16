//! The table of results in docs/SPECIFICATION.md, between two markers.

use std::fmt;

use anyhow::Result;

use crate::marked;

const FILE: &str = "docs/SPECIFICATION.md";
const MARK: &str = "results of cargo xtask bench";

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
    marked::replace(FILE, MARK, &table(machine, rows))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_promise_is_visible() {
        let row = Row { what: "a", promise: "b", measured: "c".to_owned(), kept: false };
        assert!(table("m", std::slice::from_ref(&row)).contains("| a | b | c | **no** |"));
        assert!(row.to_string().starts_with("MISSED"));
    }
}
