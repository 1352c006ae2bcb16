//! Runs the agent's commands as a user would and keeps what they printed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::clock::wait_for;
use crate::places::Places;

/// No command that ends by itself takes longer.
const LONGEST: Duration = Duration::from_secs(60);

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; 128 + signal number when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The output, if the exit code is this one.
    ///
    /// # Errors
    /// With everything the command printed, when it is another.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "{} ended with {} instead of {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Standard output as one JSON value.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{} printed no JSON: {}", self.line, self.stdout))
    }

    /// Standard output as JSON lines.
    ///
    /// # Errors
    /// When a line is no JSON.
    pub fn json_lines(&self) -> Result<Vec<Value>> {
        let parse =
            |line| serde_json::from_str(line).with_context(|| format!("{} printed {line:?}", self.line));
        self.stdout.lines().map(parse).collect()
    }
}

/// The agent's command line with the global options for these places.
#[must_use]
pub fn agent_command(places: &Places) -> Command {
    let mut command = Command::new(places.agent());
    command.args(places.arguments()).env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// The command after a prefix of others that become it, so that the pid is its own.
pub(crate) fn under(prefix: &[&str], agent: Command) -> Command {
    let Some((first, rest)) = prefix.split_first() else { return agent };
    let mut command = Command::new(first);
    command.args(rest).arg(agent.get_program()).args(agent.get_args()).env("NO_COLOR", "1");
    command
}

/// Runs an agent command to its end.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn run<S: AsRef<OsStr>>(places: &Places, arguments: &[S]) -> Result<Output> {
    let mut command = agent_command(places);
    command.args(arguments);
    run_command(command)
}

/// Runs an agent command as another user, without that user's groups or any capability.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn run_as(uid: u32, places: &Places, arguments: &[&str]) -> Result<Output> {
    let agent = agent_command(places);
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()]);
    command.arg("--").arg(agent.get_program()).args(agent.get_args()).args(arguments);
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    run_command(command)
}

/// Runs a shell script in a mount namespace of its own, so that what it mounts is gone with it. It gets the
/// arguments, followed by the agent's command line.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn run_in_mount_namespace(places: &Places, script: &str, arguments: &[&str]) -> Result<Output> {
    let agent = agent_command(places);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", script, "sh"]).args(arguments);
    command.arg(agent.get_program()).args(agent.get_args()).stdin(Stdio::null());
    run_command(command)
}

/// Runs any command to its end.
///
/// # Errors
/// When it cannot be started, or does not end in a minute: then it is killed.
pub fn run_command(mut command: Command) -> Result<Output> {
    let line = command_line(command.get_program(), command.get_args());
    let mut stdout = tempfile::tempfile().context("create a file for the output")?;
    let mut stderr = tempfile::tempfile().context("create a file for the output")?;
    command.stdout(stdout.try_clone().context("share the output file")?);
    command.stderr(stderr.try_clone().context("share the output file")?);
    let mut child = command.spawn().with_context(|| format!("start {line}"))?;
    let waited = wait_for(&line, LONGEST, || Ok(child.try_wait()?));
    if waited.is_err() {
        child.kill().with_context(|| format!("kill {line}"))?;
        child.wait().with_context(|| format!("reap {line}"))?;
    }
    let (stdout, stderr) = (read_back(&mut stdout)?, read_back(&mut stderr)?);
    let status = waited.with_context(|| format!("it printed so far:\n{stdout}{stderr}"))?;
    let signal = || std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
    Ok(Output { line, code: status.code().unwrap_or_else(|| 128 + signal()), stdout, stderr })
}

fn read_back(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind().context("rewind the output")?;
    file.read_to_end(&mut bytes).context("read the output")?;
    String::from_utf8(bytes).context("the output is not UTF-8")
}

fn command_line<'a>(program: &OsStr, arguments: impl Iterator<Item = &'a OsStr>) -> String {
    let name = Path::new(program).file_name().unwrap_or(program).to_owned();
    let words: Vec<OsString> = std::iter::once(name).chain(arguments.map(OsStr::to_owned)).collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_exit_code_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let output = run_command(command).unwrap();
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (3, "out\n", "err\n"));
        let error = output.expect(0).unwrap_err().to_string();
        assert!(error.contains("ended with 3 instead of 0") && error.contains("err"), "{error}");
    }

    #[test]
    fn a_signal_is_told_from_an_exit_code() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -9 $$"]);
        assert_eq!(run_command(command).unwrap().code, 137);
    }
}
