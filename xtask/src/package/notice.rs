//! The licences of others whose code is in the program: each text once, with the crates that it is for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::dependencies::{self, Dependency};

/// How the files are called that hold licences and notices.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
const RULE: &str = "----------------------------------------------------------------------";

/// The notice that goes into packages.
///
/// # Errors
/// When cargo does not tell what the program is built from, or sources cannot be read.
pub(super) fn notice() -> Result<String> {
    let inside: Vec<Dependency> = dependencies::all()?.into_iter().filter(|one| one.is_inside).collect();
    ensure!(!inside.is_empty(), "cargo says that the program is built from nothing");
    let mut texts = Vec::new();
    for one in &inside {
        texts.extend(licences(one)?);
    }
    Ok(text(&inside, texts))
}

/// The texts beside a crate's sources, each with the crate's name and version. Some have none, and their licence is known
/// by its name.
fn licences(one: &Dependency) -> Result<Vec<(String, String)>> {
    let list = fs::read_dir(&one.dir).with_context(|| format!("list {}", one.dir.display()))?;
    let mut texts = Vec::new();
    for entry in list {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|known| name.starts_with(known)) && entry.file_type()?.is_file() {
            let bytes = fs::read(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
            texts.push((
                String::from_utf8_lossy(&bytes).into_owned(),
                format!("{} {}", one.name, one.version),
            ));
        }
    }
    Ok(texts)
}

fn text(inside: &[Dependency], texts: Vec<(String, String)>) -> String {
    // By its words, since many differ in how lines are broken only.
    let mut known: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for (text, of) in texts {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        known.entry(words).or_insert_with(|| (text, Vec::new())).1.push(of);
    }
    let mut by_crate: Vec<(Vec<String>, String)> = known.into_values().map(|(text, of)| (of, text)).collect();
    by_crate.sort();
    let mut notice = String::from("process-throttler contains code of others, under these licences.\n\n");
    for Dependency { name, version, licence, .. } in inside {
        let _written = writeln!(notice, "{name} {version}: {licence}");
    }
    for (of, text) in by_crate {
        let _written = write!(notice, "\n{RULE}\nOf {}:\n\n{}\n", of.join(", "), text.trim());
    }
    notice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Dependency {
        Dependency {
            name: name.to_owned(),
            version: "1".to_owned(),
            licence: "MIT".to_owned(),
            dir: std::path::PathBuf::new(),
            is_inside: true,
            runs_at_build: false,
        }
    }

    #[test]
    fn a_text_that_several_have_is_there_once() {
        let texts = [("b's own", "b 1"), ("the\nsame", "a 1"), ("the same\n", "b 1")];
        let texts = texts.map(|(text, of)| (text.to_owned(), of.to_owned())).to_vec();
        let expected = format!(
            "process-throttler contains code of others, under these licences.\n\na 1: MIT\nb 1: MIT\n\n{RULE}\nOf a 1, b \
             1:\n\nthe\nsame\n\n{RULE}\nOf b 1:\n\nb's own\n"
        );
        assert_eq!(text(&[named("a"), named("b")], texts), expected);
    }

    #[test]
    fn what_is_in_the_program_is_in_the_notice() {
        let notice = notice().unwrap();
        for part in
            ["\nserde_json 1.", "\naya 0.", "\nring 0.", "Permission is hereby granted", "Apache License"]
        {
            assert!(notice.contains(part), "{part}");
        }
        // Only for tests, and only where it is built.
        assert!(!notice.contains("\nproptest ") && !notice.contains("\nclap_derive "));
    }
}
