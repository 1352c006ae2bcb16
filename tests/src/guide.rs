//! What guides tell the reader to type, run as a reader would, with the agent's directories elsewhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::cgroup::complain;
use crate::command::{Output, run, run_command};
use crate::places::Places;

/// The blocks of a guide in this language, such as `sh`.
#[must_use]
pub fn blocks<'a>(guide: &'a str, language: &str) -> Vec<&'a str> {
    let mut blocks = Vec::new();
    let mut rest = guide;
    // A block that belongs to an item of a list is indented, which a shell does not mind.
    while let Some((_, after)) = rest.split_once("```") {
        let Some((info, body)) = after.split_once('\n') else { break };
        let Some((block, after)) = body.split_once("```") else { break };
        if info == language {
            blocks.push(block);
        }
        rest = after;
    }
    blocks
}

/// Runs a block that must succeed, each of its commands.
///
/// # Errors
/// When one does not, with the block and what it printed.
pub fn run_block(places: &Places, block: &str) -> Result<String> {
    let output = shell(places, block)?;
    ensure!(output.code == 0, "a block failed:\n{block}\n{}{}", output.stdout, output.stderr);
    Ok(output.stdout)
}

/// Runs a block. The default directories stand for those of these places.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn shell(places: &Places, block: &str) -> Result<Output> {
    let mut block = block.to_owned();
    for (default, own) in directories(places) {
        block = block.replace(default, own.to_str().context("a directory's name is UTF-8")?);
    }
    let bin = places.agent().parent().and_then(Path::to_str).context("the agent is in a directory")?;
    let path = std::env::var("PATH").context("PATH")?;
    let mut command = Command::new("sh");
    command
        .args(["-ec", &block])
        .current_dir(places.root())
        .env("PATH", format!("{bin}:{path}"))
        .env("NO_COLOR", "1")
        .env("PROCESS_THROTTLER_CONFIG_DIR", places.config())
        .env("PROCESS_THROTTLER_STATE_DIR", places.state())
        .env("PROCESS_THROTTLER_RUNTIME_DIR", places.runtime())
        .env("PROCESS_THROTTLER_LOG_DIR", places.log())
        .stdin(Stdio::null());
    run_command(command)
}

/// The default directories of root, as guides name them, and those that stand for them.
#[must_use]
pub fn directories(places: &Places) -> [(&'static str, PathBuf); 4] {
    [
        ("/etc/process-throttler", places.config()),
        ("/var/lib/process-throttler", places.state()),
        ("/run/process-throttler", places.runtime()),
        ("/var/log/process-throttler", places.log()),
    ]
}

/// Ends the daemon that a guide has started detached, on drop.
#[derive(Debug)]
pub struct Detached<'a>(pub &'a Places);

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        for arguments in [&["daemon", "stop"][..], &["release", "--all", "--yes"]] {
            match run(self.0, arguments) {
                // 3: the guide has stopped it.
                Ok(output) if [0, 3].contains(&output.code) => {}
                Ok(output) => complain(&format!("{}: {}", output.line, output.stderr)),
                Err(error) => complain(&format!("{arguments:?}: {error:#}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart_by_language() {
        let guide = "a\n```sh\none\n```\n- b\n  ```sh systemd\n  two\n  ```\n```sh\nthree\n```\n```sh\nopen";
        assert_eq!(blocks(guide, "sh"), ["one\n", "three\n"]);
        assert_eq!(blocks(guide, "sh systemd"), ["  two\n  "]);
        assert_eq!(blocks(guide, "text"), [""; 0]);
    }
}
