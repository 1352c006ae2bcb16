//! The table of faults in docs/SPECIFICATION.md, between two markers.

use std::fmt;
use std::time::Duration;

use anyhow::Result;

use crate::bench::stats::Samples;
use crate::marked;

const FILE: &str = "docs/SPECIFICATION.md";
const MARK: &str = "results of cargo xtask chaos";

/// A fault and what came of it, over all rounds.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    what: &'static str,
    checked: &'static str,
    recoveries: Vec<Duration>,
    failures: Vec<String>,
    /// Why it was not tried.
    left_out: Option<&'static str>,
}

impl Row {
    /// Of a fault that is going to be tried.
    pub(crate) const fn new(name: &'static str, what: &'static str, checked: &'static str) -> Self {
        Self { name, what, checked, recoveries: Vec::new(), failures: Vec::new(), left_out: None }
    }

    /// Of one that is not.
    pub(crate) const fn left_out(name: &'static str, what: &'static str, why: &'static str) -> Self {
        let mut row = Self::new(name, what, "");
        row.left_out = Some(why);
        row
    }

    /// Says why it is not tried.
    pub(crate) const fn leave_out(&mut self, why: &'static str) {
        self.left_out = Some(why);
    }

    /// Takes what came of a trial.
    pub(crate) fn take(&mut self, result: Result<Duration>) {
        match result {
            Ok(recovery) => self.recoveries.push(recovery),
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }

    /// Whether it was not survived at least once.
    pub(crate) const fn failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Whether there is anything to tell.
    pub(crate) const fn was_tried(&self) -> bool {
        !self.failures.is_empty() || !self.recoveries.is_empty() || self.left_out.is_some()
    }

    fn result(&self) -> String {
        let (good, bad) = (self.recoveries.len(), self.failures.len());
        match (self.left_out, self.failures.first()) {
            (Some(why), _) => why.to_owned(),
            (None, Some(first)) => {
                // A text with the agent's log in it: the first line says what.
                let first = first.lines().next().unwrap_or_default();
                format!("**not survived** {bad} of {} times: {}", good + bad, first.replace('|', "\\|"))
            }
            (None, None) => format!("survived {good} of {good}"),
        }
    }

    fn recovery(&self) -> String {
        let millis = self.recoveries.iter().map(|time| time.as_secs_f64() * 1_000.0).collect();
        Samples::new(millis).map_or_else(String::new, |millis| format!("{millis:.0} ms"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.result())?;
        if let Some(last) = self.failures.last() {
            return write!(f, "\n{last}");
        }
        if self.recoveries.is_empty() {
            return Ok(());
        }
        write!(f, ", right again after {}", self.recovery())
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
    let mut table = format!(
        "{machine}\n\n| fault | what happens | checked besides | result | right again after, median (range) |\n\
         |---|---|---|---|---|\n"
    );
    for row in rows {
        let Row { name, what, checked, .. } = row;
        let (result, recovery) = (row.result(), row.recovery());
        table.push_str(&format!("| {name} | {what} | {checked} | {result} | {recovery} |\n"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_of_many_is_visible() {
        let mut row = Row::new("a", "b", "c");
        assert!(!row.was_tried());
        row.take(Ok(Duration::from_millis(12)));
        assert_eq!(row.result(), "survived 1 of 1");
        row.take(Err(anyhow::anyhow!("an alert is lost\nlog")));
        assert!(row.failed());
        let table = table("m", &[row, Row::left_out("d", "e", "not here")]);
        let wanted = "| a | b | c | **not survived** 1 of 2 times: an alert is lost | 12 (12–12) ms |";
        assert!(table.contains(wanted) && table.contains("| d | e |  | not here |  |"), "{table}");
    }
}
