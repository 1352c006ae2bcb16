//! A storm of short lives (fork, exec, exit, wait) on chosen CPUs, in a process of its own and always bounded.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::binary;
use crate::cgroup::complain;
use crate::command::under;

/// A running storm; ended on drop.
#[derive(Debug)]
pub struct Storm {
    child: Child,
}

/// What a storm did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Account {
    /// Process lives from fork to wait.
    pub lives: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Account {
    /// Lives per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let lives = self.lives as f64;
        lives / self.seconds
    }
}

impl Storm {
    /// Starts lives of `program` for a time.
    ///
    /// # Errors
    /// When the storm cannot be started.
    pub fn for_time(program: &Path, time: Duration) -> Result<Self> {
        Self::start(&[], program, "--millis", &time.as_millis().to_string())
    }

    /// Starts a number of lives of `program`.
    ///
    /// # Errors
    /// When the storm cannot be started.
    pub fn of_lives(program: &Path, lives: u64) -> Result<Self> {
        Self::of_lives_under(&[], program, lives)
    }

    /// The same, by way of a command that runs it, such as unshare(1).
    ///
    /// # Errors
    /// When the storm cannot be started.
    pub fn of_lives_under(prefix: &[&str], program: &Path, lives: u64) -> Result<Self> {
        Self::start(prefix, program, "--lives", &lives.to_string())
    }

    fn start(prefix: &[&str], program: &Path, bound: &str, value: &str) -> Result<Self> {
        let mut storm = Command::new(binary::storm()?);
        storm.args([bound, value]).arg(program);
        let mut command = under(prefix, storm);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().context("start the storm")?;
        Ok(Self { child })
    }

    /// The storm's own process: parent of every life in it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it before its time; what it did is not told.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn cut_short(mut self) -> Result<()> {
        self.child.kill().context("end the storm")?;
        self.child.wait().map(drop).context("wait for the storm")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the storm failed.
    pub fn finish(mut self) -> Result<Account> {
        let stdout = self.child.stdout.take().context("the storm has an output")?;
        let text = std::io::read_to_string(stdout).context("read the storm's account")?;
        let status = self.child.wait().context("wait for the storm")?;
        ensure!(status.success(), "the storm ended with {status}");
        let (lives, micros) =
            text.trim().split_once(' ').with_context(|| format!("the storm said {text:?}"))?;
        let micros: u64 = micros.parse().context("microseconds of the storm")?;
        let lives = lives.parse().context("lives of the storm")?;
        Ok(Account { lives, seconds: Duration::from_micros(micros).as_secs_f64() })
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            complain(&format!("a storm is left behind: {error}"));
        }
    }
}
