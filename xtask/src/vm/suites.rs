//! Which test programs run in the machine, and how many tests each must report: a test that is not run there
//! is a failure, never a silence.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::payload::Programs;

/// When a suite runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// Before there is a service manager.
    Plain,
    /// Under systemd.
    Managed,
}

/// A test program with its arguments.
pub(super) struct Suite {
    pub(super) name: &'static str,
    pub(super) half: Half,
    /// The test target that it is, as cargo names it.
    pub(super) target: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// Whether the root cgroup hands its controllers down before the suite starts.
    pub(super) controllers: bool,
    pub(super) seconds: u32,
}

/// In the order in which they run.
pub(super) const SUITES: [Suite; 3] = [
    Suite {
        name: "agent",
        half: Half::Plain,
        target: "process_throttler",
        // What the kernel has no part in is tested on the host, and so is what stands in for a systemd there:
        // the other half has a real one.
        arguments: &[
            "cgroup::",
            "control::",
            "daemon::",
            "effect::",
            "procfs::",
            "source::",
            "sys::",
            "--skip=effect::systemd_tests::",
            "--skip=daemon::deliveries::",
            "--skip=daemon::journal::",
            "--skip=effect::webhook::",
            // A figure.
            "--skip=effect::tests::cost_of_applying",
        ],
        controllers: true,
        seconds: 1_200,
    },
    Suite {
        name: "kernel",
        half: Half::Plain,
        target: "kernel",
        // What the kernel has no part in starts the program a hundred times, and proves nothing more here.
        arguments: &[
            "--skip=alert_lifecycle::",
            "--skip=bad_input::",
            "--skip=boards::",
            "--skip=cli_outputs::",
            "--skip=dry_run::",
            "--skip=endpoints::",
            "--skip=exit_codes::",
            "--skip=audit::",
            "--skip=backup::",
            "--skip=faults::",
            "--skip=health_command::",
            "--skip=layers::",
            "--skip=metrics::",
            "--skip=otlp::",
            "--skip=migration::",
            "--skip=profiles::",
            "--skip=dynamic_policies::profiles_take_turns",
            "--skip=latency::where_they_are_off",
            "--skip=restart::",
            "--skip=roles::",
            "--skip=top::",
            // Figures, which an emulated machine has none of: how soon a target is held, how fast a thousand go.
            "--skip=dynamic_policies::adaptive",
            "--skip=dynamic_policies::a_rule_under_pressure",
            "--skip=emergency::a_thousand_groups",
            "--skip=last_seconds::",
            "--skip=latency::a_look",
            "--skip=latency::pressure_arms",
            "--skip=latency::what_costs",
            "--skip=latency_policy::",
            // So has the network, and there is no Python.
            "--skip=webhooks::",
            "--skip=deliveries::",
            "--skip=real_receivers::",
            "--skip=guides::",
            "--skip=schemas::",
            "--test-threads=4",
        ],
        controllers: false,
        seconds: 2_700,
    },
    Suite {
        name: "systemd",
        half: Half::Managed,
        target: "systemd",
        arguments: &["--test-threads=1"],
        controllers: false,
        seconds: 2_400,
    },
];

/// Has libtest tell how long each test took: what is slow in an emulated machine is found nowhere else. The
/// option is unstable, and permitted by `RUSTC_BOOTSTRAP` in the machine's environment.
const TIMES: [&str; 2] = ["-Zunstable-options", "--report-time"];

impl Suite {
    /// What its program is told. With filters of the caller's, only the tests that one of them names run.
    fn arguments<'a>(&'a self, only: &'a [String]) -> Vec<&'a str> {
        let (options, names): (Vec<&str>, Vec<&str>) =
            self.arguments.iter().copied().partition(|argument| argument.starts_with("--"));
        let names = if only.is_empty() { names } else { only.iter().map(String::as_str).collect() };
        [names, options].concat()
    }
}

/// The suites that have tests, and how many, asked of the programs themselves.
///
/// # Errors
/// When a program is missing or does not list its tests, or none of them has any.
pub(super) fn expected(programs: &Programs, only: &[String]) -> Result<Vec<(&'static str, usize)>> {
    let mut expected = Vec::new();
    for suite in &SUITES {
        let count = count(programs, suite, only)?;
        ensure!(count > 0 || !only.is_empty(), "suite {} has no tests", suite.name);
        expected.push((suite.name, count));
    }
    expected.retain(|(_, count)| *count > 0);
    ensure!(!expected.is_empty(), "no test is named by {}", only.join(", "));
    Ok(expected)
}

fn count(programs: &Programs, suite: &Suite, only: &[String]) -> Result<usize> {
    let mut command = Command::new(programs.test(suite.target)?);
    command.args(suite.arguments(only)).args(["--list", "--format", "terse"]);
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(": test")).count())
}

/// The shell script that runs the expected suites of one half.
pub(super) fn script(half: Half, only: &[String], expected: &[(&'static str, usize)]) -> String {
    let mut script = String::new();
    let runs = |suite: &&Suite| suite.half == half && expected.iter().any(|(name, _)| *name == suite.name);
    for suite in SUITES.iter().filter(runs) {
        let mut line = format!("suite {} {} ./debug/deps/{}", suite.name, suite.seconds, suite.target);
        for argument in suite.arguments(only).into_iter().chain(TIMES) {
            // Quoted for the shell, as filters of the caller's need it.
            line.push_str(&format!(" '{}'", argument.replace('\'', "'\\''")));
        }
        if suite.controllers {
            line = format!("controllers +\n{line}\ncontrollers -");
        }
        // Writing to a string does not fail.
        let _written = writeln!(script, "{line}\nnothing_left {}", suite.name);
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_in_one_half() {
        let all = SUITES.map(|suite| (suite.name, 1));
        let both = script(Half::Plain, &[], &all) + &script(Half::Managed, &[], &all);
        for suite in &SUITES {
            assert_eq!(both.matches(&format!("suite {} ", suite.name)).count(), 1, "{}", suite.name);
        }
    }

    #[test]
    fn filters_take_the_place_of_names_and_empty_suites_are_left_out() {
        let script = script(Half::Plain, &["a'b".to_owned()], &[("agent", 3)]);
        assert!(script.contains(r"./debug/deps/process_throttler 'a'\''b' '--skip="), "{script}");
        assert!(!script.contains("cgroup::") && !script.contains("suite kernel"), "{script}");
    }
}
