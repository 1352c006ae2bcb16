//! What Markdown files refer to within the tree: a link's file exists, and so does its heading; and so does a test that
//! is named as `FILE.rs::TEST` in code.

use std::fs;
use std::path::Path;

use crate::tidy::Finding;

/// Findings of one file.
pub(crate) fn check_links(root: &Path, path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, target) in links(text) {
        let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
        let from = Path::new(path).parent().unwrap_or(Path::new(""));
        let linked = if file.is_empty() { Path::new(path).to_owned() } else { from.join(file) };
        if !root.join(&linked).exists() {
            findings.push(Finding::new(path, line, format!("{target} does not exist")));
            continue;
        }
        let missing = !heading.is_empty()
            && !fs::read_to_string(root.join(&linked))
                .is_ok_and(|text| headings(&text).any(|slug| slug == heading));
        if missing {
            findings.push(Finding::new(path, line, format!("{target} has no such heading")));
        }
    }
    findings
}

/// Findings of one file about the tests that it names.
pub(crate) fn check_tests(root: &Path, path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, file, test) in tests(text) {
        let is_there =
            fs::read_to_string(root.join(file)).is_ok_and(|source| source.contains(&format!("fn {test}(")));
        if !is_there {
            findings.push(Finding::new(path, line, format!("there is no test {test} in {file}")));
        }
    }
    findings
}

/// Code of the form `FILE.rs::TEST`: its line, file and test.
fn tests(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    prose(text).flat_map(|(number, line)| {
        line.split('`').skip(1).step_by(2).filter_map(move |code| {
            let (file, test) = code.split_once(".rs::")?;
            Some((number, code.get(..file.len() + ".rs".len())?, test))
        })
    })
}

/// Targets of inline links outside code blocks that stay in the tree, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (start, _) in line.match_indices("](") {
            let rest = &line[start + 2..];
            let target = rest.find(')').map_or(rest, |end| &rest[..end]);
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !target.is_empty() {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// Anchors of the headings, as code hosts make them: lower case, spaces to hyphens, punctuation dropped.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter_map(|(_, line)| {
        let title = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
    })
}

/// Lines outside fenced code blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_into_the_tree_are_found_and_others_left_alone() {
        let text = "[a](b.md) [c](https://x/y) [d](#e)\n```\n[f](g.md)\n```\n[h](i/j.md#k)";
        let expected = [(1, "b.md"), (1, "#e"), (5, "i/j.md#k")].map(|(line, to)| (line, to.to_owned()));
        assert_eq!(links(text), expected);
    }

    #[test]
    fn tests_are_told_by_their_form() {
        let text = "`a/b.rs::c`, `d.rs` and `x::y`\n```\n`e.rs::f`\n```\n";
        assert_eq!(tests(text).collect::<Vec<_>>(), [(1, "a/b.rs", "c")]);
        assert_eq!(check_tests(&std::env::temp_dir(), "README.md", "`no-such.rs::test`").len(), 1);
    }

    #[test]
    fn headings_become_anchors() {
        let slugs: Vec<String> = headings("# Data flow, one way\n## `run` it\n```\n# no\n```\n").collect();
        assert_eq!(slugs, ["data-flow-one-way", "run-it"]);
    }

    #[test]
    fn a_broken_link_is_found() {
        let dir = std::env::temp_dir();
        let findings = check_links(&dir, "README.md", "[a](no-such-file-here.md)");
        assert_eq!(findings.len(), 1);
    }
}
