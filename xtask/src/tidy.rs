//! `cargo xtask tidy`: rules of the code base that neither rustc nor clippy checks.
//!
//! Every rule is a function from text to findings, tested below it; this file only feeds them the tree.

mod docs;
mod hygiene;
mod layers;
mod licences;
mod scrub;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cargo::{output_of, workspace_root};

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// File, relative to the workspace.
    path: String,
    /// Line from 1; 0 for the file as a whole.
    line: usize,
    /// What is wrong and what to do.
    text: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

/// Checks the tree.
///
/// # Errors
/// When a rule is broken (every finding has been printed), or the tree cannot be read.
pub(crate) fn run() -> Result<()> {
    let root = workspace_root()?;
    let forbidden = hygiene::machine_traces(&root);
    let mut findings = licences::check(&root)?;
    let files = files()?;
    let tests = test_files(&root, &files)?;
    for path in &files {
        findings.extend(check_file(&root, path, tests.contains(path), &forbidden)?);
    }
    findings.sort();
    for Finding { path, line, text } in &findings {
        println!("{path}:{line}: {text}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files", findings.len(), files.len());
    }
    println!("tidy: {} files, nothing found", files.len());
    Ok(())
}

/// Files that are test modules as a whole: `tests.rs`, files below `tests/`, and those that their parent declares for
/// tests only.
fn test_files(root: &Path, files: &[String]) -> Result<BTreeSet<String>> {
    let mut tests = BTreeSet::new();
    for path in files.iter().filter(|path| path.ends_with(".rs")) {
        if path.ends_with("/tests.rs") || path.contains("/tests/") {
            tests.insert(path.clone());
        }
        let source = fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))?;
        tests.extend(scrub::test_modules(path, &scrub::scrub(&source)));
    }
    Ok(tests)
}

fn check_file(root: &Path, path: &str, is_test: bool, forbidden: &[String]) -> Result<Vec<Finding>> {
    let bytes = fs::read(root.join(path)).with_context(|| format!("read {path}"))?;
    // Binary files, such as the eBPF object, have no rules here.
    let Ok(text) = String::from_utf8(bytes) else { return Ok(Vec::new()) };
    let mut findings = hygiene::check_traces(path, &text, forbidden);
    if path.ends_with(".rs") {
        findings.extend(hygiene::check_rust(path, &text, is_test));
        if !is_test {
            findings.extend(layers::check(path, &text));
        }
    }
    if path.ends_with(".md") {
        findings.extend(docs::check_links(root, path, &text));
        findings.extend(docs::check_tests(root, path, &text));
    }
    Ok(findings)
}

/// Files that are, or are about to be, under version control.
fn files() -> Result<Vec<String>> {
    let list = output_of("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
    let root = workspace_root()?;
    // A file that was deleted but is still in the index is listed as well.
    let present = list.split('\0').filter(|path| !path.is_empty() && root.join(path).is_file());
    Ok(present.map(str::to_owned).collect())
}
