//! What is measured or generated inside of a document that people write, between two markers.

use std::fs;

use anyhow::{Context as _, Result};

use crate::cargo::workspace_root;

/// Replaces what is between `<!-- MARK: begin -->` and `<!-- MARK: end -->` in a file of the workspace.
///
/// # Errors
/// When the file has no such markers or cannot be written.
pub(crate) fn replace(file: &str, mark: &str, by: &str) -> Result<()> {
    let path = workspace_root()?.join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
    let text = replaced(&text, mark, by)
        .with_context(|| format!("{file} has no {} and {}", begin(mark), end(mark)))?;
    fs::write(&path, text).with_context(|| format!("write {file}"))
}

fn begin(mark: &str) -> String {
    format!("<!-- {mark}: begin -->")
}

fn end(mark: &str) -> String {
    format!("<!-- {mark}: end -->")
}

fn replaced(text: &str, mark: &str, by: &str) -> Option<String> {
    let (begin, end) = (begin(mark), end(mark));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n{end}{after}", by.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "# A\n<!-- x: begin -->\nold\n<!-- x: end -->\nend\n";
        let new = "# A\n<!-- x: begin -->\nnew\n<!-- x: end -->\nend\n";
        assert_eq!(replaced(text, "x", "new\n").unwrap(), new);
        assert_eq!(replaced(text, "y", "new"), None);
    }
}
