//! Somebody else's server, in the foreground on the loopback interface; killed and reaped on drop.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cgroup::complain;
use crate::clock::{SOON, wait_until};

/// A running server.
#[derive(Debug)]
pub struct Tool {
    child: Child,
    log: PathBuf,
}

impl Tool {
    /// Starts it, and waits until it listens on this port. What it prints is kept in `log`.
    ///
    /// # Errors
    /// When it does not listen soon, with what it printed.
    pub fn start(mut command: Command, port: u16, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(output.try_clone().context("share the log")?).stdout(output);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let mut tool = Self { child, log: log.to_owned() };
        let ready = tool.wait_ready(port);
        ready.with_context(|| format!("{command:?} printed:\n{}", tool.printed()))?;
        Ok(tool)
    }

    fn wait_ready(&mut self, port: u16) -> Result<()> {
        let mut ended = None;
        wait_until("it listens", SOON, || {
            ended = self.child.try_wait().context("look after it")?;
            Ok(ended.is_some() || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        if let Some(status) = ended {
            bail!("it ended at once with {status}");
        }
        Ok(())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            complain(&format!("a server is left behind: {error}"));
        }
    }
}

/// Ports of the loopback interface that nobody listens on at present.
///
/// # Errors
/// When there are none.
pub fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    // All at once, so that they differ.
    let mut listeners = Vec::with_capacity(COUNT);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
        *port = listener.local_addr().context("address of a free port")?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_listen_is_told_with_what_it_printed() {
        let dir = tempfile::tempdir().unwrap();
        let [port] = free_ports().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; exit 3"]);
        let error = Tool::start(command, port, &dir.path().join("log")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("no such luck") && text.contains("exit status: 3"), "{text}");
    }
}
