//! Rules for every file: size, opening words, what must not be left in.

use std::path::Path;

use crate::tidy::Finding;
use crate::tidy::scrub::{lines_before_tests, scrub};

/// Most lines of a file before its tests.
const LONGEST: usize = 400;
/// Most lines of the agent's `main.rs`.
const LONGEST_MAIN: usize = 40;
/// The one place where waiting is implemented.
const WAITING: &str = "tests/src/clock.rs";

/// What is left in by mistake, and what to do instead.
const LEFT_IN: [(&str, &str); 4] = [
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("dbg!", "remove it"),
    ("#[ignore", "a test that cannot run says so itself"),
];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 4] = ["Manager", "Helper", "Util", "Utils"];
const EMPTY_FILES: [&str; 6] = ["common.rs", "helper.rs", "helpers.rs", "types.rs", "util.rs", "utils.rs"];

/// Findings of a Rust file.
pub(crate) fn check_rust(path: &str, source: &str, is_test: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.starts_with("//!") {
        findings.push(Finding::new(
            path,
            1,
            "a file opens with `//!`: what it is for and what it must not do",
        ));
    }
    let code = scrub(source);
    let lines = if is_test { 0 } else { lines_before_tests(&code) };
    let tests_from = if path.starts_with("tests/") && path != WAITING { 0 } else { lines };
    let most = if path == "agent/src/main.rs" { LONGEST_MAIN } else { LONGEST };
    if lines > most {
        findings.push(Finding::new(path, 0, format!("{lines} lines before its tests are more than {most}")));
    }
    let file = path.rsplit('/').next().unwrap_or(path);
    if EMPTY_FILES.contains(&file) {
        findings.push(Finding::new(path, 0, "the file's name does not say what is in it"));
    }
    for (index, line) in code.lines().enumerate() {
        findings.extend(check_line(line).map(|text| Finding::new(path, index + 1, text)));
        if index >= tests_from && line.contains("thread::sleep") {
            findings.push(Finding::new(path, index + 1, "a test waits for a condition instead of sleeping"));
        }
    }
    findings.extend(bare_allows(path, source, &code));
    findings
}

fn check_line(line: &str) -> impl Iterator<Item = String> {
    let left_in = LEFT_IN.iter().filter(move |(word, _)| line.contains(word));
    let named = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
    let defined =
        ["struct ", "enum ", "trait ", "type "].iter().find_map(|keyword| named.strip_prefix(keyword));
    let name =
        defined.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(rest));
    let empty = name.filter(|name| EMPTY_NAMES.iter().any(|word| name.ends_with(word)));
    left_in
        .map(|(word, instead)| format!("{word} is left in: {instead}"))
        .chain(empty.map(|name| format!("the name {name} does not say what it is")))
}

/// `allow` attributes without a reason; with one, `expect` is still better, but macros need the former.
fn bare_allows(path: &str, source: &str, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for opening in ["#[allow(", "#![allow("] {
        for (start, _) in code.match_indices(opening) {
            let line = code[..start].matches('\n').count() + 1;
            let end = code[start..].find(']').map_or(code.len(), |length| start + length);
            if !source.get(start..end).is_some_and(|attribute| attribute.contains("reason")) {
                findings.push(Finding::new(path, line, "`allow` without a reason: use `expect` with one"));
            }
        }
    }
    findings
}

/// Texts that tell of the machine the tree was made on: the home and workspace directories, and the usual
/// places of build machines.
pub(crate) fn machine_traces(root: &Path) -> Vec<String> {
    let home = std::env::home_dir().map(|home| format!("{}/", home.display()));
    let own = [Some(format!("{}/", root.display())), home];
    // Put together here, so that this file passes its own check.
    let usual = [["/wo", "rk/"], ["/tmp/", "wt"], ["/ro", "ot/"], ["/home/", "runner"]];
    let usual = usual.map(|parts| Some(parts.concat()));
    own.into_iter().chain(usual).flatten().filter(|trace| trace.len() > 4).collect()
}

/// Findings of any text file. The lock file's registry is a name, not a machine.
pub(crate) fn check_traces(path: &str, text: &str, forbidden: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for trace in forbidden.iter().filter(|trace| line.contains(trace.as_str())) {
            findings.push(Finding::new(path, index + 1, format!("{trace} is a path of one machine")));
        }
        let registry = line.contains("registry+") || line.contains("sparse+");
        let own_registry = registry && !line.contains("https://github.com/rust-lang/crates.io-index");
        if own_registry && path.ends_with("Cargo.lock") {
            findings.push(Finding::new(path, index + 1, "a package from another registry than crates.io"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| format!("{}: {}", finding.line, finding.text)).collect()
    }

    #[test]
    fn what_is_left_in_is_found_in_code_only() {
        let source = "//! x\n// todo!() later\nfn f() { todo!() }\nlet s = \"dbg!\";\n#[ignore]\nfn t() {}\n";
        let expected = [
            "3: todo! is left in: finish it",
            "5: #[ignore is left in: a test that cannot run says so itself",
        ];
        assert_eq!(texts(check_rust("agent/src/x.rs", source, false)), expected);
    }

    #[test]
    fn a_file_opens_with_its_purpose_and_stays_short() {
        let long = format!("//! x\n{}", "fn f() {}\n".repeat(400));
        assert_eq!(
            texts(check_rust("a.rs", &long, false)),
            ["0: 401 lines before its tests are more than 400"]
        );
        let tests = format!("//! x\n#[cfg(test)]\nmod tests {{\n{}", "fn f() {}\n".repeat(400));
        assert!(check_rust("a.rs", &tests, false).is_empty());
        assert_eq!(check_rust("a.rs", "fn f() {}", false).len(), 1);
        assert_eq!(
            check_rust("agent/src/main.rs", &format!("//! x\n{}", "a();\n".repeat(40)), false).len(),
            1
        );
    }

    #[test]
    fn tests_do_not_sleep_but_code_may_have_to() {
        let source = "//! x\nthread::sleep(a);\n#[cfg(test)]\nmod tests {\nthread::sleep(b);\n}\n";
        assert_eq!(
            texts(check_rust("a/b.rs", source, false)),
            ["5: a test waits for a condition instead of sleeping"]
        );
        assert_eq!(check_rust("tests/tests/a.rs", source, false).len(), 2);
    }

    #[test]
    fn allow_needs_a_reason() {
        let source =
            "//! x\n#[allow(dead_code)]\n#[allow(unused, reason = \"macro\")]\n#![allow(\n    x,\n)]\n";
        assert_eq!(texts(check_rust("a.rs", source, false)).len(), 2);
    }

    #[test]
    fn empty_names_are_found() {
        let source = "//! x\npub(crate) struct ProcessManager;\nstruct Managerial;\nenum RuleHelper {}\n";
        assert_eq!(check_rust("a.rs", source, false).len(), 2);
        assert_eq!(check_rust("agent/src/utils.rs", "//! x\n", false).len(), 1);
    }

    #[test]
    fn machine_paths_and_other_registries_are_found() {
        let forbidden = vec!["/somewhere/checkout/".to_owned()];
        assert_eq!(check_traces("a.md", "see /somewhere/checkout/x", &forbidden).len(), 1);
        assert!(check_traces("a.md", "see /elsewhere", &forbidden).is_empty());
        assert_eq!(check_traces("Cargo.lock", "source = \"sparse+https://mirror.example/\"", &[]).len(), 1);
        let official = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        assert!(check_traces("Cargo.lock", official, &[]).is_empty());
    }
}
