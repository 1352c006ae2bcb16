//! What is wrong with a configuration: every finding at once, each with its place, the line and a way out.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration does not come into force.
    Error,
    /// It does, but probably not as meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The file.
    #[serde(serialize_with = "path_as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub file: PathBuf,
    /// Line, from 1; 0 when the finding is about the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 as above.
    pub column: u32,
    /// Path of the key, such as `throttling_rules[2].limits.cpu`; empty when there is none.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The line, control characters replaced and cut around the column; empty when there is none.
    pub snippet: String,
    /// Characters of the snippet before the column.
    #[serde(skip)]
    pub indent: usize,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// A finding about a file as a whole.
    #[must_use]
    pub fn about_file(severity: Severity, file: &Path, message: String, fix: Option<String>) -> Self {
        Self {
            severity,
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            // Libraries quote what they read as it is.
            message: message.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}"),
            snippet: String::new(),
            indent: 0,
            fix,
        }
    }

    /// A finding at a place, both from 1; `content` is that line.
    #[must_use]
    pub fn at(
        severity: Severity,
        file: &Path,
        content: &str,
        line: u32,
        column: u32,
        message: String,
    ) -> Self {
        let (snippet, indent) =
            crop(content, usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX));
        Self { line, column, snippet, indent, ..Self::about_file(severity, file, message, None) }
    }

    /// With the path of the key, which is the file's own text.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = one_line(key);
        self
    }

    /// With a way out.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", one_line(&self.file.to_string_lossy()))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: ", self.severity)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if !self.snippet.is_empty() {
            write!(f, "\n  {}\n  {:indent$}^", self.snippet, "", indent = self.indent)?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}

/// Everything found, in the order of files and places. Displays and serialises as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    errors: usize,
    /// Findings that were counted but not kept.
    dropped: usize,
}

impl Findings {
    /// More than anyone reads; a generated file must not make the agent hold megabytes of complaints.
    pub const MAX: usize = 100;

    /// Nothing found.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding.
    pub fn push(&mut self, finding: Finding) {
        self.errors += usize::from(finding.severity == Severity::Error);
        if self.list.len() < Self::MAX {
            self.list.push(finding);
        } else {
            self.dropped += 1;
        }
    }

    /// Adds all of another collection.
    pub fn append(&mut self, other: Self) {
        let (errors, dropped) = (other.errors, other.dropped);
        let kept = other.list.iter().filter(|finding| finding.severity == Severity::Error).count();
        for finding in other.list {
            self.push(finding);
        }
        self.errors += errors - kept;
        self.dropped += dropped;
    }

    /// Whether any finding keeps the configuration from coming into force.
    #[must_use]
    pub const fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Number of errors.
    #[must_use]
    pub const fn errors(&self) -> usize {
        self.errors
    }

    /// Number of warnings.
    #[must_use]
    pub const fn warnings(&self) -> usize {
        self.list.len() + self.dropped - self.errors
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those kept, at most [`Self::MAX`].
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.list.iter()
    }

    /// Puts them into the order of files and places.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        self
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        let mut findings = Self::new();
        findings.push(finding);
        findings
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        if self.dropped > 0 {
            write!(f, "\n… and {} more", self.dropped)?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

impl Serialize for Findings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}

fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.to_string_lossy())
}

/// A text without anything that could disturb a terminal or a log line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The part of a line around `column` (from 0) and the column within that part. One character stays one
/// character, so that the caret stays under it.
fn crop(line: &str, column: usize) -> (String, usize) {
    const BEFORE: usize = 70;
    const WIDTH: usize = 100;
    let start = column.saturating_sub(BEFORE);
    let shown = |c: char| if c == '\t' { ' ' } else { c };
    let part: String = line.chars().skip(start).take(WIDTH).map(shown).collect();
    (one_line(part.trim_end()), column - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_points_at_the_place() {
        let text = "\tb: \u{1b}[31mtwo";
        let finding = Finding::at(Severity::Error, Path::new("/etc/x.yaml"), text, 2, 5, "is odd".to_owned())
            .with_key("b")
            .with_fix("write 2");
        assert_eq!(
            finding.to_string(),
            "/etc/x.yaml:2:5: error: b: is odd\n   b: \u{fffd}[31mtwo\n      ^\n  fix: write 2"
        );
        let json = serde_json::to_value(&finding).unwrap();
        assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(2), Some(5)));
    }

    #[test]
    fn collections_are_bounded_and_still_count() {
        let one = Finding::about_file(Severity::Error, Path::new("x"), "bad".to_owned(), None);
        let mut all = Findings::new();
        for _ in 0..Findings::MAX {
            all.push(Finding { severity: Severity::Warning, ..one.clone() });
        }
        assert!(!all.has_errors());
        all.push(one.clone());
        assert!(all.has_errors());
        let mut sum = Findings::from(one);
        sum.append(all);
        assert_eq!((sum.errors(), sum.warnings(), sum.iter().count()), (2, 100, 100));
        assert!(sum.to_string().ends_with("… and 2 more"));
    }

    #[test]
    fn long_lines_are_cut_around_the_column() {
        let line = format!("{}X{}", "-".repeat(500), "-".repeat(500));
        let (part, indent) = crop(&line, 500);
        assert_eq!((part.chars().count(), part.chars().nth(indent)), (100, Some('X')));
    }
}
