//! The measuring program's own waits are not the agent's.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Has the threads of this program come before all load (`SCHED_FIFO`); what they start from here on does not.
///
/// # Errors
/// When the system refuses.
pub(crate) fn be_prompt() -> Result<()> {
    let status = Command::new("chrt")
        .args(["--all-tasks", "--reset-on-fork", "--fifo", "--pid", "1"])
        .arg(std::process::id().to_string())
        .status()
        .context("run chrt")?;
    ensure!(status.success(), "chrt ended with {status}");
    Ok(())
}
