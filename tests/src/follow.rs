//! The live event stream, as `events --follow` prints it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::cgroup::complain;
use crate::clock::Stopwatch;
use crate::command::{agent_command, under};
use crate::daemon::Daemon;

/// A running `events --follow`; ended on drop.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    /// Follows the events of one kind, of the past hour too.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub fn start(daemon: &Daemon<'_>, kind: &str) -> Result<Self> {
        Self::start_under(daemon, &[], kind)
    }

    /// The same, the command being run by a program with these arguments.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub fn start_under(daemon: &Daemon<'_>, prefix: &[&str], kind: &str) -> Result<Self> {
        let mut command = under(prefix, agent_command(daemon.places()));
        // What happens before it follows is told as the past.
        command.args(["events", "--follow", "--since", "1h", "--kind", kind, "-o", "jsonl"]);
        let mut child = command.stdout(Stdio::piped()).spawn().context("follow the events")?;
        let stdout = child.stdout.take().context("the command has an output")?;
        let (sender, lines) = channel();
        // Ends with the command, whose output it reads.
        std::thread::spawn(move || {
            let read = BufReader::new(stdout).lines().map_while(Result::ok);
            read.for_each(|line| drop(sender.send(line)));
        });
        Ok(Self { child, lines })
    }

    /// The next event that satisfies `wanted`; those before it are skipped.
    ///
    /// # Errors
    /// When none comes in time or the stream ends.
    pub fn next(&self, timeout: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let watch = Stopwatch::start();
        loop {
            let left = timeout.saturating_sub(watch.elapsed());
            ensure!(!left.is_zero(), "no such event within {timeout:?}");
            let line = self.lines.recv_timeout(left).context("wait for an event")?;
            let event: Value = serde_json::from_str(&line).with_context(|| format!("event {line:?}"))?;
            if event["type"] == "stream_cut" {
                bail!("the stream was cut: {line}");
            }
            if wanted(&event) {
                return Ok(event);
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            complain(&format!("a follower is left behind: {error}"));
        }
    }
}
