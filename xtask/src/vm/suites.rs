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
            "store::",
            "sys::",
            "--skip=effect::systemd_tests::",
            // Unoptimised, the library reads its messages from where it was compiled.
            "--skip=effect::webhook::secret::tests::an_encrypted_key",
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
            "--skip=bad_input::bad_profiles",
            "--skip=bad_input::limits_out_of_range",
            "--skip=cli_outputs::completions",
            "--skip=profiles::",
            // Figures, which an emulated machine has none of: how soon a target is held, how fast a thousand go.
            "--skip=dynamic_policies::adaptive",
            "--skip=dynamic_policies::a_rule_under_pressure",
            "--skip=emergency::a_thousand_groups",
            // So has the network, and there is no Python.
            "--skip=webhooks::",
            "--skip=guides::",
            "--skip=exit_codes::usage_errors",
            "--test-threads=4",
        ],
        controllers: false,
        seconds: 2_400,
    },
    Suite {
        name: "systemd",
        half: Half::Managed,
        target: "systemd",
        arguments: &["--test-threads=1"],
        controllers: false,
        seconds: 1_200,
    },
];

/// How many tests each suite has, asked of the programs themselves.
///
/// # Errors
/// When a program is missing or does not list its tests.
pub(super) fn expected(programs: &Programs) -> Result<Vec<(&'static str, usize)>> {
    SUITES.iter().map(|suite| Ok((suite.name, count(programs, suite)?))).collect()
}

fn count(programs: &Programs, suite: &Suite) -> Result<usize> {
    let mut command = Command::new(programs.test(suite.target)?);
    command.args(suite.arguments).args(["--list", "--format", "terse"]);
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    let tests =
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(": test")).count();
    ensure!(tests > 0, "suite {} has no tests", suite.name);
    Ok(tests)
}

/// The shell script that runs the suites of one half.
pub(super) fn script(half: Half) -> String {
    let mut script = String::new();
    for suite in SUITES.iter().filter(|suite| suite.half == half) {
        let mut line = format!("suite {} {} ./debug/deps/{}", suite.name, suite.seconds, suite.target);
        for argument in suite.arguments {
            line.push(' ');
            line.push_str(argument);
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
        let both = script(Half::Plain) + &script(Half::Managed);
        for suite in &SUITES {
            assert_eq!(both.matches(&format!("suite {} ", suite.name)).count(), 1, "{}", suite.name);
        }
    }
}
