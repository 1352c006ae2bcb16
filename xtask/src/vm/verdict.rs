//! What a run amounts to. Only the machine's explicit last word, with every suite's count as it should be, is
//! a success; silence is not.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

const SUITE: &str = "VM-SUITE: ";
const SUITE_END: &str = "VM-SUITE-END: ";
const RESULT: &str = "VM-RESULT: ";

/// Judges what the suites told; on success, how many tests passed in each.
///
/// # Errors
/// With all that speaks against it.
pub(super) fn judge(told: &str, expected: &[(&str, usize)]) -> Result<BTreeMap<String, usize>> {
    let result = told.lines().filter_map(|line| line.strip_prefix(RESULT)).next_back();
    let result = result.context("the machine ended without a result")?;
    let mut passed = BTreeMap::new();
    for (name, count) in expected {
        let output = suite(told, name).with_context(|| format!("suite {name} did not run to its end"))?;
        let counts = counts(output).with_context(|| format!("suite {name} gave no result"))?;
        let wrong = counts.failed != 0 || counts.ignored != 0 || counts.passed != *count;
        if wrong && result == "passed" {
            bail!("suite {name}: {counts:?}, but {count} tests should pass");
        }
        passed.insert((*name).to_owned(), counts.passed);
    }
    ensure!(result == "passed", "{result}; failed tests: {}", failures(told).join(", "));
    Ok(passed)
}

#[derive(Debug, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

/// The output of one suite that has ended.
fn suite<'a>(told: &'a str, name: &str) -> Option<&'a str> {
    let (_, from) = told.split_once(&format!("{SUITE}{name}\n"))?;
    let (output, _) = from.split_once(&format!("{SUITE_END}{name} "))?;
    Some(output)
}

/// From libtest's closing line: `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
fn counts(output: &str) -> Option<Counts> {
    let line = output.lines().filter_map(|line| line.strip_prefix("test result: ")).next_back()?;
    let count = |what: &str| {
        let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        words.windows(2).find(|pair| pair.get(1) == Some(&what))?.first()?.parse().ok()
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

/// The names of failed tests.
pub(super) fn failures(told: &str) -> Vec<&str> {
    let failed = told.lines().filter_map(|line| {
        let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        result.starts_with("FAILED").then_some(name)
    });
    failed.collect()
}

/// The tests that took longest, with their seconds, slowest first.
pub(super) fn slowest(told: &str, most: usize) -> Vec<(f64, &str)> {
    let mut times: Vec<(f64, &str)> = told
        .lines()
        .filter_map(|line| {
            let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
            let (_, seconds) = result.strip_suffix("s>")?.split_once('<')?;
            Some((seconds.parse().ok()?, name))
        })
        .collect();
    times.sort_by(|a, b| b.0.total_cmp(&a.0));
    times.truncate(most);
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "VM-SUITE: a\nrunning 3 tests\ntest x ... ok\n\ntest result: ok. 3 passed; 0 failed; 0 ignored; \
                        0 measured; 9 filtered out; finished in 1.00s\n\nVM-SUITE-END: a 0\nVM-RESULT: passed\n";

    fn verdict(told: &str) -> String {
        judge(told, &[("a", 3)]).unwrap_err().to_string()
    }

    #[test]
    fn all_passed_and_counted() {
        assert_eq!(judge(GOOD, &[("a", 3)]).unwrap(), BTreeMap::from([("a".to_owned(), 3)]));
    }

    #[test]
    fn silence_is_no_success() {
        assert_eq!(verdict(""), "the machine ended without a result");
        assert_eq!(verdict(&GOOD.replace("VM-RESULT: passed", "")), "the machine ended without a result");
        assert_eq!(verdict("VM-RESULT: passed\n"), "suite a did not run to its end");
        assert_eq!(verdict(&GOOD.replace("VM-SUITE-END: a", "x")), "suite a did not run to its end");
        assert_eq!(verdict(&GOOD.replace("test result", "x")), "suite a gave no result");
    }

    #[test]
    fn fewer_tests_are_no_success() {
        for (what, instead) in
            [("3 passed", "2 passed"), ("0 ignored", "1 ignored"), ("0 failed", "1 failed")]
        {
            let error = verdict(&GOOD.replace(what, instead));
            assert!(error.contains("but 3 tests should pass"), "{error}");
        }
    }

    #[test]
    fn failures_are_named() {
        let told = GOOD.replace("x ... ok", "x ... FAILED").replace(": passed", ": failed: suite a");
        assert_eq!(verdict(&told), "failed: suite a; failed tests: x");
        assert_eq!(failures("test x ... FAILED <0.1s>\ntest y ... ok <1.0s>\n"), ["x"]);
    }

    #[test]
    fn the_slowest_come_first() {
        let told = "test a ... ok <1.500s>\ntest b - should panic ... ok <20.1s>\ntest c ... FAILED <3s>\ntest d ... ok\n";
        assert_eq!(slowest(told, 2), [(20.1, "b - should panic"), (3.0, "c")]);
    }
}
